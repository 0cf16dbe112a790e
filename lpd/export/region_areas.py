"""How much of a drawn region each class covers, counted on the mask pixels whose middles lie inside of it."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lpd.errors import ConfigError, ResultError
from lpd.export.areas import Tally, tally_of
from lpd.export.source import Mask, MaskSource
from lpd.export.spreadsheet import text_cell
from lpd.runs import replacing
from lpd.slide.annotations import DrawnRegion
from lpd.slide.polygon import Polygon

Inside = npt.NDArray[np.bool_]

#: Side of the squares that are counted at a time, in mask pixels: a chunk of the store.
_SQUARE_PX = 512
#: Rows crossed by sides that are held in memory at once, and in all: a tangle of more would take minutes.
_CROSSINGS_HELD, _MOST_CROSSINGS = 1_000_000, 300_000_000
_HEAD = ("slide", "region", "code", "name", "area_mm2", "percent_of_tissue")


def tally_inside(store: MaskSource, polygons: Sequence[Polygon]) -> Tally:
    """What lies inside of any of some polygons; memory grows neither with them nor with the slide.

    A mask pixel counts if its middle lies inside, as when polygons are segmented; what reaches beyond the slide counts
    for nothing.

    Args:
        store: a result, finished or not.
        polygons: level-0 pixels.

    Raises:
        ConfigError: an outline goes to and fro so often that counting would take minutes.
    """
    areas = [_Area(polygon, store.meta.scale) for polygon in polygons]
    height, width = store.mask_shape
    counts = np.zeros(256, np.int64)
    x0, y0 = (max(0, min((a.box[i] for a in areas), default=0)) // _SQUARE_PX * _SQUARE_PX for i in (0, 1))
    x1, y1 = (min(end, max((a.box[i] for a in areas), default=0)) for end, i in ((width, 2), (height, 3)))
    for area in areas:
        area.check(height, columns=-(-(x1 - x0) // _SQUARE_PX))
    for y in range(y0, y1, _SQUARE_PX):
        for x in range(x0, x1, _SQUARE_PX):
            size = min(_SQUARE_PX, width - x), min(_SQUARE_PX, height - y)
            inside = _inside_any(areas, x, y, size)
            if inside is not False:
                block = store.read_mask_px(x, y, size)
                counts += np.bincount(_chosen(block, inside), minlength=256)
    return tally_of(store.meta, counts)


def write_region_areas_csv(store: MaskSource, regions: Sequence[DrawnRegion], path: Path) -> None:
    """A line per region and class, then one each for all tissue, background, and what has not been computed.

    A region without a name goes by its number, from 1; no name is a formula in a spreadsheet. Shares are of the tissue
    in the region, 0–100.

    Raises:
        ConfigError: an outline is a tangle, see :func:`tally_inside`.
        ResultError: the file cannot be written.
    """
    found = [(text_cell(r.name or f"Region {n}"), tally_inside(store, r.polygons)) for n, r in enumerate(regions, 1)]
    try:
        with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(_HEAD)
            for name, tally in found:
                writer.writerows((store.meta.slide_name, name, *line) for line in _lines(tally))
    except OSError as error:
        raise ResultError(
            f"cannot write {path} ({error.strerror or error}): free some space or choose another folder"
        ) from error


def _lines(tally: Tally) -> list[tuple[str, str, str, str]]:
    lines = [(r.code, r.name, f"{r.area_mm2:.6f}", f"{r.percent_of_tissue:.4f}") for r in tally.classes]
    whole = "100.0000" if tally.tissue_mm2 else "0.0000"
    return [
        *lines,
        ("TISSUE", "All tissue", f"{tally.tissue_mm2:.6f}", whole),
        ("BACKGROUND", "Background", f"{tally.background_mm2:.6f}", ""),
        ("NOT_COMPUTED", "Not computed", f"{tally.not_computed_mm2:.6f}", ""),
    ]


class _Area:
    """A polygon over the mask, which knows quickly where it has no border.

    Attributes:
        box: mask pixels x0, y0, x1, y1 around it.
    """

    def __init__(self, polygon: Polygon, scale: float) -> None:
        self._polygon, self._scale = polygon, scale
        rings = [np.array(ring, np.float64) for ring in polygon.rings]
        begin, end = np.concatenate(rings), np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])
        self._low, self._high = np.minimum(begin, end) / scale, np.maximum(begin, end) / scale
        first, last = np.floor(self._low.min(axis=0)), np.ceil(self._high.max(axis=0))
        # Corners may lie anywhere: what is far outside of any slide needs no exact number.
        self.box: tuple[int, int, int, int] = tuple(np.clip([*first, *last], -1, 2**31).astype(int).tolist())

    def check(self, height: int, columns: int) -> None:
        """
        Raises:
            ConfigError: it crosses the rows of a mask too often, seen from each of so many columns of squares.
        """
        crossings = float((np.minimum(self._high[:, 1], height) - np.maximum(self._low[:, 1], 0)).clip(0).sum())
        if crossings * columns > _MOST_CROSSINGS:
            raise ConfigError(
                f"{self._polygon.title} goes to and fro too often ({len(self._low)} corners) for its area to be "
                "counted: draw it simpler"
            )

    def inside(self, x: int, y: int, size: tuple[int, int]) -> Inside | bool:
        """Which pixels of a square lie inside: bool (h, w), or one word for all of them."""
        right, bottom = x + size[0], y + size[1]
        x0, y0, x1, y1 = self.box
        if right <= x0 or x >= x1 or bottom <= y0 or y >= y1:
            return False
        low, high = self._low, self._high
        near = (low[:, 1] <= bottom) & (high[:, 1] >= y)
        if not (near & (low[:, 0] <= right) & (high[:, 0] >= x)).any():
            return bool(self._contains(x, y, x + 1, y + 1)[0, 0])
        crossings = (np.minimum(high[near, 1], bottom) - np.maximum(low[near, 1], y)).sum() + near.sum()
        parts = max(1, min(size[1], int(crossings // _CROSSINGS_HELD)))
        edges = np.linspace(y, bottom, parts + 1).astype(int).tolist()
        return np.concatenate([self._contains(x, a, right, b) for a, b in pairwise(edges)])

    def _contains(self, x0: int, y0: int, x1: int, y1: int) -> Inside:
        xs, ys = self._scale * np.arange(x0 + 0.5, x1), self._scale * np.arange(y0 + 0.5, y1)
        return self._polygon.contains(xs, ys)


def _inside_any(areas: Sequence[_Area], x: int, y: int, size: tuple[int, int]) -> Inside | bool:
    found: Inside | bool = False
    for area in areas:
        inside = area.inside(x, y, size)
        if inside is True:
            return True
        if inside is not False:
            found = inside if found is False else found | inside
    return found


def _chosen(block: Mask, inside: Inside | bool) -> Mask:
    return block.ravel() if inside is True else block[inside]
