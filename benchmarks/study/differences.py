"""How sure a difference between two arms is: a bootstrap over pictures and seeds, both paired."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_DRAWS = 2000


def paired_interval(
    ours: Sequence[Any], theirs: Sequence[Any], seed: int = 0, *, of: tuple[str, str] = ("groups", "groups")
) -> tuple[float, float, float]:
    """Difference of tissue mIoU, and the middle 95 % of what it would be with other pictures and seeds.

    Args:
        ours, theirs: records of two arms with the same seeds, in the same order.
        seed: of the draws.
        of: which counts of either: ``groups`` of the plain maps, ``adapted`` of those with adapted prototypes.

    Returns:
        (difference, low, high), fractions of 1, ours minus theirs.
    """
    names = sorted(ours[0]["groups"])
    stacks = [
        np.array([[record[key][name] for name in names] for record in arm], dtype=np.float64)
        for arm, key in zip((ours, theirs), of, strict=True)
    ]
    rng = np.random.default_rng(seed)
    seeds, groups = stacks[0].shape[:2]
    differences = []
    for _ in range(_DRAWS):
        shown = np.bincount(rng.integers(0, groups, groups), minlength=groups)
        used = rng.integers(0, seeds, seeds)
        one, other = (np.nanmean(mious(np.einsum("sgij,g->sij", stack[used], shown))) for stack in stacks)
        differences.append(one - other)
    whole = [float(np.mean(mious(stack.sum(1)))) for stack in stacks]
    low, high = np.nanquantile(differences, (0.025, 0.975))
    return whole[0] - whole[1], float(low), float(high)


def mious(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(S,) mean IoU of (S, C, C) counts, rows truth, over the classes that the truth shows.

    As :func:`lpd.evaluation.bootstrap.bootstrap_miou` has it: of a class that a draw happens not to show, a single
    invented pixel would count as much as the whole class.
    """
    hits, true = np.diagonal(counts, axis1=1, axis2=2), counts.sum(2)
    known = true > 0
    iou = np.divide(hits, counts.sum(1) + true - hits, out=np.zeros_like(hits), where=known)
    means: npt.NDArray[np.float64] = iou.sum(1) / np.maximum(known.sum(1), 1)
    return means
