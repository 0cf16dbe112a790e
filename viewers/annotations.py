"""Annotations: what people draw on a slide, one GeoJSON file a slide as QuPath reads it, with a revision."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpd.errors import LpdError
from lpd.runs import write_json_atomically

_LARGEST_FEATURES, _LARGEST_POINTS = 20_000, 2_000_000
#: Depth of the coordinates of what GeoJSON knows: a point is a list of numbers.
_DEPTHS = {
    "Point": 0,
    "MultiPoint": 1,
    "LineString": 1,
    "MultiLineString": 2,
    "Polygon": 2,
    "MultiPolygon": 3,
}


class ConflictError(LpdError):
    """Somebody else has saved meanwhile."""


@dataclass(frozen=True)
class Annotations:
    """What has been drawn on one slide; ``features`` are GeoJSON features in level-0 pixels, QuPath's own frame."""

    revision: int
    features: tuple[Mapping[str, Any], ...]


class AnnotationFiles:
    """One file a slide, named by the slide's fingerprint, so that a renamed slide keeps what was drawn on it.

    Args:
        folder: where; made when something is first saved.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._guard = threading.Lock()

    def path(self, fingerprint: str) -> Path:
        return self._folder / f"{fingerprint}.geojson"

    def read(self, fingerprint: str) -> Annotations:
        """What is saved; revision 0 and nothing if nothing is.

        Raises:
            LpdError: the file is damaged.
        """
        path = self.path(fingerprint)
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            features = document["features"]
            check_features(features)
            return Annotations(int(document["lpd"]["revision"]), tuple(features))
        except FileNotFoundError:
            return Annotations(0, ())
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise LpdError(
                f"the annotations of this slide cannot be read ({error}): "
                f"mend or move away {path.parent.name}/{path.name}"
            ) from error

    def save(self, fingerprint: str, slide_name: str, features: Sequence[Mapping[str, Any]], revision: int) -> int:
        """Replace what is saved.

        Args:
            features: see :class:`Annotations`.
            revision: the one that the features were made from.

        Returns:
            The new revision.

        Raises:
            ConflictError: what is saved has another revision.
            LpdError: a feature is malformed, or the disk cannot be written; what was saved stays.
        """
        check_features(features)
        with self._guard:
            saved = self.read(fingerprint).revision
            if saved != revision:
                raise ConflictError(
                    "these annotations were changed elsewhere meanwhile: they are shown as saved there, so draw again"
                )
            document = {
                "type": "FeatureCollection",
                "lpd": {"revision": saved + 1, "slide": slide_name},
                "features": list(features),
            }
            write_json_atomically(self.path(fingerprint), document)
        return saved + 1


def check_features(features: object) -> None:
    """Check that these are GeoJSON features that QuPath reads.

    Raises:
        LpdError: they are not; says which one and why.
    """
    if not isinstance(features, Sequence) or isinstance(features, str):
        raise LpdError("annotations are not a list of GeoJSON features: export them from QuPath as GeoJSON")
    if len(features) > _LARGEST_FEATURES:
        raise LpdError(f"{len(features)} annotations are more than {_LARGEST_FEATURES}: import them in parts")
    points = 0
    for number, feature in enumerate(features, 1):
        try:
            points += _points_of(feature)
        except (ValueError, KeyError, TypeError) as error:
            raise LpdError(
                f"annotation {number} is not a GeoJSON feature ({error}): leave it out or mend it"
            ) from error
    if points > _LARGEST_POINTS:
        raise LpdError(f"annotations have {points} points, more than {_LARGEST_POINTS}: simplify their outlines")


def _points_of(feature: Any) -> int:
    if not isinstance(feature, Mapping) or feature.get("type") != "Feature":
        raise ValueError("its type is not Feature")
    if not isinstance(feature.get("properties"), Mapping | None):
        raise ValueError("its properties are no object")
    geometry = feature["geometry"]
    if not isinstance(geometry, Mapping) or geometry.get("type") not in _DEPTHS:
        kind = geometry.get("type") if isinstance(geometry, Mapping) else geometry
        raise ValueError(f"its geometry {str(kind)[:40]!r} is none of {', '.join(_DEPTHS)}")
    return _count(geometry["coordinates"], _DEPTHS[geometry["type"]], ring=geometry["type"].endswith("Polygon"))


def _count(coordinates: Any, depth: int, *, ring: bool) -> int:
    """How many points there are; depth 1 is a list of points."""
    if not isinstance(coordinates, Sequence) or isinstance(coordinates, str) or not coordinates:
        raise ValueError("its coordinates are empty or no list")
    if depth == 0:
        if len(coordinates) < 2 or not all(_is_place(value) for value in coordinates):
            raise ValueError("a point is not two numbers")
        return 1
    if ring and depth == 1 and (len(coordinates) < 4 or list(coordinates[0]) != list(coordinates[-1])):
        raise ValueError("a ring is not closed, or has less than three corners")
    return sum(_count(part, depth - 1, ring=ring) for part in coordinates)


def _is_place(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and abs(value) < 1e9
