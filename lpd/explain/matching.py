"""Matching: which prototype of one result does on a slide what which prototype of another does. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from lpd.errors import ResultError
from lpd.explain.array_measures import Doubles, correlations
from lpd.explain.slide_maps import MOST_VALUES, Grid, SlideMaps, class_slice
from lpd.inference.prototype_layers import CODE_STEPS
from lpd.inference.store import ResultStore


@dataclass(frozen=True)
class Pair:
    """Two prototypes that stand for one another.

    Attributes:
        left, right: their numbers, class-major, each in its own result.
        similarity: Pearson correlation of their maps, −1 to 1; None if one of them is the same all over the slide.
    """

    left: int
    right: int
    similarity: float | None


@dataclass(frozen=True)
class ClassMatching:
    """One class that both results have.

    Attributes:
        code: of the class.
        pairs: as many as the result with fewer prototypes of the class has, by number on the left.
        unmatched_left, unmatched_right: numbers of the prototypes left over, with those that do not count because they
            were muted, or merged into one before them, in the checkpoint.
    """

    code: str
    pairs: tuple[Pair, ...]
    unmatched_left: tuple[int, ...]
    unmatched_right: tuple[int, ...]

    @property
    def similarity(self) -> float | None:
        """Mean over the pairs that have one."""
        known = [pair.similarity for pair in self.pairs if pair.similarity is not None]
        return sum(known) / len(known) if known else None


@dataclass(frozen=True)
class Matching:
    """The prototypes of two results of one slide, one to one.

    Attributes:
        classes: those that both have, in the left one's order.
        only_left, only_right: codes of the classes that only one has; their prototypes have no counterparts.
        unmatched_left, unmatched_right: numbers of all prototypes without a counterpart.
        similarity: (M left, M right) correlations of every two maps; NaN where one is the same all over.
        cells: places that were compared.
        step_um: their distance.
    """

    classes: tuple[ClassMatching, ...]
    only_left: tuple[str, ...]
    only_right: tuple[str, ...]
    unmatched_left: tuple[int, ...]
    unmatched_right: tuple[int, ...]
    similarity: Doubles
    cells: int
    step_um: float

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Of all classes."""
        return tuple(pair for own in self.classes for pair in own.pairs)

    def counterpart(self, left: int) -> int | None:
        """The number on the right of a prototype on the left; None if it has no counterpart."""
        return next((pair.right for pair in self.pairs if pair.left == left), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form; prototypes are numbered from 0, class-major, what cannot be said is None."""
        return {
            "cells": self.cells,
            "step_um": self.step_um,
            "classes": [
                {
                    "code": own.code,
                    "similarity": own.similarity,
                    "pairs": [{"left": p.left, "right": p.right, "similarity": p.similarity} for p in own.pairs],
                    "unmatched_left": list(own.unmatched_left),
                    "unmatched_right": list(own.unmatched_right),
                }
                for own in self.classes
            ],
            "only_left": list(self.only_left),
            "only_right": list(self.only_right),
            "unmatched_left": list(self.unmatched_left),
            "unmatched_right": list(self.unmatched_right),
            "similarity": [[_number(value) for value in row] for row in self.similarity],
        }


def match(left: ResultStore, right: ResultStore, *, most_values: int = MOST_VALUES) -> Matching:
    """Match prototypes class by class so that the sum of the maps' correlations is highest (Hungarian method).

    Compared are tissue cells that both results have maps of, all over the slide: what a prototype does outside of its
    class counts, too. Results may differ in resolution, stride, classes and number of prototypes; places are those of
    the coarser maps. Memory stays flat.

    Args:
        left, right: results with maps of prototypes.
        most_values: cells times prototypes of either result that are looked at, see :meth:`SlideMaps.grid`.

    Raises:
        ResultError: they are of different slides, share no class or no tissue, or one has no maps.
    """
    one, other = SlideMaps(left), SlideMaps(right)
    common = _check(left, right)
    grid = max(one.grid(most_values), other.grid(most_values), key=lambda grid: grid.step_l0)
    similarity, cells = _similarity(one, other, grid)
    if not cells:
        raise ResultError(
            f"{left.folder} and {right.folder} have no tissue in common: segment the same part of the slide in both"
        )
    classes = tuple(_matched(code, one, other, similarity) for code in common)
    only_left = tuple(code for code in one.codes if code not in common)
    only_right = tuple(code for code in other.codes if code not in common)
    paired_left = {pair.left for own in classes for pair in own.pairs}
    paired_right = {pair.right for own in classes for pair in own.pairs}
    return Matching(
        classes=classes,
        only_left=only_left,
        only_right=only_right,
        unmatched_left=tuple(m for m in range(one.maps.count) if m not in paired_left),
        unmatched_right=tuple(m for m in range(other.maps.count) if m not in paired_right),
        similarity=similarity,
        cells=cells,
        step_um=grid.step_l0 * left.meta.slide_mpp,
    )


def _check(left: ResultStore, right: ResultStore) -> tuple[str, ...]:
    """Codes of the classes that both have."""
    one, other = left.meta, right.meta
    if one.slide_fingerprint != other.slide_fingerprint:
        same = " (files of one name that hold different bytes)" if one.slide_name == other.slide_name else ""
        raise ResultError(
            f"{left.folder} is of slide {one.slide_name} and {right.folder} of {other.slide_name}{same}: "
            "choose two results of one slide"
        )
    common = tuple(code for code in one.classes.codes if code in other.classes.codes)
    if not common:
        raise ResultError(
            f"{one.checkpoint_name} ({', '.join(one.classes.codes)}) and {other.checkpoint_name} "
            f"({', '.join(other.classes.codes)}) have no class in common: choose two models that share one"
        )
    return common


def _similarity(one: SlideMaps, other: SlideMaps, grid: Grid) -> tuple[Doubles, int]:
    """(M, M) correlations of two results' maps, and how many cells they rest on."""
    count = 0
    sums = np.zeros(one.maps.count), np.zeros(other.maps.count)
    squares = np.zeros_like(sums[0]), np.zeros_like(sums[1])
    products = np.zeros((one.maps.count, other.maps.count))
    for rows, columns in grid.squares(one.maps.count + other.maps.count):
        both = one.read(grid, rows, columns), other.read(grid, rows, columns)
        tissue = both[0].tissue & both[1].tissue
        if not tissue.any():
            continue
        # Whole numbers around 0, whose sums are exact.
        values = [cells.maps[:, tissue].astype(np.float64) - CODE_STEPS for cells in both]
        count += values[0].shape[1]
        for own, total, square in zip(values, sums, squares, strict=True):
            total += own.sum(1)
            square += np.einsum("mn,mn->m", own, own)
        products += values[0] @ values[1].T
    return correlations(count, sums, squares, products), count


def _matched(code: str, one: SlideMaps, other: SlideMaps, similarity: Doubles) -> ClassMatching:
    first, second = (maps.counted[maps.codes.index(code)] for maps in (one, other))
    table = similarity[np.ix_(first, second)]
    # A map that is the same all over is like none: it goes to whoever is left.
    rows, columns = linear_sum_assignment(np.where(np.isnan(table), -2.0, table), maximize=True)
    pairs = tuple(Pair(first[i], second[j], _number(table[i, j])) for i, j in zip(rows, columns, strict=True))
    left, right = (
        _left_over(maps, code, [numbers[i] for i in used])
        for maps, numbers, used in ((one, first, rows), (other, second, columns))
    )
    return ClassMatching(code, pairs, left, right)


def _left_over(maps: SlideMaps, code: str, used: Sequence[int]) -> tuple[int, ...]:
    own = class_slice(maps.codes.index(code), maps.maps.per_class)
    return tuple(m for m in range(own.start, own.stop) if m not in used)


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
