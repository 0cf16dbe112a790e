"""Prototypes adapted to the picture: what a class looks like here corrects where the network puts it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from lpd.config import Settings
from lpd.errors import ShapeError
from lpd.model.cam import at_least_float32
from lpd.model.network import LPDOutput


@dataclass(frozen=True)
class AdaptationSettings(Settings):
    """How far a picture's own prototypes are trusted.

    Attributes:
        gain: logits that a cosine of 1 with the adapted prototype adds; 0 leaves everything as it is.
        iterations: how often prototypes are taken anew from the corrected maps.
        presence: a class that reaches this probability nowhere has no prototype here, and gets no correction but the
            lowest.
        sharpness: power of the probabilities that pixels are weighed by; larger listens to sure pixels only.
    """

    gain: float = 10.0
    iterations: int = 4
    presence: float = 0.6
    sharpness: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_bounds({"gain": (0, 1000), "iterations": (1, 100), "presence": (0, 1), "sharpness": (0, 100)})


@torch.no_grad()
def adapted_logits(decision: Tensor, output: LPDOutput, settings: AdaptationSettings | None = None) -> Tensor:
    """Class logits corrected by prototypes of the picture's own, as in a few steps of soft k-means.

    The prototypes that were learnt stand for all pictures; stain, thickness and scanner move a picture's features away
    from them together. So each class's prototype is taken anew from the picture, ``q_c = Σ_n p_c(n)^r f̂(n)`` with the
    class's probabilities p and unit features f̂, and ``gain · cos(f(n), q_c)`` is added to the logits; the corrected
    ones give better probabilities, and so on. Cosines are means over all scales but the deepest, whose pixels see most
    of the picture. (Image-specific prototypes in training: Chen et al., CVPR 2022; here nothing is trained.)

    Args:
        decision: (B, C, H, W) logits of the classes, gated, such that their softmax says what a pixel shows.
        output: of the network for these B pictures.
        settings: the usual ones if None.

    Returns:
        (B, C, H, W), fp32 (or fp64).

    Raises:
        ShapeError: the logits are not of the output's pictures.
    """
    settings = settings or AdaptationSettings()
    if decision.ndim != 4 or len(decision) != len(output.class_logits[output.deepest]):
        raise ShapeError(
            f"decision logits {tuple(decision.shape)} are not (B, C, H, W) of the "
            f"{len(output.class_logits[output.deepest])} pictures that the network saw"
        )
    scales = sorted(output.features)[:-1] or [output.deepest]
    size = output.features[scales[0]].shape[2:]
    decision = at_least_float32(decision)
    features = [_unit_maps(output.features[scale], size) for scale in scales]
    start = functional.interpolate(decision, size, mode="area")
    cosines = _cosines(start, features, settings)
    for _ in range(settings.iterations - 1):
        cosines = _cosines(start + settings.gain * cosines, features, settings)
    correction = functional.interpolate(cosines, decision.shape[2:], mode="bilinear", align_corners=False)
    return decision + settings.gain * correction


def _unit_maps(features: Tensor, size: torch.Size) -> Tensor:
    resized = functional.interpolate(at_least_float32(features), size, mode="bilinear", align_corners=False)
    return functional.normalize(resized, dim=1)


def _cosines(logits: Tensor, features: list[Tensor], settings: AdaptationSettings) -> Tensor:
    """(B, C, h, w) cosine of each pixel with each class's prototype in this picture; -1 for a class without one."""
    probabilities = logits.softmax(1)
    present = probabilities.amax((2, 3)) > settings.presence
    weights = probabilities**settings.sharpness
    by_scale = []
    for maps in features:
        prototypes = functional.normalize(torch.einsum("bchw,bdhw->bcd", weights, maps), dim=2)
        by_scale.append(torch.einsum("bcd,bdhw->bchw", prototypes, maps))
    return torch.stack(by_scale).mean(0).where(present[:, :, None, None], -1.0)
