"""Polygon: an outline with holes in the slide's level-0 frame, and which points of a grid lie inside of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from lpd.errors import ConfigError
from lpd.slide.region import Region

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
#: (x, y) of its corners; the last is joined to the first.
Ring = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Polygon:
    """What an outline goes around, less what its holes go around.

    A line that crosses itself goes around all that it turns about at least once, whichever way.

    Attributes:
        rings: the outline, then the holes: level-0 pixels, counted as in :class:`~lpd.slide.region.Region`; each has
            three corners or more.
        name: what people know it by; polygons that differ in it alone are equal.

    Raises:
        ConfigError: a ring has fewer than three corners, encloses nothing, or a coordinate is no number.
    """

    rings: tuple[Ring, ...]
    name: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not self.rings:
            raise ConfigError(f"{self.title} is empty: draw it anew or leave it out")
        for ring in self.rings:
            if not all(math.isfinite(x) and math.isfinite(y) for x, y in ring):
                raise ConfigError(f"{self.title} has a coordinate that is no finite number: draw it anew")
            xs, ys = {x for x, _ in ring}, {y for _, y in ring}
            if len(set(ring)) < 3 or len(xs) < 2 or len(ys) < 2:
                raise ConfigError(f"{self.title} is empty, its line encloses nothing: draw it anew or leave it out")

    @property
    def title(self) -> str:
        """How a person is told of it."""
        return f"polygon {self.name}" if self.name else "a polygon"

    @property
    def region(self) -> Region:
        """The smallest rectangle around it."""
        xs, ys = zip(*self.rings[0], strict=True)
        left, top = math.floor(min(xs)), math.floor(min(ys))
        return Region(left, top, max(1, math.ceil(max(xs)) - left), max(1, math.ceil(max(ys)) - top))

    def contains(self, x_l0: Floats, y_l0: Floats) -> Mask:
        """Which crossings of the columns ``x_l0`` (w,) and rows ``y_l0`` (h,), both rising, lie inside: bool (h, w).

        Of polygons that share a border, one holds a point on it.
        """
        outline, *holes = self._corners
        inside: Mask = _winding(outline, x_l0, y_l0) != 0
        for hole in holes:
            inside &= _winding(hole, x_l0, y_l0) == 0
        return inside

    @cached_property
    def _corners(self) -> tuple[Floats, ...]:
        """The rings as (n, 2)."""
        return tuple(np.array(ring, np.float64) for ring in self.rings)

    @property
    def crosses_itself(self) -> bool:
        """Whether two sides of one ring that are no neighbours touch."""
        return any(_crosses(ring) for ring in self._corners)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form, read back by :meth:`from_dict`."""
        return {"name": self.name, "rings": [[list(corner) for corner in ring] for ring in self.rings]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Polygon:
        """Rebuild from :meth:`to_dict`."""
        rings = tuple(tuple((float(x), float(y)) for x, y in ring) for ring in data["rings"])
        return cls(rings, str(data.get("name", "")))


def _winding(ring: Floats, x_l0: Floats, y_l0: Floats) -> npt.NDArray[np.int32]:
    """How often a ring turns about each crossing of columns and rows, (h, w)."""
    begin, end = ring, np.roll(ring, -1, axis=0)
    # A side meets the rows from its upper end on, up to but without its lower one: each corner counts once.
    first = np.searchsorted(y_l0, np.minimum(begin[:, 1], end[:, 1]))
    count = np.searchsorted(y_l0, np.maximum(begin[:, 1], end[:, 1])) - first
    side = np.repeat(np.arange(len(ring)), count)
    row = np.arange(len(side)) - np.repeat(np.cumsum(count) - count, count) + first[side]
    (ax, ay), (bx, by) = begin[side].T, end[side].T
    column = np.searchsorted(x_l0, ax + (y_l0[row] - ay) * ((bx - ax) / (by - ay)))
    turns = np.zeros((len(y_l0), len(x_l0) + 1), np.int32)
    np.add.at(turns, (row, column), np.where(by > ay, 1, -1).astype(np.int32))
    winding: npt.NDArray[np.int32] = turns[:, :-1].cumsum(axis=1, dtype=np.int32)
    return winding


def _crosses(ring: Floats) -> bool:
    ring = ring[(ring != np.roll(ring, 1, axis=0)).any(axis=1)]  # a corner that is said twice is no side
    count = len(ring)
    begin, end = ring, np.roll(ring, -1, axis=0)
    low, high = np.minimum(begin, end), np.maximum(begin, end)
    order = np.argsort(low[:, 0], kind="stable")
    stops = np.searchsorted(low[order, 0], high[order, 0], side="right")
    for place, (one, stop) in enumerate(zip(order.tolist(), stops.tolist(), strict=True)):
        others = order[place + 1 : stop]
        near = (low[others, 1] <= high[one, 1]) & (high[others, 1] >= low[one, 1])
        near &= ((others - one) % count != 1) & ((one - others) % count != 1)
        if near.any() and _meet(begin[one], end[one], begin[others[near]], end[others[near]]).any():
            return True
    return False


def _meet(a: Floats, b: Floats, c: Floats, d: Floats) -> Mask:
    """Whether the side from ``a`` to ``b`` (2,) touches those from ``c`` to ``d`` (n, 2), whose boxes overlap its."""
    met: Mask = (_turn(a, b, c) * _turn(a, b, d) <= 0) & (_turn(c, d, a) * _turn(c, d, b) <= 0)
    return met


def _turn(a: Floats, b: Floats, c: Floats) -> Floats:
    """Sign of the turn from ``a`` over ``b`` to ``c``; 0 where they lie on a line."""
    side = (b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1]) - (b[..., 1] - a[..., 1]) * (c[..., 0] - a[..., 0])
    return np.asarray(np.sign(side), np.float64)
