"""TileGrid: the tiles of one slide, on a grid from its (0, 0), so that two clicks on one place mean the same tile."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lpd.errors import ConfigError, SlideError
from lpd.slide.polygon import Polygon
from lpd.slide.region import Region

#: (column, row), both from 0.
Cell = tuple[int, int]

#: A slide may be this much coarser than its tiles shall be: they would show nothing that it does not.
_COARSEST = 1.5


@dataclass(frozen=True)
class TileGrid:
    """Square tiles of ``tile_px`` pixels of ``mpp`` µm, side by side on a slide.

    A tile's corner lies at the whole level-0 pixel nearest to its place on the grid, and all are equally large, so that
    neighbours may share or miss one level-0 pixel. Only tiles that lie wholly on the slide are among them.

    Attributes:
        width_l0, height_l0: size of the slide.
        slide_mpp: its µm per level-0 pixel.
        mpp, tile_px: of the tiles.

    Raises:
        ConfigError: a value is out of range.
        SlideError: the slide is too coarse for such tiles, or smaller than one of them.
    """

    width_l0: int
    height_l0: int
    slide_mpp: float
    mpp: float
    tile_px: int

    def __post_init__(self) -> None:
        if not 0.01 <= self.slide_mpp <= 100 or not 0.01 <= self.mpp <= 100 or self.tile_px < 1:
            raise ConfigError(f"tiles of {self.tile_px} px at {self.mpp} µm/px on {self.slide_mpp} µm/px are no tiles")
        if self.slide_mpp > _COARSEST * self.mpp:
            raise SlideError(
                f"a slide of {self.slide_mpp:.3g} µm/px is too coarse for tiles of {self.mpp:.3g} µm/px: "
                "take a finer scan, or begin a label set of a coarser resolution"
            )
        if not self.columns or not self.rows:
            raise SlideError(
                f"the slide, {self.width_l0} × {self.height_l0} px, is smaller than one tile of "
                f"{self.tile_side_l0} px: take a larger slide, or begin a label set with smaller tiles"
            )

    @property
    def step_l0(self) -> float:
        """Distance of neighbouring tiles in level-0 pixels."""
        return self.tile_px * self.mpp / self.slide_mpp

    @property
    def tile_side_l0(self) -> int:
        """Side of every tile in level-0 pixels."""
        return max(1, _nearest(self.step_l0))

    @cached_property
    def columns(self) -> int:
        return self._count(self.width_l0)

    @cached_property
    def rows(self) -> int:
        return self._count(self.height_l0)

    @property
    def extent(self) -> Region:
        """All tiles together, less than a tile short of the slide."""
        return Region(0, 0, max(1, _nearest(self.columns * self.step_l0)), max(1, _nearest(self.rows * self.step_l0)))

    def __contains__(self, cell: Cell) -> bool:
        return 0 <= cell[0] < self.columns and 0 <= cell[1] < self.rows

    def cell_at(self, x_l0: float, y_l0: float) -> Cell | None:
        """The tile at a place; None where there is none."""
        cell = math.floor(x_l0 / self.step_l0), math.floor(y_l0 / self.step_l0)
        return cell if cell in self else None

    def region(self, cell: Cell) -> Region:
        """The level-0 pixels of a tile."""
        x, y = (_nearest(number * self.step_l0) for number in cell)
        return Region(x, y, self.tile_side_l0, self.tile_side_l0)

    def require(self, cells: Iterable[Cell]) -> None:
        """
        Raises:
            ConfigError: one of them is no tile of this slide.
        """
        for cell in cells:
            if cell not in self:
                raise ConfigError(
                    f"there is no tile in column {cell[0]}, row {cell[1]}: the slide has "
                    f"{self.columns} × {self.rows} tiles"
                )

    def inside(self, polygons: Sequence[Polygon]) -> list[Cell]:
        """The tiles whose middles lie in any of some polygons, row by row."""
        found = np.zeros((self.rows, self.columns), np.bool_)
        for polygon in polygons:
            box = polygon.region
            first = [max(0, math.floor(low / self.step_l0) - 1) for low in (box.x_l0, box.y_l0)]
            last = [math.ceil(high / self.step_l0) + 1 for high in (box.right_l0, box.bottom_l0)]
            columns = np.arange(first[0], min(self.columns, last[0]))
            rows = np.arange(first[1], min(self.rows, last[1]))
            if len(columns) and len(rows):
                xs, ys = (np.asarray((numbers + 0.5) * self.step_l0, np.float64) for numbers in (columns, rows))
                found[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] |= polygon.contains(xs, ys)
        return [(int(column), int(row)) for row, column in np.argwhere(found)]

    def _count(self, length_l0: int) -> int:
        count = math.floor(length_l0 / self.step_l0) + 1
        while count and _nearest((count - 1) * self.step_l0) + self.tile_side_l0 > length_l0:
            count -= 1
        return count


def _nearest(value: float) -> int:
    """As browsers round, which draw the same boxes: halves upwards."""
    return math.floor(value + 0.5)
