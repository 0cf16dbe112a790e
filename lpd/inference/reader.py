"""read_panels: threads that read the pixels of one panel after another, a few ahead of whoever consumes them."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lpd.inference.blocks import BlockReader
from lpd.inference.frame import Box
from lpd.inference.windows import Panel

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class PanelPixels:
    """A panel's windows with their margins as one picture, each slide pixel in it once.

    Attributes:
        panel: which one.
        corner: mask pixel (x, y) of the picture's upper left corner.
        pixels: uint8 (h, w, 3) RGB; empty if the panel has no windows.
        margin_px: what the network sees on each side of a window.
    """

    panel: Panel
    corner: tuple[int, int]
    pixels: Bytes
    margin_px: int

    def crop(self, window: Box) -> Bytes:
        """One window's pixels with its margin's, uint8 (w, w, 3); a view."""
        seen = window.grown(self.margin_px)
        x, y = seen.x0 - self.corner[0], seen.y0 - self.corner[1]
        return self.pixels[y : y + seen.height, x : x + seen.width]


def read_panels(
    panels: Iterable[Panel], reader: BlockReader, threads: int, margin_px: int, *, forget: bool = False
) -> Generator[PanelPixels, None, None]:
    """Pixels of ``panels``, which come row by row, in order, read at most ``threads + 1`` panels ahead.

    Close the iterator (or exhaust it) to end the threads. An error in a thread arrives here as it was raised.

    Args:
        forget: let the reader drop what no later panel shows.
    """
    waiting: deque[Future[PanelPixels]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="lpd-reader")
    try:
        for panel in panels:
            waiting.append(pool.submit(_read_panel, panel, reader, margin_px))
            if len(waiting) > threads:
                yield _first(waiting, reader, forget=forget)
        while waiting:
            yield _first(waiting, reader, forget=forget)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _first(waiting: deque[Future[PanelPixels]], reader: BlockReader, *, forget: bool) -> PanelPixels:
    picture = waiting.popleft().result()
    if forget:  # windows of later panels begin right of this one or below
        reader.forget(picture.panel.box.moved(-picture.margin_px))
    return picture


def _read_panel(panel: Panel, reader: BlockReader, margin_px: int) -> PanelPixels:
    if not panel.windows:
        return PanelPixels(panel, (panel.box.x0, panel.box.y0), np.empty((0, 0, 3), dtype=np.uint8), margin_px)
    x0, y0 = min(w.x0 for w in panel.windows), min(w.y0 for w in panel.windows)
    x1, y1 = max(w.x1 for w in panel.windows), max(w.y1 for w in panel.windows)
    seen = Box(x0, y0, x1, y1).grown(margin_px)
    return PanelPixels(panel, (seen.x0, seen.y0), reader.read(seen), margin_px)
