"""What :mod:`lpd.explain.measures` and the diversity loss compute, on NumPy arrays: the page's process loads no torch.

T tiles, K maps of one class, n cells of a tile in any order; ``regions`` says which of them count.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lpd.inference.array_scores import Flags

Floats = npt.NDArray[np.floating[Any]]
Doubles = npt.NDArray[np.float64]

#: As in :mod:`lpd.losses.diversity`.
TEMPERATURE = 0.07
_CONSTANT = 1e-6
_HALF = 0.5
_NO_DISTANCE = 1e-9


def pair_mean(table: Floats) -> Floats:
    """(…) means over the pairs i < j of (…, K, K) symmetric tables; NaN entries are left out, NaN if none remains."""
    pairs = table[(..., *np.triu_indices(table.shape[-1], 1))]
    known = ~np.isnan(pairs)
    count = known.sum(-1)
    return np.asarray(np.where(count > 0, np.where(known, pairs, 0).sum(-1) / np.maximum(count, 1), np.nan))


def jeffreys_similarities(maps: Floats, regions: Flags) -> Floats:
    """(T, K, K) ``exp(−J)``; see :func:`lpd.losses.diversity.jeffreys_divergences`.

    Args:
        maps: (T, K, n) cosines.
        regions: (T, n).
    """
    inside = regions[:, None]
    logits = maps / np.float32(TEMPERATURE)
    raised = np.exp(logits - np.where(inside, logits, -np.inf).max(2, keepdims=True, initial=-1e30)) * inside
    attention = raised / np.maximum(raised.sum(2, keepdims=True), np.float32(1e-30))
    gram = attention @ _centred(logits, inside).transpose(0, 2, 1)
    own = np.diagonal(gram, axis1=1, axis2=2)
    divergence = own[:, :, None] + own[:, None] - gram - gram.transpose(0, 2, 1)
    return np.asarray(np.exp(-np.maximum(divergence, 0)))


def centred_cosines(maps: Floats, regions: Flags) -> Floats:
    """(T, K, K); see :func:`lpd.explain.measures.centred_cosines`."""
    centred = _centred(maps, regions[:, None])
    norms = np.linalg.norm(centred, axis=2, keepdims=True)
    count = np.maximum(regions.sum(1), 1)[:, None, None]
    directions = centred / np.where(norms <= _CONSTANT * np.sqrt(count), np.nan, norms)
    return np.asarray(directions @ directions.transpose(0, 2, 1))


def half_maximum_sets(maps: Floats, regions: Flags) -> Flags:
    """(T, K, n); see :func:`lpd.explain.measures.half_maximum_sets`."""
    inside = regions[:, None]
    low = np.where(inside, maps, np.inf).min(2, keepdims=True)
    high = np.where(inside, maps, -np.inf).max(2, keepdims=True)
    with np.errstate(invalid="ignore"):  # of a tile without a region
        return np.asarray((maps - low >= _HALF * (high - low)) & inside)


def intersections_over_unions(sets: Flags) -> Floats:
    """(T, K, K) of (T, K, n); see :func:`lpd.explain.measures.intersections_over_unions`."""
    members = sets.astype(np.float32)
    common = members @ members.transpose(0, 2, 1)
    sizes = members.sum(2)
    unions = sizes[:, :, None] + sizes[:, None] - common
    return np.asarray(np.where(unions > 0, common / np.maximum(unions, 1), np.nan))


def union_coverage(sets: Flags, regions: Flags) -> Floats:
    """(T,) shares of regions (T, n) that sets (T, K, n) cover together; NaN where a region is empty."""
    sizes = regions.sum(1)
    return np.asarray(np.where(sizes > 0, sets.any(1).sum(1) / np.maximum(sizes, 1), np.nan))


def effective_count(shares: npt.ArrayLike) -> float:
    """``exp(−Σ u log u)`` of K shares or counts; NaN if all are 0."""
    counts = np.asarray(shares, dtype=np.float64)
    if not counts.sum():
        return float("nan")
    used = counts[counts > 0] / counts.sum()
    return float(np.exp(-(used * np.log(used)).sum()))


def silhouette(points: Doubles, clusters: npt.NDArray[np.integer[Any]]) -> float:
    """Mean silhouette by Euclidean distance, else as :func:`lpd.explain.measures.silhouette`.

    Args:
        points: (n, D).
        clusters: (n,).

    Returns:
        NaN unless there are two clusters. Memory: one (n, n) table.
    """
    names, own = np.unique(clusters, return_inverse=True)
    if len(names) < 2:
        return float("nan")
    members = own[:, None] == np.arange(len(names))
    squares = (points**2).sum(1)
    distances = np.sqrt(np.maximum(squares[:, None] + squares - 2 * points @ points.T, 0))
    sums, sizes = distances @ members, members.sum(0)
    inner = sums[members] / np.maximum(sizes[own] - 1, 1)
    outer = np.where(members, np.inf, sums / sizes).min(1)
    scores = (outer - inner) / np.maximum(np.maximum(inner, outer), _NO_DISTANCE)
    return float(np.where(sizes[own] == 1, 0, scores).mean())


def correlations(
    count: int, sums: tuple[Doubles, Doubles], squares: tuple[Doubles, Doubles], products: Doubles
) -> Doubles:
    """(L, R) Pearson correlations from sums over the same ``count`` places; NaN for what is constant there.

    Args:
        count: places.
        sums: (L,) and (R,).
        squares: (L,) and (R,), sums of squares.
        products: (L, R), sums of products. All are sums of whole numbers, exact in float64.
    """
    spreads = [np.maximum(count * square - total * total, 0) for total, square in zip(sums, squares, strict=True)]
    scale = np.sqrt(np.multiply.outer(*spreads))
    shared = count * products - np.multiply.outer(*sums)
    return np.asarray(np.where(scale > 0, np.clip(shared / np.where(scale > 0, scale, 1), -1, 1), np.nan))


def _centred(values: Floats, inside: Flags) -> Floats:
    count = np.maximum(inside.sum(2, keepdims=True), 1).astype(np.float32)
    return np.asarray((values - (values * inside).sum(2, keepdims=True) / count) * inside)
