"""Blends overlapping windows' raw logits into one seamless map, panel by panel, in memory that is flat.

Every window adds its pixel logits (at ¼ of its resolution) and its gate logits (constant over the window) with the same
tent-shaped weight. Weights are whole numbers and logits are fixed point, so that sums do not depend on the order of
addition: the map is the same for any size of panel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from lpd.inference.frame import Box
from lpd.inference.meta import CELL_PX
from lpd.inference.windows import Panel, Plan

#: Fixed-point steps per unit of a logit.
_STEPS = 1 << 16


@dataclass(frozen=True, eq=False)
class BlendedPanel:
    """Blended logits of a finished panel, with the neighbouring cells that enlarging it needs.

    Attributes:
        panel: which one.
        logits: (2C, m + 1, n + 1) float32 raw logits, pixel logits of the C classes, then gate logits; 0 where no
            window looked. The first row and column are the neighbours' last, or the panel's own first at the plan's
            border; at the plan's far borders the last row or column is there twice.
        known: (m + 1, n + 1) bool, False where no window looked.
    """

    panel: Panel
    logits: Tensor
    known: Tensor

    @property
    def pixel_box(self) -> Box:
        """Mask pixels that enlarging yields: two px left of and above the panel's own, whose last half cell waits for
        the next panel."""
        height, width = self.known.shape
        x0, y0 = self.panel.box.x0 - CELL_PX // 2, self.panel.box.y0 - CELL_PX // 2
        return Box(x0, y0, x0 + CELL_PX * (width - 1), y0 + CELL_PX * (height - 1))


class TentBlender:
    """Adds windows of a plan's panels in row-major order and hands over each panel when it is complete.

    What windows add beyond their panel is carried: to the right in one column, downwards in one strip along the
    width of the plan.
    """

    def __init__(
        self, plan: Plan, class_count: int, device: torch.device, finished: Callable[[BlendedPanel], None]
    ) -> None:
        """Start with the plan's first panel.

        Args:
            plan: all panels, in order.
            class_count: C.
            device: where windows' logits lie and sums are kept.
            finished: called with each panel, in order.
        """
        self._channels = 2 * class_count
        self._overhang = plan.grid.overhang_px // CELL_PX
        self._weight = tent_weight(plan.grid.tile_px // CELL_PX, device)
        self._finished = finished
        self._first = plan.panel_columns[0], plan.panel_rows[0]
        self._last = plan.panel_columns[-1], plan.panel_rows[-1]
        self._x0 = plan.grid.panel_box(self._first[0], 0).x0
        width = (plan.grid.panel_box(self._last[0], 0).x1 - self._x0) // CELL_PX
        self._below = self._zeros(self._overhang, width, device)
        self._above = self._zeros(1, width, device)
        self._right = self._margin = self._zeros(0, 0, device)
        self._waiting = plan.panels()
        self._begin(next(self._waiting))

    def add(self, panel: Panel, window: Box, pixel: Tensor, gate: Tensor) -> None:
        """Add one window; panels before its own are complete and handed over.

        Args:
            panel: the window's panel; never one before that of the window added last.
            window: its mask pixels.
            pixel: (C, tile/4, tile/4) raw pixel logits, finite.
            gate: (C,) raw gate logits, finite.
        """
        while (self._panel.column, self._panel.row) != (panel.column, panel.row):
            self._end()
            self._begin(next(self._waiting))
        x, y = (window.x0 - panel.box.x0) // CELL_PX, (window.y0 - panel.box.y0) // CELL_PX
        side, classes = self._weight.shape[0], self._channels // 2
        target = self._sums[:, y : y + side, x : x + side]
        target[:classes] += _fixed(pixel) * self._weight
        target[classes:-1] += _fixed(gate)[:, None, None] * self._weight
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
        self._sums = self._zeros(height + self._overhang, width + self._overhang, self._below.device)
        left = self._left(panel)
        self._sums[:, : self._overhang, :width] = self._below[:, :, left : left + width]
        if panel.column > self._first[0]:
            self._sums[:, :, : self._overhang] += self._right
        self._panel = panel

    def _end(self) -> None:
        """Keep what the panel's neighbours need, divide its sums by their weights and hand it over."""
        panel = self._panel
        height, width = panel.box.height // CELL_PX, panel.box.width // CELL_PX
        left = self._left(panel)
        padded = self._with_margin(panel, self._sums[:, :height, :width], left)
        self._below[:, :, left : left + width] = self._sums[:, height:, :width]
        self._right = self._sums[:, :, width:].clone()
        self._above[:, 0, left : left + width] = self._sums[:, height - 1, :width]
        self._margin = padded[:, : height + 1, width : width + 1].clone()
        weight = padded[-1]
        logits = padded[:-1].to(torch.float32) / _STEPS / weight.clamp_min(1)
        self._finished(BlendedPanel(panel, logits, weight > 0))

    def _with_margin(self, panel: Panel, own: Tensor, left: int) -> Tensor:
        """The panel's sums with one more cell to the left and above; at the plan's own border that cell is repeated."""
        width = own.shape[2]
        top = self._above[:, :, left : left + width] if panel.row > self._first[1] else own[:, :1]
        body = torch.cat([top, own], 1)
        body = torch.cat([self._margin if panel.column > self._first[0] else body[:, :, :1], body], 2)
        if panel.row == self._last[1]:
            body = torch.cat([body, body[:, -1:]], 1)
        return torch.cat([body, body[:, :, -1:]], 2) if panel.column == self._last[0] else body

    def _left(self, panel: Panel) -> int:
        return (panel.box.x0 - self._x0) // CELL_PX

    def _zeros(self, height: int, width: int, device: torch.device) -> Tensor:
        return torch.zeros((self._channels + 1, height, width), dtype=torch.int64, device=device)


def tent_weight(side: int, device: torch.device) -> Tensor:
    """(side, side) int64 weight of a window's cells: rises evenly from 1 at the border to the centre, both ways."""
    rise = torch.arange(1, 2 * side, 2, device=device)
    line = torch.minimum(rise, 2 * side - rise)
    return line[:, None] * line


def smooth(pixel: Tensor, reach_px: int) -> Tensor:
    """Weighted mean of (B, C, h, w) logits over their neighbours, weights falling to 0 at ``reach_px`` mask pixels.

    A network answers a little differently when the picture moves by less than one of its cells; the triangle of one
    cell evens that out. Beyond a window's border its last cell counts again.
    """
    reach = reach_px // CELL_PX
    if reach < 2:
        return pixel
    rise = torch.arange(1, 2 * reach, device=pixel.device, dtype=pixel.dtype)
    line = torch.minimum(rise, 2 * reach - rise) / reach**2
    planes = functional.pad(pixel.flatten(0, 1)[:, None], (reach - 1,) * 4, mode="replicate")
    planes = functional.conv2d(functional.conv2d(planes, line[None, None, None, :]), line[None, None, :, None])
    return planes.reshape(pixel.shape)


def _fixed(logits: Tensor) -> Tensor:
    return (logits.to(torch.float32) * _STEPS).round().to(torch.int64)
