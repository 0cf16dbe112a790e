"""Polygons, and the regions that people named, from the annotations of a GeoJSON file, as QuPath writes them."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpd.errors import ConfigError
from lpd.slide.polygon import Polygon, Ring

_GEOMETRIES = ("Polygon", "MultiPolygon")
_LONGEST_NAME = 60


@dataclass(frozen=True)
class DrawnRegion:
    """One area that somebody drew: a Polygon or a MultiPolygon, whose parts count once where they overlap.

    Attributes:
        name: what they named it; empty if they did not.
        polygons: its parts, level-0 pixels; one at least.
    """

    name: str
    polygons: tuple[Polygon, ...]


def read_regions(path: Path) -> tuple[DrawnRegion, ...]:
    """The areas of a GeoJSON file, in its order; points and lines in it are left out.

    Args:
        path: as for :func:`read_polygons`.

    Raises:
        ConfigError: the file is missing, no GeoJSON, holds no area, or one that is empty or malformed.
    """
    drawn = [(number, one) for number, one in enumerate(_features(path), 1) if is_area(one)]
    found = tuple(region_of(one, number, str(path)) for number, one in drawn)
    if not found:
        raise ConfigError(f"{path} holds no areas: draw a rectangle or polygon and export it")
    return found


def is_area(feature: Any) -> bool:
    """Whether a GeoJSON feature, or geometry, is a Polygon or MultiPolygon."""
    geometry = feature.get("geometry", feature) if isinstance(feature, Mapping) else None
    return isinstance(geometry, Mapping) and geometry.get("type") in _GEOMETRIES


def region_of(feature: Any, number: int = 1, source: str = "the annotations") -> DrawnRegion:
    """What a GeoJSON feature or geometry goes around.

    Args:
        feature: of a Polygon or MultiPolygon.
        number, source: which one it is, and of what, for what people are told.

    Raises:
        ConfigError: it is no area, empty or malformed.
    """
    properties = feature.get("properties") if isinstance(feature, Mapping) else None
    name = properties.get("name") if isinstance(properties, Mapping) else None
    return DrawnRegion(name if isinstance(name, str) else "", tuple(_polygons(source, number, feature)))


def read_polygons(path: Path) -> tuple[Polygon, ...]:
    """All polygons of a file, in its order; those of one MultiPolygon one by one.

    Args:
        path: a FeatureCollection, a Feature, a list of features, or a geometry; coordinates are full-resolution pixels
            from the slide's bounds, as QuPath has them.

    Raises:
        ConfigError: the file is missing or no GeoJSON, or a feature is no polygon (points, lines), empty, or malformed.
    """
    found = tuple(p for number, one in enumerate(_features(path), 1) for p in _polygons(path, number, one))
    if not found:
        raise ConfigError(f"{path} holds no annotations: draw a polygon in QuPath and export it")
    return found


def _features(path: Path) -> list[Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read as GeoJSON ({error}): export annotations from QuPath") from error
    features = document.get("features") if isinstance(document, dict) and "features" in document else document
    return features if isinstance(features, list) else [features]


def _polygons(path: Path | str, number: int, feature: Any) -> Iterator[Polygon]:
    name, geometry = _named(number, feature)
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    if kind not in _GEOMETRIES:
        said = f"is a {kind}, not a polygon" if isinstance(kind, str) else "has no geometry"
        raise ConfigError(f"feature {name} of {path} {said}: leave it out or draw an area")
    parts = geometry.get("coordinates")
    try:
        for rings in [parts] if kind == "Polygon" else parts:
            yield Polygon(tuple(_ring(ring) for ring in rings), name)
        empty = not parts
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    except (TypeError, ValueError) as error:
        raise ConfigError(f"feature {name} of {path} has malformed coordinates ({error}): export it again") from error
    if empty:
        raise ConfigError(f"feature {name} of {path} is empty: leave it out or draw an area")


def _named(number: int, feature: Any) -> tuple[str, Any]:
    """What a feature is called, by its number at least, and its geometry."""
    if not isinstance(feature, dict) or feature.get("type") != "Feature":
        return str(number), feature
    properties = feature.get("properties")
    name = properties.get("name") if isinstance(properties, dict) else None
    said = f"{number} ({reprlib.repr(name)[:_LONGEST_NAME]})" if isinstance(name, str) and name else str(number)
    return said, feature.get("geometry")


def _ring(corners: Any) -> Ring:
    ring = tuple((float(x), float(y)) for x, y, *_ in corners)
    return ring[:-1] if len(ring) > 1 and ring[0] == ring[-1] else ring
