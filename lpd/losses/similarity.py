"""L_sim: what a prototype marks should look like the prototype, and what it leaves out should not (InfoNCE)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from lpd.errors import ShapeError

TEMPERATURE = 0.07


def similarity_loss(foreground_margins: Tensor, background_margins: Tensor) -> tuple[Tensor, Tensor]:
    """``L_FG = mean softplus(−d(u_FG))`` and ``L_BG = mean softplus(+d(u_BG))`` over the selected pairs.

    softplus(−d) is the InfoNCE loss of the pair's own prototype against its negatives.

    Args:
        foreground_margins: (N,) :func:`similarity_margins` of the images masked to each prototype's CAM.
        background_margins: (N,) of the same images with the CAM masked out.

    Returns:
        (L_FG, L_BG), scalars, at least 0; both 0 without pairs.
    """
    return _mean(functional.softplus(-foreground_margins)), _mean(functional.softplus(background_margins))


def similarity_margins(
    embeddings: Tensor,
    prototypes: Tensor,
    pair_prototypes: Tensor,
    *,
    prototypes_per_class: int,
    temperature: float = TEMPERATURE,
    exclude_same_class: bool = True,
) -> Tensor:
    """``d(u) = l_m − logsumexp_{j ∈ negatives(m)} l_j`` with ``l_j = cos(u, p_j) / τ``.

    Args:
        embeddings: (N, D) of the masked images, by the frozen image tower.
        prototypes: (M, D) in the tower's space, M = C · K class-major.
        pair_prototypes: (N,) int64, the prototype m of each pair.
        prototypes_per_class: K.
        temperature: τ.
        exclude_same_class: a prototype's siblings are no negatives, since pushing them apart fights specialisation;
            False is the official code's behaviour.

    Returns:
        (N,) fp32 (or fp64) even under autocast.

    Raises:
        ShapeError: shapes do not fit, or no prototype is left as a negative (one class only).
    """
    if (
        embeddings.ndim != 2
        or embeddings.shape[1:] != prototypes.shape[1:]
        or pair_prototypes.shape != embeddings.shape[:1]
    ):
        raise ShapeError(
            f"embeddings {tuple(embeddings.shape)}, prototypes {tuple(prototypes.shape)} and pairs "
            f"{tuple(pair_prototypes.shape)} are not (N, D), (M, D) and (N,)"
        )
    group = prototypes_per_class if exclude_same_class else 1
    if len(prototypes) <= group:
        raise ShapeError(f"{len(prototypes)} prototypes of one class leave no negatives: switch L_sim off")
    with torch.autocast(embeddings.device.type, enabled=False):
        logits = _unit(embeddings) @ _unit(prototypes).T / temperature
    everyone = torch.arange(len(prototypes), device=logits.device)
    blocked = everyone // group == (pair_prototypes // group)[:, None]
    own = logits.gather(1, pair_prototypes[:, None]).squeeze(1)
    return own - logits.masked_fill(blocked, float("-inf")).logsumexp(1)


def _unit(vectors: Tensor) -> Tensor:
    raised = vectors.to(torch.promote_types(vectors.dtype, torch.float32))
    return functional.normalize(raised, dim=1, eps=1e-6)


def _mean(values: Tensor) -> Tensor:
    return values.sum() / max(1, values.numel())
