"""BlockReader: reads a slide in fixed blocks of mask pixels, each once, and cuts any rectangle out of them.

The blocks' grid never moves. So a pixel's value does not depend on which rectangle was asked for, although level-0
coordinates are whole numbers and a mask pixel may be 1.996 of them wide.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np
import numpy.typing as npt

from lpd.inference.frame import Box, MaskFrame
from lpd.inference.own_memory import kept
from lpd.slide.region import Region

Array = npt.NDArray[Any]
BLOCK_PX = 512
_MOST_BLOCKS = 256  # 200 MB of RGB; a slide too wide for it has some pixels read twice


def blocks_to_keep(width_px: int, rows: int) -> int:
    """How many blocks to keep at most while rectangles that touch so many rows of blocks are read row by row.

    Args:
        width_px: of all rectangles of a row together, in mask pixels.
        rows: that they touch; the next ones begin with pixels that they have read.
    """
    return min(_MOST_BLOCKS, rows * (width_px // BLOCK_PX) + 16)


def rows_touched(height_px: int) -> int:
    """How many rows of blocks a rectangle so many mask pixels high touches at most."""
    return -(-(height_px - 1) // BLOCK_PX) + 1


class BlockReader:
    """Rectangles of mask pixels from a function that reads level-0 regions; safe to use from several threads."""

    def __init__(
        self, read: Callable[[Region, tuple[int, int]], Array], frame: MaskFrame, fill: Array, cache_blocks: int
    ) -> None:
        """Read nothing yet.

        Args:
            read: (region, (width, height)) to (height, width, …).
            frame: of the slide.
            fill: one pixel's value outside of the slide; its type is the result's.
            cache_blocks: how many blocks of 512 × 512 px to keep.
        """
        self._read = read
        self._frame = frame
        self._fill = fill
        self._capacity = cache_blocks
        self._blocks: OrderedDict[tuple[int, int], Future[Array]] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, box: Box) -> Array:
        """Pixels of ``box``, (height, width, …); outside of the mask the fill value.

        Where the mask's last column or row reaches past the slide, it shows the slide's edge.
        """
        out = np.empty((box.height, box.width, *self._fill.shape), dtype=self._fill.dtype)
        inside = box.intersection(self._frame.bounds)
        if inside != box:
            out[...] = self._fill
        for row in range(inside.y0 // BLOCK_PX, -(-inside.y1 // BLOCK_PX)) if inside else ():
            for column in range(inside.x0 // BLOCK_PX, -(-inside.x1 // BLOCK_PX)):
                x0, y0 = column * BLOCK_PX, row * BLOCK_PX
                part = inside.intersection(Box(x0, y0, x0 + BLOCK_PX, y0 + BLOCK_PX))
                target = out[part.y0 - box.y0 : part.y1 - box.y0, part.x0 - box.x0 : part.x1 - box.x0]
                target[...] = self._block(column, row)[part.y0 - y0 : part.y1 - y0, part.x0 - x0 : part.x1 - x0]
        return out

    def forget(self, box: Box) -> None:
        """Drop what nobody needs who goes on row by row from ``box``: blocks that end above it, and those that end left
        of its right edge and above its lower edge. Who needs one all the same reads it again."""
        with self._lock:
            ends = {key: ((key[0] + 1) * BLOCK_PX, (key[1] + 1) * BLOCK_PX) for key in self._blocks}
            done = [key for key, (x, y) in ends.items() if y <= box.y0 or (x <= box.x1 and y <= box.y1)]
            for key in done:
                del self._blocks[key]

    def _block(self, column: int, row: int) -> Array:
        with self._lock:
            block = self._blocks.get((column, row))
            mine = block is None
            if block is None:
                block = self._blocks[column, row] = Future()
                while len(self._blocks) > max(1, self._capacity):
                    self._blocks.popitem(last=False)
            self._blocks.move_to_end((column, row))
        if mine:
            self._load(block, column, row)
        return block.result()

    def _load(self, block: Future[Array], column: int, row: int) -> None:
        x0, width, last_x = _extent(column, self._frame.scale, self._frame.width_l0)
        y0, height, last_y = _extent(row, self._frame.scale, self._frame.height_l0)
        try:
            pixels = self._read(Region(x0, y0, width, height), (BLOCK_PX, BLOCK_PX))
            pixels[last_y + 1 :] = pixels[last_y]
            pixels[:, last_x + 1 :] = pixels[:, last_x : last_x + 1]
            block.set_result(kept(pixels))
        except Exception as error:  # whoever waits for this block gets the same error
            block.set_exception(error)


def _extent(index: int, scale: float, limit_l0: int) -> tuple[int, int, int]:
    """Start and length of a block at level 0 along one axis, and the last of its pixels that touches the slide.

    Both are rounded, and so the mask's last pixel, which may hold but a sliver of the slide, can fall outside of it.
    """
    start = min(round(index * BLOCK_PX * scale), limit_l0 - 1)
    length = max(1, round((index + 1) * BLOCK_PX * scale) - start)
    return start, length, min(BLOCK_PX, -((start - limit_l0) * BLOCK_PX // length)) - 1
