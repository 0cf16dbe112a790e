"""RegionScores: how sure the model was of each region's own class, on average."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lpd.export.cells import Block, CellGrid
from lpd.export.rings import RegionNumbers
from lpd.export.source import Mask

#: Scores vary slowly: one look at every so many mask pixels, along each axis, is enough.
_EVERY_PX = 4
_MAX = 254  # stands for 1.0; 255 is not computed


class RegionScores:
    """Sums over each region of its own class's score, gathered block by block; two numbers for each region."""

    def __init__(self, region_count: int) -> None:
        self._sum = np.zeros(region_count, np.float64)
        self._count = np.zeros(region_count, np.int64)

    def add(self, grid: CellGrid, block: Block, values: Mask, numbers: RegionNumbers) -> None:
        """Look at a block.

        Args:
            grid, block: where it is.
            values: (h, w) its mask values.
            numbers: (h, w) the region of each cell; −1 is left out.
        """
        every = max(1, _EVERY_PX // grid.step)
        # Which cells are looked at does not depend on where blocks begin.
        first_x, first_y = ((every // 2 - start) % every for start in (block.x, block.y))
        some = np.s_[first_y::every, first_x::every]
        values, regions = values[some], numbers[some]
        x_px, y_px = ((start * grid.step + grid.step // 2) for start in (block.x + first_x, block.y + first_y))
        height, width = values.shape
        for value in np.flatnonzero(np.bincount(values[regions >= 0])).tolist():
            scores = grid.store.read_scores_px(value, x_px, y_px, (width, height), every * grid.step)
            known = (values == value) & (regions >= 0) & (scores <= _MAX)
            self._count_in(regions[known], scores[known])

    def _count_in(self, regions: npt.NDArray[np.int32], scores: Mask) -> None:
        if not len(regions):
            return
        first = int(regions.min())
        counts, sums = np.bincount(regions - first), np.bincount(regions - first, weights=scores)
        self._count[first : first + len(counts)] += counts
        self._sum[first : first + len(sums)] += sums  # of whole numbers: exact in any order

    def mean(self, region: int) -> float | None:
        """Mean score of a region, 0–1; None where none of the cells looked at has one."""
        count = int(self._count[region])
        return float(self._sum[region]) / (_MAX * count) if count else None
