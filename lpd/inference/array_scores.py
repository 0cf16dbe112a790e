"""From stored logits to classes on NumPy arrays: what blend, scoring and decision do, where torch must not be loaded.

The page's process makes masks again from stored maps (:mod:`lpd.inference.recomputing`) while a person waits. Each
function says whose arithmetic it is; the tests hold them to it.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import special

from lpd.config import Calibration
from lpd.inference.meta import CELL_PX

Floats = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]
#: As in label_sets: of more classes than this only the likeliest at a place are gone through there.
MOST_CLASSES = 6
#: As in decision: log scores are rounded to so many steps per unit; one that is e⁻¹⁵ of the highest is as good as none.
_STEPS, _FARTHEST = 1 << 14, 15.0
#: As in blend: logits are added up in whole steps.
_SUM_STEPS = 1 << 16
#: ``exp`` of what is lower is nothing in float64.
_LOWEST = -700.0
#: Log-odds beyond which a class is there or not for certain; the product of six such odds is a number of float64.
_FARTHEST_ODDS = 100.0
#: Places that the likeliest class is sought for together.
_AT_ONCE = 1 << 13


def pooled(logits: Floats, merge: Literal["mean", "union"]) -> Floats:
    """(h, w) logits of a class of its prototypes' (K, h, w); see :func:`lpd.model.cam.pool_prototype_cams`."""
    if merge == "mean":
        return np.asarray(logits.mean(0))
    return np.asarray(np.logaddexp.reduce(logits, axis=0) - np.float32(math.log(len(logits))))


def enlarged(planes: Floats, factor: int) -> Floats:
    """(C, h, w) as (C, factor·h, factor·w): bilinear between the middles of cells, edges repeated."""
    for axis in (1, 2):
        planes = _enlarged_along(planes, factor, axis)
    return planes


def _enlarged_along(planes: Floats, factor: int, axis: int) -> Floats:
    count = planes.shape[axis]
    at = np.clip((np.arange(count * factor) + 0.5) / factor - 0.5, 0, count - 1)
    low = at.astype(np.int64)
    share = (at - low).astype(np.float32)
    share = share[:, None] if axis == 1 else share
    below, above = planes.take(low, axis), planes.take(np.minimum(low + 1, count - 1), axis)
    return np.asarray(below * (1 - share) + above * share)


def mean_around(values: Floats, known: Flags, reach: int) -> Floats:
    """(C, h − 2 reach, w − 2 reach) means of the known of (C, h, w) values; see
    :func:`lpd.inference.blend.mean_around`."""
    fixed = np.rint(values * np.float32(_SUM_STEPS)).astype(np.int64) * known
    planes = np.concatenate([fixed, known[None].astype(np.int64)])
    side = 2 * reach + 1
    for axis in (1, 2):
        running = np.concatenate([np.zeros_like(planes.take([0], axis)), planes.cumsum(axis)], axis)
        last = running.shape[axis]
        planes = running.take(range(side, last), axis) - running.take(range(last - side), axis)
    return np.asarray((planes[:-1] / _SUM_STEPS / np.maximum(planes[-1], 1)).astype(np.float32))


def log_scores(pixel: Floats, gate: Floats, calibration: Calibration) -> Floats:
    """(C, h, w) log scores of pixel logits and gates of that shape; see :func:`lpd.model.scoring.log_scores`."""
    return log_class_probabilities(
        _affine(pixel, calibration.pixel_gain, calibration.pixel_bias),
        _affine(gate, calibration.gate_gain, calibration.gate_bias),
    )


def likeliest(pixel: Floats, gate: Floats, calibration: Calibration) -> Bytes:
    """(n,) the class with the highest of :func:`log_scores` for (C, n) pixel logits and gates, several times as fast.

    ``score_c ∝ e_c · Σ_{S∋c} Π_{j∈S} o_j / Σ_{j∈S} e_j`` with e the exponentials of pixel logits and o the odds of
    presence: what all classes have in common is left out, and so are logarithms. Of more than six classes the
    likeliest six at each place are told apart.
    """
    pixel = _affine(pixel, calibration.pixel_gain, calibration.pixel_bias)
    presence = _affine(gate, calibration.gate_gain, calibration.gate_bias)
    if len(pixel) <= MOST_CLASSES:
        return _likeliest(pixel, presence).astype(np.uint8)
    shares = pixel + special.log_expit(presence)
    chosen = np.sort(np.argpartition(-shares, MOST_CLASSES, axis=0)[:MOST_CLASSES], axis=0)
    found = _likeliest(np.take_along_axis(pixel, chosen, 0), np.take_along_axis(presence, chosen, 0))
    return np.asarray(np.take_along_axis(chosen, found[None], 0)[0].astype(np.uint8))


