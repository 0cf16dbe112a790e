"""CAM arithmetic: cosine maps of prototypes, and their average over the prototypes of a class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from lpd.errors import ShapeError
from lpd.model.grouping import Groups

_SMALLEST_NORM = 1e-6


def prototype_cosines(features: Tensor, prototypes: Tensor) -> Tensor:
    """Cosine similarity of every pixel with every prototype, in fp32 (or fp64) even under autocast.

    Args:
        features: (B, D, h, w), any floating dtype.
        prototypes: (M, D), already adapted to this scale.

    Returns:
        (B, M, h, w) in [-1, 1].

    Raises:
        ShapeError: the two differ in D.
    """
    if features.ndim != 4 or prototypes.ndim != 2 or features.shape[1] != prototypes.shape[1]:
        raise ShapeError(f"features {tuple(features.shape)} and prototypes {tuple(prototypes.shape)} do not share D")
    # Half precision has 3 digits: too few for cosines that are multiplied by 1 / 0.07 and compared with one another.
    with torch.autocast(features.device.type, enabled=False):
        pixels = at_least_float32(features)
        directions: Tensor = torch.nn.functional.normalize(at_least_float32(prototypes), dim=1, eps=_SMALLEST_NORM)
        # Dividing M channels by the pixel norm instead of D features saves a pass over the larger tensor.
        norms = torch.linalg.vector_norm(pixels, dim=1, keepdim=True).clamp_min(_SMALLEST_NORM)
        products = directions @ pixels.flatten(2)
        cosines: Tensor = products.reshape(len(features), -1, *features.shape[2:]) / norms
        return cosines


def pool_prototype_cams(
    prototype_cams: Tensor,
    prototypes_per_class: int,
    merge: Literal["mean", "union"] = "mean",
    groups: Groups = (),
) -> Tensor:
    """Merge the prototype CAMs of each class.

    The mean of K cosines is the product of the pixel's direction with one vector, the mean of the K adapted directions:
    a class is then what lies in one direction, however many prototypes it has. The union, ``log mean exp``, lets each
    of them stand for a part of the class.

    Args:
        prototype_cams: (B, C * K, h, w) cosines or logits; a class's prototypes are adjacent.
        prototypes_per_class: K.
        merge: ``mean`` or ``union``; equal CAMs are merged into the same by both.
        groups: those that count, where some were muted or merged, see :mod:`lpd.model.grouping`.

    Returns:
        (B, C, h, w) class CAMs, without background.

    Raises:
        ShapeError: the channels do not split into groups of K.
    """
    if prototype_cams.ndim != 4 or prototype_cams.shape[1] % prototypes_per_class:
        raise ShapeError(
            f"prototype CAMs {tuple(prototype_cams.shape)} do not split into groups of {prototypes_per_class} channels"
        )
    if groups:
        return torch.stack([_pooled_groups(prototype_cams, own, merge) for own in groups], 1)
    batch, channels, height, width = prototype_cams.shape
    grouped = prototype_cams.reshape(batch, channels // prototypes_per_class, prototypes_per_class, height, width)
    if merge == "mean":
        return grouped.mean(2)
    return torch.logsumexp(grouped, 2) - math.log(prototypes_per_class)


def _pooled_groups(cams: Tensor, groups: Sequence[tuple[int, ...]], merge: str) -> Tensor:
    """(B, h, w) of (B, M, h, w): one class, each of its groups the mean of its own."""
    means = torch.stack([torch.stack([cams[:, m] for m in group]).mean(0) for group in groups])
    return means.mean(0) if merge == "mean" else torch.logsumexp(means, 0) - math.log(len(groups))


def at_least_float32(values: Tensor) -> Tensor:
    """The tensor itself, or half precision raised to fp32."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
