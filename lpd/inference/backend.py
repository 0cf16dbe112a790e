"""Backend: what turns a batch of windows into raw logits; torch in fp32 is the reference for all others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lpd.config import InputSpec
from lpd.errors import CheckpointError, ConfigError
from lpd.inference.meta import CELL_PX
from lpd.inference.settings import DeviceName, largest_window_px
from lpd.model.checkpoint import load_checkpoint
from lpd.model.header import CheckpointInfo
from lpd.model.inputs import to_network_input
from lpd.model.network import LPDNet, sees_any_size
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


class TorchBackend:
    """The network as PyTorch runs it, in fp32, channels last."""

    def __init__(self, network: LPDNet, info: CheckpointInfo, device: torch.device) -> None:
        self.info = info
        self.device = device
        self.any_size = any_size(info)
        self._network = network.to(device).to(memory_format=torch.channels_last).eval()

    def logits(self, windows: npt.NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        side = windows.shape[1] // CELL_PX
        images = to_network_input(torch.from_numpy(windows).to(self.device), self._spec)
        with torch.inference_mode():
            pixel, presence = dense_maps(self._network(images), self.info.calibration, (side, side))
        if not bool(torch.isfinite(pixel).all() & torch.isfinite(presence).all()):
            raise CheckpointError(
                f"{self.info.path} answers with values that are no numbers: train it again at a lower learning rate"
            )
        return pixel, presence

    @property
    def _spec(self) -> InputSpec:
        return self.info.input


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