def _likeliest(pixel: Floats, presence: Floats) -> npt.NDArray[np.intp]:
    """(n,) index of the likeliest of (C, n) calibrated classes, six at most; block by block, to stay in the cache."""
    found = np.empty(pixel.shape[1], dtype=np.intp)
    for start in range(0, len(found), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        exps = np.exp(np.maximum(pixel[:, part] - pixel[:, part].max(0), _LOWEST).astype(np.float64))
        odds = np.exp(np.clip(presence[:, part], -_FARTHEST_ODDS, _FARTHEST_ODDS).astype(np.float64))
        products, sums, totals = [np.ones_like(exps[0])], [np.zeros_like(exps[0])], np.zeros_like(exps)
        for number in range(1, 1 << len(exps)):
            last = number.bit_length() - 1
            products.append(products[number - (1 << last)] * odds[last])
            sums.append(sums[number - (1 << last)] + exps[last])
            share = products[number] / sums[number]
            for c in range(len(exps)):
                if number >> c & 1:
                    totals[c] += share
        found[part] = (exps * totals).argmax(0)
    return found


def log_class_probabilities(pixel: Floats, presence: Floats) -> Floats:
    """(C, h, w) of pixel logits and log-odds of that shape; see
    :func:`lpd.model.label_sets.log_class_probabilities`."""
    pixel = pixel - pixel.max(0)
    if len(pixel) <= MOST_CLASSES:
        return np.asarray(np.minimum(_over_all_sets(pixel, presence), 0))
    shares = special.log_softmax(pixel + special.log_expit(presence), axis=0)
    likely = np.argsort(-shares, axis=0, kind="stable")[:MOST_CLASSES]
    among = _over_all_sets(np.take_along_axis(pixel, likely, 0), np.take_along_axis(presence, likely, 0))
    left = special.logsumexp(np.take_along_axis(shares, likely, 0), axis=0)
    np.put_along_axis(shares, likely, among + left, 0)
    return np.asarray(np.minimum(shares, 0))


def decided(scores: Floats, known: Flags) -> Bytes:
    """(4 m, 4 n) classes of (C, m + 1, n + 1) log scores, C where no cell around is known; see
    :func:`lpd.inference.decision.decide`."""
    half = slice(CELL_PX // 2, -(CELL_PX // 2))
    steps = np.rint(np.maximum(scores - scores.max(0), -_FARTHEST) * _STEPS) / np.float32(_STEPS)
    best = enlarged(steps.astype(np.float32), CELL_PX)[:, half, half].argmax(0).astype(np.uint8)
    if not known.all():
        best[enlarged(known[None].astype(np.float32), CELL_PX)[0, half, half] == 0] = len(scores)
    return np.asarray(best)


def _affine(values: Floats, gain: tuple[float, ...], bias: tuple[float, ...]) -> Floats:
    scale, shift = np.asarray([gain, bias], dtype=np.float32).reshape(2, -1, *[1] * (values.ndim - 1))
    return np.asarray(scale * values + shift)


def _over_all_sets(pixel: Floats, presence: Floats) -> Floats:
    count = len(pixel)
    sets = np.arange(1, 1 << count)[:, None] >> np.arange(count) & 1
    odds = presence.astype(np.float64)
    probabilities = np.tensordot(sets, odds, 1) + special.log_expit(-odds).sum(0)
    shares = probabilities - np.log(np.tensordot(sets, np.exp(np.maximum(pixel, _LOWEST).astype(np.float64)), 1))
    sums = [special.logsumexp(shares[sets[:, c] == 1], axis=0) for c in range(count)]
    return np.asarray((pixel + np.stack(sums)).astype(np.float32))
