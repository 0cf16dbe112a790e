"""Lines for the devices: who computes, who waits, and where each stands, whatever kind of work it is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class InLine:
    """A segmentation or training that has not ended.

    Attributes:
        id: of the job, or name of the training.
        device: that it computes on or waits for; empty until its command has said what ``auto`` is here.
        since: Unix seconds; who came first is served first.
        waits: False once it computes.
    """

    id: str
    device: str
    since: float
    waits: bool


def places(going: Iterable[InLine]) -> dict[str, int]:
    """Places in the lines by id, 1 for the next: those that wait, in the order they came.

    Who waits for nobody, because none is at work on its device and none came before, has no place: it is starting. So
    is one of which the device is not known.
    """
    lines: dict[str, list[InLine]] = defaultdict(list)
    for one in going:
        if one.device:
            lines[one.device].append(one)
    found: dict[str, int] = {}
    for line in lines.values():
        waiting = sorted((one for one in line if one.waits), key=lambda one: one.since)
        first = 0 if len(waiting) == len(line) else 1
        found |= {one.id: place for place, one in enumerate(waiting, first) if place}
    return found
