"""Backend: what turns a batch of windows into raw logits; torch in fp32 is the reference for all others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from lpd.errors import CheckpointError, ConfigError
from lpd.inference.adapting import Window
from lpd.inference.blend import mean_around
from lpd.inference.meta import CELL_PX
from lpd.inference.settings import DeviceName, largest_window_px
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
        device: where the logits lie.
        any_size: whether it sees a picture alike in windows larger than the tiles that it was trained on.
    """

    info: CheckpointInfo
    device: torch.device
    any_size: bool

    def logits(self, windows: npt.NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        """Raw logits of (B, w, w, 3) uint8 RGB windows: pixel and presence, both (B, C, w/4, w/4), fp32.

        Raises:
            CheckpointError: the network answers with something that is no number.
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


class TorchBackend:
    """The network as PyTorch runs it, in fp32, channels last.

    Attributes:
        prototypes: of the slide that it is adapted to, None as loaded.
    """

    def __init__(
        self, network: LPDNet, info: CheckpointInfo, device: torch.device, prototypes: PicturePrototypes | None = None
    ) -> None:
        self.info = info
        self.device = device
        self.prototypes = prototypes
        self.any_size = any_size(info)
        self._network = network.to(device).to(memory_format=torch.channels_last).eval()

    def logits(self, windows: npt.NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        size = (windows.shape[1] // CELL_PX,) * 2
        with torch.inference_mode():
            output = self._seen(windows)
            pixel, presence = dense_maps(output, self.info.calibration, size)
            if self.prototypes is not None:
                pixel = pixel + self.prototypes.correction(output, size)
        return pixel, presence

    def adapted(self, windows: Iterable[Window]) -> TorchBackend | None:
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
        return None if found is None else TorchBackend(self._network, self.info, self.device, found)

    def _seen(self, windows: npt.NDArray[np.uint8]) -> LPDOutput:
        images = to_network_input(torch.from_numpy(windows).to(self.device), self.info.input)
        output: LPDOutput = self._network(images)
        if not all(bool(torch.isfinite(logits).all()) for logits in output.class_logits.values()):
            raise CheckpointError(
                f"{self.info.path} answers with values that are no numbers: train it again at a lower learning rate"
            )
        return output


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
    return TorchBackend(network, info, chosen)


def choose_device(name: DeviceName) -> torch.device:
    """The device of that name; ``auto`` is CUDA, else Apple's MPS, else the CPU.

    Raises:
        ConfigError: this machine has no such device.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if available[kind]))
    if not available[name]:
        raise ConfigError(f"device {name} is not available on this machine: choose --device auto or cpu")
    return torch.device(name)


@contextmanager
def cpu_threads(count: int | None) -> Iterator[None]:
    """Let torch use ``count`` CPU threads within the block; None leaves its own choice."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
