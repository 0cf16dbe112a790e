"""How sure a score is: percentile bootstrap over groups of tiles, of one model or of the difference of two."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lpd.errors import ShapeError
from lpd.evaluation.confusion import Counts

Floats = npt.NDArray[np.float64]

RESAMPLES = 1000
#: Share of the resamples inside an interval.
LEVEL = 0.95
#: Fewer groups than this: an interval says little.
FEW_GROUPS = 5


def bootstrap_miou(
    matrices: Counts, groups: Sequence[str], class_count: int, seed: int = 0
) -> tuple[float, float, float]:
    """Mean IoU over all tiles, and the interval in which resamples of the groups put it.

    Tiles of one patient or slide are alike, so whole groups are drawn with replacement, as many as there are. A class
    that a resample happens not to show is left out of that resample's mean: a single invented pixel of it would count
    as much as the whole class.

    Args:
        matrices: (N, V, V) confusion counts per tile, rows truth, V ≥ C.
        groups: of each tile.
        class_count: C, the values that the mean runs over.
        seed: of the draws.

    Returns:
        mIoU, and the 2.5th and 97.5th percentile of ``RESAMPLES`` resamples; those are NaN with fewer than two groups.

    Raises:
        ShapeError: the matrices are not (N, V, V) with one group each, or V < C.
    """
    parts = _parts(matrices, groups, class_count)
    mious = _mious(parts, _draws(parts, seed), class_count)
    return (float(mious[0]), *_interval(mious[1:], parts))


def paired_bootstrap(
    matrices_a: Counts, matrices_b: Counts, groups: Sequence[str], class_count: int, seed: int = 0
) -> tuple[float, float, float]:
    """By how much model a's mean IoU exceeds model b's on the same tiles, with the interval of that difference.

    Both are scored on the same resamples, so what makes a group hard for both cancels. An interval clear of 0 says
    that the difference is not a matter of which groups were at hand; it knows nothing of the spread between trainings.

    Args:
        matrices_a, matrices_b: (N, V, V) confusion counts per tile, in the same order.
        groups, class_count, seed: as for :func:`bootstrap_miou`.

    Returns:
        Difference, low and high in mIoU; low and high are NaN with fewer than two groups.

    Raises:
        ShapeError: see :func:`bootstrap_miou`; also if both have not the same tiles or true pixels per class.
    """
    a, b = _parts(matrices_a, groups, class_count), _parts(matrices_b, groups, class_count)
    if not np.array_equal(a[2], b[2]):
        raise ShapeError("the two models were not scored on the same true pixels: evaluate both on the same tiles")
    weights = _draws(a, seed)
    differences = _mious(a, weights, class_count) - _mious(b, weights, class_count)
    return (float(differences[0]), *_interval(differences[1:], a))


def _parts(matrices: Counts, groups: Sequence[str], class_count: int) -> Floats:
    """(3, G, C): hits, union and true pixels of each group; all that an IoU needs."""
    if matrices.ndim != 3 or not len(groups) == len(matrices) > 0 or matrices.shape[1] != matrices.shape[2]:
        raise ShapeError(f"matrices {matrices.shape} and {len(groups)} groups are not (N, V, V) and N with N > 0")
    if not 1 <= class_count <= matrices.shape[1]:
        raise ShapeError(f"matrices {matrices.shape} have no {class_count} classes")
    hits = np.diagonal(matrices, axis1=1, axis2=2)[:, :class_count]
    true, predicted = matrices.sum(2)[:, :class_count], matrices.sum(1)[:, :class_count]
    members = np.unique(np.asarray(groups), return_inverse=True)[1]
    parts = np.zeros((3, members.max() + 1, class_count))
    for part, values in zip(parts, (hits, true + predicted - hits, true), strict=True):
        np.add.at(part, members, values)
    return parts


def _draws(parts: Floats, seed: int) -> Floats:
    """(1 + resamples, G) how often each group counts: once in the first row, which is the sample itself."""
    groups = parts.shape[1]
    drawn = np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), size=RESAMPLES)
    return np.concatenate([np.ones((1, groups)), drawn])


def _mious(parts: Floats, weights: Floats, class_count: int) -> Floats:
    hits, union, true = (weights @ part for part in parts)
    # A class that the whole sample never shows counts as scores_from does it: 0 where invented.
    known = (union > 0) & ((true > 0) | (true[0] == 0))
    iou = np.divide(hits, union, out=np.zeros_like(hits), where=known)
    classes = known.sum(1)
    means: Floats = np.divide(iou.sum(1), classes, out=np.full(len(iou), np.nan), where=classes > 0)
    return means


def _interval(values: Floats, parts: Floats) -> tuple[float, float]:
    known = values[~np.isnan(values)]
    if parts.shape[1] < 2 or not known.size:
        return float("nan"), float("nan")
    low, high = np.percentile(known, (50 * (1 - LEVEL), 50 * (1 + LEVEL)))
    return float(low), float(high)
