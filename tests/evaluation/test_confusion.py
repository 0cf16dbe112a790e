"""Scores against numbers worked out by hand, and the edges where a class is absent."""

import math

import numpy as np
import pytest

from lpd.errors import ShapeError
from lpd.evaluation.confusion import confusion_matrix, scores_from


def test_counts_match_a_loop_over_pixels():
    rng = np.random.default_rng(0)
    truth = rng.choice([0, 1, 2, 255], size=(7, 5)).astype(np.uint8)
    predicted = rng.integers(0, 3, size=(7, 5), dtype=np.uint8)
    expected = np.zeros((3, 3), dtype=int)
    for t, p in zip(truth.ravel(), predicted.ravel(), strict=True):
        if t != 255:
            expected[t, p] += 1
    np.testing.assert_array_equal(confusion_matrix(truth, predicted, 3), expected)


def test_scores_by_hand():
    scores = scores_from(np.array([[6, 2, 0], [1, 3, 0], [1, 0, 7]]), class_count=2)
    assert scores.iou == pytest.approx((6 / 10, 3 / 6, 7 / 8))
    assert scores.dice == pytest.approx((12 / 16, 6 / 9, 14 / 15))
    assert scores.miou == pytest.approx(0.55)
    assert scores.miou_with_background == pytest.approx((0.6 + 0.5 + 0.875) / 3)
    assert scores.mdice == pytest.approx((12 / 16 + 6 / 9) / 2)
    assert scores.mdice_with_background == pytest.approx((12 / 16 + 6 / 9 + 14 / 15) / 3)
    assert scores.fwiou == pytest.approx((0.6 * 8 + 0.5 * 4) / 12)
    assert scores.fwiou_with_background == pytest.approx((0.6 * 8 + 0.5 * 4 + 0.875 * 8) / 20)
    assert scores.accuracy == pytest.approx(16 / 20)


def test_a_class_that_never_occurs_is_unknown_but_an_invented_one_is_zero():
    absent = scores_from(np.array([[4, 0, 0], [0, 0, 0], [0, 0, 4]]), class_count=3)
    assert math.isnan(absent.iou[1])
    assert absent.miou == 1.0
    assert absent.mdice == 1.0
    invented = scores_from(np.array([[3, 1, 0], [0, 0, 0], [0, 0, 4]]), class_count=3)
    assert invented.iou[1] == 0.0
    assert invented.miou == pytest.approx((0.75 + 0 + 1) / 3)
    assert invented.mdice == pytest.approx((6 / 7 + 0 + 1) / 3)


def test_nothing_labelled_gives_nan_and_no_warning():
    truth = np.full((4, 4), 255, dtype=np.uint8)
    scores = scores_from(confusion_matrix(truth, np.zeros((4, 4), np.uint8), 2), class_count=2)
    assert math.isnan(scores.miou)
    assert math.isnan(scores.mdice)
    assert math.isnan(scores.mdice_with_background)
    assert math.isnan(scores.accuracy)
    assert math.isnan(scores.fwiou)
    assert math.isnan(scores.fwiou_with_background)


@pytest.mark.parametrize(
    ("truth", "predicted"),
    [(np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8)), (np.full((2, 2), 3, np.uint8),) * 2],
)
def test_wrong_shapes_and_values_are_refused(truth, predicted):
    with pytest.raises(ShapeError):
        confusion_matrix(truth, predicted, 3)
