"""Blending against whole-slide arrays: same values as brute force, and the same bits for every size of panel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from lpd.config import Calibration
from lpd.inference.blend import BlendedPanel, TentBlender, smooth, tent_weight
from lpd.inference.decision import cell_scores, decide, enlarge
from lpd.inference.frame import Box
from lpd.inference.windows import Plan, WindowGrid, plan_windows

CLASSES, WIDTH, HEIGHT, TILE = 2, 210, 150, 64
CALIBRATION = Calibration((1.0,), (1.0, 0.7), (0.1, -0.2), (2.0, 1.0), (0.0, 0.3))
CPU = torch.device("cpu")


def answer(window: Box) -> tuple[torch.Tensor, torch.Tensor]:
    """Random logits that depend on the window alone."""
    generator = torch.Generator().manual_seed(window.x0 * 1000 + window.y0 + 77)
    pixel = torch.randn((CLASSES, TILE // 4, TILE // 4), generator=generator) * 3
    return pixel, torch.randn((CLASSES,), generator=generator)


def some(window: Box) -> bool:
    return not (window.x0 >= 96 and window.y0 >= 64)


def run(plan: Plan) -> list[BlendedPanel]:
    panels: list[BlendedPanel] = []
    blender = TentBlender(plan, CLASSES, CPU, panels.append)
    for panel in plan.panels():
        for window in panel.windows:
            blender.add(panel, window, *answer(window))
    blender.finish()
    return panels


def brute_force(plan: Plan, origin: int) -> tuple[np.ndarray, np.ndarray]:
    """(2C, h, w) weighted mean and (h, w) weight of all windows on one large float64 array of cells."""
    grid = plan.grid
    side = TILE // 4
    rise = np.minimum(np.arange(side) + 0.5, side - np.arange(side) - 0.5) / side * 2
    weight = np.outer(rise, rise)
    shape = (
        (grid.rows * grid.stride_px + grid.overhang_px) // 4,
        (grid.columns * grid.stride_px + grid.overhang_px) // 4,
    )
    total, sums = np.zeros(shape), np.zeros((2 * CLASSES, *shape))
    for panel in plan.panels():
        for window in panel.windows:
            y, x = (window.y0 + origin) // 4, (window.x0 + origin) // 4
            pixel, gate = answer(window)
            values = np.concatenate([pixel.numpy(), np.broadcast_to(gate.numpy()[:, None, None], pixel.shape)])
            sums[:, y : y + side, x : x + side] += values * weight
            total[y : y + side, x : x + side] += weight
    return sums / np.where(total > 0, total, 1), total


def assemble(panels: list[BlendedPanel]) -> tuple[np.ndarray, np.ndarray]:
    """The mask and the scores of all panels, each pixel and cell written exactly once."""
    x0, y0 = panels[0].panel.box.x0, panels[0].panel.box.y0
    width, height = panels[-1].panel.box.x1 - x0, panels[-1].panel.box.y1 - y0
    mask = np.full((height + 4, width + 4), 255, dtype=np.uint8)
    scores = np.full((CLASSES, height // 4, width // 4), 255, dtype=np.uint8)
    for panel in panels:
        box, own = panel.pixel_box, panel.panel.box
        target = mask[box.y0 - y0 + 2 : box.y1 - y0 + 2, box.x0 - x0 + 2 : box.x1 - x0 + 2]
        assert (target == 255).all()
        target[...] = decide(panel, CALIBRATION)
        cells = scores[:, (own.y0 - y0) // 4 : (own.y1 - y0) // 4, (own.x0 - x0) // 4 : (own.x1 - x0) // 4]
        assert (cells == 255).all()
        cells[...] = cell_scores(panel, CALIBRATION)
    return mask[2:-2, 2:-2], scores


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def expected_scores(logits: np.ndarray) -> np.ndarray:
    gains, biases = (
        np.array([CALIBRATION.pixel_gain, CALIBRATION.gate_gain]),
        np.array([CALIBRATION.pixel_bias, CALIBRATION.gate_bias]),
    )
    pixel, gate = logits[:CLASSES], logits[CLASSES:]
    spread = (slice(None), None, None)
    return sigmoid(gains[0][spread] * pixel + biases[0][spread]) * sigmoid(gains[1][spread] * gate + biases[1][spread])


@pytest.mark.parametrize("chosen", [lambda _window: True, some], ids=["all", "some"])
@pytest.mark.parametrize(("stride", "offset"), [(32, 0), (32, 12), (16, 0), (48, 0), (64, 0)])
def test_blending_equals_brute_force(chosen, stride, offset):
    plan = plan_windows(WindowGrid(WIDTH, HEIGHT, TILE, stride, offset, 3), Box(0, 0, WIDTH, HEIGHT), chosen)
    mask, scores = assemble(run(plan))
    logits, weight = brute_force(plan, offset)
    known = weight > 0
    assert np.abs(scores - np.where(known, expected_scores(logits) * 254, 0)).max() <= 0.51

    def up(values: np.ndarray) -> np.ndarray:
        return interpolate(torch.from_numpy(values)[None], scale_factor=4, mode="bilinear", align_corners=False)[
            0
        ].numpy()

    share = up(known[None].astype(float))[0]
    pixels = expected_scores(up(logits * known) / np.where(share > 0, share, 1))
    gap = np.abs(pixels[0] - pixels[1])
    clear = (gap > 1e-4) & (share > 0)
    assert clear.mean() > 0.5
    assert (mask == pixels.argmax(0))[clear].all()
    assert (mask[share == 0] == CLASSES).all()
    assert ((share == 0).any()) == (chosen is some)


@pytest.mark.parametrize("chosen", [lambda _window: True, some], ids=["all", "some"])
@pytest.mark.parametrize(("stride", "sides"), [(32, (1, 2, 3, 9)), (16, (3, 4, 7)), (48, (1, 2))])
def test_the_size_of_panels_changes_no_bit(chosen, stride, sides):
    results = []
    for side in sides:
        grid = WindowGrid(WIDTH, HEIGHT, TILE, stride, 0, side)
        results.append(assemble(run(plan_windows(grid, Box(0, 0, WIDTH, HEIGHT), chosen))))
    for mask, scores in results[1:]:
        np.testing.assert_array_equal(mask, results[0][0])
        np.testing.assert_array_equal(scores, results[0][1])


def test_a_single_window_keeps_its_own_logits():
    plan = plan_windows(WindowGrid(40, 40, TILE, 32, 0, 2), Box(0, 0, 40, 40), lambda _window: True)
    (panel,) = run(plan)
    pixel, gate = answer(plan.grid.window_box(0, 0))
    torch.testing.assert_close(panel.logits[:CLASSES, 1:-1, 1:-1], pixel, atol=2e-5, rtol=0)
    torch.testing.assert_close(panel.logits[CLASSES:, 3, 3], gate, atol=2e-5, rtol=0)


def test_tent_is_symmetric_positive_and_highest_in_the_middle():
    weight = tent_weight(6, CPU)
    assert weight[0].tolist() == [1, 3, 5, 5, 3, 1]
    assert torch.equal(weight, weight.T)
    assert torch.equal(weight, weight.flip(0))


def test_smoothing_is_a_triangle_of_the_given_reach():
    spike = torch.zeros(1, 2, 9, 9)
    spike[0, 1, 4, 4] = 16.0
    out = smooth(spike, 16)
    assert (out[0, 0] == 0).all()
    line = torch.tensor([0, 1, 2, 3, 4, 3, 2, 1, 0]) / 16
    torch.testing.assert_close(out[0, 1], 16 * torch.outer(line, line))
    even = torch.full((2, 1, 5, 5), 3.0)
    torch.testing.assert_close(smooth(even, 12), even)
    assert smooth(spike, 0) is smooth(spike, 4) is spike


def test_enlarging_continues_from_block_to_block_and_equals_interpolate():
    values = torch.randn(3, 9, 12, dtype=torch.float64)
    whole = interpolate(values[None], scale_factor=4, mode="bilinear", align_corners=False)[0]
    parts = torch.cat([enlarge(values[:, :5]), enlarge(values[:, 4:])], 1)
    torch.testing.assert_close(parts, whole[:, 2:-2, 2:-2])


def test_tall_panels_are_decided_in_stripes_without_a_seam(monkeypatch):
    plan = plan_windows(WindowGrid(WIDTH, HEIGHT, TILE, 32, 0, 9), Box(0, 0, WIDTH, HEIGHT), some)
    (panel,) = run(plan)
    whole = decide(panel, CALIBRATION)
    monkeypatch.setattr("lpd.inference.decision._STRIPE_CELLS", 5)
    np.testing.assert_array_equal(decide(panel, CALIBRATION), whole)
