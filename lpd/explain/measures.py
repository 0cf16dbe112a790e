"""Pure tensor functions: how the K maps of a class relate to one another inside its regions."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

# Cosines of equal prototypes differ in fp32 by a few 1e-7, as the order of summation has it.
_TIE = 1e-5
_CONSTANT = 1e-6
_NO_DISTANCE = 1e-12
_HALF = 0.5


def pair_mean(table: Tensor) -> Tensor:
    """Mean over the pairs i < j of a (…, K, K) symmetric table; NaN entries are left out, NaN if none remains."""
    first, second = torch.triu_indices(table.shape[-1], table.shape[-1], 1, device=table.device)
    return table[..., first, second].nanmean(-1)


def centred_cosines(maps: Tensor, regions: Tensor) -> Tensor:
    """Cosine between each two maps of a class after each map's mean over the region was taken off.

    Args:
        maps: (B, C, K, h, w), fp32 or fp64.
        regions: (B, C, h, w) bool.

    Returns:
        (B, C, K, K) in [-1, 1]; NaN for a map that is constant over the region: it has no direction.
    """
    inside = regions.flatten(2).unsqueeze(2)
    pixels = maps.flatten(3)
    count = inside.sum(3, keepdim=True).clamp_min(1)
    centred = (pixels - (pixels * inside).sum(3, keepdim=True) / count) * inside
    norms = torch.linalg.vector_norm(centred, dim=3, keepdim=True)
    directions = centred / norms.masked_fill(norms <= _CONSTANT * count.sqrt(), torch.nan)
    cosines: Tensor = directions @ directions.transpose(2, 3)
    return cosines


def half_maximum_sets(maps: Tensor, regions: Tensor) -> Tensor:
    """Where a map, stretched to 0–1 within the region, reaches a half; a constant map marks the whole region.

    Args:
        maps: (B, C, K, h, w), fp32 or fp64.
        regions: (B, C, h, w) bool.

    Returns:
        (B, C, K, h, w) bool, within the region; none is empty unless the region is.
    """
    inside = regions.unsqueeze(2)
    low = maps.masked_fill(~inside, torch.inf).amin((3, 4), keepdim=True)
    high = maps.masked_fill(~inside, -torch.inf).amax((3, 4), keepdim=True)
    return (maps - low >= _HALF * (high - low)) & inside


def intersections_over_unions(sets: Tensor) -> Tensor:
    """(B, C, K, K) IoU of each two of K sets, given as (B, C, K, h, w) bool; NaN where both are empty."""
    members = sets.flatten(3).float()
    common = members @ members.transpose(2, 3)
    sizes = members.sum(3)
    return common / (sizes.unsqueeze(3) + sizes.unsqueeze(2) - common)


def union_coverage(sets: Tensor, regions: Tensor) -> Tensor:
    """(B, C) share of a region (B, C, h, w) that its sets (B, C, K, h, w) cover together; NaN if it is empty."""
    return sets.any(2).sum((2, 3)) / regions.sum((2, 3))


def winners(maps: Tensor) -> Tensor:
    """Which of a class's prototypes is nearest to each pixel: (B, C, h, w) int64 of (B, C, K, h, w).

    Of prototypes within 1e-5 of the highest the first wins, so that equal prototypes count as one.
    """
    return (maps >= maps.amax(2, keepdim=True) - _TIE).to(torch.uint8).argmax(2)


def effective_count(counts: Tensor) -> Tensor:
    """``exp(−Σ_k u_k log u_k)`` of the shares u of (…, K) counts: 1 if one takes all, K if all take alike.

    NaN if all counts are 0.
    """
    shares = counts.double() / counts.sum(-1, keepdim=True)
    effective: Tensor = torch.special.entr(shares).sum(-1).exp()
    return effective


def silhouette(features: Tensor, clusters: Tensor) -> float:
    """Mean silhouette by cosine distance (Rousseeuw 1987): 1 far apart, 0 touching, below 0 in each other's place.

    ``s = (b − a) / max(a, b)``, a being a point's mean distance to the rest of its cluster and b that to the nearest
    other cluster; 0 for a point alone in its cluster.

    Args:
        features: (n, D).
        clusters: (n,) int64.

    Returns:
        NaN unless there are two clusters. Memory: one (n, n) table.
    """
    names = torch.tensor(sorted(set(clusters.tolist())))
    if len(names) < 2:
        return math.nan
    own = torch.searchsorted(names, clusters)
    members = functional.one_hot(own).double()
    directions = functional.normalize(features.double(), dim=1)
    distances = (1 - directions @ directions.T).clamp_min(0).fill_diagonal_(0)
    sums, sizes = distances @ members, members.sum(0)
    inner = sums.gather(1, own[:, None])[:, 0] / (sizes[own] - 1).clamp_min(1)
    outer = (sums / sizes).masked_fill(members.bool(), torch.inf).amin(1)
    scores = (outer - inner) / torch.maximum(inner, outer).clamp_min(_NO_DISTANCE)
    return float(scores.masked_fill(sizes[own] == 1, 0).mean())
