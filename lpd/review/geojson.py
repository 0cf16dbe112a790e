"""Corrections as GeoJSON: one feature for each edit that stands, with who made it and when."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lpd.classes import NOT_COMPUTED
from lpd.errors import ResultError
from lpd.export.cells import CellGrid
from lpd.export.outlines import outlines
from lpd.export.source import Mask
from lpd.inference.meta import ResultMeta
from lpd.review.layer import overlapping, without
from lpd.review.log import Edit
from lpd.review.pixels import Pixels
from lpd.review.review import Review
from lpd.runs import replacing
from lpd.slide.region import Region

_DECIMALS = 3


def write_corrections_geojson(review: Review, path: Path) -> int:
    """Write what still stands of each edit, in the order they were made; features do not overlap.

    A feature's ``id`` is the edit's; its geometry a MultiPolygon in level-0 pixels along the edges of mask pixels; its
    properties are ``objectType`` and ``classification`` as QuPath reads them, ``kind`` (accept, relabel, brush),
    ``author``, ``time`` (UTC), and in ``metadata`` the last three again, where QuPath shows them.

    Returns:
        How many features there are.

    Raises:
        ResultError: the file cannot be written, or the review is damaged.
    """
    review.refresh()
    count = 0
    meta = review.store.meta
    about = {"slide": meta.slide_name, "checkpoint": meta.checkpoint_name, "run": review.run}
    try:
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            file.write(f'{{"type": "FeatureCollection",\n"lpd": {json.dumps(about)},\n"features": [')
            for feature in _features(review, path.parent):
                text = json.dumps(feature, ensure_ascii=False, separators=(",", ":"))
                file.write(f"{',' if count else ''}\n{text}")
                count += 1
            file.write("\n]}\n")
    except OSError as error:
        raise ResultError(
            f"cannot write {path} ({error.strerror or error}): free some space or choose another folder"
        ) from error
    return count


def _features(review: Review, folder: Path) -> Iterator[dict[str, Any]]:
    edits = review.log.active()
    for number, edit in enumerate(edits):
        if edit.value is None:
            continue
        later = overlapping(review.log, edit.box, edits[number + 1 :])
        rest = without(review.log.pixels(edit), later)
        if rest.where.any():
            yield _feature(review.store.meta, edit, polygons(rest, review.store.meta, folder), rest.count)


def _feature(meta: ResultMeta, edit: Edit, coordinates: list[Any], pixels: int) -> dict[str, Any]:
    classes, value = meta.classes, edit.value or 0
    name = classes.classes[value].qupath_name or classes.classes[value].name if value < classes.count else "Background"
    said = {"kind": edit.kind, "author": edit.author, "time": edit.time}
    return {
        "type": "Feature",
        "id": edit.id,
        "geometry": {"type": "MultiPolygon", "coordinates": coordinates},
        "properties": {
            "objectType": "annotation",
            "classification": {"name": name, "color": classes.palette()[value].tolist()},
            **said,
            "metadata": said,
            "measurements": {"Area mm^2": round(pixels * (meta.mask_mpp / 1000) ** 2, 9)},
        },
    }


def polygons(pixels: Pixels, meta: ResultMeta, folder: Path) -> list[Any]:
    """Coordinates of a MultiPolygon of level-0 pixels along the edges of some mask pixels; 4-connected parts.

    Args:
        folder: for a temporary file.
    """
    picture = _Picture(pixels, meta)
    corner, limit = np.array([pixels.box.x0, pixels.box.y0]), np.array([meta.width_l0, meta.height_l0])
    found = []
    for outline in outlines(CellGrid(picture), 1, 0, folder):
        rings = ((ring + corner) * meta.scale for ring in (outline.exterior, *outline.holes))
        found.append([np.minimum(ring, limit).round(_DECIMALS).tolist() for ring in rings])
    return found


class _Picture:
    """Some pixels like a result store: 0 where they are, 255 elsewhere."""

    def __init__(self, pixels: Pixels, meta: ResultMeta) -> None:
        self.meta = meta
        self._pixels = pixels

    @property
    def mask_shape(self) -> tuple[int, int]:
        return self._pixels.box.height, self._pixels.box.width

    def read_mask_px(self, x_px: int, y_px: int, size: tuple[int, int], step: int = 1) -> Mask:
        part = self._pixels.where[y_px : y_px + step * size[1] : step, x_px : x_px + step * size[0] : step]
        return np.where(part, 0, NOT_COMPUTED).astype(np.uint8)

    def read_mask(self, region: Region, size: tuple[int, int]) -> Mask:
        raise NotImplementedError  # no outline asks for it

    def read_scores_px(self, class_index: int, x_px: int, y_px: int, size: tuple[int, int], step: int = 1) -> Mask:
        return np.full((size[1], size[0]), NOT_COMPUTED, np.uint8)
