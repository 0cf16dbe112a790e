"""Reads any rectangle at any scale from a source: bounded pieces, averaged, resampled without aliasing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from lpd.slide.levels import Level
from lpd.slide.source import Source

#: Side of the largest piece of a level that is decoded at once, in level pixels.
PIECE_PX = 2048
#: Side of the largest intermediate picture that a block of output is resampled from.
_BLOCK_PX = 2048
#: Output pixels per block, at most: keeps the block's intermediate small where the reduction is 2 to 4.
_OUTPUT_PX = 1024
_EPSILON = 1e-6


@dataclass(frozen=True)
class Axis:
    """Output pixels along one axis: pixel i covers ``start + i * step`` to ``start + (i + 1) * step`` level pixels."""

    start: float
    step: float
    count: int
    length: int
    """Pixels that the level has along this axis."""

    def part(self, first: int, count: int) -> Axis:
        return Axis(self.start + first * self.step, self.step, count, self.length)

    def is_plain(self) -> bool:
        """True if each output pixel is the mean of the same whole number of level pixels, none before the level's."""
        whole = (
            abs(self.start - round(self.start)) < _EPSILON and abs(self.step - round(self.step)) * self.count < _EPSILON
        )
        inside = -_EPSILON < self.start < self.length - _EPSILON  # beyond its end, averaging repeats the edge
        return whole and inside and 1 <= round(self.step) <= PIECE_PX

    def is_own(self) -> bool:
        """True if the output's pixels are the level's, and all inside it."""
        return self.is_plain() and round(self.step) == 1 and round(self.start) + self.count <= self.length


def read_level(
    source: Source,
    index: int,
    box: tuple[float, float, float, float],
    size: tuple[int, int],
    recolor: Callable[[Image.Image], Image.Image] | None = None,
) -> npt.NDArray[np.uint8]:
    """Resample a rectangle of the file's level-0 frame from one of its levels, uint8 (height, width, 3).

    Memory is that of the result and two pieces of about 2048 × 2048 pixels, however large the rectangle is. An array of
    several blocks is fresh; that of one may be read-only.

    Args:
        index: the level to read from.
        box: (x, y, width, height) in level-0 pixels; up to one result pixel may lie outside the level and is
            filled by repeating the edge.
        size: (width, height) of the result.
        recolor: changes the colours of a picture, pixel by pixel.
    """
    level = source.levels[index]
    across, down = _axes(level, box, size)
    factor = _reduction(min(across.step, down.step))
    side_x, side_y = _block_side(across.step / factor), _block_side(down.step / factor)
    if size[0] <= side_x and size[1] <= side_y:
        return _array(_read_block(source, index, across, down), recolor)
    result = np.empty((size[1], size[0], 3), dtype=np.uint8)
    for y in range(0, size[1], side_y):
        for x in range(0, size[0], side_x):
            block = across.part(x, min(side_x, size[0] - x)), down.part(y, min(side_y, size[1] - y))
            pixels = _array(_read_block(source, index, *block), recolor)
            result[y : y + pixels.shape[0], x : x + pixels.shape[1]] = pixels
    return result


def _array(picture: Image.Image, recolor: Callable[[Image.Image], Image.Image] | None) -> npt.NDArray[np.uint8]:
    return np.asarray(picture if recolor is None else recolor(picture))


def read_exact(
    source: Source, index: int, box: tuple[float, float, float, float], size: tuple[int, int]
) -> npt.NDArray[np.uint8] | None:
    """What :func:`read_level` makes of a rectangle whose pixels are the level's own, uint8 (height, width, 3).

    Returns:
        A fresh array; None if there is something to resample, or the source has no array.
    """
    corner = own_corner(source, index, box, size)
    return None if corner is None else source.pixels(index, *corner, *size)


def own_corner(
    source: Source, index: int, box: tuple[float, float, float, float], size: tuple[int, int]
) -> tuple[int, int] | None:
    """(x, y) in the level of a rectangle whose pixels are the level's own; None if there is something to resample."""
    across, down = _axes(source.levels[index], box, size)
    return (round(across.start), round(down.start)) if across.is_own() and down.is_own() else None


def _axes(level: Level, box: tuple[float, float, float, float], size: tuple[int, int]) -> tuple[Axis, Axis]:
    x, y, width, height = box
    return (
        Axis(x / level.scale_x, width / level.scale_x / size[0], size[0], level.width_px),
        Axis(y / level.scale_y, height / level.scale_y / size[1], size[1], level.height_px),
    )


