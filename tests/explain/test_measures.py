"""Measures of prototype maps: tiny cases by hand."""

from __future__ import annotations

import math

import pytest
import torch

from lpd.explain.measures import (
    centred_cosines,
    effective_count,
    half_maximum_sets,
    intersections_over_unions,
    pair_mean,
    silhouette,
    union_coverage,
    winners,
)


def maps_of(*rows: list[float]) -> torch.Tensor:
    """(1, 1, K, 1, n) from K rows."""
    return torch.tensor(rows)[None, None, :, None]


def region_of(*row: int) -> torch.Tensor:
    return torch.tensor(row, dtype=torch.bool)[None, None, None]


def test_map_cosine_by_hand():
    """Less its mean, (1, 2, 3) is (-1, 0, 1); (3, 1, 2) is (1, -1, 0); outside the region nothing counts."""
    maps = maps_of([1.0, 2.0, 3.0, 99.0], [3.0, 1.0, 2.0, -99.0], [6.0, 4.0, 2.0, 0.0])
    found = centred_cosines(maps, region_of(1, 1, 1, 0))[0, 0]
    assert found[0, 1].item() == pytest.approx(-1 / 2)
    assert found[0, 2].item() == pytest.approx(-1)
    assert found[1, 2].item() == pytest.approx(1 / 2)
    assert pair_mean(found).item() == pytest.approx(-1 / 3)


def test_constant_maps_have_no_direction_and_mark_the_whole_region():
    maps, region = maps_of([0.3, 0.3, 0.3], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]), region_of(1, 1, 1)
    assert pair_mean(centred_cosines(maps, region)).item() == pytest.approx(1)  # of the one pair left
    assert pair_mean(centred_cosines(maps[:, :, :2], region)).isnan().all()
    rounded = maps_of([0.3, 0.3, 0.3 + 1e-7], [1.0, 2.0, 3.0])  # constant but for the rounding of fp32
    assert pair_mean(centred_cosines(rounded, region)).isnan().all()
    assert half_maximum_sets(maps, region)[0, 0, 0, 0].tolist() == [True] * 3


def test_half_maximum_sets_by_hand():
    """Stretched within the region, (-4, -3, -2) is (0, .5, 1), whatever lies outside."""
    maps = maps_of([-4.0, -3.0, -2.0, 50.0], [0.0, 0.1, 0.3, -70.0])
    region = region_of(1, 1, 1, 0)
    sets = half_maximum_sets(maps, region)
    assert sets[0, 0, :, 0].tolist() == [[False, True, True, False], [False, False, True, False]]
    assert pair_mean(intersections_over_unions(sets)).item() == pytest.approx(1 / 2)
    assert union_coverage(sets, region).item() == pytest.approx(2 / 3)


def test_the_first_of_equally_near_prototypes_wins():
    maps = maps_of([0.5, 0.5, 0.1], [0.5 + 1e-6, 0.4, 0.1 + 1e-6], [0.1, 0.5 + 1e-4, 0.1])
    assert winners(maps)[0, 0, 0].tolist() == [0, 2, 0]


def test_effective_count_by_hand():
    counts = torch.tensor([[4, 0, 0], [2, 2, 2], [1, 1, 0], [2, 1, 1], [0, 0, 0]])
    expected = [1, 3, 2, 2**1.5, math.nan]  # shares ½, ¼, ¼ have 1.5 bits
    assert effective_count(counts).tolist() == pytest.approx(expected, nan_ok=True)


def test_silhouette_by_hand():
    """Unit vectors at 0°, 60° | 180° | and cosine distances ½, 2, 3/2."""
    points = torch.tensor([[1.0, 0.0], [0.5, math.sqrt(0.75)], [-3.0, 0.0]])  # length does not matter
    expected = ((2 - 0.5) / 2 + (1.5 - 0.5) / 1.5 + 0) / 3  # the third is alone in its cluster
    assert silhouette(points, torch.tensor([0, 0, 2])) == pytest.approx(expected)
    assert math.isnan(silhouette(points, torch.tensor([1, 1, 1])))
    assert math.isnan(silhouette(points[:1], torch.tensor([1])))
    assert math.isnan(silhouette(points[:0], torch.tensor([], dtype=torch.int64)))
    zeros = torch.zeros(4, 2)  # all at distance 1 from all, each at 0 from itself
    assert silhouette(zeros, torch.tensor([0, 0, 1, 1])) == pytest.approx(0)
    same = torch.tensor([[1.0, 0.0]] * 4)  # at no distance at all
    assert silhouette(same, torch.tensor([0, 0, 1, 1])) == 0
