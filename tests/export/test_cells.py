"""Cells of a mask, read block by block."""

from __future__ import annotations

import numpy as np
import pytest

from lpd.export import cells
from lpd.export.cells import Block, CellGrid

from .conftest import HandMade, blobs


@pytest.mark.parametrize("block_cells", [7, 64])
def test_blocks_hold_every_cell_once(block_cells: int) -> None:
    store = HandMade(blobs(30, 50, 3))
    grid = CellGrid(store, 1, block_cells)
    seen = np.zeros(grid.shape, int)
    for block in grid.blocks():
        seen[block.y : block.y + block.height, block.x : block.x + block.width] += 1
        np.testing.assert_array_equal(
            grid.read(block), store.mask[block.y : block.y + block.height, block.x : block.x + block.width]
        )
    assert (seen == 1).all()


def test_beyond_the_grid_nothing_is_computed() -> None:
    store = HandMade(blobs(6, 9, 3))
    framed = CellGrid(store).read(Block(0, 0, 9, 6).grown(2))
    assert framed.shape == (10, 13)
    np.testing.assert_array_equal(framed[2:-2, 2:-2], store.mask)
    framed[2:-2, 2:-2] = 255
    assert (framed == 255).all()


def test_a_cell_is_the_pixel_at_its_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "BLOCK_PX", 32)
    store = HandMade(blobs(70, 99, 7))
    grid = CellGrid(store, 4)
    assert grid.shape == (18, 25)
    seen = grid.read(Block(0, 0, 25, 18))
    np.testing.assert_array_equal(seen[:17, :24], store.mask[2:70:4, 2:97:4][:17, :24])
    assert seen[17, 24] == store.mask[69, 98]
    assert store.largest <= (32 + 2 * 4) ** 2  # a block and the cells around it
