"""Blending against whole-slide arrays: same values as brute force, and the same bits for every size of panel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from lpd.config import Calibration
from lpd.inference.blend import BlendedPanel, Blender, fading_weight, mean_around
from lpd.inference.decision import cell_scores, decide, enlarge, panel_scores
from lpd.inference.frame import Box
from lpd.inference.windows import Plan, WindowGrid, plan_windows

CLASSES, WIDTH, HEIGHT, TILE = 2, 210, 150, 64
CALIBRATION = Calibration((1.0,), (1.0, 0.7), (0.1, -0.2), (2.0, 1.0), (0.0, 0.3))
CPU = torch.device("cpu")


def answer(window: Box) -> tuple[torch.Tensor, torch.Tensor]:
    """Random logits that depend on the window alone."""
    generator = torch.Generator().manual_seed(window.x0 * 1000 + window.y0 + 77)
    shape = (CLASSES, TILE // 4, TILE // 4)
    return torch.randn(shape, generator=generator) * 3, torch.randn(shape, generator=generator)


def some(window: Box) -> bool:
    return not (window.x0 + window.x1 >= 192 + TILE and window.y0 + window.y1 >= 128 + TILE)


def run(plan: Plan) -> list[BlendedPanel]:
    panels: list[BlendedPanel] = []
    blender = Blender(plan, CLASSES, CPU, panels.append)
    for panel in plan.panels():
        for window in panel.windows:
            blender.add(panel, window, *answer(window))
    blender.finish()
    return panels


def brute_force(plan: Plan) -> tuple[np.ndarray, np.ndarray]:
    """(2C, h, w) logits, gates taken, and (h, w) whether known, of the slide's cells by plain loops in float64."""
    grid = plan.grid
    side, overlap, reach = TILE // 4, min(grid.overhang_px, TILE // 2) // 4, grid.gate_reach
    distance = np.minimum(np.arange(side) + 0.5, side - np.arange(side) - 0.5)
    line = np.minimum(1, distance / max(overlap, 0.5))
    weight = np.outer(line, line)
    border = TILE // 4  # cells left of and above the slide, in which the grid may begin
    height, width = -(-grid.height // 4), -(-grid.width // 4)
    shape = (height + 2 * border + grid.stride_px // 4, width + 2 * border + grid.stride_px // 4)
    total, sums = np.zeros(shape), np.zeros((2 * CLASSES, *shape))
    for panel in plan.panels():
        for window in panel.windows:
            y, x = window.y0 // 4 + border, window.x0 // 4 + border
            values = np.concatenate([v.numpy() for v in answer(window)])
            sums[:, y : y + side, x : x + side] += values * weight
            total[y : y + side, x : x + side] += weight
    inside = slice(border, border + height), slice(border, border + width)
    known = total[inside] > 0
    logits = sums[:, inside[0], inside[1]] / np.where(known, total[inside], 1)
    gates = np.zeros_like(logits[CLASSES:])
    for y in range(height):
        for x in range(width):
            near = slice(max(0, y - reach), y + reach + 1), slice(max(0, x - reach), x + reach + 1)
            if known[near].any():
                gates[:, y, x] = logits[CLASSES:, near[0], near[1]][:, known[near]].mean(1)
    return np.concatenate([logits[:CLASSES], gates]), known


def assemble(panels: list[BlendedPanel]) -> tuple[np.ndarray, np.ndarray]:
    """The slide's mask and scores, each pixel and cell written exactly once."""
    far = 2 * TILE
    mask = np.full((HEIGHT + 2 * far, WIDTH + 2 * far), 255, dtype=np.uint8)
    scores = np.full((CLASSES, (HEIGHT + 2 * far) // 4, (WIDTH + 2 * far) // 4), 255, dtype=np.uint8)
    for panel in panels:
        box, own = panel.pixel_box, panel.box
        target = mask[box.y0 + far : box.y1 + far, box.x0 + far : box.x1 + far]
        assert (target == 255).all()
        log_scores = panel_scores(panel, CALIBRATION)
        target[...] = decide(log_scores, panel.known)
        rows, columns = slice((own.y0 + far) // 4, (own.y1 + far) // 4), slice((own.x0 + far) // 4, (own.x1 + far) // 4)
        assert (scores[:, rows, columns] == 255).all()
        scores[:, rows, columns] = cell_scores(log_scores, panel.known)
    height, width = -(-HEIGHT // 4), -(-WIDTH // 4)
    return mask[far : far + HEIGHT, far : far + WIDTH], scores[:, far // 4 :, far // 4 :][:, :height, :width]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def expected_scores(logits: np.ndarray) -> np.ndarray:
    """(2, h, w): alone in the tile, or sure of its share beside the other."""
    spread = (slice(None), None, None)
    gain, bias = np.array(CALIBRATION.pixel_gain)[spread], np.array(CALIBRATION.pixel_bias)[spread]
    pixel = gain * logits[:CLASSES] + bias
    gain, bias = np.array(CALIBRATION.gate_gain)[spread], np.array(CALIBRATION.gate_bias)[spread]
    there = sigmoid(gain * logits[CLASSES:] + bias)
    return there * (1 - there[::-1]) + there.prod(0) * sigmoid(pixel - pixel[::-1])


@pytest.mark.parametrize("chosen", [lambda _window: True, some], ids=["all", "some"])
@pytest.mark.parametrize(
    ("stride", "offset", "gate"), [(32, 0, 64), (32, 12, 0), (16, 0, 24), (48, 0, 64), (64, 0, 8), (40, 8, 64)]
)
def test_blending_equals_brute_force(chosen, stride, offset, gate):
    grid = WindowGrid(WIDTH, HEIGHT, TILE, stride, 0, gate, offset, 3)
    plan = plan_windows(grid, Box(0, 0, WIDTH, HEIGHT), chosen)
    mask, scores = assemble(run(plan))
    logits, known = brute_force(plan)
    assert np.abs(scores - np.where(known, expected_scores(logits) * 254, 0)).max() <= 0.51

    def up(values: np.ndarray) -> np.ndarray:
        large = interpolate(torch.from_numpy(values)[None], scale_factor=4, mode="bilinear", align_corners=False)
        return large[0].numpy()[:, :HEIGHT, :WIDTH]

    share = up(known[None].astype(float))[0]
    pixels = up(np.log(expected_scores(logits)) * known) / np.where(share > 0, share, 1)
    gap = np.abs(pixels[0] - pixels[1])
    clear = (gap > 1e-4) & (share > 0)
    assert clear.mean() > 0.4
    assert (mask == pixels.argmax(0))[clear].all()
    assert (mask[share == 0] == CLASSES).all()
    assert ((share == 0).any()) == (chosen is some)


@pytest.mark.parametrize("chosen", [lambda _window: True, some], ids=["all", "some"])
@pytest.mark.parametrize(("stride", "sides"), [(32, (1, 2, 3, 9)), (16, (3, 4, 7)), (48, (1, 2))])
def test_the_size_of_panels_changes_no_bit(chosen, stride, sides):
    results = []
    for side in sides:
        grid = WindowGrid(WIDTH, HEIGHT, TILE, stride, 0, TILE, 0, side)
        results.append(assemble(run(plan_windows(grid, Box(0, 0, WIDTH, HEIGHT), chosen))))
    for mask, scores in results[1:]:
        np.testing.assert_array_equal(mask, results[0][0])
        np.testing.assert_array_equal(scores, results[0][1])


def test_a_single_window_keeps_its_own_logits():
    grid = WindowGrid(40, 40, TILE, 32, panel_strides=2)
    (panel,) = run(plan_windows(grid, Box(0, 0, 40, 40), lambda _window: True))
    pixel, presence = answer(grid.window_box(0, 0))
    torch.testing.assert_close(panel.logits[:CLASSES, 1:11, 1:11], pixel[:, :10, :10], atol=2e-5, rtol=0)
    torch.testing.assert_close(panel.logits[CLASSES:, 3, 3], presence[:, 2, 2], atol=2e-5, rtol=0)
    assert panel.known[1:11, 1:11].all()
    assert panel.known.sum() == 100  # nothing is known beyond the slide's 40 px


def test_weights_fade_where_windows_overlap_and_share_every_pixel_alike():
    assert fading_weight(6, 6, CPU)[0].tolist() == [1, 3, 5, 5, 3, 1]
    flat = fading_weight(8, 2, CPU)
    assert flat[4].tolist() == [4 * w for w in (1, 3, 4, 4, 4, 4, 3, 1)]
    assert torch.equal(flat, flat.T)
    line = flat[4].clone()
    line[:2] += flat[4][-2:]  # its left neighbour, six cells away
    assert line[:-2].unique().tolist() == [16]
    assert fading_weight(4, 0, CPU).unique().tolist() == [1]


def test_the_mean_around_a_cell_counts_known_cells_only_and_is_the_same_in_any_rectangle():
    values = torch.randn(2, 9, 12, generator=torch.Generator().manual_seed(3))
    known = torch.rand(9, 12, generator=torch.Generator().manual_seed(4)) > 0.6
    known[:4, :4] = False
    out = mean_around(values, known, 1)
    assert out.shape == (2, 7, 10)
    assert (out[:, 0, 0] == 0).all()
    near = known[4:7, 6:9]
    expected = torch.stack([v[4:7, 6:9][near].mean() for v in values])
    torch.testing.assert_close(out[:, 4, 6], expected, atol=1e-4, rtol=0)
    assert torch.equal(mean_around(values[:, 2:8, 3:], known[2:8, 3:], 1), out[:, 2:6, 3:])
    torch.testing.assert_close(mean_around(values, known, 0), values * known, atol=1e-5, rtol=0)


def test_enlarging_continues_from_block_to_block_and_equals_interpolate():
    values = torch.randn(3, 9, 12, dtype=torch.float64)
    whole = interpolate(values[None], scale_factor=4, mode="bilinear", align_corners=False)[0]
    parts = torch.cat([enlarge(values[:, :5]), enlarge(values[:, 4:])], 1)
    torch.testing.assert_close(parts, whole[:, 2:-2, 2:-2])


def test_tall_panels_are_decided_in_stripes_without_a_seam(monkeypatch):
    plan = plan_windows(WindowGrid(WIDTH, HEIGHT, TILE, 32, gate_px=64), Box(0, 0, WIDTH, HEIGHT), some)
    (panel,) = run(plan)
    scores = panel_scores(panel, CALIBRATION)
    whole = decide(scores, panel.known)
    monkeypatch.setattr("lpd.inference.decision._STRIPE_CELLS", 5)
    np.testing.assert_array_equal(decide(scores, panel.known), whole)
