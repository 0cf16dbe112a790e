"""PAMR: probabilities flow between nearby pixels of like colour (Araslanov and Roth, CVPR 2020)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from lpd.config import Settings
from lpd.errors import ConfigError
from lpd.refinement.fitting import fit

_MAX_ITERATIONS = 1000
_MAX_DILATION = 512
# Lets a flat neighbourhood, whose deviation is 0, average its neighbours evenly.
_SMALLEST_DEVIATION = 1e-8


@dataclass(frozen=True)
class PamrSettings(Settings):
    """How far and how often probabilities flow.

    Attributes:
        iterations: 0–1000; 0 leaves the probabilities as they are.
        dilations: distances in px, each from 1 to 512, of the rings of 8 neighbours.
        contrast: κ; colour differences count in units of κ times the local standard deviation; 0.001–100. Smaller keeps
            to stronger likeness.
    """

    iterations: int = 10
    dilations: tuple[int, ...] = (1, 2, 4, 8, 12, 24)
    contrast: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_bounds({"iterations": (0, _MAX_ITERATIONS), "contrast": (0.001, 100)})
        if not self.dilations or not all(1 <= d <= _MAX_DILATION for d in self.dilations):
            raise ConfigError(f"PAMR dilations {self.dilations} must be one or more, each from 1 to {_MAX_DILATION} px")

    @property
    def reach_px(self) -> int:
        """How far away a pixel can be that has a say: probabilities take a step of the largest dilation in each
        iteration, and the weights of the last step look at colours one dilation around, no further."""
        return self.iterations * max(self.dilations)


@torch.no_grad()
def refine_pamr(images: Tensor, probabilities: Tensor, settings: PamrSettings | None = None) -> Tensor:
    """Replace each pixel's probabilities by its neighbours', weighted by likeness of colour, again and again.

    ``p ← Σ_n α_n p_n`` with ``α = softmax_n(−mean_rgb |I − I_n| / (κ s))``, n running over the 8 neighbours at each
    dilation and s being each channel's standard deviation over them and the pixel itself. That is the authors' code;
    their text squares s and has no κ. Beyond the border the nearest pixel counts, as there.

    A pixel is no neighbour of its own, hence even a flat image is blurred. Memory: one (B, 8 · dilations, H, W) map.

    Args:
        images: (B, 3, H, W) RGB in [0, 1].
        probabilities: (B, C, h, w) or any scores to be averaged; resized bilinearly to (H, W).
        settings: the paper's if None.

    Returns:
        (B, C, H, W) between the smallest and the largest input, without gradient; fp32, or fp64 if an input is. Where
        inputs sum to 1 over C, so do outputs.

    Raises:
        ShapeError: see :func:`lpd.refinement.fitting.fit`.
    """
    settings = settings or PamrSettings()
    images, probabilities = fit(images, probabilities)
    if settings.iterations == 0:
        return probabilities
    affinity = _affinity(images, settings)
    for _ in range(settings.iterations):
        refined = torch.zeros_like(probabilities)
        for index, neighbour in enumerate(_neighbours(probabilities, settings)):
            refined.addcmul_(affinity[:, index, None], neighbour)
        probabilities = refined
    return probabilities


def _affinity(images: Tensor, settings: PamrSettings) -> Tensor:
    """(B, 8 · dilations, H, W) weights that sum to 1 over the neighbours."""
    scale = settings.contrast * _local_deviation(images, settings) + _SMALLEST_DEVIATION
    batch, _, height, width = images.shape
    logits = images.new_empty(batch, 8 * len(settings.dilations), height, width)
    for index, neighbour in enumerate(_neighbours(images, settings)):
        logits[:, index] = -((images - neighbour).abs() / scale).mean(1)
    return logits.softmax(1)


def _local_deviation(images: Tensor, settings: PamrSettings) -> Tensor:
    """(B, 3, H, W) unbiased standard deviation over the neighbours of all dilations and, once for each, the pixel."""
    count = 9 * len(settings.dilations)
    # Differences from the pixel itself keep the squares small; in them the pixel counts as 0.
    total, squares = torch.zeros_like(images), torch.zeros_like(images)
    for neighbour in _neighbours(images, settings):
        difference = neighbour - images
        total += difference
        squares.addcmul_(difference, difference)
    return ((squares - total.square() / count) / (count - 1)).clamp_min(0).sqrt()


def _neighbours(maps: Tensor, settings: PamrSettings) -> Iterator[Tensor]:
    """Views (B, ·, H, W) of the maps shifted to each neighbour, the border repeated outwards."""
    height, width = maps.shape[2:]
    reach = max(settings.dilations)
    padded = functional.pad(maps, (reach,) * 4, mode="replicate")
    for dilation in settings.dilations:
        for dy in (-dilation, 0, dilation):
            for dx in (-dilation, 0, dilation):
                if dy or dx:
                    top, left = reach + dy, reach + dx
                    yield padded[:, :, top : top + height, left : left + width]
