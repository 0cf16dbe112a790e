"""Augmentation of tile batches: the eight symmetries of the square and mild jitter of stain and brightness."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lpd.config import InputSpec, Settings
from lpd.errors import ConfigError, ShapeError

# Absorption of haematoxylin, eosin and a residual per RGB channel (Ruifrok & Johnston 2001), rows of unit length.
_STAINS = torch.tensor([[0.650, 0.704, 0.286], [0.072, 0.990, 0.105], [0.268, 0.570, 0.776]], dtype=torch.float64)
_DARKEST = 1 / 255


@dataclass(frozen=True)
class AugmentConfig(Settings):
    """How strongly training tiles are varied; 0 or False switches a part off.

    Attributes:
        symmetries: flips and quarter turns, each of the eight equally likely.
        stain: largest relative change of each stain's concentration.
        brightness: largest change of optical density added to every channel alike.
    """

    symmetries: bool = True
    stain: float = 0.15
    brightness: float = 0.05

    def __post_init__(self) -> None:
        if not 0 <= self.stain < 1 or not 0 <= self.brightness < 1:
            raise ConfigError(f"stain {self.stain} and brightness {self.brightness} must lie in 0 to 1 (below 1)")


def to_tensor(images: npt.NDArray[np.uint8]) -> Tensor:
    """(B, H, W, 3) uint8 RGB → (B, 3, H, W) uint8 tensor."""
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
        raise ShapeError(f"expected uint8 images (B, H, W, 3), got {images.dtype} {images.shape}")
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def normalise(images: Tensor, spec: InputSpec) -> Tensor:
    """Scale (B, 3, H, W) RGB, uint8 or float in 0–1, to what the network was trained on: ``(x - mean) / std``."""
    scaled = images.float() / 255 if images.dtype == torch.uint8 else images
    mean = torch.tensor(spec.mean, device=images.device).view(1, 3, 1, 1)
    std = torch.tensor(spec.std, device=images.device).view(1, 3, 1, 1)
    return (scaled - mean) / std


def augment(images: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Vary each tile of a batch on its own.

    Args:
        images: (B, 3, H, H) uint8 RGB.
        config: what to vary.
        generator: source of all randomness, on the CPU; equal states give equal batches.

    Returns:
        (B, 3, H, H) float32 RGB in 0–1.
    """
    varied = images
    if config.symmetries:
        turns = torch.randint(0, 8, (len(images),), generator=generator).tolist()
        varied = torch.stack([_symmetry(image, turn) for image, turn in zip(images, turns, strict=True)])
    scaled = varied.float() / 255
    if config.stain or config.brightness:
        scaled = _jitter_stain(scaled, config, generator)
    return scaled


def _symmetry(image: Tensor, turn: int) -> Tensor:
    turned = torch.rot90(image, turn % 4, dims=(1, 2))
    return turned.flip(2) if turn >= 4 else turned


def _jitter_stain(images: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Beer–Lambert: change stain concentrations where they act linearly, in optical density."""
    count = len(images)
    gains = 1 + config.stain * _symmetric(generator, count, 3)
    shift = config.brightness * _symmetric(generator, count, 1)
    stains = _STAINS.to(images.dtype)
    # density (pixels, RGB) = concentration @ stains, so scaling the concentrations is one 3×3 matrix per tile.
    mix = torch.linalg.inv(_STAINS).to(images.dtype) @ (gains[:, :, None] * stains)
    mix = mix.to(images.device)
    density = -torch.log(images.clamp_min(_DARKEST))
    changed = torch.einsum("bdhw,bdc->bchw", density, mix) + shift.to(images.device).view(count, 1, 1, 1)
    return torch.exp(-changed).clamp(0, 1)


def _symmetric(generator: torch.Generator, count: int, width: int) -> Tensor:
    return torch.rand(count, width, generator=generator) * 2 - 1
