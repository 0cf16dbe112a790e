"""Spherical k-means: vectors grouped by direction, and how well the groups stand apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lpd.errors import ConfigError, ShapeError

Floats = npt.NDArray[np.floating[Any]]
Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

_SHORTEST = 1e-12  # below this length a vector has no direction
_SMALLEST_GAIN = 1e-9  # of the sum of cosines; less is rounding


@dataclass(frozen=True, eq=False)
class Clustering:
    """N vectors in groups; the largest group comes first, of equal ones that with the earliest vector.

    Attributes:
        centroids: (count, D) float64 of unit length, the directions of the groups' means.
        assignment: (N,) group of each vector; none is empty.
        cosines: (N,) of each vector with its own centroid.
        objective: their mean, which k-means makes as large as it can.
    """

    centroids: Doubles
    assignment: Indices
    cosines: Doubles
    objective: float


def cosine_kmeans(vectors: Floats, count: int, *, seed: int, restarts: int = 10, iterations: int = 100) -> Clustering:
    """Group vectors by direction: spherical k-means, k-means++ starts, the best of several.

    Where moving every vector to its nearest centroid changes nothing any more, the one move that gains most is looked
    for, each centroid following its group (Dhillon, Guan & Kogan 2002). Without it, few vectors of many dimensions stay
    about where they started: a vector is most of its own centroid.

    Args:
        vectors: (N, D) of any length above 0; only directions count.
        count: number of groups, at most N.
        seed: equal seeds give equal groups.
        restarts: attempts, of which the best is given.
        iterations: most changes of one attempt.

    Raises:
        ConfigError: there are fewer vectors than groups, a vector has no direction, or a count is below 1.
        ShapeError: the vectors are not (N, D).
    """
    points = _directions(vectors)
    if not 1 <= count <= len(points):
        raise ConfigError(f"{len(points)} vectors cannot make {count} groups: ask for 1 to {len(points)}")
    if restarts < 1 or iterations < 1:
        raise ConfigError(f"restarts {restarts} and iterations {iterations} must be at least 1")
    rng = np.random.default_rng(seed)
    attempts = [_refined(points, _spread(points, count, rng), iterations) for _ in range(restarts)]
    best = max(attempts, key=lambda groups: float(_lengths(_sums(points, groups, count)).sum()))
    return _clustering(points, _largest_first(best, count), count)


def cosine_silhouette(vectors: Floats, assignment: Indices) -> float | None:
    """Mean silhouette of groups under the distance 1 − cosine: 1 far apart, 0 touching, below 0 mixed up.

    That distance is linear in either vector, so a mean distance is the distance to a mean: no N × N table is needed.

    Args:
        vectors: (N, D) of any length above 0.
        assignment: (N,) group 0 … count − 1 of each; every group has a member.

    Returns:
        The mean over all vectors, of which one alone in its group counts 0; None for a single group.

    Raises:
        ConfigError: a vector has no direction.
        ShapeError: the vectors are not (N, D).
    """
    points, count = _directions(vectors), int(assignment.max()) + 1
    if count == 1:
        return None
    rows, sizes = np.arange(len(points)), np.bincount(assignment, minlength=count)
    products = points @ _sums(points, assignment, count).T
    own = sizes[assignment]
    inner = (own - products[rows, assignment]) / np.maximum(own - 1, 1)  # of the n - 1 others: to itself it is 0
    distances = 1 - products / sizes
    distances[rows, assignment] = np.inf
    outer = distances.min(1)
    widest = np.maximum(np.maximum(inner, outer), _SHORTEST)
    return float(np.where(own > 1, (outer - inner) / widest, 0.0).mean())


def _directions(vectors: Floats) -> Doubles:
    if vectors.ndim != 2:
        raise ShapeError(f"vectors are {vectors.shape}, not (N, D)")
    points = vectors.astype(np.float64)
    lengths = _lengths(points)
    usable = np.isfinite(lengths) & (lengths > _SHORTEST)
    if not usable.all():
        raise ConfigError(f"vector {int(np.argmin(usable))} has no direction (length 0, or no number): leave it out")
    return points / lengths[:, None]


def _lengths(vectors: Doubles) -> Doubles:
    lengths: Doubles = np.sqrt(np.square(vectors).sum(1))
    return lengths


def _sums(points: Doubles, assignment: Indices, count: int) -> Doubles:
    sums: Doubles = (assignment == np.arange(count)[:, None]).astype(np.float64) @ points
    return sums


def _centroids(points: Doubles, assignment: Indices, count: int) -> Doubles:
    """(count, D) directions of the groups' sums; where members cancel out, the first stands for all."""
    sums = _sums(points, assignment, count)
    lengths = _lengths(sums)
    for group in np.flatnonzero(lengths < _SHORTEST):
        sums[group], lengths[group] = points[np.argmax(assignment == group)], 1.0
    return sums / lengths[:, None]


