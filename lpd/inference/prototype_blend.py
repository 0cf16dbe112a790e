"""LayerBlender: blends windows' prototype maps at their own stride, with margins and weights as class logits have them.

A map needs nothing of its neighbours, as gates do, so that a panel is handed over as it stands. Logits lie within a
layer's limit: in fixed point their weighted sums fit 32 bits, and do not depend on the order of addition.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from lpd.classes import NOT_COMPUTED
from lpd.inference.blend import fading_weight
from lpd.inference.frame import Box
from lpd.inference.prototype_layers import CODE_STEPS, MapLayer
from lpd.inference.windows import Panel, Plan

#: Of 32 bits; and what float32 holds of whole numbers.
_LARGEST_SUM, _MOST_STEPS = 2**31 - 1, 1 << 23


class LayerBlender:
    """Adds windows of a plan's panels in row-major order and hands over the bytes of each panel that has some."""

    def __init__(
        self, plan: Plan, layer: MapLayer, device: torch.device, finished: Callable[[Box, Tensor], None]
    ) -> None:
        """Start with the plan's first panel.

        Args:
            plan: all panels, in order.
            layer: what is blended.
            device: where windows' maps lie and sums are kept.
            finished: called with a panel's mask pixels and its (channels, h, w) uint8 bytes, 255 where no window
                looked; not for a panel where none did.
        """
        grid = plan.grid
        self._stride, self._limit, self._channels = layer.stride_px, layer.limit, layer.channels
        self._overhang = grid.overhang_px // self._stride
        self._weight = fading_weight(grid.window_px // self._stride, self._overhang, device).to(torch.int32)
        heaviest = int(self._weight.max()) * math.ceil(grid.window_px / grid.stride_px) ** 2
        self._steps = min(_LARGEST_SUM // heaviest, _MOST_STEPS)
        self._finished = finished
        self._first_column, self._last_column = plan.panel_columns[0], plan.panel_columns[-1]
        self._x0 = grid.panel_box(self._first_column, 0).x0
        width = (grid.panel_box(self._last_column, 0).x1 - self._x0) // self._stride
        self._below = torch.zeros((self._channels + 1, self._overhang, width), dtype=torch.int32, device=device)
        self._reached = [False] * len(plan.panel_columns)  # whether anything is below, by column of panels
        self._right: Tensor | None = None
        self._waiting = plan.panels()
        self._begin(next(self._waiting))

    def add(self, panel: Panel, window: Box, logits: Tensor) -> None:
        """Add one window; panels before its own are complete and handed over.

        Args:
            panel: the window's panel; never one before that of the window added last.
            window: its mask pixels, w × w, without the margin.
            logits: (channels, w / stride, w / stride), finite; those beyond the layer's limit count as the limit.
        """
        while (self._panel.column, self._panel.row) != (panel.column, panel.row):
            self._end()
            self._begin(next(self._waiting))
        assert self._sums is not None  # the panel has windows
        x, y = (window.x0 - panel.box.x0) // self._stride, (window.y0 - panel.box.y0) // self._stride
        side = len(self._weight)
        target = self._sums[:, y : y + side, x : x + side]
        steps = (logits.to(torch.float32) / self._limit).clamp_(-1, 1).mul_(self._steps).round_().to(torch.int32)
        target[:-1] += steps.mul_(self._weight)
        target[-1] += self._weight

    def finish(self) -> None:
        """Hand over the current panel and all that follow; no window comes any more."""
        self._end()
        for panel in self._waiting:
            self._begin(panel)
            self._end()

    def _begin(self, panel: Panel) -> None:
        """Start a panel with what its neighbours to the left and above have added to it, if there is anything."""
        self._panel, self._sums = panel, None
        height, width = panel.box.height // self._stride, panel.box.width // self._stride
        right, column = self._right, panel.column - self._first_column
        above = self._reached[column]
        self._reached[column] = self._overhang > 0 and (bool(panel.windows) or right is not None)
        if not panel.windows and right is None and not above:
            return
        shape = (self._channels + 1, height + self._overhang, width + self._overhang)
        self._sums = torch.zeros(shape, dtype=torch.int32, device=self._below.device)
        if above:
            self._sums[:, : self._overhang, :width] = self._below[:, :, self._columns(panel)]
        if right is not None:
            self._sums[:, :, : self._overhang] += right

    def _end(self) -> None:
        """Hand over the panel's own part, and keep what reaches into its neighbours."""
        panel, sums = self._panel, self._sums
        self._right = None
        if sums is None:
            return
        height, width = panel.box.height // self._stride, panel.box.width // self._stride
        self._below[:, :, self._columns(panel)] = sums[:, height:, :width]
        if panel.windows and self._overhang and panel.column < self._last_column:
            self._right = sums[:, :, width:].clone()
        own = sums[:, :height, :width]
        means = own[:-1].to(torch.float32) / (self._steps * own[-1].clamp_min(1).to(torch.float32))
        bytes_ = (means * CODE_STEPS).round_().add_(CODE_STEPS).to(torch.uint8)
        self._finished(panel.box, bytes_.masked_fill_(own[-1] == 0, NOT_COMPUTED))

    def _columns(self, panel: Panel) -> slice:
        left = (panel.box.x0 - self._x0) // self._stride
        return slice(left, left + panel.box.width // self._stride)
