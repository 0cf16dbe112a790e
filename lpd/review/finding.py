"""The connected region of one class around a place, as far as a person sees it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from lpd.classes import NOT_COMPUTED
from lpd.errors import ResultError
from lpd.export.source import Mask
from lpd.inference.frame import Box
from lpd.review.pixels import LARGEST_PX, Flags, Pixels, trimmed

#: (x_px, y_px, (width, height)) -> uint8 (h, w) of a mask, 255 outside of it.
Read = Callable[[int, int, tuple[int, int]], Mask]

#: How far around the place to look, in mask pixels: a bit first, as most regions are small.
_REACHES = (128, 512, LARGEST_PX // 2)


@dataclass(frozen=True, eq=False)
class Found:
    """A 4-connected region of one value.

    Attributes:
        value: its mask value, 0 … C.
        pixels: those of it that lie inside of the view.
        cut: it goes on beyond the view.
    """

    value: int
    pixels: Pixels
    cut: bool


def find_region(read: Read, x_px: int, y_px: int, view: Box) -> Found:
    """The 4-connected region of equal value around a pixel, inside of what is in view.

    Memory holds a square of LARGEST_PX pixels at most.

    Args:
        read: of the mask.
        x_px, y_px: the pixel.
        view: mask pixels that the person sees; what lies beyond is cut off, as nobody judges what they do not see.

    Raises:
        ResultError: nothing has been computed there, it is out of view, or the region reaches farther than half of
            LARGEST_PX from there, though not out of view.
    """
    if not (view.x0 <= x_px < view.x1 and view.y0 <= y_px < view.y1):
        raise ResultError("the place is not in view: click on a place that you see")
    value = int(read(x_px, y_px, (1, 1))[0, 0])
    if value == NOT_COMPUTED:
        raise ResultError("nothing has been computed at this place: choose one with a class, or segment it first")
    for reach in _REACHES:
        window = Box(x_px - reach, y_px - reach, x_px + reach, y_px + reach).intersection(view)
        framed = read(window.x0 - 1, window.y0 - 1, (window.width + 2, window.height + 2)) == value
        labels, _ = ndimage.label(framed[1:-1, 1:-1])
        region: Flags = labels == labels[y_px - window.y0, x_px - window.x0]
        cut_by_view, cut_by_reach = _goes_on(region, framed, window, view)
        if not cut_by_reach:
            pixels = trimmed(window.x0, window.y0, region)
            assert pixels is not None  # it holds the place itself
            return Found(value, pixels, cut_by_view)
    raise ResultError(
        f"this region reaches farther than {LARGEST_PX // 2:,} mask pixels from here: "
        "zoom in, so that you see the part that you mean"
    )


def _goes_on(region: Flags, framed: Flags, window: Box, view: Box) -> tuple[bool, bool]:
    """Whether a region (h, w) goes on across a side of its window that is the view's, and one that is not."""
    sides = (
        ((region[0] & framed[0, 1:-1]).any(), window.y0 == view.y0),
        ((region[-1] & framed[-1, 1:-1]).any(), window.y1 == view.y1),
        ((region[:, 0] & framed[1:-1, 0]).any(), window.x0 == view.x0),
        ((region[:, -1] & framed[1:-1, -1]).any(), window.x1 == view.x1),
    )
    open_sides = [of_view for goes_on, of_view in sides if np.any(goes_on)]
    return any(open_sides), not all(open_sides)
