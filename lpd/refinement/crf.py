"""Fully connected CRF: class boundaries move to the colour edges near them (Krähenbühl and Koltun, NeurIPS 2011)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from lpd.config import Settings
from lpd.refinement.bilateral import BilateralFilter
from lpd.refinement.fitting import fit

# A class that was given no chance at all could never come back; and log 0 is not finite.
_SMALLEST_PROBABILITY = 1e-6
_TRUNCATE = 4  # standard deviations after which the spatial kernel is cut off: 0.03 % of its weight


@dataclass(frozen=True)
class CrfSettings(Settings):
    """The two kernels of the CRF; each weight is the energy a pixel pays if all of its like neighbours differ.

    The defaults are mild ones for tissue tiles of 224 px. Nuclei and stroma fibres have edges too, and a tissue class
    has many colours: refinement can lower scores, so measure with and without.

    Attributes:
        iterations: of mean field; 0–1000; 0 leaves the probabilities as they are.
        spatial_sigma: px, 0.3–1000; how near pixels are that should agree whatever their colour.
        spatial_weight: 0–1000.
        bilateral_sigma_xy: px, 1–10000; how near pixels are that should agree if they look alike.
        bilateral_sigma_rgb: 8-bit levels (255 is the whole range), 1–1000; how much they may differ in colour.
        bilateral_weight: 0–1000.
    """

    iterations: int = 10
    spatial_sigma: float = 3.0
    spatial_weight: float = 3.0
    bilateral_sigma_xy: float = 50.0
    bilateral_sigma_rgb: float = 20.0
    bilateral_weight: float = 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_bounds(
            {
                "iterations": (0, 1000),
                "spatial_sigma": (0.3, 1000),
                "spatial_weight": (0, 1000),
                "bilateral_sigma_xy": (1, 10_000),
                "bilateral_sigma_rgb": (1, 1000),
                "bilateral_weight": (0, 1000),
            }
        )


@torch.no_grad()
def refine_crf(images: Tensor, probabilities: Tensor, settings: CrfSettings | None = None) -> Tensor:
    """Marginals of the CRF by mean field: ``q ← softmax(log p + w_s K_s q + w_b K_b q)``, starting from p.

    Potts compatibility: a pixel pays for each neighbour of another class, by the kernels' weight. Both kernels are
    Gaussian, in position alone (K_s) and in position and colour (K_b), and are normalised symmetrically,
    ``D^{-1/2} K D^{-1/2}`` with D the row sums; a pixel counts among its own neighbours. Both are usual in practice.

    Images are taken one by one, so memory does not grow with B: about 3 KiB a pixel of tissue, twice that where no two
    pixels are alike.

    Args:
        images: (B, 3, H, W) RGB in [0, 1].
        probabilities: (B, C, h, w), not negative; divided by their sum over C, and resized bilinearly to (H, W).
        settings: the defaults if None.

    Returns:
        (B, C, H, W) in [0, 1] summing to 1 over C, without gradient; fp32, or fp64 if an input is.

    Raises:
        ShapeError: see :func:`lpd.refinement.fitting.fit`.
    """
    settings = settings or CrfSettings()
    images, probabilities = fit(images, probabilities)
    probabilities = probabilities.clamp_min(_SMALLEST_PROBABILITY)
    probabilities = probabilities / probabilities.sum(1, keepdim=True)
    if settings.iterations == 0:
        return probabilities
    refined = torch.empty_like(probabilities)
    # Half-precision convolutions have too few digits for sums over a whole neighbourhood.
    with torch.autocast(images.device.type, enabled=False):
        for index, (image, unary) in enumerate(zip(images, probabilities.log(), strict=True)):
            refined[index] = _mean_field(image, unary, settings)
    return refined


def _mean_field(image: Tensor, unary: Tensor, settings: CrfSettings) -> Tensor:
    kernels = _Kernels(image, settings)
    marginals = unary.softmax(0)
    for _ in range(settings.iterations):
        marginals = (unary + kernels.messages(marginals)).softmax(0)
    return marginals


class _Kernels:
    """``w_s K_s + w_b K_b`` of one image (3, H, W); a kernel of weight 0 is not built."""

    def __init__(self, image: Tensor, settings: CrfSettings) -> None:
        self._settings = settings
        ones = torch.ones_like(image[:1])
        if settings.spatial_weight:
            self._taps = _gaussian(settings.spatial_sigma, ones)
            self._spatial_root = self._spatial(ones).rsqrt()
        if settings.bilateral_weight:
            self._colours = BilateralFilter(image, settings.bilateral_sigma_xy, settings.bilateral_sigma_rgb)
            self._bilateral_root = self._bilateral(ones).rsqrt()

    def messages(self, marginals: Tensor) -> Tensor:
        """(C, H, W) how much of its neighbourhood gives each pixel each class."""
        total, settings = torch.zeros_like(marginals), self._settings
        if settings.spatial_weight:
            root = self._spatial_root
            total += settings.spatial_weight * root * self._spatial(root * marginals)
        if settings.bilateral_weight:
            root = self._bilateral_root
            total += settings.bilateral_weight * root * self._bilateral(root * marginals)
        return total

    def _spatial(self, maps: Tensor) -> Tensor:
        radius = len(self._taps) // 2
        rows = functional.conv2d(maps[:, None], self._taps[None, None, None, :], padding=(0, radius))
        return functional.conv2d(rows, self._taps[None, None, :, None], padding=(radius, 0))[:, 0]

    def _bilateral(self, maps: Tensor) -> Tensor:
        return self._colours.filter(maps.flatten(1).T.contiguous()).T.reshape(maps.shape)


def _gaussian(sigma: float, like: Tensor) -> Tensor:
    radius = math.ceil(_TRUNCATE * sigma)
    steps = torch.arange(-radius, radius + 1, device=like.device, dtype=like.dtype)
    return torch.exp(-steps.square() / (2 * sigma**2))
