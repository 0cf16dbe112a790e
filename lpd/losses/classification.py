"""L_cls: image-level multi-label classification from the mean class logits of each scale."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from lpd.errors import ShapeError


def classification_loss(image_scores: Sequence[Tensor], labels: Tensor, scale_weights: Sequence[float]) -> Tensor:
    """``L_cls = Σ_s w_s · BCE(σ(score_s), y)``, averaged over images and classes (arXiv 2512.05922).

    Args:
        image_scores: per scale (B, C) raw class logits of whole images.
        labels: (B, C), 1 where a class is present, else 0; values between are soft labels. Any dtype.
        scale_weights: w_s; the paper's are 0, .1, 1, 1 from fine to deep.

    Returns:
        Scalar, at least 0, fp32 or the scores' fp64.

    Raises:
        ShapeError: scores and weights do not pair up, or a score is not (B, C) like the labels.
    """
    if not image_scores or len(image_scores) != len(scale_weights):
        raise ShapeError(f"{len(image_scores)} image scores do not pair up with {len(scale_weights)} scale weights")
    if any(score.shape != labels.shape or score.ndim != 2 for score in image_scores):
        shapes = [tuple(score.shape) for score in image_scores]
        raise ShapeError(f"image scores {shapes} are not all (B, C) like the labels {tuple(labels.shape)}")
    dtype = torch.promote_types(image_scores[0].dtype, torch.float32)
    stacked = torch.stack([score.to(dtype) for score in image_scores])
    targets = labels.to(dtype).expand_as(stacked)
    per_scale = functional.binary_cross_entropy_with_logits(stacked, targets, reduction="none").mean((1, 2))
    return (per_scale * per_scale.new_tensor(scale_weights)).sum()
