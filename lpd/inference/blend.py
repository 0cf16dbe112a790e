"""Blends overlapping windows' raw logits into one seamless map, panel by panel, in memory that is flat.

Every window adds its pixel logits and its presence map (the deepest scale's CAM), both at ¼ of its resolution, with the
same weight, which fades out where the next window takes over. The gate is taken of the blended presence map, never of a
window's own: at each pixel the mean over a square of one tile's size around it, which is what L_cls trained. Weights
are whole numbers and logits are fixed point, so that sums do not depend on the order of addition: the map is the same
for any size of panel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lpd.inference.frame import Box
from lpd.inference.meta import CELL_PX
from lpd.inference.windows import Panel, Plan

#: Fixed-point steps per unit of a logit.
_STEPS = 1 << 16


@dataclass(frozen=True, eq=False)
class BlendedPanel:
    """Blended logits that became complete with a panel, with the neighbouring cells that enlarging them needs.

    Attributes:
        box: mask pixels of the cells: the panel's own, moved left and up by the reach of the gate, which waits for the
            panels beyond; at the plan's far borders it goes on to the end. Boxes of all panels cover the plan once.
        logits: (2C, m + 1, n + 1) float32 raw logits, pixel logits of the C classes, then gate logits; 0 where no
            window looked. The first row and column are the cells above and left of ``box``.
        known: (m + 1, n + 1) bool, False where no window looked and outside of the slide.
    """

    box: Box
    logits: Tensor
    known: Tensor

    @property
    def pixel_box(self) -> Box:
        """Mask pixels that enlarging yields: ``box`` moved by two px, since its last half cell waits for the next."""
        half = CELL_PX // 2
        return Box(self.box.x0 - half, self.box.y0 - half, self.box.x1 - half, self.box.y1 - half)


class Blender:
    """Adds windows of a plan's panels in row-major order and hands over what is complete after each panel.

    What windows add beyond their panel is carried: to the right in one column, downwards in one strip along the width
    of the plan. Of finished cells a rim to the left and a strip above are kept that reach as far as the gate looks.
    """

    def __init__(
        self, plan: Plan, class_count: int, device: torch.device, finished: Callable[[BlendedPanel], None]
    ) -> None:
        """Start with the plan's first panel.

        Args:
            plan: all panels, in order.
            class_count: C.
            device: where windows' logits lie and sums are kept.
            finished: called with each panel's cells, in order.
        """
        self._channels = 2 * class_count
        self._grid = plan.grid
        self._overhang = plan.grid.overhang_px // CELL_PX
        self._reach = plan.grid.gate_reach
        self._rim = 2 * self._reach + 1
        self._weight = fading_weight(plan.grid.window_px // CELL_PX, self._overhang, device)
        self._finished = finished
        self._first_column = plan.panel_columns[0]
        self._last = plan.panel_columns[-1], plan.panel_rows[-1]
        self._x0 = plan.grid.panel_box(self._first_column, 0).x0
        width = (plan.grid.panel_box(self._last[0], 0).x1 - self._x0) // CELL_PX
        self._below = torch.zeros((self._channels + 1, self._overhang, width), dtype=torch.int64, device=device)
        self._right = self._below[:, :0, :0]
        self._above = _Cells.unknown(self._channels, self._rim, width, device)
        self._waiting = plan.panels()
        self._begin(next(self._waiting))

    def add(self, panel: Panel, window: Box, pixel: Tensor, presence: Tensor) -> None:
        """Add one window; panels before its own are complete and handed over.

        Args:
            panel: the window's panel; never one before that of the window added last.
            window: its mask pixels, w × w, without the margin.
            pixel, presence: (C, w/4, w/4) raw logits, finite.
        """
        while (self._panel.column, self._panel.row) != (panel.column, panel.row):
            self._end()
            self._begin(next(self._waiting))
        x, y = (window.x0 - panel.box.x0) // CELL_PX, (window.y0 - panel.box.y0) // CELL_PX
        side, classes = self._weight.shape[0], self._channels // 2
        target = self._sums[:, y : y + side, x : x + side]
        target[:classes] += _fixed(pixel) * self._weight
        target[classes:-1] += _fixed(presence) * self._weight
        target[-1] += self._weight

    def finish(self) -> None:
        """Hand over the current panel and all that follow; no window comes any more."""
        self._end()
        for panel in self._waiting:
            self._begin(panel)
            self._end()

    def _begin(self, panel: Panel) -> None:
        """Start a panel with what its neighbours to the left and above have added to it."""
        height, width = panel.box.height // CELL_PX, panel.box.width // CELL_PX
        shape = (self._channels + 1, height + self._overhang, width + self._overhang)
        self._sums = torch.zeros(shape, dtype=torch.int64, device=self._below.device)
        left = self._left(panel)
        self._sums[:, : self._overhang, :width] = self._below[:, :, left : left + width]
        if panel.column > self._first_column:
            self._sums[:, :, : self._overhang] += self._right
        else:
            self._rest = _Cells.unknown(self._channels, height + self._rim, self._rim, self._below.device)
        self._panel = panel

    def _end(self) -> None:
        """Keep what the panel's neighbours need, and hand over the cells whose gates are complete."""
        panel = self._panel
        height, width = panel.box.height // CELL_PX, panel.box.width // CELL_PX
        left = self._left(panel)
        columns = slice(left, left + width)
        own = self._averaged(self._sums[:, :height, :width])
        self._below[:, :, columns] = self._sums[:, height:, :width]
        self._right = self._sums[:, :, width:].clone()
        cells = self._rest.beside(self._above.part(columns=columns).over(own))
        self._rest = cells.part(columns=slice(width, None))
        self._above.put(columns, cells.part(rows=slice(height, None), columns=slice(self._rim, None)))
        beyond = self._reach + 1
        cells = cells.extended(
            beyond if panel.row == self._last[1] else 0, beyond if panel.column == self._last[0] else 0
        )
        self._hand_over(panel, cells)

    def _averaged(self, sums: Tensor) -> _Cells:
        """Sums of the current panel's own cells divided by their weights."""
        weight, box = sums[-1], self._panel.box
        rows = _inside(box.y0, weight.shape[0], self._grid.height, weight.device)
        columns = _inside(box.x0, weight.shape[1], self._grid.width, weight.device)
        logits = sums[:-1].to(torch.float32) / _STEPS / weight.clamp_min(1)
        return _Cells(logits, (weight > 0) & rows[:, None] & columns)

    def _hand_over(self, panel: Panel, cells: _Cells) -> None:
        classes, reach = self._channels // 2, self._reach
        known = _inner(cells.known, reach)
        gate = mean_around(cells.logits[classes:], cells.known, reach)
        x0, y0 = panel.box.x0 - reach * CELL_PX, panel.box.y0 - reach * CELL_PX
        box = Box(x0, y0, x0 + (known.shape[1] - 1) * CELL_PX, y0 + (known.shape[0] - 1) * CELL_PX)
        self._finished(BlendedPanel(box, torch.cat([_inner(cells.logits[:classes], reach), gate]) * known, known))

    def _left(self, panel: Panel) -> int:
        return (panel.box.x0 - self._x0) // CELL_PX


