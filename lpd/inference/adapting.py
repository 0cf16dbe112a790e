"""Windows from all over a slide that its own prototypes are taken from, whatever part of it is asked for."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from lpd.inference.blocks import BlockReader
from lpd.inference.frame import Box
from lpd.inference.windows import WindowGrid

Bytes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Window: TypeAlias = tuple[Bytes, Mask]

#: What the windows hold together, in tiles of the model; more change the prototypes little.
_MOST_TILES = 144
#: On a small slide no more than this share of all windows is seen a second time.
_MOST_SHARE = 0.25


def sample_windows(grid: WindowGrid, has_tissue: Callable[[Box], bool], tiles_per_window: float) -> list[Box]:
    """Windows evenly spread over those that show tissue; always the same ones of a slide, wherever its grid begins.

    Args:
        grid: of the slide.
        has_tissue: tells whether there is tissue inside a box.
        tiles_per_window: how many of the model's tiles a window holds.
    """
    grid = dataclasses.replace(grid, offset_px=0)
    boxes = (grid.window_box(column, row) for row in range(grid.rows) for column in range(grid.columns))
    windows = [box for box in boxes if has_tissue(box)]
    count = min(_MOST_TILES / tiles_per_window, math.ceil(_MOST_SHARE * len(windows)))
    places = np.linspace(0, max(0, len(windows) - 1), max(1, round(count))).round().astype(int)
    return [windows[place] for place in np.unique(places)] if windows else []


def read_windows(
    windows: list[Box], margin_px: int, pixels: BlockReader, tissue: BlockReader, threads: int
) -> Generator[Window, None, None]:
    """(pixels (w, w, 3), where there is tissue (w, w)) of each window with its margin, read ahead by threads.

    Close the iterator (or exhaust it) to end the threads.
    """

    def read(window: Box) -> Window:
        seen = window.grown(margin_px)
        return pixels.read(seen), tissue.read(seen)

    with ThreadPoolExecutor(threads, thread_name_prefix="lpd-sampler") as pool:
        try:
            yield from pool.map(read, windows)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
