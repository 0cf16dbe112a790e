"""Windows from all over a slide that its own prototypes are taken from, whatever part of it is asked for."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from lpd.errors import SlideError
from lpd.inference.blocks import BlockReader
from lpd.inference.frame import Box
from lpd.inference.windows import WindowGrid

Bytes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Window: TypeAlias = tuple[Bytes, Mask]

#: What the windows hold together, as much as 144 tiles of 224 px; more change the prototypes little.
_MOST_PX = 144 * 224**2
#: On a small slide no more than this share of all windows is seen a second time.
_MOST_SHARE = 0.25
#: Places of a large grid that are looked at for tissue.
_MOST_PLACES = 4096


def sample_windows(grid: WindowGrid, has_tissue: Callable[[Box], bool]) -> list[Box]:
    """Windows evenly spread over those that show tissue; always the same ones of a slide, wherever its grid begins."""
    grid = dataclasses.replace(grid, offset_px=0)
    step = math.ceil(math.sqrt(grid.rows * grid.columns / _MOST_PLACES))
    places = itertools.product(range(0, grid.rows, step), range(0, grid.columns, step))
    windows = [box for row, column in places if has_tissue(box := grid.window_box(column, row))]
    seen_px = (grid.window_px + 2 * grid.margin_px) ** 2
    count = min(_MOST_PX / seen_px, math.ceil(_MOST_SHARE * len(windows) * step**2), len(windows))
    chosen = np.linspace(0, max(0, len(windows) - 1), max(1, round(count))).round().astype(int)
    return [windows[i] for i in np.unique(chosen)] if windows else []


def read_windows(
    windows: Iterable[Box], margin_px: int, pixels: BlockReader, tissue: BlockReader, threads: int
) -> Generator[Window, None, None]:
    """(pixels (w, w, 3), where there is tissue (w, w)) of each window with its margin, ``threads + 1`` read ahead.

    A damaged one is left out: whoever needs its pixels for the map will say so. Close the iterator (or exhaust it) to
    end the threads.
    """

    def read(window: Box) -> Window | None:
        seen = window.grown(margin_px)
        try:
            return pixels.read(seen), tissue.read(seen)
        except SlideError:
            return None

    waiting: deque[Future[Window | None]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="lpd-sampler")
    try:
        for window in windows:
            waiting.append(pool.submit(read, window))
            if len(waiting) > threads and (found := waiting.popleft().result()):
                yield found
        while waiting:
            if found := waiting.popleft().result():
                yield found
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
