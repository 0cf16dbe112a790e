"""From uint8 RGB tiles to what the network is fed; training, evaluation and inference all use this one function."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lpd.config import InputSpec
from lpd.errors import ShapeError


def to_network_input(tiles: Tensor | npt.NDArray[np.uint8], spec: InputSpec) -> Tensor:
    """Normalise tiles: ``(x / 255 - mean) / std`` per channel.

    Args:
        tiles: (B, H, W, 3) uint8 RGB, an array or a tensor on any device.
        spec: mean and standard deviation of the checkpoint.

    Returns:
        (B, 3, H, W) float32 on the tiles' device, red in channel 0, laid out channels-last in memory.

    Raises:
        ShapeError: the tiles are not (B, H, W, 3) uint8.
    """
    # torch refuses read-only and mirrored arrays: require copies those and passes the others through.
    pixels = tiles if isinstance(tiles, Tensor) else torch.from_numpy(np.require(tiles, requirements=["C", "W"]))
    if pixels.ndim != 4 or pixels.shape[3] != 3 or pixels.dtype != torch.uint8:
        raise ShapeError(f"tiles are {tuple(pixels.shape)} {pixels.dtype}, not (B, H, W, 3) uint8 RGB")
    mean = torch.tensor(spec.mean, device=pixels.device)
    std = torch.tensor(spec.std, device=pixels.device)
    return pixels.to(torch.float32).mul_(1 / (255 * std)).sub_(mean / std).permute(0, 3, 1, 2)
