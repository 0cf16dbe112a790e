"""Slide figures: how alike a class's prototypes are over a whole slide, and how they share it. Needs no torch.

From the stored maps, inside of the region that the mask gives the class. The slide is cut into tiles of the size that
the model was trained on, and what a tile can say is averaged over the tiles, as :mod:`lpd.explain.figures` and the
diversity loss average over images: numbers of slides and of data sets then mean the same. Over a whole slide as one
image a handful of the brightest cells would decide both the softmax and the half of the maximum.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from lpd.explain.array_measures import (
    Doubles,
    Floats,
    centred_cosines,
    correlations,
    effective_count,
    half_maximum_sets,
    intersections_over_unions,
    jeffreys_similarities,
    pair_mean,
    union_coverage,
)
from lpd.explain.slide_maps import MOST_VALUES, Cells, Grid, SlideMaps, class_slice, cosines
from lpd.inference.array_scores import Flags
from lpd.inference.prototype_layers import CODE_STEPS
from lpd.inference.pyramid import Bytes
from lpd.inference.store import ResultStore

#: A prototype that wins less than this share of its class's region is called dead.
DEAD_SHARE = 0.01
#: Prototypes of a class whose maps correlate at least so much inside its region are called near-duplicates.
DUPLICATE_CORRELATION = 0.95
_MIN_CELLS = 2
_TILE_FIGURES = ("jeffreys_similarity", "map_cosine", "map_iou", "union_coverage")

#: What each figure is, one sentence each; with those that :func:`lpd.explain.figures.prototype_figures` alone tells.
DEFINITIONS: Mapping[str, str] = MappingProxyType(
    {
        "jeffreys_similarity": "exp(−J), J being the Jeffreys divergence of two prototypes' maps as softmax "
        "distributions at τ = 0.07 over the class's region in a tile, mean over pairs and tiles (what the paper's "
        "L_div makes small): 1 alike, 0 disjoint.",
        "map_cosine": "Cosine of two prototypes' maps, each less its mean over the class's region in a tile, mean over "
        "pairs and tiles: 1 alike, 0 unrelated, −1 opposite.",
        "map_iou": "Intersection over union of the cells where each of two maps, stretched to 0–1 within the class's "
        "region in a tile, is at least one half, mean over pairs and tiles: 1 alike, 0 disjoint.",
        "union_coverage": "Share of the class's region in a tile where at least one prototype's map, stretched to 0–1, "
        "is at least one half, mean over tiles: 1 if nothing of the class is left to no prototype.",
        "effective_prototypes": "exp(entropy) of the usage shares, over all of the class's region: 1 if one prototype "
        "wins everywhere, K if all K win alike.",
        "usage": "Share of the class's region where a prototype's map is the highest of its class; cells where several "
        "are equally high are shared, and of maps that are equal everywhere the first counts for all.",
        "dead": f"Prototypes whose usage is below {DEAD_SHARE:.0%}.",
        "near_duplicates": "Pairs of prototypes whose maps have a Pearson correlation of at least "
        f"{DUPLICATE_CORRELATION} over all of the class's region.",
        "correlations": "Pearson correlation of two prototypes' maps over all of the class's region.",
        "prototype_cosine": "Cosine of two prototypes of a class as the network compares them with pixels (adapted to "
        "the scale), mean over pairs: 1 alike, 0 unrelated; data sets only.",
        "silhouette": "Mean silhouette of at most 500 pixels' features in the class's region by winning prototype and "
        "cosine distance: 1 far apart, 0 touching, below 0 in each other's place; data sets only.",
        "similarity": "Pearson correlation of two prototypes' maps over the tissue that both results have.",
    }
)


@dataclass(frozen=True)
class Figures:
    """Numbers of one class, or of all, see ``DEFINITIONS``; None where nothing is known (of pairs if K = 1)."""

    jeffreys_similarity: float | None
    map_cosine: float | None
    map_iou: float | None
    union_coverage: float | None
    effective_prototypes: float | None

    def to_dict(self) -> dict[str, float | None]:
        """By name, in the order of the definitions."""
        return {f.name: getattr(self, f.name) for f in fields(Figures)}


@dataclass(frozen=True)
class ClassFigures(Figures):
    """Numbers of one class inside its region of the mask.

    Attributes:
        code: of the class.
        cells: of the region, in tiles that hold 2 at least.
        tiles: with a region.
        usage: K shares that sum to 1; None without a region.
        correlations: (K, K) of the maps; NaN where one is the same all over the region.
        dead: which of the K are dead, from 0; empty without a region.
        near_duplicates: (i, j, correlation) with i < j below K.
    """

    code: str
    cells: int
    tiles: int
    usage: tuple[float, ...] | None
    correlations: Doubles
    dead: tuple[int, ...]
    near_duplicates: tuple[tuple[int, int, float], ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form."""
        return {
            "cells": self.cells,
            "tiles": self.tiles,
            **super().to_dict(),
            "usage": None if self.usage is None else list(self.usage),
            "dead": list(self.dead),
            "near_duplicates": [list(pair) for pair in self.near_duplicates],
            "correlations": [[number(value) for value in row] for row in self.correlations],
        }


