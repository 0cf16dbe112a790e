"""MaskFrame: from level-0 pixels to mask pixels and back, rounded the same way everywhere."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lpd.slide.region import Region

Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Box:
    """A rectangle [x0, x1) × [y0, y1) of mask pixels; may be empty or reach beyond the mask."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def width(self) -> int:
        return max(0, self.x1 - self.x0)

    @property
    def height(self) -> int:
        return max(0, self.y1 - self.y0)

    def __bool__(self) -> bool:
        return self.x1 > self.x0 and self.y1 > self.y0

    def intersection(self, other: Box) -> Box:
        """The part that both cover; false if there is none."""
        return Box(max(self.x0, other.x0), max(self.y0, other.y0), min(self.x1, other.x1), min(self.y1, other.y1))

    def moved(self, by: int) -> Box:
        """This box so many pixels further right and down."""
        return Box(self.x0 + by, self.y0 + by, self.x1 + by, self.y1 + by)

    def grown(self, margin: int) -> Box:
        """This box with ``margin`` more pixels on each side."""
        return Box(self.x0 - margin, self.y0 - margin, self.x1 + margin, self.y1 + margin)


@dataclass(frozen=True)
class MaskFrame:
    """A slide of ``width_l0`` × ``height_l0`` level-0 pixels under a mask whose pixels are ``scale`` of them wide.

    The mask's pixel (0, 0) begins at level-0 (0, 0); its last column and row may reach past the slide.
    """

    width_l0: int
    height_l0: int
    scale: float

    @property
    def bounds(self) -> Box:
        """The whole mask."""
        return Box(0, 0, _cover(self.width_l0, self.scale), _cover(self.height_l0, self.scale))

    def to_mask(self, region: Region) -> Box:
        """The mask pixels that ``region`` touches, inside the mask."""
        x0, y0 = math.floor(region.x_l0 / self.scale), math.floor(region.y_l0 / self.scale)
        x1, y1 = _cover(region.right_l0, self.scale), _cover(region.bottom_l0, self.scale)
        return Box(x0, y0, x1, y1).intersection(self.bounds)

    def to_l0(self, box: Box) -> Region | None:
        """The level-0 pixels that ``box`` touches, inside the slide; None if there are none."""
        if not box:
            return None
        x0, y0 = math.floor(box.x0 * self.scale), math.floor(box.y0 * self.scale)
        x1, y1 = math.ceil(box.x1 * self.scale), math.ceil(box.y1 * self.scale)
        return Region(x0, y0, x1 - x0, y1 - y0).clipped(self.width_l0, self.height_l0)


def sample_places(region: Region, size: tuple[int, int], scale: float) -> tuple[Places, Places, float]:
    """Which pixels, ``scale`` level-0 pixels wide, lie under the middles of a picture of ``region``, ``size`` (w, h).

    Returns:
        Rows (h,), columns (w,), and the distance of neighbours along the finer axis.
    """
    width, height = size
    step_x, step_y = region.width_l0 / width, region.height_l0 / height
    xs = np.floor((region.x_l0 + (np.arange(width) + 0.5) * step_x) / scale).astype(np.int64)
    ys = np.floor((region.y_l0 + (np.arange(height) + 0.5) * step_y) / scale).astype(np.int64)
    return ys, xs, min(step_x, step_y) / scale


def _cover(length_l0: int, scale: float) -> int:
    # The small slack keeps a length that divides evenly from gaining a pixel by rounding of the scale.
    return max(1, math.ceil(length_l0 / scale - 1e-6))
