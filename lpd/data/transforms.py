"""Augmentation of tile batches: the eight symmetries of the square and mild jitter of stain and brightness."""

from __future__ import annotations

import torch
from torch import Tensor

from lpd.errors import ShapeError
from lpd.recipe.config import AugmentConfig

# Absorption of haematoxylin, eosin and a residual per RGB channel (Ruifrok & Johnston 2001), rows of unit length.
_STAINS = torch.tensor([[0.650, 0.704, 0.286], [0.072, 0.990, 0.105], [0.268, 0.570, 0.776]], dtype=torch.float64)


def augment(
    tiles: Tensor, config: AugmentConfig, generator: torch.Generator, *, first: int = 0, batch: int | None = None
) -> Tensor:
    """Vary each tile of a batch, or of a part of one, on its own: a tile is varied alike in every part.

    Args:
        tiles: (B, H, H, 3) uint8 RGB, on any device.
        config: what to vary.
        generator: source of all randomness, on the CPU; equal states vary alike on all devices, within rounding.
        first: where in the batch the tiles begin.
        batch: how many tiles it has; None if these are all.

    Returns:
        (B, H, H, 3) uint8 RGB.

    Raises:
        ShapeError: the tiles are not square uint8 RGB.
    """
    if tiles.ndim != 4 or tiles.shape[3] != 3 or tiles.shape[1] != tiles.shape[2] or tiles.dtype != torch.uint8:
        raise ShapeError(f"tiles are {tuple(tiles.shape)} {tiles.dtype}, not (B, H, H, 3) uint8 RGB")
    varied, drawn, own = tiles, batch or len(tiles), slice(first, first + len(tiles))
    if config.symmetries:
        turns = torch.randint(0, 8, (drawn,), generator=generator)[own].tolist()
        varied = torch.stack([_symmetry(tile, turn) for tile, turn in zip(tiles, turns, strict=True)])
    if config.stain or config.brightness:
        gains = 1 + config.stain * _symmetric(generator, drawn, 3)[own]
        shift = config.brightness * _symmetric(generator, drawn, 1)[own]
        varied = _change_stain(varied, gains, shift)
    return varied


def _symmetry(tile: Tensor, turn: int) -> Tensor:
    turned = torch.rot90(tile, turn % 4, dims=(0, 1))
    return turned.flip(1) if turn >= 4 else turned


def _change_stain(tiles: Tensor, gains: Tensor, shift: Tensor) -> Tensor:
    """Beer–Lambert: multiply stain concentrations where they act linearly, in optical density, and add to it.

    Args:
        tiles: (B, H, H, 3) uint8 RGB.
        gains: (B, 3), of each stain.
        shift: (B, 1), of every channel alike.
    """
    # density (pixels, RGB) = concentration @ stains, so scaling the concentrations is one 3 × 3 matrix per tile.
    mix = (torch.linalg.inv(_STAINS) @ (gains.double()[:, :, None] * _STAINS)).float().to(tiles.device)
    shift = shift.to(tiles.device)
    density = -torch.log(tiles.flatten(1, 2).float().clamp_min(1) / 255)
    changed = torch.baddbmm(shift[:, :, None], density, mix)
    return (torch.exp(-changed) * 255).round_().clamp_(0, 255).to(torch.uint8).view_as(tiles)


def _symmetric(generator: torch.Generator, count: int, width: int) -> Tensor:
    return torch.rand(count, width, generator=generator) * 2 - 1
