"""Straight lines in place of stairs: borders drawn anew between the middles of the cells, the same from either side.

A border crosses, edge by edge, from one pair of neighbouring cells to the next. Whatever line crosses the same
sequence of pairs, always between the middles of the two, parts the same cells. Where borders meet, the corner stays.
Two lines then have no room in common but at such a corner: they cannot cross, and no gap opens between neighbours.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from lpd.export.junctions import Flags, Junctions
from lpd.export.rings import Points, doubled_area

Line = npt.NDArray[np.float64]
Point = tuple[float, float]
#: A cell edge that a line has to cross: as far to the left and to the right of it, walking, as the line may go.
Gate = tuple[float, float, float, float]

#: How far from the middle of an edge, in cells, a line may cross it; the cells' own middles are 0.5 away.
_REACH = 0.49
_CORNERS_AT_ONCE = 16384


class Smoothing:
    """Draws the rings of one grid.

    Attributes:
        junctions: all of the grid's.
        shape: (rows, columns) of the grid. Corners of the outermost cells stay, so that the slide's edge does, too.
    """

    def __init__(self, junctions: Junctions, shape: tuple[int, int]) -> None:
        self.junctions = junctions
        self.shape = shape

    def ring(self, ring: Points) -> Line:
        """The closed ring (N, 2) along cell edges as one (M, 2) of few, longer lines; also closed."""
        points, fixed = self._marked(ring)
        at = np.flatnonzero(fixed)
        if not len(at):
            return _closed(ring)
        points = np.roll(points, -at[0], axis=0)
        ends = [*(at - at[0]).tolist(), len(points)]
        points = np.concatenate([points, points[:1]])
        parts = [_between(points[i : j + 1])[:-1] for i, j in pairwise(ends)]
        return np.concatenate([*parts, points[:1]])

    def _marked(self, ring: Points) -> tuple[Points, Flags]:
        """Corners and junctions in walking order, and which of them stay."""
        parts = []
        for first in range(0, len(ring) - 1, _CORNERS_AT_ONCE):
            points, bends = _steps(ring[first : first + _CORNERS_AT_ONCE + 1])
            meet = self.junctions.meet_at(points)
            keep = meet | bends
            parts.append((points[keep], (meet | self._outermost(points))[keep]))
        return np.concatenate([p for p, _ in parts]), np.concatenate([f for _, f in parts])

    def _outermost(self, points: Points) -> Flags:
        rows, columns = self.shape
        x, y = points[:, 0], points[:, 1]
        return (x <= 0) | (y <= 0) | (x >= columns - 1) | (y >= rows - 1)


def _steps(corners: Points) -> tuple[Points, Flags]:
    """Every corner between cells on the way, without the last, and whether it is one of ``corners``."""
    way = np.diff(corners, axis=0)
    lengths = np.abs(way).sum(axis=1)
    run = np.repeat(np.arange(len(way)), lengths)
    done = np.arange(len(run)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return corners[run] + done[:, None] * np.sign(way)[run], done == 0


def _between(path: Points) -> Line:
    """An open border between two points that stay, (N, 2) corners, as (M, 2); the same backwards."""
    if len(path) == 2:
        return path.astype(np.float64)
    (*head,), (*tail,) = path[:2].tolist(), path[:-3:-1].tolist()
    if tail < head:
        return _between(path[::-1])[::-1]
    first, last = map(tuple, path[[0, -1]].tolist())
    return np.array(_pulled(_gates(path), first, last))


def _closed(ring: Points) -> Line:
    """A closed border without any point that stays; begun and walked as its neighbour's, whose other side it is."""
    if doubled_area(ring) < 0:
        return _closed(ring[::-1])[::-1]
    gates = _gates(ring)
    begin = _middle(gates.pop(0))
    return np.array(_pulled(gates, begin, begin))


def _gates(path: Points) -> list[Gate]:
    """The first and the last cell edge of each straight run; a line that crosses both crosses those between."""
    way = np.diff(path, axis=0)
    lengths = np.abs(way).sum(axis=1)
    ahead = np.sign(way)
    aside = np.stack([-ahead[:, 1], ahead[:, 0]], 1) * _REACH
    middles = np.stack([path[:-1] + 0.5 * ahead, path[1:] - 0.5 * ahead], 1)
    gates = np.concatenate([middles - aside[:, None], middles + aside[:, None]], 2)
    twice = np.stack([np.ones(len(way), bool), lengths > 1], 1)
    return [tuple(gate) for gate in gates[twice].tolist()]


def _pulled(gates: list[Gate], first: Point, last: Point) -> list[Point]:
    """From ``first`` to ``last`` through all gates, turning in the middle of the farthest gate that can be seen."""
    points, (x, y), at = [first], first, 0
    while True:
        seen = _farthest(gates, at, x, y, last)
        if seen == len(gates):
            return [*points, last]
        x, y = _middle(gates[seen])
        points.append((x, y))
        at = seen + 1


def _farthest(gates: list[Gate], at: int, x: float, y: float, last: Point) -> int:
    """The last gate from ``at`` on whose middle is seen from (x, y) through all before it; ``last`` comes after all."""
    left_x, left_y, right_x, right_y = gates[at] if at < len(gates) else (*last, *last)
    left_x, left_y, right_x, right_y = left_x - x, left_y - y, right_x - x, right_y - y
    seen = at
    for number in range(at + 1, len(gates) + 1):
        a, b, c, d = gates[number] if number < len(gates) else (*last, *last)
        middle_x, middle_y = (a + c) / 2 - x, (b + d) / 2 - y
        if left_x * middle_y - left_y * middle_x >= 0 and middle_x * right_y - middle_y * right_x >= 0:
            seen = number
        a, b, c, d = a - x, b - y, c - x, d - y
        if left_x * b - left_y * a > 0:
            left_x, left_y = a, b
        if c * right_y - d * right_x > 0:
            right_x, right_y = c, d
        if left_x * right_y - left_y * right_x <= 0:
            break
    return seen


def _middle(gate: Gate) -> Point:
    return (gate[0] + gate[2]) / 2, (gate[1] + gate[3]) / 2
