"""From network output to scores: raw logits that may be blended, and their calibrated, never per-tile, scores."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from lpd.config import Calibration, ModelConfig
from lpd.errors import ShapeError
from lpd.model.cam import at_least_float32
from lpd.model.label_sets import log_class_probabilities
from lpd.model.network import LPDOutput


def dense_logits(output: LPDOutput, calibration: Calibration, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Fuse the scales into one class logit per pixel, and take the deepest scale's mean as the gate.

    For tiles, which are judged one by one; :func:`dense_maps` is for windows of something larger.

    Args:
        output: of the network, for B images.
        calibration: its ``fusion_weights`` pair up with the output's scales, fine to deep.
        size: (h, w) of the pixel logits, rows first as in a tensor's shape.

    Returns:
        pixel: (B, C, h, w) ``Σ_s weight_s · upsample(class_logits_s)``, bilinear.
        gate: (B, C) mean class logit of the deepest scale; what L_cls trains as "is the class in the image?".

    Raises:
        ShapeError: the calibration has another number of scales than the output.
    """
    return _fused(output.class_logits, calibration, size), output.image_scores(output.deepest)


def dense_maps(output: LPDOutput, calibration: Calibration, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The fused pixel logits as :func:`dense_logits` gives them, and the deepest scale's CAM as a map.

    The mean of that map over a tile's area is the gate. Both maps are linear in the CAMs and uncalibrated, so
    overlapping windows may be averaged before the gate is taken and before :func:`log_scores`.

    Returns:
        pixel, presence: (B, C, h, w) each. Arguments and errors are those of :func:`dense_logits`.
    """
    deepest = at_least_float32(output.class_logits[output.deepest])
    return _fused(output.class_logits, calibration, size), resized(deepest, size)


def fused_prototype_logits(output: LPDOutput, calibration: Calibration, size: tuple[int, int]) -> Tensor:
    """Each prototype's logits, fused as :func:`dense_logits` fuses those of classes.

    Their mean over a class's K prototypes is the class's pixel logit, where prototypes are merged by the mean.

    Returns:
        (B, C * K, h, w). Arguments and errors are those of :func:`dense_logits`.
    """
    return _fused(output.prototype_logits, calibration, size)


def _fused(logits: Mapping[int, Tensor], calibration: Calibration, size: tuple[int, int]) -> Tensor:
    scales = sorted(logits)
    if len(scales) != len(calibration.fusion_weights):
        raise ShapeError(f"{len(calibration.fusion_weights)} fusion weights do not pair up with the scales {scales}")
    cams = [at_least_float32(logits[s]) for s in scales]
    weighted = [w * cam for w, cam in zip(calibration.fusion_weights, cams, strict=True) if w]
    by_size: dict[torch.Size, Tensor] = {}
    for cam in weighted:  # resizing is linear: maps of one size are added first and resized once
        by_size[cam.shape[2:]] = by_size[cam.shape[2:]] + cam if cam.shape[2:] in by_size else cam
    fitted = [resized(cam, size) for cam in by_size.values()]
    return torch.stack(fitted).sum(0) if len(fitted) > 1 else fitted[0]


def log_scores(pixel: Tensor, gate: Tensor, calibration: Calibration) -> Tensor:
    """Log of each class's score at each pixel: its probability, given how likely each class is to be there at all.

    See :func:`lpd.model.label_sets.log_class_probabilities`. Scores round to 1; take an argmax, or enlarge, of these.

    Args:
        pixel: (B, C, h, w) raw pixel logits, of any scale of blending.
        gate: (B, C), or (B, C, h, w) where each pixel has its own.
        calibration: gain and bias of both, per class.

    Returns:
        (B, C, h, w) fp32 (or fp64), at most 0; ``exp`` of it sums to the probability that any class is there.

    Raises:
        ShapeError: the shapes do not fit one another or the calibration.
    """
    spread = gate[:, :, None, None] if gate.ndim == 2 else gate
    classes = len(calibration.pixel_gain)
    fits = pixel.ndim == spread.ndim == 4 and pixel.shape[:2] == spread.shape[:2] and pixel.shape[1] == classes
    if not fits or spread.shape[2:] not in (pixel.shape[2:], (1, 1)):
        raise ShapeError(
            f"pixel logits {tuple(pixel.shape)} and gate {tuple(gate.shape)} are not (B, C, h, w) and (B, C) or "
            f"(B, C, h, w) with the calibration's {classes} classes"
        )
    return log_class_probabilities(
        _affine(pixel, calibration.pixel_gain, calibration.pixel_bias),
        _affine(spread, calibration.gate_gain, calibration.gate_bias),
    )


def default_calibration(config: ModelConfig) -> Calibration:
    """The calibration of a network that has none yet: identity.

    L_cls trains mean class logits to be log-odds of presence, so gain 1 and bias 0 are what training itself claims.
    A scale counts as much in the fusion as it did in L_cls.
    """
    ones, zeros = (1.0,) * config.class_count, (0.0,) * config.class_count
    return Calibration(default_fusion_weights(config), ones, zeros, ones, zeros)


def default_fusion_weights(config: ModelConfig) -> tuple[float, ...]:
    """L_cls's scale weights made to sum to 1; equal weights if all are 0."""
    total = sum(config.scale_weights)
    count = len(config.scales)
    return tuple(w / total for w in config.scale_weights) if total > 0 else (1 / count,) * count


def resized(cam: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, C, h, w) maps at another size, bilinear."""
    if cam.shape[2:] == torch.Size(size):
        return cam
    return functional.interpolate(cam, size, mode="bilinear", align_corners=False)


def _affine(values: Tensor, gain: tuple[float, ...], bias: tuple[float, ...]) -> Tensor:
    values = at_least_float32(values)
    per_class = values.new_tensor([gain, bias])[:, None, :, None, None]
    return per_class[0] * values + per_class[1]
