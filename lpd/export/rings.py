"""From labelled pixels to polygons: exact borders along pixel edges, valid also where pixels touch by a corner."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.int64]
Labels = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Shape:
    """One region.

    Attributes:
        label: its number in the label array.
        exterior: (N, 2) corners (x, y) in pixel edges, clockwise on the screen, first and last the same.
        holes: the same, counter-clockwise.
    """

    label: int
    exterior: Points
    holes: tuple[Points, ...]


def trace(labels: Labels) -> Iterator[Shape]:
    """Outline every region of an array of labels, in order of label.

    Args:
        labels: (H, W) int32, 0 for no region; a label's pixels must be connected by edges (4-connected).

    Yields:
        Polygons whose area is exactly that of the pixels. Rings are simple: where a ring would touch itself at a
        corner it is split there into a ring and a hole, as the simple-features standard asks.
    """
    runs = _runs(labels)
    following = _next_run(runs)
    exteriors: dict[int, Points] = {}
    holes: dict[int, list[Points]] = {}
    for first, ring in _cycles(following):
        label = int(runs.label[first])
        for part in _simple_rings(runs.start[ring]):
            if _doubled_area(part) > 0:
                exteriors[label] = part
            else:
                holes.setdefault(label, []).append(part)
    for label in sorted(exteriors):
        yield Shape(label, exteriors[label], tuple(holes.get(label, ())))


@dataclass(frozen=True)
class _Runs:
    """Straight pieces of border between two corners: (R,) each, points (R, 2) as (x, y)."""

    start: Points
    end: Points
    direction: npt.NDArray[np.int8]  # 0 right, 1 down, 2 left, 3 up on the screen, with the region on its right side
    turn: npt.NDArray[np.int8]  # direction of the run that follows
    label: npt.NDArray[np.int32]


def _runs(labels: Labels) -> _Runs:
    framed = np.pad(labels, 1)
    parts = []
    for quarter in range(4):
        # Turned by quarters, every side of a pixel is once the upper one, which is followed to the right.
        start, end, bends_left, label = _upper_runs(np.rot90(framed, quarter))
        turn = np.where(bends_left, quarter - 1, quarter + 1) % 4
        height, width = framed.shape
        parts.append(
            _Runs(
                _turned_back(start, quarter, width, height),
                _turned_back(end, quarter, width, height),
                np.full(len(label), quarter, np.int8),
                turn.astype(np.int8),
                label,
            )
        )
    return _Runs(
        np.concatenate([p.start for p in parts]) - 1,
        np.concatenate([p.end for p in parts]) - 1,
        np.concatenate([p.direction for p in parts]),
        np.concatenate([p.turn for p in parts]),
        np.concatenate([p.label for p in parts]),
    )


def _upper_runs(view: Labels) -> tuple[Points, Points, npt.NDArray[np.bool_], Labels]:
    """Runs along upper sides, left to right: start, end, whether the border then bends left, label."""
    upper = np.zeros(view.shape, bool)
    upper[1:] = (view[1:] != view[:-1]) & (view[1:] != 0)
    joined = upper[:, 1:] & upper[:, :-1] & (view[:, 1:] == view[:, :-1])
    starts, ends = upper.copy(), upper
    starts[:, 1:] &= ~joined
    ends[:, :-1] &= ~joined
    row, first = np.nonzero(starts)
    _, last = np.nonzero(ends)
    label = view[row, first]
    # Past its end the border bends left if the region goes on to the right (then also above, or the run went on).
    bends_left = view[row, last + 1] == label
    return np.stack([first, row], 1), np.stack([last + 1, row], 1), bends_left, label


def _turned_back(points: Points, quarter: int, width: int, height: int) -> Points:
    """Corner points of an array turned by ``quarter`` counter-clockwise quarters, in the frame before turning."""
    x, y = points[:, 0], points[:, 1]
    turned = ((x, y), (width - y, x), (width - x, height - y), (y, height - x))[quarter]
    return np.stack(turned, 1)


def _next_run(runs: _Runs) -> npt.NDArray[np.int64]:
    """Which run follows each: a corner and a direction belong to one run only, since they name one pixel side."""
    span = int(runs.end.max(initial=0)) + 1
    begins = (runs.start[:, 1] * span + runs.start[:, 0]) * 4 + runs.direction
    goes_on = (runs.end[:, 1] * span + runs.end[:, 0]) * 4 + runs.turn
    order = np.argsort(begins)
    following: npt.NDArray[np.int64] = order[np.searchsorted(begins, goes_on, sorter=order)]
    return following


def _cycles(following: npt.NDArray[np.int64]) -> Iterator[tuple[int, list[int]]]:
    after = following.tolist()
    for first in range(len(after)):
        ring = []
        run = first
        while after[run] >= 0:
            ring.append(run)
            after[run], run = -1, after[run]
        if ring:
            yield first, ring


def _simple_rings(corners: Points) -> Iterator[Points]:
    """Split a closed walk wherever it comes by the same corner again; each part closed."""
    keys = (corners[:, 1] << 32 | corners[:, 0]).tolist()
    if len(set(keys)) == len(keys):
        yield np.concatenate([corners, corners[:1]])
        return
    walk: list[int] = []
    at: dict[int, int] = {}
    for number, key in enumerate(keys):
        if key in at:
            since = at[key]
            loop = walk[since:]
            for left in loop:
                del at[keys[left]]
            del walk[since:]
            yield corners[[*loop, loop[0]]]
        at[key] = len(walk)
        walk.append(number)
    yield corners[[*walk, walk[0]]]


def _doubled_area(ring: Points) -> int:
    x, y = ring[:, 0], ring[:, 1]
    return int((x[:-1] * y[1:] - x[1:] * y[:-1]).sum())
