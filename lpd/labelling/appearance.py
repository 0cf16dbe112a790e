"""How tiles look: stain and texture in a few numbers each, from one coarse look at the slide, without a network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lpd.labelling.grid import Cell, TileGrid
from lpd.slide.region import Region
from lpd.slide.slide import Pixels, Slide
from lpd.slide.tissue import TissueMask

Floats = npt.NDArray[np.float32]

#: Candidates of one slide; of more tissue as many are drawn at random.
MOST_TILES = 4096
#: A tile counts as one of tissue from this share of the tissue mask on, which has a margin and no small holes.
LEAST_TISSUE = 0.25
#: To be proposed it takes more: of the mask, and of pixels that are stained, of which fat has few.
_PROPOSED_TISSUE, _PROPOSED_STAIN = 0.5, 0.1
#: A tile is looked at with so many pixels along its side, and the slide with no more than this along its own.
_LOOK_PX, _LONGEST_PX = 28, 4096
#: Rows of the look that are in memory at once.
_BAND_PX = 512
_TISSUE_PX = 4
#: Optical density of hematoxylin, eosin and the rest, in red, green and blue (Ruifrok and Johnston 2001).
_STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])


@dataclass(frozen=True, eq=False)
class Appearance:
    """The tiles of a slide that may be proposed, row by row.

    Attributes:
        cells: (N, 2) int, column and row.
        features: (N, 6), of the stained pixels alone, since glass is no look of tissue: means of hematoxylin, eosin and
            the rest (optical density), spreads of the first two inside of the tile, and how hematoxylin changes from
            pixel to pixel.
        tissue: (rows, columns) share of tissue of every tile of the grid, 0 to 1.
    """

    cells: npt.NDArray[np.int64]
    features: Floats
    tissue: Floats

    def index(self) -> dict[Cell, int]:
        """Where a tile stands; those that are no candidates are not in it."""
        return {(int(column), int(row)): place for place, (column, row) in enumerate(self.cells)}


def tissue_shares(tissue: TissueMask, grid: TileGrid) -> Floats:
    """(rows, columns) share of each tile that is tissue, 0 to 1, from 4 × 4 places in it."""
    size = grid.columns * _TISSUE_PX, grid.rows * _TISSUE_PX
    seen = tissue.read(grid.extent, size).reshape(grid.rows, _TISSUE_PX, grid.columns, _TISSUE_PX)
    shares: Floats = seen.mean(axis=(1, 3), dtype=np.float32)
    return shares


def look_at(slide: Slide, grid: TileGrid, tissue: TissueMask, *, seed: int = 0, most: int = MOST_TILES) -> Appearance:
    """Find and describe the tissue tiles of a slide.

    Memory and time are those of an overview picture of at most 4096 px, whatever the slide's size.

    Args:
        slide: an open one.
        grid: its tiles.
        tissue: of the slide.
        seed: decides which tiles are drawn where there are more than ``most``.
        most: bound on the number of tiles.

    Raises:
        SlideError: the slide is damaged.
    """
    shares = tissue_shares(tissue, grid)
    rows, columns = np.nonzero(shares >= _PROPOSED_TISSUE)
    if len(rows) > most:
        drawn = np.sort(np.random.default_rng(seed).choice(len(rows), most, replace=False))
        rows, columns = rows[drawn], columns[drawn]
    side = max(4, min(_LOOK_PX, _LONGEST_PX // max(grid.columns, grid.rows)))
    features, stained = np.empty((len(rows), 6), np.float32), np.empty(len(rows), np.float32)
    band = max(1, _BAND_PX // side)
    for first in range(0, grid.rows, band):
        wanted = np.nonzero((rows >= first) & (rows < first + band))[0]
        if len(wanted):
            pixels = _read_rows(slide, grid, first, min(grid.rows, first + band), side)
            for place in wanted:
                y, x = (rows[place] - first) * side, columns[place] * side
                tile = pixels[y : y + side, x : x + side]
                where = None if tissue.glass is None else tissue.glass.signal(tile) > tissue.glass.threshold
                stained[place] = 1 if where is None else where.mean()
                features[place] = describe(tile, where)
    kept = stained >= _PROPOSED_STAIN
    return Appearance(np.stack([columns, rows], axis=1)[kept], features[kept], shares)


def describe(pixels: Pixels, where: npt.NDArray[np.bool_] | None = None) -> Floats:
    """Six numbers of a tile's picture, uint8 (h, w, 3), or of its pixels ``where`` (h, w): see :class:`Appearance`."""
    where = np.ones(pixels.shape[:2], np.bool_) if where is None or not where.any() else where
    density = -np.log10((pixels.astype(np.float32) + 1) / 256)
    stains = density @ _UNMIXED
    hematoxylin, eosin, rest = (stains[where, number] for number in range(3))
    down, right = where[1:] & where[:-1], where[:, 1:] & where[:, :-1]
    steps = np.concatenate([np.abs(np.diff(stains[..., 0], axis=axis))[both] for axis, both in ((0, down), (1, right))])
    texture = 2 * steps.mean() if len(steps) else 0.0
    found = hematoxylin.mean(), eosin.mean(), rest.mean(), hematoxylin.std(), eosin.std(), texture
    return np.array(found, np.float32)


def _read_rows(slide: Slide, grid: TileGrid, first: int, end: int, side: int) -> Pixels:
    """The tiles of some rows of the grid, ``side`` pixels each."""
    top, bottom = (round(number * grid.step_l0) for number in (first, end))
    region = Region(0, top, grid.extent.width_l0, max(1, bottom - top))
    return slide.read(region, (grid.columns * side, (end - first) * side))


_UNMIXED = np.linalg.inv(_STAINS / np.linalg.norm(_STAINS, axis=1, keepdims=True)).astype(np.float32)
