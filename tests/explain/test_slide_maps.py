"""SlideMaps: what the store's own reading of one prototype says, for all of them, in squares that stay small."""

from __future__ import annotations

import numpy as np
import pytest

from lpd.explain.slide_maps import Grid, SlideMaps
from lpd.inference.prototype_layers import MapLayer

from .conftest import Made, waves

UNION = (
    MapLayer("scale2", "pixel", 4, 8, 14.0, 2, 0.75),
    MapLayer("scale3", "pixel", 4, 16, 10.0, 3, 0.5),
    MapLayer("gate", "gate", 4, 16, 14.0),
)


@pytest.mark.parametrize("layers", [(), UNION])
def test_all_maps_are_those_that_are_read_one_by_one(made: Made, layers: tuple[MapLayer, ...]):
    maps, classes = waves(4, 20, 34), np.random.default_rng(0).integers(0, 3, (20, 34))
    store = made(maps, classes, layers=layers)
    if layers:
        store.write_layer(layers[1], 0, 0, waves(4, 10, 17, seed=2))
    reader = SlideMaps(store)
    grid = reader.grid()
    assert (grid.rows, grid.columns, grid.tile) == (20, 34, 8)
    cells = reader.read(grid, slice(0, 24), slice(0, 40))
    for m in range(4):
        np.testing.assert_array_equal(cells.maps[m, :20, :34], store.read_prototype_px(m, 0, 0, (34, 20), 8))
    assert (cells.maps[:, 20:] == 255).all()
    np.testing.assert_array_equal(cells.mask[:20, :34], classes)
    np.testing.assert_array_equal(cells.tissue[:20, :34], classes < 2)
    assert not cells.tissue[20:].any()
    coarse = reader.grid(4 * 20 * 34 // 4)
    assert coarse.step_l0 == 2 * grid.step_l0
    np.testing.assert_array_equal(reader.read(coarse, slice(0, 10), slice(0, 17)).maps, cells.maps[:, :20:2, :34:2])


def test_the_class_of_a_cell_is_that_of_the_pixel_right_of_its_middle(made: Made):
    store = made(waves(2, 4, 4), np.zeros((4, 4)))
    pixels = np.zeros((32, 32), np.uint8)
    pixels[:, 4:12] = 1  # cells of 8 px begin at 0 and 8: their middles are 4 and 12
    store.write_mask(0, 0, pixels)
    reader = SlideMaps(store)
    assert reader.read(reader.grid(), slice(0, 4), slice(0, 4)).mask[0].tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize("maps", [1, 9, 40, 1024])
def test_squares_cover_the_slide_once_and_hold_a_few_megabytes(maps: int):
    grid = Grid(0.5, 8.0, 3000, 1100, 28)
    seen = np.zeros((1100 + 448, 3000 + 448), np.uint8)
    for rows, columns in grid.squares(maps):
        seen[rows, columns] += 1
        height, width = rows.stop - rows.start, columns.stop - columns.start
        assert height == width
        assert height % 28 == 0
        assert maps * height * width <= 4_000_000
    assert (seen[:1100, :3000] == 1).all()
