"""Intervals of constructed cases whose answer is known, and the rules for classes that a resample does not show."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lpd.errors import ShapeError
from lpd.evaluation.bootstrap import RESAMPLES, bootstrap_miou, paired_bootstrap
from lpd.evaluation.confusion import scores_from


def random_matrices(seed: int, tiles: int = 12, classes: int = 3) -> np.ndarray:
    """(N, C, C) counts in which every tile has the same true pixels, whatever the seed."""
    rng = np.random.default_rng(seed)
    return np.stack(
        [[rng.multinomial(50 + c, np.full(classes, 1 / classes)) for c in range(classes)] for _ in range(tiles)]
    )


def test_two_groups_give_the_better_and_the_worse_as_ends():
    """Draws of two groups are both (half of them), or one twice (a quarter each): far more than 2.5 %."""
    matrices = np.array([[[9, 1], [1, 9]], [[6, 4], [4, 6]]])
    miou, low, high = bootstrap_miou(matrices, ["a", "b"], 2)
    assert miou == pytest.approx(15 / 25)
    assert low == pytest.approx(6 / 14)
    assert high == pytest.approx(9 / 11)


def test_the_score_is_that_of_all_tiles():
    matrices = random_matrices(0)
    miou, low, high = bootstrap_miou(matrices, [str(i) for i in range(12)], 3)
    assert miou == pytest.approx(scores_from(matrices.sum(0), 3).miou)
    assert low < miou < high


def test_draws_match_a_loop_over_groups():
    matrices, groups = random_matrices(1, tiles=6), ["a", "a", "b", "c", "c", "c"]
    counts = np.random.default_rng(5).multinomial(3, [1 / 3] * 3, size=RESAMPLES)
    found = []
    for drawn in counts:
        total = sum(
            n * matrices[[i for i, g in enumerate(groups) if g == name]].sum(0)
            for n, name in zip(drawn, "abc", strict=True)
        )
        found.append(scores_from(total, 3).miou)
    assert bootstrap_miou(matrices, groups, 3, seed=5)[1:] == pytest.approx(np.percentile(found, (2.5, 97.5)))


def test_tiles_of_one_group_are_drawn_together():
    """Ten copies of a tile tell no more than one."""
    pair = np.array([[[9, 1], [1, 9]], [[6, 4], [4, 6]]])
    many = np.repeat(pair, 10, axis=0)
    groups = ["a"] * 10 + ["b"] * 10
    assert bootstrap_miou(many, groups, 2) == pytest.approx(bootstrap_miou(pair, ["a", "b"], 2))
    _, low, high = bootstrap_miou(many, [str(i) for i in range(20)], 2)
    assert high - low < 0.5 * (9 / 11 - 6 / 14)  # as independent tiles they would seem to


def test_equal_models_differ_by_exactly_nothing():
    matrices = random_matrices(2)
    assert paired_bootstrap(matrices, matrices.copy(), [str(i // 2) for i in range(12)], 3, seed=1) == (0, 0, 0)


def test_a_difference_that_every_group_shows_has_no_spread():
    """One class, IoU = hits / (true + invented): model a hits 8 of 10 in every group, model b 5 of 10."""
    a = np.tile([[8, 2], [0, 0]], (4, 1, 1))
    b = np.tile([[5, 5], [0, 0]], (4, 1, 1))
    assert paired_bootstrap(a, b, list("wxyz"), 1, seed=0) == pytest.approx((0.3, 0.3, 0.3))
    assert paired_bootstrap(b, a, list("wxyz"), 1, seed=0) == pytest.approx((-0.3, -0.3, -0.3))


def test_pairing_cancels_what_is_hard_for_both():
    hard_and_easy = np.array([[[2, 8], [0, 0]], [[9, 1], [0, 0]]] * 4)
    better = hard_and_easy + np.array([[1, -1], [0, 0]])
    difference, low, high = paired_bootstrap(better, hard_and_easy, [str(i) for i in range(8)], 1, seed=0)
    assert difference == pytest.approx(0.1)
    assert (low, high) == pytest.approx((0.1, 0.1))
    _, alone_low, alone_high = bootstrap_miou(better, [str(i) for i in range(8)], 1)
    assert alone_high - alone_low > 0.3


def test_a_class_that_a_draw_does_not_show_is_left_out_of_it():
    """Class 1 is shown by group b only; one pixel of it invented in group a must not halve the draws without b."""
    matrices = np.array([[[99, 1], [0, 0]], [[0, 0], [0, 10]]])
    _, low, high = bootstrap_miou(matrices, ["a", "b"], 2)
    assert low == pytest.approx((0.99 + 10 / 11) / 2)  # both groups
    assert high == pytest.approx(1.0)  # b alone; a alone gives 0.99


def test_a_class_that_no_tile_shows_counts_as_in_the_score():
    matrices = np.tile([[9, 1], [0, 0]], (3, 1, 1))
    miou, low, high = bootstrap_miou(matrices, list("abc"), 2)
    assert miou == pytest.approx(scores_from(matrices.sum(0), 2).miou) == pytest.approx(0.45)
    assert (low, high) == pytest.approx((0.45, 0.45))


def test_what_cannot_be_told_is_nan():
    one = bootstrap_miou(np.array([[[3, 1], [1, 3]]] * 2), ["a", "a"], 2)
    assert one[0] == pytest.approx(0.6)
    assert all(map(math.isnan, one[1:]))
    assert all(map(math.isnan, bootstrap_miou(np.zeros((2, 2, 2), int), ["a", "b"], 2)))
    assert all(map(math.isnan, paired_bootstrap(*[np.zeros((2, 2, 2), int)] * 2, ["a", "b"], 2)))


@pytest.mark.parametrize(
    ("shape", "groups", "classes"),
    [
        ((2, 2, 3), ["a", "b"], 2),
        ((2, 2, 2), ["a"], 2),
        ((0, 2, 2), [], 2),
        ((2, 2), ["a", "b"], 2),
        ((1, 2, 2), ["a"], 3),
    ],
)
def test_wrong_shapes_are_refused(shape, groups, classes):
    with pytest.raises(ShapeError):
        bootstrap_miou(np.zeros(shape, int), groups, classes)


def test_models_scored_on_other_truths_are_refused():
    with pytest.raises(ShapeError, match="the same true pixels"):
        paired_bootstrap(np.array([[[3, 1], [0, 4]]]), np.array([[[3, 0], [0, 4]]]), ["a"], 2)
