"""Which windows the network sees: one grid over the slide, in blocks ("panels") that are finished one by one.

Pure geometry in mask pixels. The grid begins at the slide's (0, 0) whatever part is asked for, so that a part's mask
equals that part of the whole slide's mask. The network sees a margin around each window that counts for nothing in
the mask: it is there so that the window's own border is not the end of the picture. A window belongs to the panel that
holds its upper left corner, and overhangs it to the right and below only; in row-major order a panel is therefore
complete after its own windows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lpd.errors import ConfigError
from lpd.inference.frame import Box
from lpd.inference.meta import CELL_PX

#: The network's coarsest stride. All windows begin at multiples of it, so that the network samples the slide at the
#: same points whichever window it sees them through.
LATTICE_PX = 32


@dataclass(frozen=True)
class WindowGrid:
    """Windows of ``window_px`` every ``stride_px`` over a mask of ``width`` × ``height`` pixels.

    Attributes:
        width, height: size of the mask.
        window_px: side of a window, its margin not counted.
        stride_px: distance of neighbouring windows, at most ``window_px``.
        margin_px: how much more the network sees on each side.
        gate_px: side of the square around a pixel over which its gate is taken; 0 for that pixel alone.
        offset_px: how far left of and above the slide's corner the grid begins; 0 but in tests of seams.
        panel_strides: side of a panel in strides.

    Raises:
        ConfigError: the numbers do not fit together.
    """

    width: int
    height: int
    window_px: int
    stride_px: int
    margin_px: int = 0
    gate_px: int = 0
    offset_px: int = 0
    panel_strides: int = 9

    def __post_init__(self) -> None:
        if self.window_px % CELL_PX or self.stride_px % CELL_PX or not 0 < self.stride_px <= self.window_px:
            raise ConfigError(
                f"stride {self.stride_px} px must be a multiple of {CELL_PX} and between {CELL_PX} and "
                f"the window's {self.window_px} px"
            )
        if self.offset_px % CELL_PX or not 0 <= self.offset_px < self.stride_px:
            raise ConfigError(
                f"grid offset {self.offset_px} px must be a multiple of {CELL_PX}, "
                f"at least 0 and below the stride of {self.stride_px} px"
            )
        if self.panel_px < self.overhang_px:
            raise ConfigError(f"a panel of {self.panel_px} px is narrower than the overlap of {self.overhang_px} px")

    @property
    def overhang_px(self) -> int:
        """How far a panel's last windows reach into the next panel."""
        return self.window_px - self.stride_px

    @property
    def gate_reach(self) -> int:
        """Cells of 4 px to each side that a pixel's gate depends on."""
        return self.gate_px // (2 * CELL_PX)

    @property
    def panel_px(self) -> int:
        return self.panel_strides * self.stride_px

    @property
    def columns(self) -> int:
        """Number of window columns; the last one reaches the right edge of the slide or goes past it."""
        return self._count(self.width)

    @property
    def rows(self) -> int:
        """Number of window rows; the last one reaches the lower edge of the slide or goes past it."""
        return self._count(self.height)

    @property
    def panel_columns(self) -> int:
        return math.ceil(self.columns / self.panel_strides)

    @property
    def panel_rows(self) -> int:
        return math.ceil(self.rows / self.panel_strides)

    def window_box(self, column: int, row: int) -> Box:
        """Mask pixels of one window, without its margin; it may reach past the mask."""
        x, y = column * self.stride_px - self.offset_px, row * self.stride_px - self.offset_px
        return Box(x, y, x + self.window_px, y + self.window_px)

    def panel_box(self, column: int, row: int) -> Box:
        """Mask pixels of one panel. The last ones include the overhang, so that panels cover the mask exactly once."""
        x0, x1 = self._panel_span(column, self.panel_columns, self.columns)
        y0, y1 = self._panel_span(row, self.panel_rows, self.rows)
        return Box(x0, y0, x1, y1)

    def touching(self, start: int, end: int, count: int) -> range:
        """Indices, among the first ``count``, of the windows that share a pixel with [start, end) along one axis."""
        first = math.floor((start + self.offset_px - self.window_px) / self.stride_px) + 1
        last = math.ceil((end + self.offset_px) / self.stride_px) - 1
        return range(min(max(0, first), count - 1), min(count - 1, last) + 1)

    def _count(self, length: int) -> int:
        return max(1, math.ceil((length + self.offset_px - self.overhang_px) / self.stride_px))

    def _panel_span(self, index: int, panels: int, windows: int) -> tuple[int, int]:
        end = (index + 1) * self.panel_px if index < panels - 1 else windows * self.stride_px + self.overhang_px
        return index * self.panel_px - self.offset_px, end - self.offset_px


