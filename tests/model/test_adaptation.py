"""Prototypes of a picture: a loop written from the definition, and what they can and cannot do to a map."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lpd.config import Calibration
from lpd.errors import ConfigError, ShapeError
from lpd.model.adaptation import AdaptationSettings, PictureSample
from lpd.model.network import LPDOutput


def calibration(scales: int) -> Calibration:
    """The deepest scale alone makes the pixel logits."""
    return Calibration((*(0.0,) * (scales - 1), 1.0), (1.0, 1.0), (0.0, 0.0), (1.0, 1.0), (0.0, 0.0))


SURE = torch.full((1, 2, 1, 1), 20.0)


def output_of(pixel: torch.Tensor, *features: torch.Tensor) -> LPDOutput:
    """An output with these feature maps, fine to deep, whose fused pixel logits are the deepest scale's own."""
    maps = dict(enumerate(features, start=4 - len(features)))
    return LPDOutput({}, {}, dict.fromkeys(maps, pixel), maps)


def sampled(output: LPDOutput, settings: AdaptationSettings | None = None, **given: torch.Tensor) -> PictureSample:
    sample = PictureSample(calibration(len(output.features)), settings)
    sample.add(output, **given)
    return sample


def by_loop(
    pixel: np.ndarray, gate: np.ndarray, features: list[np.ndarray], settings: AdaptationSettings
) -> np.ndarray:
    """(2, N) corrections of N pixels, two classes; features (D, N) of each scale."""
    there = 1 / (1 + np.exp(-gate))
    correction = np.zeros_like(pixel)
    units = [maps / np.linalg.norm(maps, axis=0) for maps in features]
    for _ in range(settings.iterations):
        corrected = pixel + correction
        share = 1 / (1 + np.exp(corrected[::-1] - corrected))
        score = there * (1 - there[::-1]) + there.prod(0) * share
        probability = score / score.sum(0)
        cosines = np.zeros_like(pixel)
        for c, n in np.ndindex(*pixel.shape):
            for unit in units:
                prototype = (probability[c] ** settings.sharpness * unit).sum(1)
                cosines[c, n] += unit[:, n] @ prototype / np.linalg.norm(prototype) / len(units)
        correction = settings.gain * (cosines - cosines.mean(0))
    return correction


@pytest.mark.parametrize("iterations", [1, 3])
def test_equals_a_loop_over_pixels(iterations):
    rng = np.random.default_rng(0)
    pixel, gate = rng.normal(size=(2, 2, 4, 5)) * 2, rng.normal(size=(2, 2, 4, 5))
    fine, middle, deep = (rng.normal(size=(2, dim, 4, 5)) for dim in (6, 4, 3))
    output = output_of(*map(torch.tensor, (pixel, fine, middle, deep)))
    settings = AdaptationSettings(gain=3, iterations=iterations, share=0)
    prototypes = sampled(output, settings, gate=torch.tensor(gate)).prototypes()
    assert prototypes is not None
    rows = [a.transpose(1, 0, 2, 3).reshape(a.shape[1], -1) for a in (pixel, gate, fine, middle)]
    expected = by_loop(rows[0], rows[1], rows[2:], settings)
    found = prototypes.correction(output, (4, 5)).numpy().transpose(1, 0, 2, 3).reshape(2, -1)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


def test_what_looks_like_the_rest_of_a_class_joins_it():
    """Left and right have features of their own; one corner of the left is labelled wrongly, and not for sure."""
    features = torch.zeros(1, 2, 8, 8)
    features[:, 0, :, :4] = features[:, 1, :, 4:] = 1
    pixel = torch.stack([features[:, 0], features[:, 1]], 1) * 4
    pixel[:, :, :2, :2] = torch.tensor([0.0, 1.0])[None, :, None, None]
    output = output_of(pixel, features, torch.randn(1, 3, 8, 8))
    prototypes = sampled(output, gate=SURE.expand(1, 2, 8, 8)).prototypes()
    assert prototypes is not None
    found = pixel + prototypes.correction(output, (8, 8))
    assert (pixel.argmax(1)[:, :2, :2] == 1).all()
    assert (found.argmax(1)[:, :, :4] == 0).all()
    assert (found.argmax(1)[:, :, 4:] == 1).all()


def test_prototypes_of_all_tiles_serve_each_of_them():
    torch.manual_seed(0)
    tiles = [output_of(torch.randn(1, 2, 6, 6) * 4, torch.randn(1, 5, 6, 6), torch.randn(1, 3, 6, 6)) for _ in "ab"]
    both = PictureSample(calibration(2))
    for tile in tiles:
        both.add(tile)
    joined = {s: torch.cat([tile.features[s] for tile in tiles]) for s in tiles[0].features}
    logits = torch.cat([tile.class_logits[3] for tile in tiles])
    one, other = both.prototypes(), sampled(output_of(logits, *joined.values())).prototypes()
    assert one is not None
    assert other is not None
    for scale, prototypes in one.by_scale.items():
        torch.testing.assert_close(prototypes, other.by_scale[scale])


