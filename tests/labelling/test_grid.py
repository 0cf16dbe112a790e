"""The grid of tiles: places counted by hand, and polygons against the middles of all tiles one by one."""

from __future__ import annotations

import pytest

from lpd.errors import ConfigError, SlideError
from lpd.labelling.grid import TileGrid
from lpd.slide.polygon import Polygon
from lpd.slide.region import Region


def test_tiles_lie_on_whole_pixels_and_only_on_the_slide():
    grid = TileGrid(640, 400, 0.5, 1.0, 32)  # 64 level-0 pixels a tile
    assert (grid.columns, grid.rows, grid.step_l0) == (10, 6, 64.0)  # 400 = 6 · 64 + 16
    assert grid.region((9, 5)) == Region(576, 320, 64, 64)
    assert grid.cell_at(63.9, 64) == (0, 1)
    assert grid.cell_at(10, 390) is None  # the strip below the last row


def test_a_step_that_is_no_whole_number_is_rounded_place_by_place():
    grid = TileGrid(1000, 1000, 0.4, 1.0, 33)  # 82.5 level-0 pixels
    assert grid.tile_side_l0 == 83
    assert [grid.region((c, 0)).x_l0 for c in range(4)] == [0, 83, 165, 248]  # 0, 82.5, 165, 247.5; halves upwards
    assert grid.columns == 12  # the twelfth begins at 908 (907.5) and ends at 991
    assert TileGrid(990, 1000, 0.4, 1.0, 33).columns == 11  # one pixel short of it


def test_regions_take_the_tiles_whose_middles_they_hold():
    grid = TileGrid(640, 400, 0.5, 1.0, 32)
    square = Polygon((((31, 31), (97, 31), (97, 33), (31, 33)),))  # middles at 32 and 96
    assert grid.inside([square]) == [(0, 0), (1, 0)]
    triangle = Polygon((((0, 0), (640, 0), (0, 400)),))
    by_hand = [(c, r) for r in range(6) for c in range(10) if (c * 64 + 32) / 640 + (r * 64 + 32) / 400 < 1]
    assert grid.inside([triangle]) == by_hand
    ring = Polygon((((0, 0), (640, 0), (640, 400), (0, 400)), ((60, 60), (580, 60), (580, 324), (60, 324))))
    assert (4, 3) not in grid.inside([ring])
    assert len(grid.inside([ring, square])) == len(grid.inside([ring]))  # counted once
    assert grid.inside([Polygon((((-900, -900), (-800, -900), (-800, -800)),))]) == []


@pytest.mark.parametrize(
    ("facts", "error", "says"),
    [
        ((640, 400, 2.0, 1.0, 32), SlideError, "too coarse"),
        ((20, 20, 0.5, 1.0, 32), SlideError, "smaller than one tile of 64 px"),
        ((640, 400, 0.5, 1.0, 0), ConfigError, "no tiles"),
    ],
)
def test_slides_that_have_no_such_tiles_are_refused(facts, error, says):
    with pytest.raises(error, match=says):
        TileGrid(*facts)
