"""Backend: what turns a batch of windows into raw logits; torch in fp32 is the reference for all others."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from lpd.errors import CheckpointError
from lpd.inference.adapting import Window
from lpd.inference.blend import mean_around
from lpd.inference.devices import choose_device
from lpd.inference.meta import CELL_PX
from lpd.inference.prototype_layers import MapLayer, PrototypeMaps
from lpd.inference.prototype_maps import layer_logits, planned_maps
from lpd.inference.runners import REFERENCE, Runner, alternatives, make_runner
from lpd.inference.settings import BackendName, DeviceName, largest_window_px
from lpd.inference.trials import Tried
from lpd.model.adaptation import PicturePrototypes, PictureSample
from lpd.model.checkpoint import load_checkpoint
from lpd.model.header import CheckpointInfo
from lpd.model.inputs import to_network_input
from lpd.model.network import LPDNet, LPDOutput, sees_any_size
from lpd.model.scoring import dense_maps


class Backend(Protocol):
    """Runs one checkpoint.

    Attributes:
        info: the checkpoint.
        name: how it is run; ``torch``, PyTorch in fp32, is the reference.
        device: where the logits lie.
        any_size: whether it sees a picture alike in windows larger than the tiles that it was trained on.
        tried: what slides have shown of its ways; all those that share the network have the same.
    """

    tried: Tried
    info: CheckpointInfo
    name: BackendName
    device: torch.device
    any_size: bool

    @property
    def alternatives(self) -> tuple[BackendName, ...]:
        """Other ways that may be quicker here."""

    def running(self, name: BackendName) -> Backend:
        """The same checkpoint, run in another way; it shares everything with this one.

        Raises:
            ConfigError: this machine cannot run it so.
        """

    def logits(self, windows: npt.NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        """Raw logits of (B, w, w, 3) uint8 RGB windows: pixel and presence, both (B, C, w/4, w/4), fp32.

        Raises:
            CheckpointError: the network answers with something that is no number.
        """

    def planned_maps(self, *, adapt: bool) -> PrototypeMaps:
        """The maps that a segmentation can keep; if ``adapt``, with the correction by the slide's own prototypes."""

    def logits_and_maps(
        self, windows: npt.NDArray[np.uint8], layers: Sequence[MapLayer]
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """As :meth:`logits`, and (B, channels, w / stride, w / stride) raw logits of each layer.

        Raises:
            CheckpointError: the network answers with something that is no number.
            ValueError: a correction is asked for where there is none.
        """

    def adapted(self, windows: Iterable[Window]) -> Backend | None:
        """Another one whose pixel logits are corrected by prototypes of one slide, see :mod:`lpd.model.adaptation`.

        Args:
            windows: of the slide, each (w, w, 3) uint8 RGB with (w, w) where it shows tissue.

        Returns:
            None if they show no tissue, or surely fewer than two classes.

        Raises:
            CheckpointError: the network answers with something that is no number.
        """


class NetworkBackend:
    """A network whose encoder runs in one of several ways; all else is computed by PyTorch in fp32.

    Attributes:
        name: the way, see :mod:`lpd.inference.runners`.
        prototypes: of the slide that it is adapted to, None as loaded.
    """

    def __init__(self, network: LPDNet, info: CheckpointInfo, device: torch.device) -> None:
        self.info = info
        self.device = device
        self.name: BackendName = REFERENCE
        self.prototypes: PicturePrototypes | None = None
        self.tried = Tried()
        self.any_size = any_size(info)
        self._network = network.to(device).to(memory_format=torch.channels_last).eval()
        self._runners: dict[BackendName, Runner] = {}
        self._runner = self._made(REFERENCE)

    @property
    def alternatives(self) -> tuple[BackendName, ...]:
        return alternatives(self.device)

    def running(self, name: BackendName) -> NetworkBackend:
        other = copy.copy(self)
        other.name, other._runner = name, self._made(name)
        return other

    def logits(self, windows: npt.NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        pixel, presence, _ = self.logits_and_maps(windows, ())
        return pixel, presence

    def planned_maps(self, *, adapt: bool) -> PrototypeMaps:
        return planned_maps(self._network, self.info, adapt=adapt)

    def logits_and_maps(
        self, windows: npt.NDArray[np.uint8], layers: Sequence[MapLayer]
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        side, calibration = windows.shape[1], self.info.calibration
        size = (side // CELL_PX,) * 2
        with torch.inference_mode():
            output = self._seen(windows)
            pixel, presence = dense_maps(output, calibration, size)
            if self.prototypes is not None:
                pixel = pixel + self.prototypes.correction(output, size)
            maps = tuple(layer_logits(layer, output, calibration, side, self.prototypes) for layer in layers)
        return pixel, presence, maps

    def adapted(self, windows: Iterable[Window]) -> NetworkBackend | None:
        sample, reach = PictureSample(self.info.calibration), self.info.input.tile_px // (2 * CELL_PX)
        with torch.inference_mode():
            for pixels, tissue in windows:
                output = self._seen(pixels[None])
                size = (len(pixels) // CELL_PX,) * 2
                presence = dense_maps(output, self.info.calibration, size)[1][0]
                known = torch.ones(size, dtype=torch.bool, device=self.device)
                border = (reach,) * 4
                gate = mean_around(functional.pad(presence, border), functional.pad(known, border), reach)
                sample.add(output, gate[None], torch.from_numpy(tissue)[None].to(self.device))
            found = sample.prototypes()
        if found is None:
            return None
        other = copy.copy(self)
        other.prototypes = found
        return other

    def _made(self, name: BackendName) -> Runner:
        if name not in self._runners:  # which all copies share, so that nothing is translated twice
            self._runners[name] = make_runner(name, self._network.encoder, self.device)
        return self._runners[name]

    def _seen(self, windows: npt.NDArray[np.uint8]) -> LPDOutput:
        images = to_network_input(torch.from_numpy(windows).to(self.device), self.info.input)
        output = self._network.from_maps(self._runner(images))
        if not _finite(output) and self.name != REFERENCE:  # half precision may overflow where fp32 does not
            output = self._network.from_maps(self._made(REFERENCE)(images))
        if not _finite(output):
            raise CheckpointError(
                f"{self.info.path} answers with values that are no numbers: train it again at a lower learning rate"
            )
        return output


def _finite(output: LPDOutput) -> bool:
    return all(bool(torch.isfinite(logits).all()) for logits in output.class_logits.values())


def any_size(info: CheckpointInfo) -> bool:
    """Whether a checkpoint's network sees a picture alike in large windows and in its tiles; needs no weights.

    Raises:
        ConfigError: its encoder is unknown here.
    """
    return sees_any_size(info.model, largest_window_px(info.input.tile_px))


def load_backend(checkpoint_path: Path, device: DeviceName) -> Backend:
    """Load a checkpoint where it shall run.

    Raises:
        CheckpointError: the file is missing, damaged or foreign.
        ConfigError: this machine has no such device.
    """
    chosen = choose_device(device)
    network, info = load_checkpoint(checkpoint_path, chosen)
    return NetworkBackend(network, info, chosen)
