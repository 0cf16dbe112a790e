"""Raw logits averaged over views: mirror images and other sizes, against views made one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from lpd.config import ModelConfig
from lpd.errors import CheckpointError
from lpd.evaluation.tiles import tile_logits, tta_refusal, tta_sides
from lpd.model.network import LPDNet
from lpd.model.scoring import default_calibration, dense_logits


@pytest.mark.parametrize(
    ("tile_px", "sides"),
    [(224, (192, 256)), (512, (448, 576)), (320, (288, 352)), (160, (128, 192)), (96, ()), (64, ()), (32, ())],
)
def test_sides_are_a_tenth_smaller_and_larger_to_the_nearest_multiple_of_32(tile_px, sides):
    assert tta_sides(tile_px) == sides


def test_maps_that_are_no_numbers_end_with_a_sentence(write_tiles, spec, tmp_path):
    tiles = write_tiles(tmp_path, 2, 64)
    broken = LPDNet(ModelConfig("test_convnext", class_count=3, prototype_dim=16)).eval()
    with torch.no_grad():
        broken.gains["3"].fill_(float("inf"))
    with pytest.raises(CheckpointError, match=r"answers 00\.png and its neighbours with values that are no numbers"):
        next(tile_logits(broken, tiles, spec, default_calibration(broken.config)))


def test_views_count_alike(network, write_tiles, spec, tmp_path):
    tiles = write_tiles(tmp_path, 2, 96)
    calibration = default_calibration(network.config)
    (found,) = tile_logits(network, tiles, spec, calibration, flip=True, sides=(64, 128))
    pixels, gates = [], []
    images = torch.from_numpy(tiles.images([0, 1]).astype(np.float32)).permute(0, 3, 1, 2) / 255
    images = (images - torch.tensor(spec.mean)[:, None, None]) / torch.tensor(spec.std)[:, None, None]
    with torch.inference_mode():
        for side in (64, 96, 128):
            resized = functional.interpolate(images, (side, side), mode="bilinear", antialias=True)
            for mirrored in (False, True):
                pixel, gate = dense_logits(network(resized.flip(3) if mirrored else resized), calibration, (96, 96))
                pixels.append(pixel.flip(3) if mirrored else pixel)
                gates.append(gate)
    torch.testing.assert_close(found.pixel, torch.stack(pixels).mean(0), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.gate, torch.stack(gates).mean(0), rtol=1e-4, atol=1e-4)
    assert found.output.class_logits[3].shape[0] == 2


def test_turned_tiles_are_turned_back_before_the_mean(network, write_tiles, spec, tmp_path):
    tiles = write_tiles(tmp_path, 2, 96)
    calibration = default_calibration(network.config)
    (found,) = tile_logits(network, tiles, spec, calibration, symmetries=True)
    images = torch.from_numpy(tiles.images([0, 1]).astype(np.float32)).permute(0, 3, 1, 2) / 255
    images = (images - torch.tensor(spec.mean)[:, None, None]) / torch.tensor(spec.std)[:, None, None]
    # The symmetries of the square, as what becomes of the axes: exchanged or not, each reversed or not.
    total, gates = torch.zeros_like(found.pixel), torch.zeros_like(found.gate)
    with torch.inference_mode():
        for exchanged in (False, True):
            for reversed_axes in ((), (2,), (3,), (2, 3)):
                moved = (images.transpose(2, 3) if exchanged else images).flip(reversed_axes)
                pixel, gate = dense_logits(network(moved), calibration, (96, 96))
                back = pixel.flip(reversed_axes)
                total += back.transpose(2, 3) if exchanged else back
                gates += gate
    torch.testing.assert_close(found.pixel, total / 8, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.gate, gates / 8, rtol=1e-4, atol=1e-4)


def test_without_views_the_tile_alone_counts(network, tiles, spec):
    calibration = default_calibration(network.config)
    plain = next(tile_logits(network, tiles, spec, calibration))
    pixel, gate = dense_logits(plain.output, calibration, (64, 64))
    assert torch.equal(plain.pixel, pixel)
    assert torch.equal(plain.gate, gate)


def test_only_networks_that_see_any_size_are_augmented():
    assert tta_refusal(ModelConfig("test_convnext", 3), 224) is None
    refusal = tta_refusal(ModelConfig("mixer_s32_224", 3), 224)
    assert refusal is not None
    assert "mixer_s32_224 is made for one size of input" in refusal
    assert tta_refusal(ModelConfig("mixer_s32_224", 3), 64) is None  # no other size would be shown
