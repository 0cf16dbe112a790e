"""StandIn: a backend whose network costs nothing, so that all that is left of a run is what it spends beside one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from lpd.inference.adapting import Window
from lpd.inference.backend import Backend, any_size
from lpd.inference.meta import CELL_PX
from lpd.inference.prototype_layers import MapLayer, PrototypeMaps
from lpd.inference.settings import BackendName
from lpd.inference.trials import Tried
from lpd.model.header import CheckpointInfo

_PATCHES = 8


class StandIn:
    """Answers every window with the same smooth patches of all classes and prototypes."""

    def __init__(self, info: CheckpointInfo) -> None:
        self.info = info
        self.name: BackendName = "torch"
        self.device = torch.device("cpu")
        self.any_size = any_size(info)
        self.alternatives: tuple[BackendName, ...] = ()
        self.tried = Tried()
        self._answers: dict[tuple[int, int, int], Tensor] = {}

    def running(self, name: BackendName) -> Backend:
        return self

    def logits(self, windows: npt.NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        classes = self.info.classes.count
        maps = self._patches(windows, 2 * classes, CELL_PX)
        return maps[:, :classes], maps[:, classes:]

    def _patches(self, windows: npt.NDArray[np.uint8], channels: int, stride_px: int) -> Tensor:
        key = count, channels, side = windows.shape[0], channels, windows.shape[1] // stride_px
        if key not in self._answers:
            shape = (count, channels, _PATCHES, _PATCHES)
            patches = 5 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
            self._answers[key] = functional.interpolate(patches, (side, side), mode="bilinear")
        return self._answers[key]

    def planned_maps(self, *, adapt: bool) -> PrototypeMaps:
        count, reach = self.info.model.prototype_count, self.info.input.tile_px // (2 * CELL_PX)
        layers = MapLayer("fused", "pixel", count, 8, 20.0), MapLayer("gate", "gate", count, 32, 20.0)
        per_class = self.info.model.prototypes_per_class
        return PrototypeMaps(per_class, "mean", self.info.calibration, reach, layers)

    def logits_and_maps(
        self, windows: npt.NDArray[np.uint8], layers: Sequence[MapLayer]
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        pixel, presence = self.logits(windows)
        return pixel, presence, tuple(self._patches(windows, m.channels, m.stride_px) for m in layers)

    def adapted(self, windows: Iterable[Window]) -> Backend | None:
        return None
