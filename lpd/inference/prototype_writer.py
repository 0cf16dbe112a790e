"""PrototypeWriter: windows' maps of prototypes on their way to the store: blended, cut to what was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from lpd.classes import NOT_COMPUTED
from lpd.inference.frame import Box
from lpd.inference.job import Band
from lpd.inference.meta import CELL_PX
from lpd.inference.prototype_blend import LayerBlender
from lpd.inference.prototype_layers import MapLayer
from lpd.inference.store import ResultStore
from lpd.inference.wanted import within
from lpd.inference.windows import Panel
from lpd.inference.writer import PanelWriter


class PrototypeWriter:
    """Takes windows' maps before the blender of the mask does: what readers are told of is there with all its maps.

    Maps are stored as far as the mask in ``plan.wanted`` depends on them. Pixels are known by the maps one cell beyond
    tissue, gates by all that windows see.

    Attributes:
        layers: to keep, in the order of :meth:`add`.
    """

    def __init__(
        self, band: Band, layers: Sequence[MapLayer], device: torch.device, store: ResultStore, tissue: PanelWriter
    ) -> None:
        """Wait for the first window.

        Args:
            band: its panels come in order.
            layers: to keep, in the order of :meth:`add`.
            device: where windows' maps lie.
            store: that has room for them.
            tissue: knows where there is tissue.
        """
        self._store, self._band, self._tissue = store, band, tissue
        self.layers = layers
        self._blenders = [LayerBlender(band.plan, layer, device, partial(self._write, layer)) for layer in layers]

    def add(self, panel: Panel, window: Box, maps: Sequence[Tensor]) -> None:
        """Add one window's (channels, w / stride, w / stride) logits of each layer, without the margin.

        Raises:
            ResultError: the disk is full or cannot be written.
        """
        for blender, logits in zip(self._blenders, maps, strict=True):
            blender.add(panel, window, logits)

    def finish(self) -> None:
        """No window comes any more.

        Raises:
            ResultError: the disk is full or cannot be written.
        """
        for blender in self._blenders:
            blender.finish()

    def _write(self, layer: MapLayer, panel: Box, blended: Tensor) -> None:
        stride = layer.stride_px
        box = _cells(panel, stride).intersection(self._wanted(layer))
        if not box:
            return
        rows, columns = within(box, _cells(panel, stride))
        stored = blended[:, rows, columns].cpu().numpy()
        if layer.kind != "gate":
            near = self._near_tissue(_pixels(box, stride), stride)
            stored[:, ~near] = NOT_COMPUTED
        where = self._band.wanted.near(_pixels(box, stride), stride, self._margin(layer))
        if ((stored != NOT_COMPUTED) & where).any():
            self._store.write_layer(layer, box.x0, box.y0, stored, where)

    def _wanted(self, layer: MapLayer) -> Box:
        """The layer's cells that the mask is made of, see :mod:`lpd.inference.recomputing`; all of them complete.

        Windows begin and end at whole cells: one that shares a pixel with a cell holds all of it.
        """
        height, width = self._store.layer_shape(layer)
        around = self._band.plan.wanted.grown(self._margin(layer))
        return _cells(around, layer.stride_px).intersection(Box(0, 0, width, height))

    def _margin(self, layer: MapLayer) -> int:
        """How far from a wanted pixel the mask there depends on the layer; windows are there as far as gates reach."""
        reach = (self._band.plan.grid.gate_reach + 1) * CELL_PX
        return reach if layer.kind == "gate" else min(reach, CELL_PX // 2 + layer.stride_px)

    def _near_tissue(self, box: Box, stride: int) -> npt.NDArray[np.bool_]:
        """(h, w) which of a box's cells, or of those that they touch, hold tissue."""
        tissue = self._tissue.tissue(box.grown(stride))
        held = tissue.reshape(tissue.shape[0] // stride, stride, -1, stride).any(axis=(1, 3))
        near = functional.max_pool2d(torch.from_numpy(held)[None].to(torch.float32), 3, 1)[0]
        return np.asarray(near.numpy() > 0)


def _cells(box: Box, stride: int) -> Box:
    """The cells that share a pixel with a box of mask pixels."""
    return Box(box.x0 // stride, box.y0 // stride, -(-box.x1 // stride), -(-box.y1 // stride))


def _pixels(cells: Box, stride: int) -> Box:
    """The mask pixels of a box of cells."""
    return Box(*(stride * n for n in (cells.x0, cells.y0, cells.x1, cells.y1)))
