"""Platt scaling: recovers known parameters, agrees with a general optimiser, survives separable and absent classes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from lpd.errors import ShapeError
from lpd.model.calibration import fit_platt


def sample(count: int, gain: float, bias: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    scores = rng.normal(1.0, 4.0, (count, 1))
    labels = (rng.random((count, 1)) < 1 / (1 + np.exp(-(gain * scores + bias)))).astype(int)
    return scores, labels


def test_known_parameters_are_recovered():
    (gain,), (bias,) = fit_platt(*sample(20_000, gain=0.6, bias=-1.2))
    assert gain == pytest.approx(0.6, rel=0.05)
    assert bias == pytest.approx(-1.2, rel=0.05)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_the_fit_is_the_minimum_of_platts_objective(scale):
    scores, labels = sample(60, gain=0.6, bias=-1.2, seed=4)
    positives = labels.sum()
    target = np.where(labels, (positives + 1) / (positives + 2), 1 / (len(labels) - positives + 2))

    def objective(weights: np.ndarray) -> float:
        logit = weights[0] * scores + weights[1]
        return float(np.sum(np.logaddexp(0, logit) - target * logit))

    best = minimize(objective, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12}).x
    (gain,), (bias,) = fit_platt(scores * scale, labels)
    assert gain * scale == pytest.approx(best[0], rel=1e-4)
    assert bias == pytest.approx(best[1], rel=1e-4)


def test_separable_classes_get_a_finite_rising_fit():
    scores = np.array([[-3.0], [-2.0], [2.0], [3.0]])
    (gain,), (bias,) = fit_platt(scores, np.array([[0], [0], [1], [1]]))
    probability = 1 / (1 + np.exp(-(gain * scores[:, 0] + bias)))
    assert 0 < gain < 10
    # Platt's smoothed targets for two of each are 1/4 and 3/4.
    assert probability == pytest.approx([0.25, 0.25, 0.75, 0.75], abs=0.06)


@pytest.mark.parametrize("label", [0, 1])
def test_a_class_seen_everywhere_or_nowhere_keeps_the_training_claim(label):
    assert fit_platt(np.arange(5.0)[:, None], np.full((5, 1), label)) == ((1.0,), (0.0,))


def test_a_misleading_class_is_flattened_and_never_inverted():
    scores, labels = sample(200, gain=0.6, bias=0.0)
    (gain,), (bias,) = fit_platt(-scores, labels)
    assert 0 < gain * scores.std() < 0.1
    mean_probability = (1 / (1 + np.exp(-(gain * -scores + bias)))).mean()
    assert mean_probability == pytest.approx(labels.mean(), abs=0.02)


@pytest.mark.parametrize("count", [1, 2])
def test_equal_scores_and_single_images_do_not_fail(count):
    gain, bias = fit_platt(np.full((count, 1), 7.0), np.arange(count)[:, None] % 2)
    assert np.isfinite([*gain, *bias]).all()


def test_extreme_scores_do_not_overflow():
    gain, bias = fit_platt(np.array([[-1e6], [0.0], [1e6]]), np.array([[1], [0], [1]]))
    assert np.isfinite([*gain, *bias]).all()


def test_classes_are_fitted_one_by_one():
    scores, labels = sample(100, 0.6, -1.0)
    gain, bias = fit_platt(np.hstack([scores, 2 * scores]), np.hstack([labels, labels]))
    assert gain[0] == pytest.approx(2 * gain[1])
    assert bias[0] == pytest.approx(bias[1])


@pytest.mark.parametrize(
    ("scores", "labels"),
    [
        (np.zeros((0, 2)), np.zeros((0, 2))),
        (np.zeros((3, 2)), np.zeros((3, 1))),
        (np.zeros(3), np.zeros(3)),
        (np.full((2, 1), np.nan), np.array([[0], [1]])),
        (np.zeros((2, 1)), np.array([[0], [0.5]])),
    ],
)
def test_unusable_arrays_are_refused(scores, labels):
    with pytest.raises(ShapeError):
        fit_platt(scores, labels)
