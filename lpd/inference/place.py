"""Place: which part of a slide a run is asked for — all of it, a rectangle, polygons, or pieces of tissue."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lpd.slide.polygon import Polygon
from lpd.slide.region import Region


@dataclass(frozen=True)
class Place:
    """At most one of these is given; without any it is the whole slide.

    Attributes:
        region: a rectangle, level-0 pixels.
        polygons: whatever lies inside any of them.
        pieces: numbers of pieces of tissue, see :func:`lpd.slide.pieces.find_pieces`.
    """

    region: Region | None = None
    polygons: tuple[Polygon, ...] = ()
    pieces: tuple[int, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether it is the whole slide."""
        return self == Place()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form, read back by :meth:`from_dict`."""
        return {
            "region": dataclasses.asdict(self.region) if self.region else None,
            "polygons": [polygon.to_dict() for polygon in self.polygons],
            "pieces": list(self.pieces),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Place:
        """Rebuild from :meth:`to_dict`, or from a dictionary that holds its values among others."""
        region, polygons = data.get("region"), data.get("polygons", ())
        return cls(
            Region(**region) if isinstance(region, Mapping) else region,
            tuple(Polygon.from_dict(p) if isinstance(p, Mapping) else p for p in polygons),
            tuple(data.get("pieces", ())),
        )
