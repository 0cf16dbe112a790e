"""The CRF on its grid against exact mean field over all pairs of pixels, and its settings."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lpd.errors import ConfigError
from lpd.refinement.bilateral import BilateralFilter
from lpd.refinement.crf import CrfSettings, refine_crf

# What the grid may cost in any one case below; measured 0.9875 and 0.010 at worst, 0.997 and 0.002 on average.
AGREEMENT = 0.98
MEAN_DIFFERENCE = 0.015


def gaussian(points: Tensor) -> Tensor:
    """(N, N) ``exp(−|a − b|² / 2)`` of (N, D) points."""
    difference = points[:, None] - points[None]
    return torch.exp(-difference.square().sum(2) / 2)


def normalised(kernel: Tensor) -> Tensor:
    root = kernel.sum(1).rsqrt()
    return root[:, None] * kernel * root[None]


def kernels(image: Tensor, settings: CrfSettings) -> tuple[Tensor, Tensor]:
    """Both (N, N) kernels of a (3, H, W) image."""
    _, height, width = image.shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    place = torch.stack((x, y)).flatten(1).T.double()
    colour = 255 * image.double().flatten(1).T
    both = torch.cat((place / settings.bilateral_sigma_xy, colour / settings.bilateral_sigma_rgb), 1)
    return normalised(gaussian(place / settings.spatial_sigma)), normalised(gaussian(both))


def exact_mean_field(image: Tensor, given: Tensor, settings: CrfSettings) -> Tensor:
    """(C, H, W) marginals of (3, H, W) and (C, H, W)."""
    spatial, bilateral = kernels(image, settings)
    unary = given.double().clamp_min(1e-6).log().flatten(1).T
    marginals = unary.softmax(1)
    for _ in range(settings.iterations):
        messages = settings.spatial_weight * spatial @ marginals + settings.bilateral_weight * bilateral @ marginals
        marginals = (unary + messages).softmax(1)
    return marginals.T.reshape(given.shape)


@pytest.mark.parametrize("noise", [0.0, 0.03, 0.1])
@pytest.mark.parametrize(
    "settings",
    [
        CrfSettings(),
        CrfSettings(bilateral_weight=5),
        CrfSettings(bilateral_sigma_xy=10, bilateral_sigma_rgb=13, bilateral_weight=3),
        CrfSettings(spatial_weight=0, bilateral_sigma_xy=30, bilateral_sigma_rgb=8, bilateral_weight=2, iterations=5),
    ],
    ids=["default", "strong", "near", "strict in colour"],
)
def test_the_grid_is_close_to_all_pairs(settings, noise, patches, guesses):
    for seed in range(2):
        image, given = patches(seed, noise), guesses(seed + 10)
        expected = exact_mean_field(image[0], given[0], settings)
        refined = refine_crf(image, given, settings)[0]
        assert (expected.argmax(0) != given[0].argmax(0)).float().mean() > 0.02, "there must be something to refine"
        assert (refined.argmax(0) == expected.argmax(0)).float().mean() >= AGREEMENT
        assert (refined - expected).abs().mean() <= MEAN_DIFFERENCE


def test_the_spatial_kernel_is_exact_but_for_its_cut(patches, guesses):
    settings = CrfSettings(bilateral_weight=0, spatial_weight=2)
    expected = exact_mean_field(patches(0)[0], guesses(1)[0], settings)
    refined = refine_crf(patches(0).double(), guesses(1).double(), settings)[0]
    torch.testing.assert_close(refined, expected, atol=1e-3, rtol=0)


def test_the_filter_is_a_symmetric_matrix_close_to_the_gaussian(patches):
    image = patches(3, noise=0.02, height=12, width=12)[0].double()
    grid = BilateralFilter(image, sigma_xy=20, sigma_rgb=30)
    matrix = grid.filter(torch.eye(144, dtype=torch.float64))
    approximate = normalised(matrix)
    _, exact = kernels(image, CrfSettings(bilateral_sigma_xy=20, bilateral_sigma_rgb=30))
    assert (approximate - approximate.T).norm() <= 0.1 * exact.norm()
    assert (approximate - exact).norm() <= 0.2 * exact.norm()
    assert (matrix >= 0).all()


def test_distant_colours_do_not_meet(two_colours):
    values = torch.zeros(32 * 40, 1)
    values[0] = 1  # one pink pixel
    spread = BilateralFilter(two_colours[0], sigma_xy=50, sigma_rgb=10).filter(values).reshape(32, 40)
    assert (spread[:, :20] > 0).all()
    assert (spread[:, 20:] == 0).all()


def test_weights_of_zero_leave_the_probabilities(patches, guesses):
    settings = CrfSettings(spatial_weight=0, bilateral_weight=0)
    torch.testing.assert_close(refine_crf(patches(4), guesses(4), settings), guesses(4))


def test_scores_are_divided_by_their_sum(patches, guesses):
    torch.testing.assert_close(refine_crf(patches(5), 3 * guesses(5)), refine_crf(patches(5), guesses(5)))


def test_a_pixel_without_any_score_is_undecided():
    given = torch.zeros(1, 3, 4, 4)
    refined = refine_crf(torch.full((1, 3, 4, 4), 0.5), given)
    torch.testing.assert_close(refined, torch.full_like(refined, 1 / 3))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"iterations": 1001}, "iterations 1001 must lie in 0 to 1000"),
        ({"spatial_sigma": 0.0}, "spatial_sigma 0.0 must lie in 0.3 to 1000"),
        ({"spatial_weight": -1.0}, "spatial_weight -1.0 must lie in 0 to 1000"),
        ({"bilateral_sigma_xy": 0.5}, "bilateral_sigma_xy 0.5 must lie in 1 to 10000"),
        ({"bilateral_sigma_rgb": 0.05}, "bilateral_sigma_rgb 0.05 must lie in 1 to 1000"),
        ({"bilateral_weight": float("nan")}, "finite"),
    ],
)
def test_settings_out_of_range_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        CrfSettings(**values)


def test_settings_travel():
    settings = CrfSettings(iterations=5, bilateral_sigma_xy=10, bilateral_weight=4)
    assert CrfSettings.from_dict(settings.to_dict()) == settings
