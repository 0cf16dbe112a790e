"""How far the gate can be believed: its scores against the true image labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lpd.config import Calibration
from lpd.errors import ShapeError

Floats = npt.NDArray[np.float64]

BINS = 10
GATE_CALIBRATION_NOTE = (
    "it was fitted to the tiles that the network learnt from, which it knows better than others, so it tends to be "
    "too sure of itself"
)


def gate_scores(logits: npt.NDArray[np.float32], calibration: Calibration) -> Floats:
    """(N, C) scores in [0, 1] of (N, C) raw gate logits: ``sigmoid(gain · logit + bias)``."""
    calibrated = logits.astype(np.float64) * np.array(calibration.gate_gain) + np.array(calibration.gate_bias)
    scores: Floats = 0.5 * (1 + np.tanh(calibrated / 2))  # the sigmoid, without overflow
    return scores


def gate_calibration(scores: Floats, labels: npt.NDArray[np.bool_], codes: tuple[str, ...]) -> dict[str, Any]:
    """Compare the gate with the truth, class by class.

    Args:
        scores: (N, C) gate scores in [0, 1].
        labels: (N, C) which classes the tiles show.
        codes: of the C classes.

    Returns:
        JSON values by code: ``tiles``, ``present``; of the decision at one half ``accuracy``, ``sensitivity`` (of the
        tiles that show the class) and ``specificity`` (of the others), None without such tiles; ``brier``, the mean
        squared distance of score and truth; ``ece``, the expected calibration error ``Σ_b n_b / N · |mean score −
        share present|`` over ``BINS`` equally wide bins; and the ``bins`` that hold tiles.

    Raises:
        ShapeError: scores and labels are not both (N, C) with N > 0.
    """
    if scores.shape != labels.shape or scores.ndim != 2 or scores.shape[1] != len(codes) or not len(scores):
        raise ShapeError(f"gate scores {scores.shape} and labels {labels.shape} are not (N, {len(codes)}) with N > 0")
    return {code: _one_class(scores[:, c], labels[:, c]) for c, code in enumerate(codes)}


def _one_class(scores: Floats, present: npt.NDArray[np.bool_]) -> dict[str, Any]:
    right = (scores > 0.5) == present
    bins = _reliability(scores, present)
    gaps = [row["tiles"] * abs(row["mean_score"] - row["share_present"]) for row in bins]
    return {
        "tiles": len(scores),
        "present": int(present.sum()),
        "accuracy": float(right.mean()),
        "sensitivity": float(right[present].mean()) if present.any() else None,
        "specificity": float(right[~present].mean()) if not present.all() else None,
        "brier": float(np.square(scores - present).mean()),
        "ece": float(sum(gaps) / len(scores)),
        "bins": bins,
    }


def _reliability(scores: Floats, present: npt.NDArray[np.bool_]) -> list[dict[str, Any]]:
    """What was claimed and what is true in each bin; a score on a border belongs to the higher bin, 1 to the last."""
    which = np.minimum((scores * BINS).astype(int), BINS - 1)
    return [
        {
            "from": b / BINS,
            "to": (b + 1) / BINS,
            "mean_score": float(scores[which == b].mean()),
            "share_present": float(present[which == b].mean()),
            "tiles": int((which == b).sum()),
        }
        for b in np.unique(which).tolist()
    ]
