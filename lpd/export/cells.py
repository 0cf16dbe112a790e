"""CellGrid: a result's mask in square cells, read block by block with the cells around them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lpd.classes import NOT_COMPUTED
from lpd.export.source import BLOCK_PX, Mask, MaskSource

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Block:
    """Cells from column ``x`` and row ``y`` on."""

    x: int
    y: int
    width: int
    height: int

    def grown(self, cells: int) -> Block:
        """The block with so many more cells on every side."""
        return Block(self.x - cells, self.y - cells, self.width + 2 * cells, self.height + 2 * cells)


@dataclass(frozen=True, eq=False)
class CellGrid:
    """The mask as cells of ``step`` × ``step`` of its pixels; the pixel at a cell's middle stands for it.

    Attributes:
        store: whose mask.
        step: side of a cell in mask pixels.
        block_cells: side of the blocks.
    """

    store: MaskSource
    step: int = 1
    block_cells: int = 2048

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns); the last ones may reach past the mask."""
        height, width = self.store.mask_shape
        return -(-height // self.step), -(-width // self.step)

    def blocks(self) -> Iterator[Block]:
        """All cells once, row by row."""
        rows, columns = self.shape
        side = self.block_cells
        for y in range(0, rows, side):
            for x in range(0, columns, side):
                yield Block(x, y, min(side, columns - x), min(side, rows - y))

    def read(self, block: Block) -> Mask:
        """Mask values (height, width) of a block that may reach past the grid; 255 there."""
        rows, columns = self.shape
        out = np.full((block.height, block.width), NOT_COMPUTED, np.uint8)
        side = -(-(BLOCK_PX + 2) // self.step)  # a block and the cells around it at once
        for y in range(max(0, block.y), min(rows, block.y + block.height), side):
            for x in range(max(0, block.x), min(columns, block.x + block.width), side):
                height = min(side, rows - y, block.y + block.height - y)
                width = min(side, columns - x, block.x + block.width - x)
                part = out[y - block.y : y - block.y + height, x - block.x : x - block.x + width]
                part[:] = self._middles(Block(x, y, width, height))
        return out

    def _middles(self, block: Block) -> Mask:
        height, width = self.store.mask_shape
        x, y, step = block.x * self.step, block.y * self.step, self.step
        size = min(block.width * step, width - x), min(block.height * step, height - y)
        pixels = self.store.read_mask_px(x, y, size)
        return pixels if step == 1 else pixels[np.ix_(_middle(size[1], step), _middle(size[0], step))]


def _middle(length: int, step: int) -> Indices:
    """Offset of each cell's middle pixel; in a cell cut off by the border, of its last one at most."""
    return np.minimum(np.arange(0, length, step) + step // 2, length - 1)