def _spread(points: Doubles, count: int, rng: np.random.Generator) -> Doubles:
    """(count, D) points far from one another: k-means++, for unit vectors |x − y|² is 2 (1 − cos)."""
    chosen = [int(rng.integers(len(points)))]
    while len(chosen) < count:
        distance = np.maximum(1 - (points @ points[chosen].T).max(1), 0)
        distance[chosen] = 0
        if distance.sum() < _SHORTEST:  # only copies of those chosen are left
            distance = np.ones(len(points))
            distance[chosen] = 0
        chosen.append(int(rng.choice(len(points), p=distance / distance.sum())))
    return points[chosen]


def _refined(points: Doubles, centroids: Doubles, iterations: int) -> Indices:
    """(N,) groups from starting centroids, better with every change."""
    count = len(centroids)
    groups = _nearest(points, centroids)
    for _ in range(iterations):
        changed = _nearest(points, _centroids(points, groups, count))
        if np.array_equal(changed, groups):
            changed = _best_move(points, groups, count)
            if np.array_equal(changed, groups):
                break
        groups = changed
    return groups


def _nearest(points: Doubles, centroids: Doubles) -> Indices:
    """(N,) nearest centroid; one that nobody is nearest to gets the point farthest from its own, if not the last."""
    cosines = points @ centroids.T
    groups: Indices = cosines.argmax(1)
    sizes = np.bincount(groups, minlength=len(centroids))
    for empty in np.flatnonzero(sizes == 0):
        own = np.where(sizes[groups] > 1, cosines[np.arange(len(points)), groups], np.inf)
        moved = int(own.argmin())
        sizes[groups[moved]] -= 1
        groups[moved], sizes[empty] = empty, 1
    return groups


def _best_move(points: Doubles, groups: Indices, count: int) -> Indices:
    """The groups after the one move of a point that lengthens Σ |sum of a group| most; unchanged if none does."""
    rows, sums = np.arange(len(points)), _sums(points, groups, count)
    lengths, products = _lengths(sums), points @ sums.T
    left = np.sqrt(np.maximum(lengths[groups] ** 2 - 2 * products[rows, groups] + 1, 0))
    joined = np.sqrt(np.maximum(lengths**2 + 2 * products + 1, 0))
    gains = joined - lengths + (left - lengths[groups])[:, None]
    gains[rows, groups] = 0  # one alone in its group never gains by leaving it, so no group is left empty
    point, group = np.unravel_index(gains.argmax(), gains.shape)
    moved = groups.copy()
    if gains[point, group] > _SMALLEST_GAIN:
        moved[point] = group
    return moved


def _largest_first(groups: Indices, count: int) -> Indices:
    sizes = np.bincount(groups, minlength=count)
    order = sorted(range(count), key=lambda group: (-sizes[group], int(np.argmax(groups == group))))
    return np.argsort(order)[groups]


def _clustering(points: Doubles, groups: Indices, count: int) -> Clustering:
    centroids = _centroids(points, groups, count)
    cosines = np.asarray((points * centroids[groups]).sum(1))
    return Clustering(centroids, groups, cosines, float(cosines.mean()))
