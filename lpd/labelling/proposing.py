"""Which tiles to look at next: half of them unlike all that is labelled, half of them where the model is in doubt."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from lpd.labelling.appearance import Appearance
from lpd.labelling.doubt import Doubt
from lpd.labelling.grid import Cell

Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]

#: Tiles in doubt are so many tiles apart from one another and from labelled ones, as long as there are any.
_APART = 3
#: A lead of the highest score from which on nobody would speak of doubt.
_CLEAR = 0.6
#: This share of the tiles, those farthest from their neighbours in looks, is left out: pen marks, folds, dust.
_ODD_SHARE, _NEIGHBOURS, _FEWEST = 0.04, 5, 50
FIRST, UNLIKE = "typical of this slide", "unlike anything labelled on this slide"


@dataclass(frozen=True)
class Proposal:
    """A tile to look at.

    Attributes:
        cell: where.
        by: what it was found by.
        reason: for people.
    """

    cell: Cell
    by: Literal["appearance", "doubt"]
    reason: str


def propose(
    appearance: Appearance,
    labelled: Collection[Cell],
    doubt: Doubt | None,
    count: int,
    *,
    skipped: Collection[Cell] = (),
) -> list[Proposal]:
    """The next tiles of a slide, by appearance and by doubt in turn; the same for the same arguments.

    Args:
        appearance: of its tissue tiles.
        labelled: tiles that have a label.
        doubt: what a model says of them; None without a result.
        count: how many at most.
        skipped: tiles that were looked at and left.
    """
    index = appearance.index()
    known = [*labelled, *skipped]
    free = np.ones(len(appearance.cells), np.bool_)
    free[[index[cell] for cell in known if cell in index]] = False
    covered = [index[cell] for cell in labelled if cell in index]
    looks = scaled(appearance.features)
    coverage, common = Coverage(looks, covered), ~odd(looks)
    worry = None if doubt is None else _Worry(appearance, doubt, known)
    found: list[Proposal] = []
    while len(found) < count and free.any():
        place = worry.next(free) if worry is not None and len(found) % 2 else None
        by_doubt = place is not None
        if place is None:
            place = coverage.farthest(free & common)
        if place is None:
            break
        cell = int(appearance.cells[place, 0]), int(appearance.cells[place, 1])
        if by_doubt and doubt is not None:
            found.append(Proposal(cell, "doubt", f"model unsure: {doubt.in_words(*cell)} ({doubt.model})"))
        else:
            found.append(Proposal(cell, "appearance", UNLIKE if covered or found else FIRST))
        free[place] = False
        coverage.cover(place)
        if worry is not None:
            worry.take(cell)
    return found


def scaled(features: Floats) -> Floats:
    """Features (N, F) in units of their spread over the slide; one that is the same everywhere is 0."""
    if not len(features):
        return features
    spread = features.std(axis=0)
    centred: Floats = (features - features.mean(axis=0)) / np.where(spread > 1e-6, spread, np.inf)
    return centred


def odd(looks: Floats) -> npt.NDArray[np.bool_]:
    """(N,) which few tiles look like no others at all; none where there are too few to tell."""
    if len(looks) < _FEWEST:
        return np.zeros(len(looks), np.bool_)
    away = cKDTree(looks).query(looks, _NEIGHBOURS + 1)[0][:, -1]
    return np.asarray(away > np.quantile(away, 1 - _ODD_SHARE), np.bool_)


class Coverage:
    """Which of some points (N, F) are far from all that are covered.

    Args:
        looks: the points.
        covered: numbers of those that are from the start.
    """

    def __init__(self, looks: Floats, covered: Iterable[int] = ()) -> None:
        self._looks = looks
        self._nearest: npt.NDArray[np.float64] | None = None
        for place in covered:
            self.cover(place)

    def cover(self, place: int) -> None:
        """One more is covered."""
        away = ((self._looks - self._looks[place]) ** 2).sum(axis=1, dtype=np.float64)
        self._nearest = away if self._nearest is None else np.minimum(self._nearest, away)

    def farthest(self, free: npt.NDArray[np.bool_]) -> int | None:
        """The free point (N,) that is farthest from the covered ones, of equals the first; None if none is free.

        Where nothing is covered it is the one nearest to the middle of all.
        """
        if not free.any():
            return None
        if self._nearest is not None:
            return int(np.where(free, self._nearest, -1).argmax())
        from_middle = ((self._looks - self._looks.mean(axis=0)) ** 2).sum(axis=1)
        return int(np.where(free, from_middle, np.inf).argmin())


class _Worry:
    """Tiles that a model is in doubt of, those of the smallest lead first; apart from others while there are such."""

    def __init__(self, appearance: Appearance, doubt: Doubt, known: Collection[Cell]) -> None:
        self._columns, self._rows = appearance.cells.T
        margin = doubt.margin[self._rows, self._columns]
        self._order = [int(place) for place in np.argsort(margin, kind="stable") if margin[place] < _CLEAR]
        self._taken = np.zeros(doubt.margin.shape, np.bool_)  # and what is near to what was taken
        for cell in known:
            self.take(cell)

    def take(self, cell: Cell) -> None:
        column, row = cell
        left, top = max(0, column - _APART + 1), max(0, row - _APART + 1)
        self._taken[top : row + _APART, left : column + _APART] = True

    def next(self, free: npt.NDArray[np.bool_]) -> int | None:
        left = [place for place in self._order if free[place]]
        apart = (place for place in left if not self._taken[self._rows[place], self._columns[place]])
        return next(apart, left[0] if left else None)
