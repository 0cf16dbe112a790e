"""PAMR against its equation in loops, and its settings."""

from __future__ import annotations

import math
import statistics

import pytest
import torch
from torch import Tensor

from lpd.errors import ConfigError
from lpd.refinement.pamr import PamrSettings, refine_pamr

STEPS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]


def by_loop(image: Tensor, given: Tensor, dilations: tuple[int, ...], contrast: float) -> Tensor:
    """One iteration for (3, H, W) and (C, H, W)."""
    _, height, width = image.shape
    refined = torch.zeros_like(given)
    for y in range(height):
        for x in range(width):
            places = [
                (min(max(y + d * dy, 0), height - 1), min(max(x + d * dx, 0), width - 1), bool(dy or dx))
                for d in dilations
                for dy, dx in STEPS
            ]
            spread = [statistics.stdev(float(image[c, v, u]) for v, u, _ in places) for c in range(3)]
            neighbours = [(v, u) for v, u, other in places if other]
            powers = [
                math.exp(
                    -sum(abs(float(image[c, y, x] - image[c, v, u])) / (1e-8 + contrast * spread[c]) for c in range(3))
                    / 3
                )
                for v, u in neighbours
            ]
            for power, (v, u) in zip(powers, neighbours, strict=True):
                refined[:, y, x] += power / sum(powers) * given[:, v, u]
    return refined


@pytest.mark.parametrize(("dilations", "contrast"), [((1,), 0.1), ((1, 2, 12), 0.1), ((2, 3), 1.0)])
def test_is_its_equation(patches, guesses, dilations, contrast):
    image, given = patches(0, height=7, width=8).double(), guesses(0, height=7, width=8).double()
    expected = by_loop(image[0], given[0], dilations, contrast)
    once = refine_pamr(image, given, PamrSettings(iterations=1, dilations=dilations, contrast=contrast))
    torch.testing.assert_close(once[0], expected, atol=1e-6, rtol=1e-5)
    twice = refine_pamr(image, given, PamrSettings(iterations=2, dilations=dilations, contrast=contrast))
    torch.testing.assert_close(twice[0], by_loop(image[0], expected, dilations, contrast), atol=1e-6, rtol=1e-5)


def test_a_dilation_beyond_the_image_sees_its_border(patches, guesses):
    far = refine_pamr(patches(1), guesses(1), PamrSettings(dilations=(24, 100)))
    assert far.isfinite().all()
    torch.testing.assert_close(far, refine_pamr(patches(1), guesses(1), PamrSettings(dilations=(24, 500))))


def test_scores_need_not_be_probabilities(patches, guesses):
    """Refinement is an average: linear in the scores, and within their range."""
    scores = 40 * guesses(2) - 7
    refined = refine_pamr(patches(2), scores)
    torch.testing.assert_close(refined, 40 * refine_pamr(patches(2), guesses(2)) - 7, atol=1e-4, rtol=1e-5)
    assert scores.min() <= refined.min()
    assert refined.max() <= scores.max()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"iterations": -1}, "iterations -1 must lie in 0 to 1000"),
        ({"dilations": ()}, "must be one or more"),
        ({"dilations": (1, 0)}, "each from 1 to 512 px"),
        ({"contrast": 0.0}, "contrast 0.0 must lie in 0.001 to 100"),
        ({"iterations": 2.5}, "must be a whole number"),
    ],
)
def test_settings_out_of_range_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        PamrSettings(**values)


def test_settings_travel():
    settings = PamrSettings(iterations=3, dilations=(1, 5), contrast=0.2)
    assert PamrSettings.from_dict(settings.to_dict()) == settings