@dataclass(frozen=True)
class Panel:
    """A block of the mask and the windows that begin in it.

    Attributes:
        column, row: place among all panels of the grid.
        box: its mask pixels; may reach past the mask.
        windows: the windows to compute, row by row, without their margins; each may overhang to the right and below.
    """

    column: int
    row: int
    box: Box
    windows: tuple[Box, ...]


@dataclass(frozen=True, eq=False)
class Plan:
    """What to compute for one request.

    Attributes:
        grid: the windows' grid.
        wanted: mask pixels to store.
        columns, rows: grid indices of the windows that touch what ``wanted`` depends on.
        chosen: (len(rows), len(columns)) which of them to compute.
    """

    grid: WindowGrid
    wanted: Box
    columns: range
    rows: range
    chosen: npt.NDArray[np.bool_]

    @property
    def window_count(self) -> int:
        return int(self.chosen.sum())

    @property
    def panel_columns(self) -> range:
        """Panels that hold a window of ``columns``; they cover ``wanted``."""
        return range(self.columns[0] // self.grid.panel_strides, self.columns[-1] // self.grid.panel_strides + 1)

    @property
    def panel_rows(self) -> range:
        return range(self.rows[0] // self.grid.panel_strides, self.rows[-1] // self.grid.panel_strides + 1)

    def panels(self) -> Iterator[Panel]:
        """All panels row by row, those without a window too."""
        for row in self.panel_rows:
            for column in self.panel_columns:
                yield Panel(column, row, self.grid.panel_box(column, row), tuple(self._windows(column, row)))

    def _windows(self, panel_column: int, panel_row: int) -> Iterator[Box]:
        columns, rows = self._within(panel_column, self.columns), self._within(panel_row, self.rows)
        for row in rows:
            for column in columns:
                if self.chosen[row - self.rows.start, column - self.columns.start]:
                    yield self.grid.window_box(column, row)

    def _within(self, panel: int, indices: range) -> range:
        side = self.grid.panel_strides
        return range(max(indices.start, panel * side), min(indices.stop, (panel + 1) * side))


def plan_windows(
    grid: WindowGrid,
    wanted: Box,
    has_tissue: Callable[[Box], bool],
    depends_on: Box | None = None,
    needs: Callable[[Box], bool] = bool,
) -> Plan:
    """Choose the windows that ``wanted`` depends on and that tissue depends on.

    Those are the ones that touch it, those that begin left of it and above it, and those within reach of its gates.

    Args:
        wanted: mask pixels to store, not empty.
        has_tissue: tells whether there is tissue inside a box.
        depends_on: blended pixels that the wanted ones are made of; None for these themselves.
        needs: tells whether any of those lies inside a box, where they do not fill ``depends_on``.
    """
    # Pixels are interpolated between cells of 4 px, so the cell beyond counts too.
    reach = (grid.gate_reach + 1) * CELL_PX
    needed = (depends_on or wanted).grown(reach)
    columns = grid.touching(needed.x0, needed.x1, grid.columns)
    rows = grid.touching(needed.y0, needed.y1, grid.rows)
    around = [[grid.window_box(column, row).grown(reach) for column in columns] for row in rows]
    chosen = [[needs(box) and has_tissue(box) for box in boxes] for boxes in around]
    return Plan(grid, wanted, columns, rows, np.array(chosen, dtype=np.bool_))
