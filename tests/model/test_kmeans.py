"""Spherical k-means against all partitions, silhouettes by hand, and what cannot be grouped."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from lpd.errors import ConfigError, ShapeError
from lpd.model.kmeans import cosine_kmeans, cosine_silhouette


def random_vectors(count: int, dim: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, dim)) * rng.uniform(0.1, 9, (count, 1)) + 0.2


def best_of_all_partitions(vectors: np.ndarray, count: int) -> float:
    """The highest mean cosine to the direction of one's own group that any grouping reaches."""
    points = [v / np.sqrt(v @ v) for v in vectors]
    best = -1.0
    for groups in itertools.product(range(count), repeat=len(points)):
        if len(set(groups)) < count:
            continue
        total = 0.0
        for group in range(count):
            own = [p for p, g in zip(points, groups, strict=True) if g == group]
            mean = sum(own) / np.sqrt(sum(own) @ sum(own))
            total += sum(float(p @ mean) for p in own)
        best = max(best, total / len(points))
    return best


@pytest.mark.parametrize(("count", "dim", "groups"), [(7, 2, 2), (8, 2, 3), (7, 64, 3), (8, 320, 2), (6, 320, 4)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_grouping_of_a_few_vectors_is_better(count, dim, groups, seed):
    vectors = random_vectors(count, dim, seed)
    found = cosine_kmeans(vectors, groups, seed=seed)
    assert found.objective == pytest.approx(best_of_all_partitions(vectors, groups), abs=1e-9)


def test_what_is_told_of_a_grouping_agrees_with_itself():
    vectors = random_vectors(40, 6, 3).astype(np.float32)
    found = cosine_kmeans(vectors, 5, seed=1)
    points = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for group in range(5):
        mean = points[found.assignment == group].mean(0)
        np.testing.assert_allclose(found.centroids[group], mean / np.linalg.norm(mean), atol=1e-6)
    cosines = [points[i] @ found.centroids[g] for i, g in enumerate(found.assignment)]
    np.testing.assert_allclose(found.cosines, cosines, atol=1e-6)
    assert found.objective == pytest.approx(np.mean(cosines), abs=1e-6)
    sizes = np.bincount(found.assignment)
    assert list(sizes) == sorted(sizes, reverse=True)


def test_groups_that_are_there_are_found_the_largest_first():
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], [10, 40, 25])
    vectors = np.eye(8)[truth] * rng.uniform(1, 100, (75, 1)) + rng.normal(size=(75, 8)) * 0.02
    found = cosine_kmeans(vectors, 3, seed=0)
    assert found.assignment.tolist() == np.array([2, 0, 1])[truth].tolist()


def test_of_equal_groups_the_one_with_the_earliest_vector_is_first():
    vectors = np.eye(3)[[2, 0, 0, 1, 2, 1]]
    for seed in range(5):
        assert cosine_kmeans(vectors, 3, seed=seed).assignment.tolist() == [0, 1, 1, 2, 0, 2]


def test_a_seed_decides_and_more_attempts_are_never_worse():
    vectors = random_vectors(60, 5, 0)
    once = [cosine_kmeans(vectors, 6, seed=s, restarts=1).objective for s in range(6)]
    assert len(set(once)) > 1
    first, second = cosine_kmeans(vectors, 6, seed=4), cosine_kmeans(vectors, 6, seed=4)
    assert np.array_equal(first.assignment, second.assignment)
    assert np.array_equal(first.centroids, second.centroids)
    assert first.objective >= once[4]


@pytest.mark.parametrize(("copies", "count"), [((3,), 3), ((4, 1), 3), ((2, 2), 4), ((5, 3), 2)])
def test_copies_of_a_vector_leave_no_group_empty(copies, count):
    vectors = np.repeat(np.eye(4)[: len(copies)], copies, axis=0)
    found = cosine_kmeans(vectors, count, seed=0)
    assert (np.bincount(found.assignment, minlength=count) > 0).all()
    assert found.objective == pytest.approx(1)


def test_vectors_that_cancel_out_still_get_a_direction():
    found = cosine_kmeans(np.array([[3.0, 4.0], [-3.0, -4.0]]), 1, seed=0)
    assert np.linalg.norm(found.centroids) == pytest.approx(1)
    assert found.objective == pytest.approx(0)


@pytest.mark.parametrize(
    ("vectors", "settings", "error", "message"),
    [
        (np.ones((2, 3)), {"count": 3}, ConfigError, "2 vectors cannot make 3 groups"),
        (np.ones((2, 3)), {"count": 0}, ConfigError, "cannot make 0 groups"),
        (np.ones((0, 3)), {"count": 1}, ConfigError, "0 vectors"),
        (np.ones(3), {"count": 1}, ShapeError, r"not \(N, D\)"),
        (np.array([[1.0, 0], [0, 0]]), {"count": 1}, ConfigError, "vector 1 has no direction"),
        (np.array([[np.nan, 0], [1.0, 0]]), {"count": 1}, ConfigError, "vector 0 has no direction"),
        (np.ones((2, 3)), {"count": 1, "restarts": 0}, ConfigError, "restarts 0"),
        (np.ones((2, 3)), {"count": 1, "iterations": 0}, ConfigError, "iterations 0"),
    ],
)
def test_what_cannot_be_grouped_is_refused(vectors, settings, error, message):
    with pytest.raises(error, match=message):
        cosine_kmeans(vectors, seed=0, **settings)


def test_silhouette_by_hand():
    """Directions east, east, north, west in groups 0 0 1 1: 1, 1, (1 − 1) / 1, (2 − 1) / 2."""
    vectors = np.array([[1.0, 0], [2.0, 0], [0, 3.0], [-1.0, 0]])
    assert cosine_silhouette(vectors, np.array([0, 0, 1, 1])) == pytest.approx(2.5 / 4)
    # Alone in a group counts 0; a single group has no silhouette; copies in two groups are as near as can be.
    assert cosine_silhouette(vectors[:3], np.array([0, 0, 1])) == pytest.approx(2 / 3)
    assert cosine_silhouette(vectors, np.zeros(4, dtype=np.intp)) is None
    assert cosine_silhouette(np.ones((4, 2)), np.array([0, 1, 0, 1])) == pytest.approx(0, abs=1e-3)


def test_silhouette_is_that_of_its_definition():
    vectors = random_vectors(20, 4, 7)
    groups = np.array([0] * 9 + [1] * 6 + [2] * 4 + [3])
    points = [v / np.sqrt(v @ v) for v in vectors]
    values = []
    for i, own in enumerate(groups):
        distances = {g: [1 - points[i] @ points[j] for j in range(20) if groups[j] == g and j != i] for g in range(4)}
        if not distances[own]:
            values.append(0.0)
            continue
        inner = np.mean(distances.pop(own))
        outer = min(np.mean(d) for d in distances.values())
        values.append((outer - inner) / max(inner, outer))
    assert cosine_silhouette(vectors, groups) == pytest.approx(np.mean(values))