@dataclass(frozen=True)
class SlideFigures:
    """All figures of one result.

    Attributes:
        slide_name, checkpoint_name: what it is of.
        per_class: K.
        step_um: distance of the cells that were looked at.
        tile_um: side of the tiles.
        classes: in mask order.
        total: means over the classes; of ``jeffreys_similarity`` over each tile's classes, then the tiles.
    """

    slide_name: str
    checkpoint_name: str
    per_class: int
    step_um: float
    tile_um: float
    classes: tuple[ClassFigures, ...]
    total: Figures

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form; prototypes are numbered from 0 within their class."""
        return {
            "slide": self.slide_name,
            "checkpoint": self.checkpoint_name,
            "prototypes_per_class": self.per_class,
            "step_um": self.step_um,
            "tile_um": self.tile_um,
            **self.total.to_dict(),
            "classes": {own.code: own.to_dict() for own in self.classes},
        }


def slide_figures(store: ResultStore, *, most_values: int = MOST_VALUES) -> SlideFigures:
    """Measure the prototypes of each class inside the region that the mask gives it, see ``DEFINITIONS``.

    The region of a class are the cells whose middle the mask gives to it, in tiles with at least 2 of them. Memory
    stays flat whatever the slide; of a result that still grows, what is there counts.

    Args:
        store: of a result with maps of prototypes.
        most_values: cells times prototypes that are looked at, see :meth:`SlideMaps.grid`.

    Raises:
        ResultError: there are no maps, or they cannot be read.
    """
    maps = SlideMaps(store)
    grid = maps.grid(most_values)
    per_class = maps.maps.per_class
    tallies = [_Tally(per_class) for _ in maps.codes]
    similarity = _Mean()
    for rows, columns in grid.squares(maps.maps.count):
        cells = maps.read(grid, rows, columns)
        if not cells.tissue.any():
            continue
        found = [_add(tally, index, cells, grid, per_class) for index, tally in enumerate(tallies)]
        similarity.add(_mean_known(np.stack(found)))
    classes = tuple(tally.summary(code) for code, tally in zip(maps.codes, tallies, strict=True))
    return SlideFigures(
        slide_name=store.meta.slide_name,
        checkpoint_name=store.meta.checkpoint_name,
        per_class=per_class,
        step_um=grid.step_l0 * store.meta.slide_mpp,
        tile_um=grid.tile * grid.step_l0 * store.meta.slide_mpp,
        classes=classes,
        total=_total(classes, similarity),
    )


def number(value: float) -> float | None:
    """For JSON, which has no NaN."""
    return None if math.isnan(value) else float(value)


def _add(tally: _Tally, index: int, cells: Cells, grid: Grid, per_class: int) -> Floats:
    """Count a class's tiles of a square; (T,) their Jeffreys similarity, NaN where there is no region."""
    regions = _tiles(((cells.mask == index) & cells.tissue)[None], grid.tile)[:, 0]
    here = np.count_nonzero(regions, axis=1) >= _MIN_CELLS
    similarity = np.full(len(regions), np.nan)
    if here.any():
        maps = _tiles(cells.maps[class_slice(index, per_class)], grid.tile)
        similarity[here] = tally.add(maps[here], regions[here])
    return similarity


