"""L_div: the K prototypes of a class should each look at other pixels of it (Jeffreys divergence, after ProtoSeg)."""

from __future__ import annotations

import torch
from torch import Tensor

from lpd.errors import ShapeError

TEMPERATURE = 0.07
PSEUDO_THRESHOLD = 0.2
_MIN_PIXELS = 2  # a distribution over one pixel is the same for every prototype


def diversity_loss(cosines: Tensor, masks: Tensor, *, temperature: float = TEMPERATURE, halved: bool = False) -> Tensor:
    """``L_div = mean_b mean_c mean_{i<j} exp(−J(v_i, v_j))``, 1 for identical prototypes, towards 0 for disjoint ones.

    The mean over b runs over all images: one for which :func:`prototype_similarity` knows nothing contributes 0.

    Args and errors are those of :func:`prototype_similarity`.

    Returns:
        Scalar in [0, 1], computed in fp32 (or fp64) even under autocast: bf16 errs by 20 %.
    """
    similarity, _ = prototype_similarity(cosines, masks, temperature=temperature, halved=halved)
    return similarity.sum() / max(1, len(similarity))


def prototype_similarity(
    cosines: Tensor, masks: Tensor, *, temperature: float = TEMPERATURE, halved: bool = False
) -> tuple[Tensor, Tensor]:
    """``mean_c mean_{i<j} exp(−J(v_i, v_j))`` of each image, and whether the image says anything about it.

    Over the pixels Ω of class c in image b, ``v_k = softmax_{n ∈ Ω}(cos(f_n, p_k) / τ)`` and
    ``J(v, u) = KL(v ‖ u) + KL(u ‖ v)``. The mean over c runs over the classes that have at least 2 pixels in the image.

    Args:
        cosines: (B, C, K, h, w) in [-1, 1].
        masks: (B, C, h, w) bool, Ω of each class; see :func:`pseudo_masks`.
        temperature: τ.
        halved: J is the mean of the two KL divergences instead of their sum.

    Returns:
        similarity: (B,) in [0, 1], fp32 (or fp64) even under autocast; 0 where nothing is known.
        known: (B,) bool, False for an image without such a class, and for all if K = 1.

    Raises:
        ShapeError: the masks do not fit the cosines.
    """
    if cosines.ndim != 5 or masks.dtype != torch.bool or masks.shape != cosines[:, :, 0].shape:
        raise ShapeError(
            f"cosines {tuple(cosines.shape)} and masks {tuple(masks.shape)} {masks.dtype} are not (B, C, K, h, w) "
            f"and (B, C, h, w) bool"
        )
    with torch.autocast(cosines.device.type, enabled=False):
        similarity = torch.exp(-jeffreys_divergences(cosines, masks, temperature) / (2 if halved else 1))
    # The diagonal is 1 by definition (J_ii = 0) and each pair is there twice.
    prototypes = cosines.shape[2]
    pairs = max(1, prototypes * (prototypes - 1))
    per_class = (similarity.sum((2, 3)) - similarity.diagonal(dim1=2, dim2=3).sum(2)) / pairs
    counts = ((masks.sum((2, 3)) >= _MIN_PIXELS) & (prototypes > 1)).to(per_class.dtype)
    return (per_class * counts).sum(1) / counts.sum(1).clamp_min(1), counts.sum(1) > 0


def jeffreys_divergences(cosines: Tensor, masks: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """J between the attention distributions of each class's prototypes, without logarithms.

    With logits l = cos / τ, p = softmax over Ω and ``G = p · lᵀ``: ``J_ij = G_ii + G_jj − G_ij − G_ji``, because
    J is ⟨p_i − p_j, log p_i − log p_j⟩ and the normalisers cancel against Σ(p_i − p_j) = 0.

    Args:
        cosines: (B, C, K, h, w).
        masks: (B, C, h, w) bool.
        temperature: τ.

    Returns:
        (B, C, K, K), symmetric, at least 0 within rounding; all 0 where a class has fewer than 2 pixels.
    """
    inside = masks.flatten(2).unsqueeze(2)
    logits = cosines.to(torch.promote_types(cosines.dtype, torch.float32)).flatten(3) / temperature
    attention = logits.masked_fill(~inside, torch.finfo(logits.dtype).min).softmax(3) * inside
    # Only differences inside Ω matter; centring keeps them small, so fp32 is exact enough.
    count = inside.sum(3, keepdim=True).clamp_min(1)
    centred = (logits - (logits * inside).sum(3, keepdim=True) / count) * inside
    gram = attention @ centred.transpose(2, 3)
    own = gram.diagonal(dim1=2, dim2=3)
    divergence: Tensor = own.unsqueeze(3) + own.unsqueeze(2) - gram - gram.transpose(2, 3)
    return divergence


@torch.no_grad()
def pseudo_masks(class_logits: Tensor, labels: Tensor, threshold: float = PSEUDO_THRESHOLD) -> Tensor:
    """Pixels that a class of the image label may claim: Ω for :func:`diversity_loss`, in training only.

    Each class map is cut at 0 and divided by its maximum in the image; classes that the label excludes get nothing. A
    pixel goes to the class with the highest value, or to none if that is at most the threshold.

    Args:
        class_logits: (B, C, h, w) raw.
        labels: (B, C), above 0 where the class is present.
        threshold: in [0, 1), of the normalised value.

    Returns:
        (B, C, h, w) bool, at most one class per pixel.

    Raises:
        ShapeError: the labels are not (B, C).
    """
    if class_logits.ndim != 4 or labels.shape != class_logits.shape[:2]:
        raise ShapeError(
            f"class logits {tuple(class_logits.shape)} and labels {tuple(labels.shape)} do not share (B, C)"
        )
    heat = class_logits.to(torch.promote_types(class_logits.dtype, torch.float32)).clamp_min(0)
    peak = heat.amax((2, 3), keepdim=True).clamp_min(torch.finfo(heat.dtype).tiny)
    heat = heat / peak * (labels > 0)[:, :, None, None]
    best, winner = heat.max(1, keepdim=True)
    classes = torch.arange(heat.shape[1], device=heat.device)[None, :, None, None]
    return (winner == classes) & (best > threshold)
