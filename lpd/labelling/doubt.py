"""Where a model is in doubt: by how much the highest class score of a stored result leads, tile by tile."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lpd.classes import NOT_COMPUTED
from lpd.inference.store import SCORE_MAX, ResultStore
from lpd.labelling.grid import TileGrid
from lpd.slide.region import Region

Floats = npt.NDArray[np.float32]

#: Places along a tile's side at which scores are looked up.
_LOOKS = 4
#: Places that are in memory at once, for each class.
_BAND_PLACES = 1 << 20


@dataclass(frozen=True, eq=False)
class Doubt:
    """What a result says of the tiles of a grid.

    Attributes:
        model: name of the checkpoint.
        codes: of its classes.
        margin: (rows, columns) by how much the highest score is above the next, 0 to 1, averaged over the tile's places
            that the result knows; NaN of tiles of which it knows less than half.
        scores: (rows, columns, C) class scores, 0 to 1, averaged over the same places, each counting by its doubt,
            1 − margin: a tile that is half tumour and half stroma, both clearly, is in no doubt.
    """

    model: str
    codes: tuple[str, ...]
    margin: Floats
    scores: Floats

    def in_words(self, column: int, row: int) -> str:
        """Such as ``TUM .51 / STR .47``."""
        found = self.scores[row, column]
        best = np.argsort(-found, kind="stable")[:2]
        return " / ".join(f"{self.codes[c]} {_short(float(found[c]))}" for c in best)


def read_doubt(store: ResultStore, grid: TileGrid) -> Doubt:
    """Look a result up at 4 × 4 places of every tile.

    Raises:
        ResultError: it cannot be read.
    """
    codes = store.meta.classes.codes
    margin = np.full((grid.rows, grid.columns), np.nan, np.float32)
    means = np.zeros((grid.rows, grid.columns, len(codes)), np.float32)
    band = max(1, _BAND_PLACES // (grid.columns * _LOOKS * _LOOKS))
    for first in range(0, grid.rows, band):
        end = min(grid.rows, first + band)
        margin[first:end], means[first:end] = summarise(_read(store, grid, first, end), end - first, grid.columns)
    return Doubt(store.meta.checkpoint_name, codes, margin, means)


def summarise(scores: npt.NDArray[np.uint8], rows: int, columns: int) -> tuple[Floats, Floats]:
    """Margins (rows, columns) and scores (rows, columns, C) of tiles, see :class:`Doubt`.

    Args:
        scores: (C, rows · n, columns · n) as a store keeps them: 0–254 for 0–1, 255 where not computed.
        rows, columns: of tiles, n × n places each.
    """
    known = (scores != NOT_COMPUTED).all(axis=0) & (scores.max(axis=0) > 0)
    values = scores.astype(np.float32) / SCORE_MAX
    ordered = np.sort(values, axis=0)
    lead = ordered[-1] - (ordered[-2] if len(values) > 1 else 0)
    weights = np.where(known, 1 - lead + 1e-3, 0)  # a little, so that a tile without doubt has scores, too
    tiles = rows, scores.shape[1] // rows, columns, scores.shape[2] // columns
    count = known.reshape(tiles).sum(axis=(1, 3))
    enough = count * 2 >= tiles[1] * tiles[3]
    mean = np.where(known, lead, 0).reshape(tiles).sum(axis=(1, 3)) / np.maximum(count, 1)
    sums = (values * weights).reshape(len(values), *tiles).sum(axis=(2, 4))
    total = np.maximum(weights.reshape(tiles).sum(axis=(1, 3)), 1e-9)
    margin = np.where(enough, mean, np.nan).astype(np.float32)
    return margin, np.moveaxis(sums / total, 0, -1).astype(np.float32)


def _read(store: ResultStore, grid: TileGrid, first: int, end: int) -> npt.NDArray[np.uint8]:
    top, bottom = (round(number * grid.step_l0) for number in (first, end))
    region = Region(0, top, grid.extent.width_l0, max(1, bottom - top))
    size = grid.columns * _LOOKS, (end - first) * _LOOKS
    return np.stack([store.read_scores(c, region, size) for c in range(store.meta.classes.count)])


def _short(value: float) -> str:
    text = f"{value:.2f}"
    return text.removeprefix("0") if value < 1 else text