def _tiles(planes: npt.NDArray[Any], side: int) -> npt.NDArray[Any]:
    """(K, r · side, c · side) as (r · c, K, side²)."""
    count, height, width = planes.shape
    parts = planes.reshape(count, height // side, side, width // side, side)
    return parts.transpose(1, 3, 0, 2, 4).reshape(-1, count, side * side)


class _Tally:
    """Sums over the tiles of one class."""

    def __init__(self, per_class: int) -> None:
        self._means = {name: _Mean() for name in _TILE_FIGURES}
        self._cells = self._tiles = 0
        self._won = np.zeros(per_class)
        self._sums = np.zeros(per_class)
        self._products = np.zeros((per_class, per_class))

    def add(self, maps: Bytes, regions: Flags) -> Floats:
        """Count tiles with a region, (T, K, n) and (T, n); (T,) their Jeffreys similarity."""
        self._add_cells(maps.transpose(1, 0, 2)[:, regions])
        self._tiles += len(regions)
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
        self._cells += maps.shape[1]
        highest = maps == maps.max(0)
        self._won += (highest / highest.sum(0)).sum(1)
        values = maps.astype(np.float64) - CODE_STEPS  # whole numbers around 0, whose sums are exact
        self._sums += values.sum(1)
        self._products += values @ values.T

    def summary(self, code: str) -> ClassFigures:
        """What has been counted."""
        usage, own = self._usage(), np.diagonal(self._products)
        table = correlations(self._cells, (self._sums, self._sums), (own, own), self._products)
        pairs = zip(*np.triu_indices(len(own), 1), strict=True)
        return ClassFigures(
            **{name: mean.value() for name, mean in self._means.items()},
            effective_prototypes=number(effective_count(usage)),
            code=code,
            cells=self._cells,
            tiles=self._tiles,
            usage=tuple(usage.tolist()) if self._cells else None,
            correlations=table,
            dead=tuple(np.flatnonzero(usage < DEAD_SHARE).tolist()) if self._cells else (),
            near_duplicates=tuple(
                (int(i), int(j), float(table[i, j])) for i, j in pairs if table[i, j] >= DUPLICATE_CORRELATION
            ),
        )

    def _usage(self) -> Doubles:
        """(K,) shares; those of maps that are equal everywhere go to the first of them."""
        usage = self._won / max(1, self._cells)
        own = np.diagonal(self._products)
        distances = own[:, None] + own - 2 * self._products  # sums of squares of whole numbers: 0 of equal maps alone
        firsts = (distances == 0).argmax(1)
        return np.asarray(np.bincount(firsts, usage, len(usage)), dtype=np.float64)


class _Mean:
    """Mean of what is said, NaN being nothing."""

    def __init__(self) -> None:
        self._sum, self._count = 0.0, 0

    def add(self, values: Floats) -> None:
        """Count (T,) values."""
        self._sum += float(np.nansum(values, dtype=np.float64))
        self._count += int((~np.isnan(values)).sum())

    def value(self) -> float | None:
        return self._sum / self._count if self._count else None


def _mean_known(values: Floats) -> Floats:
    """(T,) means over the first axis of what is not NaN; NaN where nothing is."""
    known = ~np.isnan(values)
    count = known.sum(0)
    return np.asarray(np.where(count > 0, np.where(known, values, 0).sum(0) / np.maximum(count, 1), np.nan))


def _total(classes: tuple[ClassFigures, ...], similarity: _Mean) -> Figures:
    by_name = {f.name: [getattr(own, f.name) for own in classes] for f in fields(Figures)}
    known = {name: [value for value in values if value is not None] for name, values in by_name.items()}
    means = {name: sum(values) / len(values) if values else None for name, values in known.items()}
    return Figures(**{**means, "jeffreys_similarity": similarity.value()})
