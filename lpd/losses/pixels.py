"""L_pix: every pixel of a tile shows one of the classes that the tile's label names."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from lpd.errors import ShapeError

_NEVER = -1e30  # a logit of probability 0, whose gradient is 0 too: that of −∞ would be no number


def pixel_loss(class_logits: Tensor, labels: Tensor) -> Tensor:
    """``L_pix = mean_{b, n} −log Σ_{c ∈ y_b} softmax_c(z_bn)``: learning with partial labels, pixel by pixel.

    L_cls scores means over whole images and leaves open how a pixel's classes compare with one another. Here the
    classes compete for each pixel, and those that the label rules out must lose; among the others it has no opinion.
    An image that shows all classes, or none, contributes 0. (The loss is the one of Jin & Ghahramani 2002 for labels
    of which one is right.)

    Args:
        class_logits: (B, C, h, w) raw.
        labels: (B, C), above 0.5 where a class is present.

    Returns:
        Scalar, at least 0, in fp32 (or fp64) even under autocast.

    Raises:
        ShapeError: the labels do not fit the logits.
    """
    if class_logits.ndim != 4 or labels.shape != class_logits.shape[:2]:
        raise ShapeError(
            f"class logits {tuple(class_logits.shape)} and labels {tuple(labels.shape)} are not (B, C, h, w) and (B, C)"
        )
    with torch.autocast(class_logits.device.type, enabled=False):
        logits = class_logits.to(torch.promote_types(class_logits.dtype, torch.float32))
        present = (labels > 0.5)[:, :, None, None]
        inside = torch.logsumexp(logits.where(present, _NEVER), 1)
        outside = torch.logsumexp(logits.where(~present, _NEVER), 1)
        # −log of the share inside, as a margin: exact also where that share is next to 1 or 0.
        loss = functional.softplus(outside - inside)
        # An image without any class says nothing; without this all its pixels would be wrong whatever they showed.
        return (loss * present.any(1)).mean()
