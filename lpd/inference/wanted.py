"""Which mask pixels a run computes: those of a place on the slide, less what earlier runs have finished."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from lpd.errors import ConfigError
from lpd.inference.frame import Box, MaskFrame
from lpd.inference.place import Place
from lpd.slide.pieces import TissuePieces
from lpd.slide.polygon import Polygon

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

#: Side of the squares that are looked through once, to know where there is anything, and rows of pixels at a time.
_SQUARE_PX, _STRIP_PX = 32, 256
_NOTHING = Box(0, 0, 0, 0)


class PixelSet(Protocol):
    """Some pixels of a mask."""

    @property
    def box(self) -> Box:
        """A rectangle that holds them all."""

    def read(self, box: Box) -> Mask:
        """Which pixels of ``box`` belong to it: bool (h, w)."""


@dataclass(frozen=True)
class BoxPixels:
    """All pixels of a rectangle."""

    box: Box

    def read(self, box: Box) -> Mask:
        found = np.zeros((box.height, box.width), np.bool_)
        found[within(box.intersection(self.box), box)] = True
        return found


class PolygonPixels:
    """Pixels whose middle lies inside a polygon."""

    def __init__(self, polygons: Sequence[Polygon], frame: MaskFrame) -> None:
        self._parts = [(frame.to_mask(polygon.region), polygon) for polygon in polygons]
        self._frame = frame
        self.box = around([box for box, _ in self._parts])

    def read(self, box: Box) -> Mask:
        found = np.zeros((box.height, box.width), np.bool_)
        for around_it, polygon in self._parts:
            if part := around_it.intersection(box):
                found[within(part, box)] |= polygon.contains(*_middles(part, self._frame.scale))
        return found


class PiecePixels:
    """Pixels whose middle lies on some pieces of tissue."""

    def __init__(self, pieces: TissuePieces, numbers: Sequence[int], frame: MaskFrame) -> None:
        self._pieces, self._numbers, self._frame = pieces, list(numbers), frame
        self.box = around([frame.to_mask(piece.region) for piece in pieces.pieces if piece.number in numbers])

    def read(self, box: Box) -> Mask:
        found = np.zeros((box.height, box.width), np.bool_)
        if part := box.intersection(self.box):
            found[within(part, box)] = np.isin(self._pieces.at(*_middles(part, self._frame.scale)), self._numbers)
        return found


class PartOf:
    """Those pixels of a set that lie in some rectangles."""

    def __init__(self, pixels: PixelSet, boxes: Sequence[Box]) -> None:
        self._pixels = pixels
        self._boxes = list(boxes)
        self._edges = np.array([(b.x0, b.y0, b.x1, b.y1) for b in boxes], np.int64).reshape(-1, 4)
        self.box = pixels.box.intersection(around(boxes))

    def read(self, box: Box) -> Mask:
        x0, y0, x1, y1 = self._edges.T
        found = np.zeros((box.height, box.width), np.bool_)
        for index in np.flatnonzero((x0 < box.x1) & (x1 > box.x0) & (y0 < box.y1) & (y1 > box.y0)).tolist():
            found[within(self._boxes[index].intersection(box), box)] = True
        return found & self._pixels.read(box) if found.any() else found


class Wanted:
    """Pixels to compute and store, looked through once so that it is quick to tell where there are none.

    Attributes:
        box: the smallest rectangle around them; false if there are none.
        count: how many there are.
        kept: how many more were asked for, but are there already.
    """

    def __init__(self, asked: PixelSet, done: Sequence[PixelSet] = ()) -> None:
        """Look through the rectangle around what is asked for; memory goes with its width, and little with its area.

        Args:
            asked: pixels inside the mask.
            done: those that need not be computed.
        """
        self._asked, self._done = asked, list(done)
        self.box, self.count, self.kept = asked.box, asked.box.width * asked.box.height, 0
        self._plain = isinstance(asked, BoxPixels) and not self._done
        if not self._plain:
            self._look_through(asked.box)

    def read(self, box: Box) -> Mask:
        """Which pixels of ``box`` are wanted: bool (h, w), False outside of the mask."""
        found = np.zeros((box.height, box.width), np.bool_)
        if part := box.intersection(self.box):
            found[within(part, box)] = self._left(self._asked.read(part), part)
        return found

    def any(self, box: Box) -> bool:
        """Whether any pixel of ``box`` is wanted."""
        part = box.intersection(self.box)
        if not part or self._plain:
            return bool(part)
        side = _SQUARE_PX
        if self._squares[-(-part.y0 // side) : part.y1 // side, -(-part.x0 // side) : part.x1 // side].any():
            return True
        outer = self._squares[part.y0 // side : -(-part.y1 // side), part.x0 // side : -(-part.x1 // side)]
        return bool(outer.any() and self.read(part).any())

    def part(self, box: Box) -> Wanted:
        """Those in a rectangle."""
        plain = isinstance(self._asked, BoxPixels)
        asked = BoxPixels(self._asked.box.intersection(box)) if plain else PartOf(self._asked, [box])
        return Wanted(asked, self._done)

    def near(self, box: Box, stride: int, margin: int) -> Mask:
        """Which cells of a box have a wanted pixel no farther away than ``margin``: bool (h / stride, w / stride)."""
        if self._plain:
            x0, y0 = self.box.x0 - margin, self.box.y0 - margin
            columns = np.arange(box.x0, box.x1, stride)
            rows = np.arange(box.y0, box.y1, stride)
            across = (columns + stride > x0) & (columns < self.box.x1 + margin)
            return np.asarray(((rows + stride > y0) & (rows < self.box.y1 + margin))[:, None] & across)
        found = self.read(box.grown(margin))
        for axis in (0, 1):
            total = np.insert(np.cumsum(found, axis=axis, dtype=np.int32), 0, 0, axis=axis)
            starts = np.arange(0, found.shape[axis] - 2 * margin, stride)
            found = total.take(starts + stride + 2 * margin, axis=axis) > total.take(starts, axis=axis)
        return found

    def _left(self, asked: Mask, box: Box) -> Mask:
        """Those of the asked pixels of a box that nobody has computed."""
        for pixels in self._done:
            if pixels.box.intersection(box):
                asked = asked & ~pixels.read(box)
        return asked

    def _look_through(self, box: Box) -> None:
        side = _SQUARE_PX
        self._squares = np.zeros((-(-box.y1 // side), -(-box.x1 // side)), np.bool_)
        rows, columns = np.zeros(box.height, np.bool_), np.zeros(box.width, np.bool_)
        asked_count, self.count = 0, 0
        for strip in _strips(box):
            asked = self._asked.read(strip)
            asked_count += int(np.count_nonzero(asked))
            wanted = self._left(asked, strip)
            self.count += int(np.count_nonzero(wanted))
            rows[strip.y0 - box.y0 : strip.y1 - box.y0] = wanted.any(axis=1)
            columns |= wanted.any(axis=0)
            self._squares[strip.y0 // side : -(-strip.y1 // side), box.x0 // side :] = _by_squares(wanted, strip)
        self.kept = asked_count - self.count
        self.box = _tight(box, rows, columns)


def pixels_of(place: Place, frame: MaskFrame, slide_name: str, find_pieces: Callable[[], TissuePieces]) -> PixelSet:
    """The mask pixels of a place: those that a rectangle touches, or whose middle lies in a polygon or on a piece.

    Args:
        place: what is asked for.
        frame: of the mask.
        slide_name: for what people are told.
        find_pieces: finds the slide's pieces of tissue, if it must.

    Raises:
        ConfigError: the region reaches outside of the slide; a polygon lies outside of it or between the middles of
            pixels; there is no piece of some number.
    """
    if place.region is not None:
        return BoxPixels(_region_box(place, frame, slide_name))
    if place.polygons:
        for polygon in place.polygons:
            _check_polygon(polygon, frame, slide_name)
        return PolygonPixels(place.polygons, frame)
    if place.pieces:
        pieces = find_pieces()
        count = len(pieces.pieces)
        if wrong := [number for number in place.pieces if not 1 <= number <= count]:
            numbered = f"it has {count}, numbered from 1" if count else "it has none"
            raise ConfigError(f"{slide_name} has no piece of tissue {wrong[0]}: {numbered} (lpd pieces lists them)")
        return PiecePixels(pieces, place.pieces, frame)
    return BoxPixels(frame.bounds)


def within(box: Box, whole: Box) -> tuple[slice, slice]:
    """Rows and columns of ``box`` in an array of ``whole``."""
    y, x = box.y0 - whole.y0, box.x0 - whole.x0
    return slice(y, y + box.height), slice(x, x + box.width)


def around(boxes: Sequence[Box]) -> Box:
    """The smallest rectangle around some; false if there are none."""
    if not boxes:
        return _NOTHING
    return Box(min(b.x0 for b in boxes), min(b.y0 for b in boxes), max(b.x1 for b in boxes), max(b.y1 for b in boxes))


def _region_box(place: Place, frame: MaskFrame, slide_name: str) -> Box:
    r = place.region
    assert r is not None
    if r.clipped(frame.width_l0, frame.height_l0) != r:
        raise ConfigError(
            f"region {r.x_l0} {r.y_l0} {r.width_l0} {r.height_l0} reaches outside of {slide_name}, "
            f"which is {frame.width_l0} x {frame.height_l0} px: choose a region inside it"
        )
    return frame.to_mask(r)


def _check_polygon(polygon: Polygon, frame: MaskFrame, slide_name: str) -> None:
    region = polygon.region
    if region.clipped(frame.width_l0, frame.height_l0) is None:
        raise ConfigError(
            f"{polygon.title}, around ({region.x_l0}, {region.y_l0}), lies outside of {slide_name}, which is "
            f"{frame.width_l0} x {frame.height_l0} px: check that it was drawn on this slide"
        )
    if not any(polygon.contains(*_middles(strip, frame.scale)).any() for strip in _strips(frame.to_mask(region))):
        raise ConfigError(
            f"{polygon.title}, around ({region.x_l0}, {region.y_l0}), holds no pixel of the mask of {slide_name}, "
            f"{frame.scale:.3g} px wide each: draw it larger or leave it out"
        )


def _middles(box: Box, scale: float) -> tuple[Floats, Floats]:
    """Level-0 x of the middles of a box's columns, and y of its rows'."""
    return scale * np.arange(box.x0 + 0.5, box.x1), scale * np.arange(box.y0 + 0.5, box.y1)


def _strips(box: Box) -> Iterator[Box]:
    """A box in parts that are not high, which begin at whole squares but for the first."""
    for y in range(box.y0 // _STRIP_PX * _STRIP_PX, box.y1, _STRIP_PX):
        yield Box(box.x0, max(y, box.y0), box.x1, min(y + _STRIP_PX, box.y1))


def _by_squares(wanted: Mask, strip: Box) -> Mask:
    """Whether there is a pixel in each of the squares that a strip touches."""
    rows = np.add.reduceat(wanted, _starts(strip.y0, strip.y1), axis=0, dtype=np.int32)
    return np.asarray(np.add.reduceat(rows, _starts(strip.x0, strip.x1), axis=1) > 0)


def _starts(start: int, end: int) -> list[int]:
    """Where squares begin in [start, end), counted from its start."""
    return [max(0, s - start) for s in range(start // _SQUARE_PX * _SQUARE_PX, end, _SQUARE_PX)]


def _tight(box: Box, rows: Mask, columns: Mask) -> Box:
    ys, xs = np.flatnonzero(rows), np.flatnonzero(columns)
    if not len(ys):
        return _NOTHING
    return Box(box.x0 + int(xs[0]), box.y0 + int(ys[0]), box.x0 + int(xs[-1]) + 1, box.y0 + int(ys[-1]) + 1)
