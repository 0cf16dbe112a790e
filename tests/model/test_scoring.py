"""Scores: fusion and calibration by hand, linearity, saturation, no look at the rest of a tile, colour order."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lpd.config import Calibration, InputSpec, ModelConfig
from lpd.errors import ShapeError
from lpd.model.inputs import to_network_input
from lpd.model.label_sets import log_class_probabilities
from lpd.model.network import LPDOutput
from lpd.model.scoring import default_calibration, dense_logits, dense_maps, log_scores

IDENTITY = Calibration((0.2, 0.3, 0.5), (1.0, 1.0), (0.0, 0.0), (1.0, 1.0), (0.0, 0.0))


def make_output(seed: int = 0, dtype: torch.dtype = torch.float32) -> LPDOutput:
    generator = torch.Generator().manual_seed(seed)
    sides = {1: 8, 2: 4, 3: 4}
    maps = {s: torch.randn(2, 2, n, n, generator=generator).to(dtype) for s, n in sides.items()}
    return LPDOutput(maps, maps, maps, maps)


@pytest.mark.parametrize("size", [(16, 16), (8, 8), (4, 4), (24, 40)])
def test_fusion_weighs_each_enlarged_scale(size):
    output = make_output()
    pixel, gate = dense_logits(output, IDENTITY, size)
    expected = sum(
        w * F.interpolate(output.class_logits[s], size, mode="bilinear", align_corners=False)
        for s, w in zip((1, 2, 3), IDENTITY.fusion_weights, strict=True)
    )
    assert tuple(pixel.shape) == (2, 2, *size)
    torch.testing.assert_close(pixel, expected)
    torch.testing.assert_close(gate, output.class_logits[3].mean((2, 3)))


def test_a_single_weighted_scale_comes_out_unchanged():
    output = make_output()
    pixel, _ = dense_logits(output, dataclasses.replace(IDENTITY, fusion_weights=(1.0, 0.0, 0.0)), (8, 8))
    torch.testing.assert_close(pixel, output.class_logits[1])


def test_logits_are_linear_so_windows_may_be_blended():
    one, two = make_output(1), make_output(2)
    maps = {s: (one.class_logits[s] + two.class_logits[s]) / 2 for s in (1, 2, 3)}
    mean = LPDOutput(maps, maps, maps, maps)
    for blended, first, second in zip(*(dense_logits(o, IDENTITY, (16, 16)) for o in (mean, one, two)), strict=True):
        torch.testing.assert_close(blended, (first + second) / 2)


def test_scale_count_must_match():
    with pytest.raises(ShapeError, match="2 fusion weights"):
        dense_logits(make_output(), dataclasses.replace(IDENTITY, fusion_weights=(0.5, 0.5)), (8, 8))


def test_both_parts_are_calibrated_before_they_meet():
    calibration = Calibration((1.0,), (2.0, 1.0), (0.5, -1.0), (3.0, 0.5), (-1.0, 0.25))
    pixel, gate = torch.tensor([0.7, -0.2])[None, :, None, None], torch.tensor([[0.1, 2.0]])
    parts = torch.tensor([2 * 0.7 + 0.5, -0.2 - 1]), torch.tensor([3 * 0.1 - 1, 0.5 * 2 + 0.25])
    expected = log_class_probabilities(*(part[None, :, None, None] for part in parts))
    torch.testing.assert_close(log_scores(pixel, gate, calibration), expected)


def test_a_blended_gate_may_differ_by_pixel():
    pixel, gate = torch.randn(2, 2, 3, 5), torch.randn(2, 2)
    spread = gate[:, :, None, None].expand(2, 2, 3, 5)
    torch.testing.assert_close(log_scores(pixel, gate, IDENTITY), log_scores(pixel, spread, IDENTITY))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("logits", [(30.0, 40.0), (-40.0, -30.0), (-300.0, -200.0), (200.0, 300.0)])
def test_argmax_does_not_saturate(dtype, logits):
    pixel = torch.tensor(logits, dtype=dtype)[None, :, None, None]
    gate = pixel[:, :, 0, 0]
    scores = log_scores(pixel, gate, IDENTITY)
    assert scores.dtype == torch.float32
    assert torch.isfinite(scores).all()
    assert scores.flatten()[1] > scores.flatten()[0]
    assert (scores <= 0).all()


def test_a_pixel_does_not_depend_on_its_neighbours():
    """Per-tile normalisation would make it."""
    calibration = default_calibration(ModelConfig("mit_b0", class_count=2))
    pixel = torch.full((1, 2, 4, 4), -6.0)
    brighter = pixel.clone()
    brighter[..., 0, 0] = 9.0
    gate = torch.zeros(1, 2)
    plain, other = (log_scores(p, gate, calibration)[..., 3, 3] for p in (pixel, brighter))
    assert torch.equal(plain, other)


def test_shapes_that_do_not_fit_are_refused():
    for pixel, gate in [
        (torch.zeros(1, 3, 2, 2), torch.zeros(1, 3)),
        (torch.zeros(1, 2, 2, 2), torch.zeros(2, 2)),
        (torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 3, 3)),
        (torch.zeros(2, 2, 2), torch.zeros(1, 2)),
    ]:
        with pytest.raises(ShapeError, match="calibration's 2 classes"):
            log_scores(pixel, gate, IDENTITY)


def test_default_calibration_is_identity_with_training_weights():
    calibration = default_calibration(ModelConfig("mit_b0", class_count=3))
    assert calibration.fusion_weights == pytest.approx((0.1 / 2.1, 1 / 2.1, 1 / 2.1))
    assert calibration.pixel_gain == calibration.gate_gain == (1.0, 1.0, 1.0)
    assert calibration.pixel_bias == calibration.gate_bias == (0.0, 0.0, 0.0)
    silent = default_calibration(ModelConfig("mit_b0", class_count=3, scale_weights=(0.0, 0.0, 0.0)))
    assert sum(silent.fusion_weights) == pytest.approx(1)


def test_a_red_tile_arrives_in_channel_zero():
    tiles = np.zeros((2, 4, 6, 3), np.uint8)
    tiles[..., 0] = 255
    spec = InputSpec(mpp=1.0, mean=(0.5, 0.25, 0.1), std=(0.5, 0.5, 0.2))
    images = to_network_input(tiles, spec)
    assert tuple(images.shape) == (2, 3, 4, 6)
    assert images.dtype == torch.float32
    for channel, value in enumerate([(1 - 0.5) / 0.5, -0.25 / 0.5, -0.1 / 0.2]):
        torch.testing.assert_close(images[:, channel], torch.full((2, 4, 6), value))


def test_tensors_and_arrays_of_any_layout_give_the_same_input():
    tiles = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    spec = InputSpec(mpp=1.0)
    expected = (tiles / 255 - np.array(spec.mean)) / np.array(spec.std)
    frozen = tiles.copy()
    frozen.setflags(write=False)
    for given in (tiles, torch.from_numpy(tiles), frozen, tiles[:, :, ::-1].copy()[:, :, ::-1]):
        found = to_network_input(given, spec).permute(0, 2, 3, 1).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert tiles.dtype == np.uint8
    assert to_network_input(tiles, spec).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    "tiles", [np.zeros((4, 4, 3), np.uint8), np.zeros((1, 3, 4, 4), np.uint8), torch.zeros(1, 4, 4, 3)]
)
def test_wrong_tiles_are_refused(tiles):
    with pytest.raises(ShapeError, match="uint8 RGB"):
        to_network_input(tiles, InputSpec(mpp=1.0))


def test_no_tiles_are_no_images():
    assert tuple(to_network_input(np.zeros((0, 4, 4, 3), np.uint8), InputSpec(mpp=1.0)).shape) == (0, 3, 4, 4)


def test_the_mean_of_the_presence_map_is_the_gate():
    output, calibration = make_output(), IDENTITY
    pixel, gate = dense_logits(output, calibration, (16, 16))
    fused, presence = dense_maps(output, calibration, (16, 16))
    torch.testing.assert_close(fused, pixel)
    assert presence.shape == pixel.shape
    deep = output.class_logits[output.deepest]
    same, unchanged = dense_maps(output, calibration, tuple(deep.shape[2:]))[1], deep
    torch.testing.assert_close(same, unchanged)
    torch.testing.assert_close(same.mean((2, 3)), gate)
