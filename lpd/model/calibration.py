"""Platt scaling: the two numbers per class that turn a class's raw logit into the probability that it is present."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lpd.errors import ShapeError

Floats = npt.NDArray[np.float64]

# Smallest rise of the log-odds per standard deviation of the scores: a class that scores higher where it is absent gets
# almost no say, but its map is never inverted.
_MIN_SLOPE = 0.05
_MAX_STEPS = 100
_TOLERANCE = 1e-9  # of the gradient, per image
_RIDGE = 1e-12  # keeps the step solvable when all scores are equal


def fit_platt(scores: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Gain and bias per class such that ``sigmoid(gain · score + bias)`` fits the labels (Platt 1999).

    Targets are smoothed as in Platt's paper, (N₊ + 1) / (N₊ + 2) and 1 / (N₋ + 2), so that separable data has a finite
    fit.

    Args:
        scores: (N, C) raw mean class logits of images.
        labels: (N, C), 1 where the class is present in the image, else 0.

    Returns:
        Gains above 0 and biases, C each; gain 1 and bias 0 for a class that is in all images or in none.

    Raises:
        ShapeError: the arrays are not (N, C) alike with N > 0, not finite, or labels are not 0 and 1.
    """
    score, label = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if score.ndim != 2 or score.shape != label.shape or len(score) == 0:
        raise ShapeError(f"scores {score.shape} and labels {label.shape} are not both (N, C) with N > 0")
    if not np.isfinite(score).all() or not np.isin(label, (0, 1)).all():
        raise ShapeError("calibration needs finite scores and labels that are 0 or 1")
    fits = [_fit_class(score[:, c], label[:, c] > 0) for c in range(score.shape[1])]
    return tuple(gain for gain, _ in fits), tuple(bias for _, bias in fits)


def _fit_class(score: Floats, present: npt.NDArray[np.bool_]) -> tuple[float, float]:
    positives = int(present.sum())
    if positives in (0, len(present)):
        return 1.0, 0.0  # nothing to learn from one kind of image; training's own claim is the best guess
    target = np.where(present, (positives + 1) / (positives + 2), 1 / (len(present) - positives + 2))
    # Standardised scores make Newton's steps and tolerance independent of the logits' scale.
    centre, spread = float(score.mean()), float(score.std()) or 1.0
    standard, ones = (score - centre) / spread, np.ones_like(score)
    slope, offset = _logistic_fit(np.stack([standard, ones], axis=1), np.zeros_like(score), target)
    if slope < _MIN_SLOPE:
        slope = _MIN_SLOPE
        (offset,) = _logistic_fit(ones[:, None], slope * standard, target)
    gain = slope / spread
    return float(gain), float(offset - gain * centre)


def _logistic_fit(design: Floats, known: Floats, target: Floats) -> Floats:
    """Weights w (P,) that minimise the cross-entropy of ``sigmoid(design · w + known)``; convex, so damped Newton."""
    weights = np.zeros(design.shape[1])
    loss = _cross_entropy(design @ weights + known, target)
    for _ in range(_MAX_STEPS):
        probability = 0.5 * (1 + np.tanh((design @ weights + known) / 2))  # the sigmoid, without overflow
        gradient = design.T @ (probability - target)
        if np.abs(gradient).max() < _TOLERANCE * len(target):
            break
        curvature = design.T @ (design * (probability * (1 - probability))[:, None])
        step = np.linalg.solve(curvature + _RIDGE * np.eye(len(weights)), gradient)
        trials = ((w, _cross_entropy(design @ w + known, target)) for w in (weights - step / 2**i for i in range(30)))
        better = next((trial for trial in trials if trial[1] < loss), None)
        if better is None:
            break
        weights, loss = better
    return weights


def _cross_entropy(logit: Floats, target: Floats) -> float:
    return float(np.sum(np.logaddexp(0, logit) - target * logit))
