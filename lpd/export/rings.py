"""From cells to the lines between them: exact borders along cell edges, block by block, and rings that are simple."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lpd.export.source import Mask

Points = npt.NDArray[np.int64]
Keys = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.int32]


class RegionNumbers(Protocol):
    """The region of each cell of a block (h, w), −1 for none: an array, or what can be asked for parts of one."""

    def __getitem__(self, where: Any, /) -> Numbers: ...


#: Mean over all directions of a line's length by that of the middles of its cell edges: |cos| + (√2 − 1) |sin|.
_ALL_DIRECTIONS = math.pi / 8 / math.tan(math.pi / 8)


@dataclass(frozen=True, eq=False)
class Chain:
    """A piece of border with its region on the right-hand side, walking on the screen.

    Attributes:
        region: number of the region.
        corners: (N, 2) corners (x, y) in cell edges; the last is where the next chain begins, or the first again.
        begins: names the cell side that the chain begins with, among all of the grid.
        goes_on: names the cell side that follows it; the chain's own ``begins`` if it is a whole ring.
    """

    region: int
    corners: Points
    begins: int
    goes_on: int


def border_chains(framed: Mask, numbers: RegionNumbers, x: int, y: int) -> Iterator[Chain]:
    """Follow the borders of a block's regions; where they leave the block, the chain ends.

    Regions are 4-connected and differ in value from their 4-neighbours, so that values alone tell where a border runs.

    Args:
        framed: (h + 2, w + 2) mask values of the block and of the cells around it.
        numbers: (h, w) region of each cell; borders of −1 are not followed.
        x, y: the block's first column and row in the grid, below 2^30.
    """
    runs = _runs(np.ascontiguousarray(framed), numbers, x - 1, y - 1)
    order = np.argsort(runs.begins)
    place = np.searchsorted(runs.begins, runs.goes_on, sorter=order).clip(max=max(0, len(order) - 1))
    following = order[place] if len(order) else order
    following = np.where(runs.begins[following] == runs.goes_on, following, -1)
    for walk in _walks(following):
        last = walk[-1]
        corners = np.concatenate([runs.start[walk], runs.end[walk[-1:]]])
        yield Chain(int(runs.region[last]), corners, int(runs.begins[walk[0]]), int(runs.goes_on[last]))


@dataclass(frozen=True, eq=False)
class _Runs:
    """Straight pieces of border, (R,) each, points (R, 2) as (x, y)."""

    start: Points
    end: Points
    begins: Keys
    goes_on: Keys
    region: Numbers


def _runs(values: Mask, numbers: RegionNumbers, x: int, y: int) -> _Runs:
    """All runs of a framed block, whose frame begins at column ``x`` and row ``y``: of upper sides first, then of the
    right, lower and left ones, which are upper sides, too, once the block is turned by so many quarters."""
    width, flat, parts = values.shape[1], values.ravel(), []
    for quarter, cells in enumerate(_beside_borders(values)):
        ahead, outward = ((1, -width), (width, 1), (-1, width), (-width, -1))[quarter]
        region = numbers[cells // width - 1, cells % width - 1]
        cells, region = cells[region >= 0], region[region >= 0]
        # The frame around the block is no region's, so that what follows one another in memory is in one row.
        joined = (np.diff(cells) == ahead) & (flat[cells[1:]] == flat[cells[:-1]])
        begins, ends = np.ones((2, len(cells)), np.bool_)
        begins[1:], ends[:-1] = ~joined, ~joined
        start, last, region = cells[begins], cells[ends], region[begins]
        # Past its end the border bends right round the cell, unless the region goes on ahead: then it bends left if
        # the region goes on beyond the border, too, and is merely cut by the block's edge if not.
        goes_on, beyond = flat[last + ahead] == flat[start], flat[last + ahead + outward] == flat[start]
        turn = np.where(goes_on, np.where(beyond, -1, 0), 1)
        here = _corner(start, width, quarter) + np.array([x, y])
        there = _corner(last, width, (quarter + 1) % 4) + np.array([x, y])
        keys = _keys(here, np.full(len(start), quarter)), _keys(there, (quarter + turn) % 4)
        parts.append((here, there, *keys, region))
    return _Runs(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _beside_borders(values: Mask) -> Iterator[npt.NDArray[np.int64]]:
    """Places in memory of a framed block's cells with another value above them; to their right, below, to their left.

    Each in the order in which one reads the block after a quarter turn counter-clockwise for every side before.
    """
    height, width = values.shape[0] - 2, values.shape[1] - 2
    row, column = np.divmod(np.flatnonzero(values[1:, 1:-1] != values[:-1, 1:-1]), width)
    place = row * (width + 2) + column + 1
    yield place[row < height] + width + 2
    below = place[row > 0][::-1]
    row, column = np.divmod(np.flatnonzero(values[1:-1, 1:] != values[1:-1, :-1]), width + 1)
    # From right to left, each column downwards.
    order = np.argsort((width - column).astype(np.min_scalar_type(width)), kind="stable")
    place, column = ((row + 1) * (width + 2) + column)[order], column[order]
    yield place[column > 0]
    yield below
    yield place[column < width][::-1] + 1


def _corner(cells: npt.NDArray[np.int64], width: int, number: int) -> Points:
    """(N, 2) a corner of each cell, as (x, y): the upper left one and on clockwise."""
    row, column = np.divmod(cells, width)
    return np.stack([column + (number in (1, 2)), row + (number >= 2)], 1)


def _keys(corners: Points, direction: npt.NDArray[np.int64]) -> Keys:
    """One number for a corner and a direction, which name one side of one cell."""
    keys: Keys = (corners[:, 1] << 32 | corners[:, 0] << 2) + direction
    return keys


def _walks(following: Keys) -> Iterator[Keys]:
    """Runs in walking order: each open walk, from the run that none comes before, and each ring, from its lowest."""
    if not len(following):
        return
    goes_on = following >= 0
    before = np.arange(len(following))
    before[following[goes_on]] = np.flatnonzero(goes_on)
    first, rank, lowest = _ranked(before)
    in_ring = before[first] != first
    if in_ring.any():
        before[lowest[in_ring]] = lowest[in_ring]  # cut open
        first, rank, _ = _ranked(before)
    order = np.lexsort((rank, first))
    yield from np.split(order, np.flatnonzero(np.diff(first[order])) + 1)


def _ranked(before: Keys) -> tuple[Keys, Keys, Keys]:
    """The first of each run's walk, how many come between, and the lowest of all that come before; all walks at once.

    Args:
        before: the run before each; itself for the first of a walk. Of rings only the lowest means something.
    """
    runs = np.arange(len(before))
    first, lowest = before.copy(), np.minimum(runs, before)
    rank = (before != runs).astype(np.int64)
    for _ in range(len(before).bit_length()):  # each time twice as far back
        lowest = np.minimum(lowest, lowest[first])
        rank += rank[first]
        first = first[first]
    return first, rank, lowest


def simple_rings(corners: Points) -> Iterator[Points]:
    """Split a closed walk wherever it comes by the same corner again, as the simple-features standard asks.

    Args:
        corners: (N, 2), the first not repeated at the end.

    Yields:
        (M, 2) rings, the first corner repeated at the end.
    """
    keys = corners[:, 1] << 32 | corners[:, 0]
    if not _any_twice(keys):
        yield np.concatenate([corners, corners[:1]])
        return
    order = np.argsort(keys, kind="stable")
    again = keys[order[1:]] == keys[order[:-1]]
    repeated = np.sort(np.union1d(order[1:][again], order[:-1][again]))
    corners, keys = (np.roll(array, -repeated[0], axis=0) for array in (corners, keys))
    yield from _split(corners, keys, repeated - repeated[0])


def _any_twice(keys: Keys) -> bool:
    ordered = np.sort(keys)
    return bool((ordered[1:] == ordered[:-1]).any())


def _split(corners: Points, keys: Keys, repeated: npt.NDArray[np.int64]) -> Iterator[Points]:
    """Rings of a walk that begins at its first repeated corner."""
    pieces: list[Points] = []
    open_keys: list[int] = []
    at: dict[int, int] = {}
    for key, piece in zip(keys[repeated].tolist(), np.split(corners, repeated[1:]), strict=True):
        if key in at:
            since = at[key]
            yield _closed(pieces[since:])
            for left in open_keys[since:]:
                del at[left]
            del pieces[since:], open_keys[since:]
        at[key] = len(pieces)
        pieces.append(piece)
        open_keys.append(key)
    yield _closed(pieces)


def _closed(pieces: list[Points]) -> Points:
    return np.concatenate([*pieces, pieces[0][:1]])


def without_straight_corners(ring: Points) -> Points:
    """A closed walk (N, 2), first corner not repeated, without those where it goes straight on."""
    before, after = np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0)
    bends = ((ring - before) * (after - ring)[:, ::-1]) @ np.array([1, -1]) != 0
    kept: Points = ring[bends]
    return kept


def border_length(ring: Points) -> float:
    """Length of the border that a closed ring along cell edges stands for, in cells.

    The edges themselves are too long, by 27 % for borders of all directions alike. The middles of successive edges
    joined by straight lines are 5.5 % longer than such borders on average, which the factor takes off: exact for a disc
    or anything without a favoured direction; 5 % too short for lines along the grid or its diagonals, 3 % too long for
    those half-way between.
    """
    corners = len(ring) - 1
    edges = int(np.abs(np.diff(ring, axis=0)).sum())
    return _ALL_DIRECTIONS * (edges - corners + corners * math.sqrt(0.5))


def doubled_area(ring: Points) -> int:
    """Twice the area that a closed ring encloses, positive if it runs clockwise on the screen."""
    x, y = ring[:, 0].astype(np.int64), ring[:, 1].astype(np.int64)
    return int((x[:-1] * y[1:] - x[1:] * y[:-1]).sum())