def _block_side(residual: float) -> int:
    """Output pixels per block, so that its intermediate picture stays within ``_BLOCK_PX``."""
    return max(1, min(_OUTPUT_PX, int(_BLOCK_PX / residual)))


def _reduction(step: float) -> int:
    """Whole-number averaging before the final filter; it leaves a factor of at least 2 to that filter."""
    return max(1, min(PIECE_PX, int(step / 2)))


def _read_block(source: Source, index: int, across: Axis, down: Axis) -> Image.Image:
    if across.is_plain() and down.is_plain() and round(across.step) == round(down.step):
        corner = round(across.start), round(down.start)
        return _averaged(source, index, corner, round(across.step), (across.count, down.count))
    factor = _reduction(min(across.step, down.step))
    first_x, count_x = _support(across, factor)
    first_y, count_y = _support(down, factor)
    picture = _averaged(source, index, (first_x * factor, first_y * factor), factor, (count_x, count_y))
    left, top = across.start / factor - first_x, down.start / factor - first_y
    box = left, top, left + across.count * across.step / factor, top + down.count * down.step / factor
    # Hamming keeps detail when shrinking; when magnifying it shows steps, so plain interpolation takes over.
    shrinks = min(across.step, down.step) > 1 - _EPSILON
    method = Image.Resampling.HAMMING if shrinks else Image.Resampling.BILINEAR
    return picture.resize((across.count, down.count), method, box)


def _support(axis: Axis, factor: int) -> tuple[int, int]:
    """(first, count) of the averaged pixels that the filter looks at; their grid does not depend on the request."""
    margin = math.ceil(axis.step / factor) + 1
    first = math.floor(axis.start / factor) - margin
    last = math.ceil((axis.start + axis.count * axis.step) / factor) + margin
    return first, last - first


def _averaged(source: Source, index: int, corner: tuple[int, int], factor: int, size: tuple[int, int]) -> Image.Image:
    """``size`` pixels, each the mean of factor × factor level pixels from ``corner`` on; edges are repeated outside."""
    level = source.levels[index]
    x0, x1, pad_x = _inside(corner[0], factor, size[0], level.width_px)
    y0, y1, pad_y = _inside(corner[1], factor, size[1], level.height_px)
    pieces = list(_pieces(x0, y0, x1, y1, max(1, PIECE_PX // factor) * factor))
    if len(pieces) == 1:
        return _edges_repeated(_reduced(source, index, pieces[0], factor), pad_x, pad_y)
    result = Image.new("RGB", (-(-(x1 - x0) // factor), -(-(y1 - y0) // factor)))
    for piece in pieces:
        result.paste(_reduced(source, index, piece, factor), ((piece[0] - x0) // factor, (piece[1] - y0) // factor))
    return _edges_repeated(result, pad_x, pad_y)


def _reduced(source: Source, index: int, box: tuple[int, int, int, int], factor: int) -> Image.Image:
    """A piece of a level, averaged; its last pixels, where it does not divide evenly, are repeated."""
    piece = source.read(index, *box)
    return piece if factor == 1 else _edges_repeated(piece, (0, -box[2] % factor), (0, -box[3] % factor)).reduce(factor)


def _inside(start: int, factor: int, count: int, length: int) -> tuple[int, int, tuple[int, int]]:
    """First and end level pixel to read, and how many averaged pixels to repeat (before, after) them."""
    before = max(0, -(start // factor))
    end = min(length, start + count * factor)
    first = start + before * factor
    return first, end, (before, count - before - -(-(end - first) // factor))


def _edges_repeated(image: Image.Image, across: tuple[int, int], down: tuple[int, int]) -> Image.Image:
    """The picture with (before, after) copies of its first and last columns and rows around it."""
    if not any(across) and not any(down):
        return image
    return Image.fromarray(np.pad(np.asarray(image), (down, across, (0, 0)), mode="edge"))


def _pieces(x0: int, y0: int, x1: int, y1: int, side: int) -> Iterator[tuple[int, int, int, int]]:
    for y in range(y0, y1, side):
        for x in range(x0, x1, side):
            yield x, y, min(side, x1 - x), min(side, y1 - y)
