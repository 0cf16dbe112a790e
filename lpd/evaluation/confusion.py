"""Confusion matrix and the scores read from it; classes that never occur count as unknown, not as zero."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lpd.classes import NOT_COMPUTED
from lpd.errors import ShapeError

Counts = npt.NDArray[np.int64]


def confusion_matrix(truth: npt.NDArray[np.uint8], predicted: npt.NDArray[np.uint8], values: int) -> Counts:
    """Count pixels by true and predicted mask value.

    Args:
        truth: any shape, mask values 0 … values − 1, or 255 where nobody labelled: those pixels are left out.
        predicted: same shape, mask values 0 … values − 1 wherever ``truth`` is not 255.
        values: number of mask values, C + 1 with background or C without.

    Returns:
        (values, values) counts; rows are truth, columns prediction.

    Raises:
        ShapeError: the shapes differ, or a value lies outside the range.
    """
    if truth.shape != predicted.shape:
        raise ShapeError(f"truth {truth.shape} and prediction {predicted.shape} must have one shape")
    labelled = truth != NOT_COMPUTED
    rows, columns = truth[labelled].astype(np.int64), predicted[labelled].astype(np.int64)
    if rows.size and max(rows.max(), columns.max()) >= values:
        raise ShapeError(f"mask value {max(rows.max(), columns.max())} is outside 0 to {values - 1}")
    return np.bincount(rows * values + columns, minlength=values * values).reshape(values, values)


@dataclass(frozen=True)
class Scores:
    """Scores of one confusion matrix; fractions of 1, NaN where nothing can be said.

    Attributes:
        iou, dice: per mask value; NaN where neither truth nor prediction holds the value.
        miou: mean IoU over the first ``class_count`` values, absent ones left out.
        miou_with_background: the same over all values.
        mdice, mdice_with_background: the same of Dice.
        fwiou: IoU of the first ``class_count`` values weighted by their true pixels.
        fwiou_with_background: the same over all values.
        accuracy: correct pixels over all pixels.
    """

    iou: tuple[float, ...]
    dice: tuple[float, ...]
    miou: float
    miou_with_background: float
    mdice: float
    mdice_with_background: float
    fwiou: float
    fwiou_with_background: float
    accuracy: float


def scores_from(matrix: Counts, class_count: int) -> Scores:
    """IoU = TP / (TP + FP + FN) and Dice = 2 TP / (2 TP + FP + FN) per value, and their means.

    Args:
        matrix: (V, V) counts, rows truth, V = C or C + 1 with background last.
        class_count: C.
    """
    hits = np.diag(matrix).astype(np.float64)
    true, predicted = matrix.sum(axis=1), matrix.sum(axis=0)
    iou = _ratio(hits, true + predicted - hits)
    dice = _ratio(2 * hits, true + predicted)
    return Scores(
        iou=tuple(iou.tolist()),
        dice=tuple(dice.tolist()),
        miou=_nan_mean(iou[:class_count]),
        miou_with_background=_nan_mean(iou),
        mdice=_nan_mean(dice[:class_count]),
        mdice_with_background=_nan_mean(dice),
        fwiou=_weighted_mean(iou[:class_count], true[:class_count]),
        fwiou_with_background=_weighted_mean(iou, true),
        accuracy=float(_ratio(hits.sum(), matrix.sum())),
    )


def _ratio(numerator: npt.ArrayLike, denominator: npt.ArrayLike) -> npt.NDArray[np.float64]:
    top, bottom = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    ratio = np.full(top.shape, np.nan)
    np.divide(top, bottom, out=ratio, where=bottom > 0)
    return ratio


def _weighted_mean(values: npt.NDArray[np.float64], weights: Counts) -> float:
    return float(_ratio(np.nansum(values * weights), weights.sum()))


def _nan_mean(values: npt.NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
