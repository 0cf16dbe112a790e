"""Tally: what is summed over the tiles of slides for the figures of merit of one class. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lpd.explain.array_measures import (
    Doubles,
    Floats,
    centred_cosines,
    correlations,
    half_maximum_sets,
    intersections_over_unions,
    jeffreys_similarities,
    pair_mean,
    silhouette,
    union_coverage,
)
from lpd.explain.cell_sample import CellSample, Keys
from lpd.explain.slide_maps import Cells, class_slice, cosines
from lpd.inference.array_scores import Flags
from lpd.inference.prototype_layers import CODE_STEPS
from lpd.inference.pyramid import Bytes

#: What is a mean over tiles.
TILE_FIGURES = ("jeffreys_similarity", "map_cosine", "map_iou", "union_coverage")
_MIN_CELLS = 2  # a map over one cell has no shape


class Mean:
    """Mean of what is said, NaN being nothing."""

    def __init__(self) -> None:
        self._sum, self._count = 0.0, 0

    def add(self, values: Floats) -> None:
        """Count (T,) values."""
        self._sum += float(np.nansum(values, dtype=np.float64))
        self._count += int((~np.isnan(values)).sum())

    def value(self) -> float | None:
        """None if nothing has been said."""
        return self._sum / self._count if self._count else None


class Tally:
    """One class's sums.

    Attributes:
        cells, tiles: how much there is of its region, in tiles that hold 2 cells of it at least.
        counted: which of the K count, from 0.
    """

    def __init__(self, index: int, per_class: int, counted: Sequence[int]) -> None:
        """Of the class with this mask value and K prototypes, of which those with these numbers count."""
        self._index, self._per_class = index, per_class
        self.counted = tuple(m - index * per_class for m in counted)
        self._means = {name: Mean() for name in TILE_FIGURES}
        self.cells = self.tiles = 0
        count = len(counted)
        self._won, self._sums, self._products = np.zeros(count), np.zeros(count), np.zeros((count, count))
        self._sample = CellSample(count)

    def add(self, cells: Cells, tile: int, keys: Keys) -> Floats:
        """Count a square of whole tiles, each ``tile`` cells wide.

        Args:
            cells: of the square.
            tile: side of a tile.
            keys: of the cells, see :func:`lpd.explain.cell_sample.drawing_keys`.

        Returns:
            (T,) Jeffreys similarity of its tiles, NaN where nothing can be said.
        """
        regions = _tiles(((cells.mask == self._index) & cells.tissue)[None], tile)[:, 0]
        here = np.count_nonzero(regions, axis=1) >= _MIN_CELLS
        similarity = np.full(len(regions), np.nan)
        if here.any():
            maps = _tiles(cells.maps[class_slice(self._index, self._per_class)][list(self.counted)], tile)
            similarity[here] = self._add(maps[here], regions[here])
            inside = regions[here]
            self._sample.add(maps[here].transpose(1, 0, 2)[:, inside], _tiles(keys[None], tile)[here, 0][inside])
        return similarity

    def means(self) -> dict[str, float | None]:
        """The figures that are means over tiles."""
        return {name: mean.value() for name, mean in self._means.items()}

    def usage(self) -> Doubles:
        """(K,) shares, all 0 without a region; those of maps that are equal everywhere go to the first of them, and
        what does not count has none."""
        shares = self._won / max(1, self.cells)
        own = np.diagonal(self._products)
        distances = own[:, None] + own - 2 * self._products  # sums of squares of whole numbers: 0 of equal maps alone
        usage = np.zeros(self._per_class)
        np.add.at(usage, np.array(self.counted)[(distances == 0).argmax(1)], shares)
        return usage

    def silhouette(self) -> float:
        """Of a sample of the region's cells by winning prototype; of equally high ones the first wins."""
        points = self._sample.maps
        return silhouette(points.T.astype(np.float64), points.argmax(0)) if points.size else math.nan

    def correlations(self) -> Doubles:
        """(K, K) Pearson correlations over all of the region; NaN for maps that are the same all over it, and for what
        does not count."""
        own = np.diagonal(self._products)
        table = np.full((self._per_class, self._per_class), np.nan)
        found = correlations(self.cells, (self._sums, self._sums), (own, own), self._products)
        table[np.ix_(self.counted, self.counted)] = found
        return table

    def _add(self, maps: Bytes, regions: Flags) -> Floats:
        """Count tiles with a region, (T, K, n) and (T, n)."""
        self._add_cells(maps.transpose(1, 0, 2)[:, regions])
        self.tiles += len(regions)
        values = cosines(maps)
        sets = half_maximum_sets(maps.astype(np.float32), regions)  # of whole numbers: a half is a half
        similarity = pair_mean(jeffreys_similarities(values, regions))
        self._means["jeffreys_similarity"].add(similarity)
        self._means["map_cosine"].add(pair_mean(centred_cosines(values, regions)))
        self._means["map_iou"].add(pair_mean(intersections_over_unions(sets)))
        self._means["union_coverage"].add(union_coverage(sets, regions))
        return similarity

    def _add_cells(self, maps: Bytes) -> None:
        """Count (K, n) cells of the region."""
        self.cells += maps.shape[1]
        highest = maps == maps.max(0)
        self._won += (highest / highest.sum(0)).sum(1)
        values = maps.astype(np.float64) - CODE_STEPS  # whole numbers around 0, whose sums are exact
        self._sums += values.sum(1)
        self._products += values @ values.T


def mean_known(values: Floats) -> Floats:
    """(T,) means over the first axis of what is not NaN; NaN where nothing is."""
    known = ~np.isnan(values)
    count = known.sum(0)
    return np.asarray(np.where(count > 0, np.where(known, values, 0).sum(0) / np.maximum(count, 1), np.nan))


def number(value: float) -> float | None:
    """For JSON, which has no NaN."""
    return None if math.isnan(value) else float(value)


def _tiles(planes: npt.NDArray[Any], side: int) -> npt.NDArray[Any]:
    """(K, r · side, c · side) as (r · c, K, side²)."""
    count, height, width = planes.shape
    parts = planes.reshape(count, height // side, side, width // side, side)
    return parts.transpose(1, 3, 0, 2, 4).reshape(-1, count, side * side)
