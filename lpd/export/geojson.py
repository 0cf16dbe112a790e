"""Annotations for QuPath (0.4 and later): one polygon per connected region, in level-0 pixels, written one by one."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lpd.classes import Rgb, TissueClass
from lpd.errors import ConfigError, ResultError
from lpd.export.cells import CellGrid
from lpd.export.junctions import Junctions
from lpd.export.outlines import Outline, outlines
from lpd.export.rings import Points, border_length
from lpd.export.smoothing import Line, Smoothing
from lpd.export.source import BLOCK_PX, MaskSource
from lpd.runs import replacing

_DECIMALS = 3
_CORNERS_AT_ONCE = 8192  # of a ring, turned into text


def write_geojson(
    store: MaskSource, path: Path, *, min_area_um2: float = 400.0, simplify_um: float = 0.0, smooth: bool = False
) -> None:
    """Write a FeatureCollection of class regions; background and what was not computed are left out.

    Borders follow the edges of mask pixels exactly, or of cells of 2, 4, … pixels (the pixel at a cell's middle
    decides) where ``simplify_um`` allows it. What was done stands in the member ``lpd`` of the collection. Pixels that
    touch by a corner only belong to different regions. Memory does not grow with the mask, see
    :func:`~lpd.export.outlines.outlines`.

    Each region has these measurements, all of its cells and not of the lines drawn: ``Area mm^2``, ``Perimeter um``
    (all its borders, see :func:`~lpd.export.rings.border_length`), ``Holes``, and ``Mean score`` (of its class, 0–1,
    where the store has scores).

    Args:
        min_area_um2: smaller regions are left out; 0 keeps all.
        simplify_um: largest cell in µm; 0 for the mask's own pixels.
        smooth: straight lines instead of stairs, which keep the middle of every cell on its side and open no gaps,
            see :mod:`lpd.export.smoothing`.

    Raises:
        ConfigError: an argument is negative.
        ResultError: the file cannot be written.
    """
    if not (0 <= min_area_um2 < math.inf and 0 <= simplify_um < math.inf):
        raise ConfigError(f"min_area_um2 {min_area_um2} and simplify_um {simplify_um} must be numbers of at least 0")
    grid = CellGrid(store, _step(store, simplify_um))
    about = {
        "slide": store.meta.slide_name,
        "checkpoint": store.meta.checkpoint_name,
        "notice": store.meta.notice,
        "resolution_um": store.meta.mask_mpp * grid.step,
        "min_area_um2": min_area_um2,
        "smooth": smooth,
    }
    try:
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            file.write(f'{{"type": "FeatureCollection",\n"lpd": {_json(about)},\n"features": [')
            for part in _features(grid, min_area_um2, path.parent, smooth=smooth):
                file.write(part)
            file.write("\n]}\n")
    except OSError as error:
        raise ResultError(
            f"cannot write {path} ({error.strerror or error}): free some space or choose another folder"
        ) from error


def _step(store: MaskSource, simplify_um: float) -> int:
    step = 1
    while step < BLOCK_PX and 2 * step * store.meta.mask_mpp <= simplify_um:
        step *= 2
    return step


def _features(grid: CellGrid, min_area_um2: float, folder: Path, *, smooth: bool) -> Iterator[str]:
    """The text of all features, in parts."""
    meta = grid.store.meta
    junctions = Junctions() if smooth else None
    frame = _Frame(grid, Smoothing(junctions, grid.shape) if junctions else None)
    cell_um = meta.mask_mpp * grid.step
    origin = uuid.uuid5(uuid.NAMESPACE_URL, f"lpd:{meta.slide_fingerprint}:{meta.checkpoint_digest}")
    separator = "\n"
    for outline in outlines(grid, meta.classes.count, min_area_um2 / cell_um**2, folder, junctions):
        tissue = meta.classes.classes[outline.value]
        corner_x, corner_y = outline.exterior[0].tolist()
        number = uuid.uuid5(origin, f"{tissue.code}:{grid.step}:{corner_x}:{corner_y}{':smooth' * smooth}")
        properties = {
            "objectType": "annotation",
            "classification": {"name": _qupath_name(tissue), "color": _plain(tissue.color)},
            "measurements": _measurements(outline, cell_um),
        }
        yield f'{separator}{{"type":"Feature","id":"{number}","geometry":{{"type":"Polygon","coordinates":['
        yield from frame.rings(outline)
        yield f']}},"properties":{_json(properties)}}}'
        separator = ",\n"


def _measurements(outline: Outline, cell_um: float) -> dict[str, float]:
    length = sum(border_length(ring) for ring in (outline.exterior, *outline.holes))
    measured: dict[str, float] = {
        "Area mm^2": round(outline.cells * (cell_um / 1000) ** 2, 9),
        "Perimeter um": round(length * cell_um, 3),
        "Holes": len(outline.holes),
    }
    if outline.score is not None:
        measured["Mean score"] = round(outline.score, 4)
    return measured


class _Frame:
    """From cell edges to level-0 pixels; what reaches past the slide's right and lower edge is cut off there."""

    def __init__(self, grid: CellGrid, smoothing: Smoothing | None) -> None:
        meta = grid.store.meta
        self._smoothing = smoothing
        self._cell_l0 = meta.scale * grid.step
        rows, columns = grid.shape
        # The last column keeps a width above the rounding of coordinates, lest a polygon collapse.
        last = (np.array([columns, rows]) - 1) * self._cell_l0
        self._limit = np.maximum((meta.width_l0, meta.height_l0), last + 0.1)

    def rings(self, outline: Outline) -> Iterator[str]:
        """The text of the rings, exterior first, in parts."""
        separator = "["
        for cells in (outline.exterior, *outline.holes):
            ring = cells if self._smoothing is None else self._smoothing.ring(cells)
            for first in range(0, len(ring), _CORNERS_AT_ONCE):
                yield separator + self._corners(ring[first : first + _CORNERS_AT_ONCE])
                separator = ","
            separator = "],["
        yield "]"

    def _corners(self, ring: Points | Line) -> str:
        points = np.minimum(ring * self._cell_l0, self._limit).round(_DECIMALS)
        whole = points.astype(np.int64)
        # As json.dumps has it, four times as fast.
        form, numbers = ("[%d,%d]", whole) if (whole == points).all() else ("[%r,%r]", points)
        return ",".join([form] * len(points)) % tuple(numbers.ravel().tolist())


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _qupath_name(tissue: TissueClass) -> str:
    return tissue.qupath_name or tissue.name


def _plain(color: Rgb) -> list[int]:
    return [int(channel) for channel in color]