def test_a_class_that_hardly_shows_is_left_alone():
    torch.manual_seed(0)
    pixel = torch.randn(1, 2, 20, 20)
    pixel = torch.cat([pixel * 9, torch.full((1, 1, 20, 20), -30.0)], 1)
    pixel[:, 2, 0, :3] = 30
    output = output_of(pixel, torch.randn(1, 5, 20, 20), torch.randn(1, 5, 20, 20))
    three = Calibration((0.0, 1.0), (1.0,) * 3, (0.0,) * 3, (1.0,) * 3, (0.0,) * 3)
    sample = PictureSample(three)
    sample.add(output, gate=torch.full((1, 3, 20, 20), 20.0))
    prototypes = sample.prototypes()
    assert prototypes is not None
    assert prototypes.present.tolist() == [True, True, False]
    assert (prototypes.correction(output, (20, 20))[:, 2] == 0).all()


def test_only_what_is_inside_is_looked_at():
    torch.manual_seed(0)
    pixel, fine, deep = torch.randn(1, 2, 8, 8) * 4, torch.randn(1, 5, 8, 8), torch.randn(1, 3, 8, 8)
    inside = torch.zeros(1, 8, 8, dtype=torch.bool)
    inside[:, :, :4] = True
    gate = torch.randn(1, 2, 8, 8)
    part = sampled(output_of(pixel, fine, deep), gate=gate, inside=inside).prototypes()
    alone = sampled(output_of(pixel[..., :4], fine[..., :4], deep[..., :4]), gate=gate[..., :4]).prototypes()
    assert part is not None
    assert alone is not None
    torch.testing.assert_close(part.by_scale[2], alone.by_scale[2])


def test_a_class_that_no_pixel_surely_shows_has_no_prototype_whatever_the_share():
    torch.manual_seed(0)
    pixel = torch.cat([torch.randn(1, 2, 8, 8) * 9, torch.full((1, 1, 8, 8), -40.0)], 1)
    output = output_of(pixel, torch.randn(1, 5, 8, 8), torch.randn(1, 5, 8, 8))
    three = Calibration((0.0, 1.0), (1.0,) * 3, (0.0,) * 3, (1.0,) * 3, (0.0,) * 3)
    sample = PictureSample(three, AdaptationSettings(share=0))
    sample.add(output, gate=torch.full((1, 3, 8, 8), 20.0))
    prototypes = sample.prototypes()
    assert prototypes is not None
    assert prototypes.present.tolist() == [True, True, False]


def test_a_place_that_is_mostly_glass_is_not_looked_at():
    torch.manual_seed(0)
    output = output_of(torch.randn(1, 2, 4, 4) * 9, torch.randn(1, 5, 4, 4), torch.randn(1, 5, 4, 4))
    gate = SURE.expand(1, 2, 4, 4)
    corner = torch.zeros(1, 8, 8, dtype=torch.bool)
    corner[:, ::2, ::2] = True  # a quarter of every place
    assert sampled(output, gate=gate, inside=corner).prototypes() is None
    corner[:, ::2] = corner[:, :, ::2] = True
    assert sampled(output, gate=gate, inside=corner).prototypes() is not None


def test_without_a_pixel_or_a_sure_class_there_are_none():
    assert PictureSample(calibration(2)).prototypes() is None
    maps = torch.randn(1, 3, 4, 4), torch.randn(1, 3, 4, 4)
    assert sampled(output_of(torch.zeros(1, 2, 4, 4), *maps)).prototypes() is None
    output = output_of(torch.randn(1, 2, 4, 4) * 9, *maps)
    gate = SURE.expand(1, 2, 4, 4)
    assert sampled(output, gate=gate).prototypes() is not None
    nowhere = torch.zeros(1, 4, 4, dtype=torch.bool)
    assert sampled(output, gate=gate, inside=nowhere).prototypes() is None


def test_a_correction_is_as_large_as_asked_for_and_sums_to_0():
    torch.manual_seed(2)
    output = output_of(torch.randn(3, 2, 8, 8) * 4, torch.randn(3, 5, 8, 8), torch.randn(3, 6, 4, 4))
    prototypes = sampled(output).prototypes()
    assert prototypes is not None
    found = prototypes.correction(output, (30, 20))
    assert tuple(found.shape) == (3, 2, 30, 20)
    torch.testing.assert_close(found.sum(1), torch.zeros(3, 30, 20), atol=1e-5, rtol=0)
    assert 0 < found.abs().max() <= AdaptationSettings().gain


def test_a_single_scale_is_used_and_half_precision_is_raised():
    output = output_of((torch.randn(1, 2, 8, 8) * 4).bfloat16(), torch.randn(1, 5, 8, 8).bfloat16())
    sample = PictureSample(calibration(1))
    sample.add(output, gate=SURE.expand(1, 2, 8, 8))
    prototypes = sample.prototypes()
    assert prototypes is not None
    assert prototypes.correction(output, (8, 8)).dtype == torch.float32


@pytest.mark.parametrize("name", ["gate", "inside"])
def test_maps_of_other_pictures_are_refused(name):
    output = output_of(torch.zeros(3, 2, 8, 8), torch.zeros(3, 5, 8, 8))
    with pytest.raises(ShapeError, match=f"{name} .* is not of the pictures"):
        PictureSample(calibration(1)).add(output, **{name: torch.zeros(2, 2, 8, 8)})


@pytest.mark.parametrize(
    ("name", "value"), [("gain", -1), ("iterations", 0), ("surely", 2), ("share", -1), ("sharpness", -1)]
)
def test_settings_out_of_bounds_are_named(name, value):
    with pytest.raises(ConfigError, match=name):
        AdaptationSettings(**{name: value})
