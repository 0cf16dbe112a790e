"""Pixels: some of a mask's pixels, as a box and which of it; found by a click or covered by a brush."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lpd.errors import ResultError
from lpd.inference.frame import Box

Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

#: No edit reaches over more mask pixels than this, along each axis.
LARGEST_PX = 4096


@dataclass(frozen=True, eq=False)
class Pixels:
    """Attributes:
    box: mask pixels, the smallest box around them.
    where: bool (h, w), which of the box.
    """

    box: Box
    where: Flags

    @property
    def count(self) -> int:
        """How many they are."""
        return int(self.where.sum())

    def encoded(self) -> str:
        """As text: rows of bits, the first pixel in the highest bit, deflated, base64."""
        return base64.b64encode(zlib.compress(np.packbits(self.where).tobytes(), 6)).decode("ascii")

    @classmethod
    def decoded(cls, box: Box, text: str) -> Pixels:
        """Read back what :meth:`encoded` wrote.

        Raises:
            ValueError: the text is not one of a box of this size.
        """
        size = box.width * box.height
        try:
            unpacking = zlib.decompressobj()
            packed = unpacking.decompress(base64.b64decode(text, validate=True), -(-size // 8) + 1)
        except (binascii.Error, zlib.error) as error:
            raise ValueError(f"its pixels cannot be unpacked: {error}") from error
        if len(packed) != -(-size // 8):
            raise ValueError(f"its pixels do not fill a box of {box.width} x {box.height}")
        bits = np.unpackbits(np.frombuffer(packed, np.uint8), count=size)
        return cls(box, bits.astype(np.bool_).reshape(box.height, box.width))


def trimmed(x_px: int, y_px: int, where: Flags) -> Pixels | None:
    """Those of a picture (h, w) at column ``x_px``, row ``y_px`` that are True; None if none are."""
    rows, columns = np.flatnonzero(where.any(axis=1)), np.flatnonzero(where.any(axis=0))
    if not len(rows):
        return None
    y0, y1, x0, x1 = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    return Pixels(Box(x_px + x0, y_px + y0, x_px + x1, y_px + y1), where[y0:y1, x0:x1].copy())


def stroke(points: Sequence[tuple[float, float]], radius: float, bounds: Box) -> Pixels | None:
    """What a round brush covers: the pixels whose middles are not farther than ``radius`` from a line.

    Args:
        points: (x, y) of the line's corners in mask pixels, pixel (0, 0) having its middle at (0.5, 0.5); one at least.
        radius: in mask pixels, above 0.
        bounds: what lies beyond is left out.

    Returns:
        None if no pixel's middle is covered.

    Raises:
        ResultError: the line reaches over more than LARGEST_PX pixels.
    """
    line = np.array(points, np.float64)
    low, high = np.floor(line.min(axis=0) - radius), np.ceil(line.max(axis=0) + radius)
    if (high - low > LARGEST_PX).any():
        raise ResultError(
            f"the stroke reaches over {int((high - low).max()):,} mask pixels, more than {LARGEST_PX:,}: "
            "paint it in parts, or with a smaller brush"
        )
    box = Box(*low.astype(int).tolist(), *high.astype(int).tolist()).intersection(bounds)
    if not box:
        return None
    steps = np.zeros((box.height, box.width + 1), np.int32)
    for begin, end in zip(line[: max(1, len(line) - 1)], line[1:] if len(line) > 1 else line, strict=True):
        row, left, right = _covered(begin, end, radius, box)
        np.add.at(steps, (row, left), 1)
        np.add.at(steps, (row, right), -1)
    return trimmed(box.x0, box.y0, steps[:, :-1].cumsum(axis=1) > 0)


def _covered(
    begin: Floats, end: Floats, radius: float, box: Box
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows and [left, right) columns, counted from the box's corner, that lie near one straight piece of line.

    What is near is convex: two discs and the rectangle between them, so that a row meets it in one stretch.
    """
    first = max(box.y0, int(np.floor(min(begin[1], end[1]) - radius)))
    last = min(box.y1, int(np.ceil(max(begin[1], end[1]) + radius)) + 1)
    rows = np.arange(first, last)
    y = rows + 0.5
    left, right = np.full(len(rows), np.inf), np.full(len(rows), -np.inf)
    for center in (begin, end):
        half = np.sqrt(np.maximum(radius**2 - (y - center[1]) ** 2, 0))
        near = np.abs(y - center[1]) <= radius
        left = np.where(near, np.minimum(left, center[0] - half), left)
        right = np.where(near, np.maximum(right, center[0] + half), right)
    length = float(np.hypot(*(end - begin)))
    if length > 0:
        across = np.array([begin[1] - end[1], end[0] - begin[0]]) * (radius / length)
        corners = [begin + across, end + across, end - across, begin - across]
        for one, other in zip(corners, [*corners[1:], corners[0]], strict=True):
            if one[1] == other[1]:
                continue  # a level side ends where its neighbours do
            share = (y - one[1]) / (other[1] - one[1])
            x, met = one[0] + share * (other[0] - one[0]), (share >= 0) & (share <= 1)
            left, right = np.where(met, np.minimum(left, x), left), np.where(met, np.maximum(right, x), right)
    met = right >= left
    rows, left, right = rows[met], left[met], right[met]
    # The first and the last column whose middle lies in the stretch.
    start = np.ceil(left - 0.5).astype(np.int64).clip(box.x0, box.x1) - box.x0
    stop = (np.floor(right - 0.5).astype(np.int64) + 1).clip(box.x0, box.x1) - box.x0
    kept = stop > start
    return rows[kept] - box.y0, start[kept], stop[kept]
