"""Slide figures: how alike a class's prototypes are over whole slides, and how they share them. Needs no torch.

From the stored maps, inside of the region that the mask gives the class. A slide is cut into tiles of the size that
the model was trained on, and what a tile can say is averaged over the tiles, as :mod:`lpd.explain.figures` and the
diversity loss average over images: numbers of slides and of data sets then mean the same. A whole slide as one image
says something else, since how bright places are then counts as well as what is bright in them (decision 0024).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from lpd.errors import ResultError
from lpd.explain.array_measures import Doubles, effective_count
from lpd.explain.cell_sample import drawing_keys
from lpd.explain.definitions import DEAD_SHARE, DUPLICATE_CORRELATION
from lpd.explain.definitions import DEFINITIONS as DEFINITIONS
from lpd.explain.slide_maps import MOST_VALUES, SlideMaps
from lpd.explain.tally import Mean, Tally, mean_known, number
from lpd.inference.store import ResultStore


@dataclass(frozen=True)
class Figures:
    """Numbers of one class, or of all, see ``DEFINITIONS``; None where nothing is known (of pairs if K = 1)."""

    jeffreys_similarity: float | None
    map_cosine: float | None
    map_iou: float | None
    union_coverage: float | None
    effective_prototypes: float | None
    prototype_cosine: float | None
    map_silhouette: float | None

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
        usage: K shares that sum to 1; None without a region. Of merged prototypes the first has them all.
        counted: which of the K count, from 0: neither muted in the checkpoint nor merged into one before them.
        correlations: (K, K) of the maps; NaN where one is the same all over the region, or does not count.
        dead: which of the K are dead, from 0; empty without a region.
        near_duplicates: (i, j, correlation) with i < j below K.
    """

    code: str
    cells: int
    tiles: int
    counted: tuple[int, ...]
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
            "counted": list(self.counted),
            "usage": None if self.usage is None else list(self.usage),
            "dead": list(self.dead),
            "near_duplicates": [list(pair) for pair in self.near_duplicates],
            "correlations": [[number(value) for value in row] for row in self.correlations],
        }


@dataclass(frozen=True)
class SlideFigures:
    """All figures of one result.

    Attributes:
        slide_name, checkpoint_name: what it is of; of several slides their number.
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
    return pooled_figures([store], most_values=most_values)


def pooled_figures(stores: Sequence[ResultStore], *, most_values: int = MOST_VALUES) -> SlideFigures:
    """The same of several slides together: their tiles and their regions count as those of one.

    Args:
        stores: one at least, all of one checkpoint and with maps of prototypes.
        most_values: on each slide.

    Raises:
        ResultError: results are of several checkpoints, or one has no maps, or cannot be read.
    """
    check_one_model(stores)
    all_maps = [SlideMaps(store) for store in stores]
    grids = [maps.grid(most_values) for maps in all_maps]
    codes, per_class, meta = all_maps[0].codes, all_maps[0].maps.per_class, stores[0].meta
    tallies = [Tally(index, per_class, counted) for index, counted in enumerate(all_maps[0].counted)]
    similarity = Mean()
    for index, (maps, grid) in enumerate(zip(all_maps, grids, strict=True)):
        for rows, columns in grid.squares(maps.maps.count):
            cells = maps.read(grid, rows, columns)
            if cells.tissue.any():
                keys = drawing_keys(index, rows, columns)
                similarity.add(mean_known(np.stack([tally.add(cells, grid.tile, keys) for tally in tallies])))
    cosines = next((maps.maps.cosines for maps in all_maps if maps.maps.cosines), (None,) * len(codes))
    classes = tuple(_summary(*own) for own in zip(codes, tallies, cosines, strict=True))
    return SlideFigures(
        slide_name=meta.slide_name if len(stores) == 1 else f"{len(stores)} slides",
        checkpoint_name=meta.checkpoint_name,
        per_class=per_class,
        step_um=max(g.step_l0 * store.meta.slide_mpp for g, store in zip(grids, stores, strict=True)),
        tile_um=max(g.tile * g.step_l0 * store.meta.slide_mpp for g, store in zip(grids, stores, strict=True)),
        classes=classes,
        total=_total(classes, similarity),
    )


def check_one_model(stores: Sequence[ResultStore]) -> None:
    """Refuse results of several models, whose prototypes have only their numbers in common.

    Raises:
        ResultError: see above.
    """
    first = stores[0] if stores else None
    for store in stores[1:]:
        if first is not None and store.meta.checkpoint_digest != first.meta.checkpoint_digest:
            raise ResultError(
                f"{first.folder} is by {first.meta.checkpoint_name} and {store.folder} by another model, "
                f"{store.meta.checkpoint_name}: ask for the results of one model at a time"
            )


def _summary(code: str, tally: Tally, cosine: float | None) -> ClassFigures:
    usage, table, known = tally.usage(), tally.correlations(), tally.cells > 0
    pairs = zip(*np.triu_indices(len(usage), 1), strict=True)
    alike = [(int(i), int(j), float(table[i, j])) for i, j in pairs if table[i, j] >= DUPLICATE_CORRELATION]
    return ClassFigures(
        **tally.means(),
        effective_prototypes=number(effective_count(usage)),
        prototype_cosine=cosine,
        map_silhouette=number(tally.silhouette()),
        code=code,
        cells=tally.cells,
        tiles=tally.tiles,
        counted=tally.counted,
        usage=tuple(usage.tolist()) if known else None,
        correlations=table,
        dead=tuple(k for k in tally.counted if usage[k] < DEAD_SHARE) if known else (),
        near_duplicates=tuple(alike),
    )


def _total(classes: tuple[ClassFigures, ...], similarity: Mean) -> Figures:
    by_name = {f.name: [getattr(own, f.name) for own in classes] for f in fields(Figures)}
    known = {name: [value for value in values if value is not None] for name, values in by_name.items()}
    means = {name: sum(values) / len(values) if values else None for name, values in known.items()}
    return Figures(**{**means, "jeffreys_similarity": similarity.value()})
