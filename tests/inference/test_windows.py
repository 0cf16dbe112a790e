"""The grid of windows: every pixel seen, panels disjoint and causal, parts agree with the whole."""

from __future__ import annotations

import numpy as np
import pytest

from lpd.errors import ConfigError
from lpd.inference.frame import Box, MaskFrame
from lpd.inference.windows import WindowGrid, plan_windows
from lpd.slide.region import Region

SIZES = [(1, 1), (64, 64), (65, 63), (96, 97), (500, 331)]


def everywhere(_window: Box) -> bool:
    return True


def count_on(grid: WindowGrid, boxes: list[Box]) -> np.ndarray:
    """How many of the boxes cover each pixel of the mask."""
    counts = np.zeros((grid.height, grid.width), dtype=int)
    for b in boxes:
        counts[max(0, b.y0) : max(0, b.y1), max(0, b.x0) : max(0, b.x1)] += 1
    return counts


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize(("stride", "offset", "side"), [(32, 0, 3), (32, 12, 1), (16, 8, 4), (64, 0, 2), (48, 44, 1)])
def test_windows_see_every_pixel_and_panels_cover_each_once(width, height, stride, offset, side):
    grid = WindowGrid(width, height, 64, stride, 32, 48, offset, side)
    plan = plan_windows(grid, Box(0, 0, width, height), everywhere)
    panels = list(plan.panels())
    windows = [w for p in panels for w in p.windows]
    assert len(windows) == len(set(windows)) == plan.window_count == grid.columns * grid.rows
    assert count_on(grid, windows).min() >= 1
    counts = count_on(grid, [p.box for p in panels])
    assert counts.min() == counts.max() == 1
    for window in windows:
        assert (window.x0 + offset) % stride == (window.y0 + offset) % stride == 0
        assert window.width == window.height == 64
        assert window.x0 < width
        assert window.y0 < height


def test_one_window_fewer_would_leave_the_edge_unseen():
    grid = WindowGrid(97, 96, 64, 32)
    assert (grid.columns, grid.rows) == (3, 2)  # 64 + 32 = 96 px need two windows, 97 px a third
    assert grid.window_box(1, 0).x1 == 96


def test_a_window_overhangs_its_panel_only_to_the_right_and_below():
    plan = plan_windows(WindowGrid(500, 331, 64, 32, 32, 48, 8, 2), Box(0, 0, 500, 331), everywhere)
    for panel in plan.panels():
        for window in panel.windows:
            assert panel.box.x0 <= window.x0 < panel.box.x1
            assert panel.box.y0 <= window.y0 < panel.box.y1
            assert window.x1 <= panel.box.x1 + 32
            assert window.y1 <= panel.box.y1 + 32


@pytest.mark.parametrize(
    "wanted", [Box(0, 0, 1, 1), Box(100, 90, 101, 91), Box(63, 64, 200, 129), Box(490, 0, 500, 331)]
)
@pytest.mark.parametrize("offset", [0, 20])
def test_a_part_takes_exactly_the_windows_of_the_whole_that_touch_it(wanted, offset):
    grid = WindowGrid(500, 331, 64, 32, 32, 48, offset, 2)
    whole = {w for p in plan_windows(grid, Box(0, 0, 500, 331), everywhere).panels() for w in p.windows}
    plan = plan_windows(grid, wanted, everywhere)
    panels = list(plan.panels())
    part = {w for p in panels for w in p.windows}
    assert part == {w for w in whole if w.intersection(wanted.grown(28))}
    counts = count_on(grid, [p.box for p in panels])
    assert (counts[wanted.y0 : wanted.y1, wanted.x0 : wanted.x1] == 1).all()


def test_windows_without_tissue_are_left_out_but_their_panels_stay():
    grid = WindowGrid(500, 331, 64, 32, panel_strides=2)
    plan = plan_windows(grid, Box(0, 0, 500, 331), lambda w: w.grown(-4).x0 == 64)
    assert plan.window_count == grid.rows
    assert len(list(plan.panels())) == grid.panel_columns * grid.panel_rows
    assert plan_windows(grid, Box(0, 0, 500, 331), lambda w: False).window_count == 0


@pytest.mark.parametrize(
    ("stride", "offset", "side", "word"),
    [
        (30, 0, 3, "stride 30"),
        (68, 0, 3, "stride 68"),
        (32, 6, 3, "offset 6"),
        (32, 32, 3, "offset 32"),
        (16, 0, 2, "narrower"),
    ],
)
def test_numbers_that_do_not_fit_are_named(stride, offset, side, word):
    with pytest.raises(ConfigError, match=word):
        WindowGrid(500, 331, 64, stride, offset_px=offset, panel_strides=side)


@pytest.mark.parametrize("scale", [1.0, 2.0, 1.996, 0.5, 3.7])
def test_frame_rounds_outwards_and_covers_the_slide(scale):
    frame = MaskFrame(1001, 703, scale)
    bounds = frame.bounds
    assert bounds.x1 * scale >= 1001 - 1e-3
    assert (bounds.x1 - 1) * scale < 1001
    assert frame.to_mask(Region(0, 0, 1001, 703)) == bounds
    assert frame.to_l0(bounds) == Region(0, 0, 1001, 703)
    box = frame.to_mask(Region(100, 200, 50, 60))
    back = frame.to_l0(box)
    assert back is not None
    assert back.contains(Region(100, 200, 50, 60))
    assert frame.to_l0(Box(5, 5, 5, 9)) is None
