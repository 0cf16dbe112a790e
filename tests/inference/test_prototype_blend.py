"""Blending of maps against plain loops over a slide's cells: same values, and the same bytes for any size of panel."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lpd.inference.frame import Box
from lpd.inference.prototype_blend import LayerBlender
from lpd.inference.prototype_layers import MapLayer, code
from lpd.inference.windows import Plan, WindowGrid, plan_windows

MAPS, WIDTH, HEIGHT, TILE, LIMIT = 3, 210, 150, 64, 5.0
CPU = torch.device("cpu")


def answer(window: Box, stride: int) -> torch.Tensor:
    """Random logits that depend on the window alone, some beyond the limit."""
    generator = torch.Generator().manual_seed(window.x0 * 1000 + window.y0 + 77)
    return torch.randn((MAPS, TILE // stride, TILE // stride), generator=generator) * 3


def some(window: Box) -> bool:
    return not (window.x0 + window.x1 >= 192 + TILE and window.y0 + window.y1 >= 128 + TILE)


def blended(plan: Plan, stride: int) -> np.ndarray:
    """(M, H, W) bytes of cells from 64 px left of and above the slide on, each handed over once at most."""
    out = np.full((MAPS, (HEIGHT + 4 * TILE) // stride, (WIDTH + 4 * TILE) // stride), 255, dtype=np.uint8)

    def put(box: Box, found: torch.Tensor) -> None:
        assert (found != 255).any()
        y, x = (box.y0 + TILE) // stride, (box.x0 + TILE) // stride
        target = out[:, y : y + found.shape[1], x : x + found.shape[2]]
        assert (target == 255).all()
        target[...] = found.numpy()

    blender = LayerBlender(plan, MapLayer("some", "pixel", MAPS, stride, LIMIT), CPU, put)
    for panel in plan.panels():
        for window in panel.windows:
            blender.add(panel, window, answer(window, stride))
    blender.finish()
    return out


def brute_force(plan: Plan, stride: int) -> np.ndarray:
    """The same by plain loops in float64: logits, NaN where no window looked."""
    side, overlap = TILE // stride, min(plan.grid.overhang_px, TILE // 2) // stride
    distance = np.minimum(np.arange(side) + 0.5, side - np.arange(side) - 0.5)
    line = np.minimum(1, distance / max(overlap, 0.5))
    weight = np.outer(line, line)
    sums = np.zeros((MAPS, (HEIGHT + 4 * TILE) // stride, (WIDTH + 4 * TILE) // stride))
    total = np.zeros(sums.shape[1:])
    for panel in plan.panels():
        for window in panel.windows:
            y, x = (window.y0 + TILE) // stride, (window.x0 + TILE) // stride
            sums[:, y : y + side, x : x + side] += answer(window, stride).numpy().clip(-LIMIT, LIMIT) * weight
            total[y : y + side, x : x + side] += weight
    return sums / np.where(total > 0, total, np.nan)


@pytest.mark.parametrize("chosen", [lambda _window: True, some], ids=["all", "some"])
@pytest.mark.parametrize("stride", [4, 8, 16, 32])
@pytest.mark.parametrize(("step", "offset"), [(32, 0), (64, 0), (64, 32)])
def test_maps_are_means_and_the_size_of_panels_changes_no_byte(chosen, stride: int, step: int, offset: int):
    plans = [
        plan_windows(WindowGrid(WIDTH, HEIGHT, TILE, step, 0, TILE, offset, side), Box(0, 0, WIDTH, HEIGHT), chosen)
        for side in (1, 2, 3, 9)
    ]
    found = blended(plans[0], stride)
    expected = brute_force(plans[0], stride)
    assert ((found == 255) == np.isnan(expected)).all()
    there = found != 255
    assert 0.1 < there.mean() < 0.9
    assert np.abs(found - 127 * (1 + expected / LIMIT))[there].max() <= 0.51
    for plan in plans[1:]:
        np.testing.assert_array_equal(blended(plan, stride), found)


def test_bytes_stand_for_logits_to_half_a_step():
    layer = MapLayer("fused", "pixel", 1, 8, 14.3)
    logits = np.array([-14.3, -3.21, 0.0, 7.77, 14.3, np.nan], dtype=np.float32)
    stored = code(logits, layer.limit)
    assert stored.tolist() == [0, 98, 127, 196, 254, 255]  # 127 · (1 + logit / 14.3)
    back = layer.logits(stored)
    assert np.isnan(back[-1])
    assert np.abs(back - logits)[:-1].max() <= 14.3 / 254 + 1e-6
    assert layer.gain * 254 + layer.offset == pytest.approx(14.3)