@dataclass(frozen=True, eq=False)
class _Cells:
    """A rectangle of blended cells: (2C, h, w) float32 logits, (h, w) bool whether a window looked."""

    logits: Tensor
    known: Tensor

    @classmethod
    def unknown(cls, channels: int, height: int, width: int, device: torch.device) -> _Cells:
        logits = torch.zeros((channels, height, width), device=device)
        return cls(logits, torch.zeros((height, width), dtype=torch.bool, device=device))

    def part(self, rows: slice = slice(None), columns: slice = slice(None)) -> _Cells:
        return _Cells(self.logits[:, rows, columns], self.known[rows, columns])

    def over(self, other: _Cells) -> _Cells:
        return _Cells(torch.cat([self.logits, other.logits], 1), torch.cat([self.known, other.known], 0))

    def beside(self, other: _Cells) -> _Cells:
        return _Cells(torch.cat([self.logits, other.logits], 2), torch.cat([self.known, other.known], 1))

    def extended(self, rows: int, columns: int) -> _Cells:
        """With unknown cells below and to the right."""
        return _Cells(
            torch.nn.functional.pad(self.logits, (0, columns, 0, rows)),
            torch.nn.functional.pad(self.known, (0, columns, 0, rows)),
        )

    def put(self, columns: slice, cells: _Cells) -> None:
        self.logits[:, :, columns] = cells.logits
        self.known[:, columns] = cells.known


def fading_weight(side: int, overlap: int, device: torch.device) -> Tensor:
    """(side, side) int64 weight of a window's cells: it rises from 1 at the border over as many cells as neighbouring
    windows overlap, half a window at most, and is even inside; both ways."""
    rise = torch.arange(1, 2 * side, 2, device=device)
    line = torch.minimum(rise, 2 * side - rise).clamp_max(max(1, 2 * min(overlap, side // 2)))
    return line[:, None] * line


def mean_around(values: Tensor, known: Tensor, reach: int) -> Tensor:
    """Mean of the known values in the square of ``2 · reach + 1`` cells around each cell, 0 where there are none.

    In fixed point, so that it is the same whatever rectangle the cell lies in.

    Args:
        values: (C, h, w).
        known: (h, w) bool.
        reach: cells to each side.

    Returns:
        (C, h − 2 reach, w − 2 reach) float32.
    """
    planes = torch.cat([_fixed(values) * known, known[None].to(torch.int64)])
    side = 2 * reach + 1
    for axis in (1, 2):
        running = torch.nn.functional.pad(planes.transpose(axis, -1).cumsum(-1), (1, 0))
        planes = (running[..., side:] - running[..., :-side]).transpose(axis, -1)
    return planes[:-1].to(torch.float32) / _STEPS / planes[-1].clamp_min(1)


def _inner(cells: Tensor, border: int) -> Tensor:
    height, width = cells.shape[-2:]
    return cells[..., border : height - border, border : width - border]


def _inside(start_px: int, cells: int, length_px: int, device: torch.device) -> Tensor:
    """Which of ``cells`` cells from pixel ``start_px`` on share a pixel with [0, length_px)."""
    first = start_px + CELL_PX * torch.arange(cells, device=device)
    return (first > -CELL_PX) & (first < length_px)


def _fixed(logits: Tensor) -> Tensor:
    return (logits.to(torch.float32) * _STEPS).round().to(torch.int64)
