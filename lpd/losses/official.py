"""L_div as the authors' code computes it, faults included, so that its effect can be measured."""

from __future__ import annotations

import torch
from torch import Tensor

from lpd.losses.diversity import diversity_loss

_BACKGROUND_SCORE = 0.2  # compared with raw logits of ±14


def official_diversity_loss(cosines: Tensor, class_logits: Tensor) -> Tensor:
    """L_div with a softmax of a softmax, which makes all prototypes look alike: 1 within 1e-3, whatever they are.

    The pixels of class c are those where class c − 1 wins, since the official mask counts background first and its
    loss does not: the first class gets the background, the last one nothing. Labels are not asked.

    Args:
        cosines: (B, C, K, h, w), of the *raw* prototypes with the deepest map.
        class_logits: (B, C, h, w) raw, of the same scale.

    Returns:
        Scalar in [0, 1].

    Raises:
        ShapeError: the two do not fit.
    """
    masks = official_masks(class_logits)
    inside = masks.flatten(2).unsqueeze(2)
    with torch.autocast(cosines.device.type, enabled=False):
        raw = cosines.float().flatten(3).masked_fill(~inside, torch.finfo(torch.float32).min)
        attention = (raw.softmax(3) * inside).reshape(cosines.shape)
    return diversity_loss(attention, masks, temperature=1.0)


@torch.no_grad()
def official_masks(class_logits: Tensor) -> Tensor:
    """(B, C, h, w) bool: where the official pseudo-mask, read by the official loss, sees each class."""
    best, winner = class_logits.max(1, keepdim=True)
    counted_from_background = torch.where(best > _BACKGROUND_SCORE, winner + 1, 0)
    classes = torch.arange(class_logits.shape[1], device=class_logits.device)[None, :, None, None]
    return counted_from_background == classes
