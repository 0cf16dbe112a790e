"""Block reader: any rectangle shows the same pixels, every block is read once, errors reach whoever waits."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from lpd.errors import SlideError
from lpd.inference.blocks import BLOCK_PX, BlockReader, rows_touched
from lpd.inference.frame import Box, MaskFrame
from lpd.inference.reader import read_panels
from lpd.inference.windows import WindowGrid, plan_windows

FILL = np.array([9, 9], dtype=np.int32)


class PositionReader:
    """Each pixel holds the level-0 position of its own centre, and every call is counted."""

    def __init__(self) -> None:
        self.calls = []

    def __call__(self, region, size):
        self.calls.append(region)
        width, height = size
        x = region.x_l0 + (np.arange(width) + 0.5) * region.width_l0 / width
        y = region.y_l0 + (np.arange(height) + 0.5) * region.height_l0 / height
        return np.stack(np.meshgrid(x, y), axis=2).astype(np.int32)


def make(scale: float = 1.996, cache: int = 100) -> tuple[BlockReader, PositionReader]:
    read = PositionReader()
    return BlockReader(read, MaskFrame(3000, 2400, scale), FILL, cache), read


def test_a_rectangle_is_cut_from_where_it_lies_on_the_slide():
    reader, _ = make()
    out = reader.read(Box(500, 300, 1100, 900))
    assert out.shape == (600, 600, 2)
    centre_x, centre_y = (np.arange(500, 1100) + 0.5) * 1.996, (np.arange(300, 900) + 0.5) * 1.996
    assert np.abs(out[0, :, 0] - centre_x).max() < 1.6  # whole level-0 pixels and half a pixel of the block's corner
    assert np.abs(out[:, 0, 1] - centre_y).max() < 1.6


def test_the_same_pixel_is_the_same_in_every_rectangle():
    reader, _ = make()
    whole = reader.read(Box(-10, -10, 1520, 1210))
    for box in (Box(0, 0, 1, 1), Box(511, 511, 513, 513), Box(3, 700, 1500, 703), Box(-5, -5, 5, 5)):
        expected = whole[box.y0 + 10 : box.y1 + 10, box.x0 + 10 : box.x1 + 10]
        np.testing.assert_array_equal(make()[0].read(box), expected)


def test_outside_of_the_slide_is_the_fill_value_and_is_not_read():
    reader, read = make(2.0)
    assert (reader.read(Box(-600, -600, -10, -10)) == 9).all()
    assert (reader.read(Box(1500, 0, 1600, 5)) == 9).all()
    assert read.calls == []
    assert (reader.read(Box(1498, 0, 1502, 1))[0, :, 0] == [2997, 2999, 9, 9]).all()


def test_each_block_is_read_once_even_by_many_threads():
    reader, read = make()
    threads = [threading.Thread(target=reader.read, args=(Box(0, 0, 1500, 1200),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read.calls) == len(set(read.calls)) == 9


def test_a_small_cache_reads_again_and_shows_the_same():
    small, read = make(cache=1)
    box = Box(0, 0, 1400, 600)
    np.testing.assert_array_equal(small.read(box), make()[0].read(box))
    small.read(box)
    assert len(read.calls) > 6


def failing(region, size):
    if region.x_l0 > 900:
        raise SlideError("tile 3 is damaged")
    time.sleep(0.01)
    return np.zeros((size[1], size[0], 3), dtype=np.uint8)


def lpd_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("lpd-")]


def test_an_error_in_a_reader_thread_arrives_and_no_thread_stays():
    plan = plan_windows(WindowGrid(1500, 1200, 64, 32, panel_strides=8), Box(0, 0, 1500, 1200), lambda _w: True)
    reader = BlockReader(failing, MaskFrame(1500, 1200, 1.0), np.zeros(3, np.uint8), 100)
    got = []
    with pytest.raises(SlideError, match="tile 3"):
        got.extend(read_panels(plan.panels(), reader, 3, 0))
    assert got
    assert lpd_threads() == []


def test_panels_arrive_in_order_and_closing_early_ends_the_threads():
    grid = WindowGrid(1500, 1200, 64, 32, panel_strides=3)
    plan = plan_windows(grid, Box(0, 0, 1500, 1200), lambda w: w.grown(-4).x0 % 64 == 0)
    frame, white = MaskFrame(3000, 2400, 2.0), np.full(3, 255, np.uint8)
    reader = BlockReader(lambda r, s: np.zeros((s[1], s[0], 3), np.uint8), frame, white, 9)
    pictures = read_panels(plan.panels(), reader, 2, margin_px=16)
    first = [next(pictures) for _ in range(20)]
    expected = [(p.column, p.row) for p in plan.panels()][:20]
    assert [(p.panel.column, p.panel.row) for p in first] == expected
    window = first[0].panel.windows[-1]
    assert first[0].crop(window).shape == (96, 96, 3)
    corner = first[0].crop(first[0].panel.windows[0])
    assert not corner[16:, 16:].any()
    assert (corner[:16] == 255).all()
    assert (corner[:, :16] == 255).all()
    pictures.close()
    assert lpd_threads() == []


@pytest.mark.parametrize("height", [1, 2, 448, 512, 513, 514, 672, 1024, 1025, 1026])
def test_a_rectangle_touches_so_many_rows_of_blocks_at_most(height):
    touched = max(-(-(y + height) // BLOCK_PX) - y // BLOCK_PX for y in range(BLOCK_PX))
    assert rows_touched(height) == touched


@pytest.mark.parametrize("margin_px", [0, 16])
def test_blocks_are_dropped_when_no_panel_needs_them_and_none_is_read_twice(monkeypatch, margin_px):
    monkeypatch.setattr("lpd.inference.blocks.BLOCK_PX", 64)
    plan = plan_windows(WindowGrid(1500, 1200, 96, 64, panel_strides=1), Box(0, 0, 1500, 1200), lambda _w: True)
    reader, read = make(2.0, cache=1000)
    most = 0
    for picture in read_panels(plan.panels(), reader, 1, margin_px, forget=True):
        seen = picture.panel.windows[0].grown(margin_px)
        np.testing.assert_array_equal(picture.crop(picture.panel.windows[0]), make(2.0)[0].read(seen))
        most = max(most, len(reader._blocks))
    assert len(read.calls) == len(set(read.calls)) == 24 * 19
    assert most <= 2 * 24 + 8  # of 456: what the next row of panels shows, too, and some around the panel
