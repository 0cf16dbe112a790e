"""Annotations for QuPath (0.4 and later): one polygon per connected region, in level-0 pixels, written one by one."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from lpd.classes import Rgb, TissueClass
from lpd.errors import ConfigError, ResultError
from lpd.export.rings import Points, Shape, trace
from lpd.export.source import BLOCK_PX, MaskSource, every
from lpd.runs import replacing

#: Most mask pixels traced at once; larger masks are traced on a coarser grid, so that memory stays below about 1 GB.
MAX_TRACED_PX = 32_000_000

_DECIMALS = 3


def write_geojson(store: MaskSource, path: Path, *, min_area_um2: float = 400.0, simplify_um: float = 0.0) -> None:
    """Write a FeatureCollection of class regions; background and what was not computed are left out.

    Borders follow the edges of mask pixels exactly, or of cells of 2, 4, … pixels (the pixel at a cell's middle
    decides) where the mask has more than MAX_TRACED_PX pixels or ``simplify_um`` allows it. What was done stands in
    the member ``lpd`` of the collection. Pixels that touch by a corner only belong to different regions.

    Args:
        min_area_um2: smaller regions are left out; 0 keeps all.
        simplify_um: largest cell in µm; 0 for the mask's own pixels.

    Raises:
        ConfigError: an argument is negative.
        ResultError: the file cannot be written.
    """
    if min_area_um2 < 0 or simplify_um < 0:
        raise ConfigError(f"min_area_um2 {min_area_um2} and simplify_um {simplify_um} must not be negative")
    step = _step(store, simplify_um)
    about = {
        "slide": store.meta.slide_name,
        "checkpoint": store.meta.checkpoint_name,
        "notice": store.meta.notice,
        "resolution_um": store.meta.mask_mpp * step,
        "min_area_um2": min_area_um2,
    }
    try:
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            file.write(
                f'{{"type": "FeatureCollection",\n"lpd": {json.dumps(about, ensure_ascii=False)},\n"features": ['
            )
            separator = "\n"
            for feature in _features(store, step, min_area_um2):
                file.write(separator + json.dumps(feature, ensure_ascii=False, separators=(",", ":")))
                separator = ",\n"
            file.write("\n]}\n")
    except OSError as error:
        raise ResultError(
            f"cannot write {path} ({error.strerror or error}): free some space or choose another folder"
        ) from error


def _step(store: MaskSource, simplify_um: float) -> int:
    height, width = store.mask_shape
    step = 1
    while step < BLOCK_PX and (
        2 * step * store.meta.mask_mpp <= simplify_um or -(-height // step) * -(-width // step) > MAX_TRACED_PX
    ):
        step *= 2
    return step


def _features(store: MaskSource, step: int, min_area_um2: float) -> Iterator[dict[str, Any]]:
    meta = store.meta
    mask = every(store, step)
    frame = _Frame(mask.shape, meta.scale * step, meta.width_l0, meta.height_l0)
    cell_mm2 = (meta.mask_mpp * step / 1000) ** 2
    origin = uuid.uuid5(uuid.NAMESPACE_URL, f"lpd:{meta.slide_fingerprint}:{meta.checkpoint_digest}")
    for value, tissue in enumerate(meta.classes.classes):
        labels, sizes = _regions(mask == value, min_area_um2 / (cell_mm2 * 1e6))
        for shape in trace(labels):
            area_mm2 = int(sizes[shape.label]) * cell_mm2
            corner_x, corner_y = shape.exterior[0].tolist()
            yield {
                "type": "Feature",
                "id": str(uuid.uuid5(origin, f"{tissue.code}:{step}:{corner_x}:{corner_y}")),
                "geometry": {"type": "Polygon", "coordinates": frame.rings(shape)},
                "properties": {
                    "objectType": "annotation",
                    "classification": {"name": _qupath_name(tissue), "color": _plain(tissue.color)},
                    "measurements": {"Area mm^2": round(area_mm2, 9)},
                },
            }


def _regions(where: npt.NDArray[np.bool_], min_cells: float) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """4-connected regions of at least ``min_cells``: labels (H, W), and the number of cells by label."""
    labels = np.empty(where.shape, np.int32)
    count = ndimage.label(where, output=labels)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    small = np.flatnonzero(sizes < min_cells)
    if small.size:
        keep = np.arange(count + 1, dtype=np.int32)
        keep[small] = 0
        np.take(keep, labels, out=labels)
    return labels, sizes


class _Frame:
    """From cell edges to level-0 pixels; what reaches past the slide's right and lower edge is cut off there."""

    def __init__(self, shape: tuple[int, ...], cell_l0: float, width_l0: int, height_l0: int) -> None:
        self._cell_l0 = cell_l0
        rows, columns = shape
        # The last column keeps a width above the rounding of coordinates, lest a polygon collapse.
        self._limit = np.maximum((width_l0, height_l0), (np.array([columns, rows]) - 1) * cell_l0 + 0.1)

    def rings(self, shape: Shape) -> list[list[list[float]]]:
        return [self._ring(ring) for ring in (shape.exterior, *shape.holes)]

    def _ring(self, ring: Points) -> list[list[float]]:
        points = np.minimum(ring * self._cell_l0, self._limit).round(_DECIMALS)
        whole = points.astype(np.int64)
        result: list[list[float]] = (whole if (whole == points).all() else points).tolist()
        return result


def _qupath_name(tissue: TissueClass) -> str:
    return tissue.qupath_name or tissue.name


def _plain(color: Rgb) -> list[int]:
    return [int(channel) for channel in color]
