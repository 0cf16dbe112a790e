"""The gate's scores against labels, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lpd.config import Calibration
from lpd.errors import ShapeError
from lpd.evaluation.gate import gate_calibration, gate_scores


def test_numbers_by_hand():
    scores = np.array([[0.05], [0.15], [0.62], [0.68], [0.95], [1.0]])
    labels = np.array([[False], [True], [False], [True], [True], [True]])
    row = gate_calibration(scores, labels, ("AAA",))["AAA"]
    assert (row["tiles"], row["present"]) == (6, 4)
    assert row["accuracy"] == pytest.approx(4 / 6)
    assert row["sensitivity"] == pytest.approx(3 / 4)
    assert row["specificity"] == pytest.approx(1 / 2)
    assert row["brier"] == pytest.approx((0.05**2 + 0.85**2 + 0.62**2 + 0.32**2 + 0.05**2 + 0) / 6)
    assert [(b["from"], b["to"], b["tiles"]) for b in row["bins"]] == [
        (0, 0.1, 1),
        (0.1, 0.2, 1),
        (0.6, 0.7, 2),
        (0.9, 1, 2),
    ]
    assert [b["share_present"] for b in row["bins"]] == [0, 1, 0.5, 1]
    assert [b["mean_score"] for b in row["bins"]] == pytest.approx([0.05, 0.15, 0.65, 0.975])
    assert row["ece"] == pytest.approx((0.05 + 0.85 + 2 * 0.15 + 2 * 0.025) / 6)


def test_classes_are_told_apart_and_unknown_shares_are_none():
    scores = np.array([[0.9, 0.2], [0.8, 0.3]])
    labels = np.array([[True, False], [True, False]])
    found = gate_calibration(scores, labels, ("AAA", "BBB"))
    assert (found["AAA"]["sensitivity"], found["AAA"]["specificity"]) == (1, None)
    assert (found["BBB"]["sensitivity"], found["BBB"]["specificity"]) == (None, 1)


def test_scores_are_calibrated_without_overflow():
    calibration = Calibration((1.0,), (1.0, 1.0), (0.0, 0.0), (2.0, 1.0), (-1.0, 0.0))
    found = gate_scores(np.array([[1.5, -5000.0]], dtype=np.float32), calibration)
    assert found[0] == pytest.approx([1 / (1 + math.exp(-2)), 0])


@pytest.mark.parametrize(("shape", "codes"), [((0, 1), ("A",)), ((2, 1), ("A", "B")), ((2,), ("A",))])
def test_wrong_shapes_are_refused(shape, codes):
    with pytest.raises(ShapeError):
        gate_calibration(np.zeros(shape), np.zeros(shape, dtype=bool), codes)
