"""Timing: contestants take turns, so that whatever else the machine does falls on all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Clock:
    """What a second is.

    Attributes:
        device: its work is waited for before the clock is read.
        busy: count the CPU seconds of this process, which other programs do not lengthen, instead of those on the wall.
            Only fair where one thread does all the work.
    """

    device: torch.device
    busy: bool

    def now(self) -> float:
        """Seconds since some moment."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.process_time() if self.busy else time.perf_counter()

    @property
    def unit(self) -> str:
        """In words."""
        return "CPU time of the process" if self.busy else "wall time"


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        part, case: of the benchmark; lines of one case took turns.
        name: of the contestant.
        ms: median of a round, in milliseconds.
        tiles: how many a round handles; 0 where that says nothing.
        ratio: how many times as fast as the first of its case: the median of the rounds' own ratios, with ``low`` and
            ``high`` quartiles.
        note: what else there is to say.
    """

    part: str
    case: str
    name: str
    ms: float
    tiles: int
    ratio: float
    low: float
    high: float
    note: str = ""

    @property
    def tiles_per_s(self) -> float:
        """Rate, 0 where it says nothing."""
        return 1000 * self.tiles / self.ms


def take_turns(
    contestants: Mapping[str, Callable[[], object]], rounds: int, clock: Clock, *, warmup: int = 1
) -> dict[str, list[float]]:
    """Seconds of each contestant in each round, A B C A B C …, after ``warmup`` rounds that do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(warmup + rounds):
        for name, work in contestants.items():
            start = clock.now()
            work()
            if turn >= warmup:
                seconds[name].append(clock.now() - start)
    return seconds


def compare(
    part: str,
    case: str,
    contestants: Mapping[str, Callable[[], object]],
    rounds: int,
    clock: Clock,
    *,
    tiles: Mapping[str, int] | int = 0,
    notes: Mapping[str, str] | None = None,
) -> list[Row]:
    """Let contestants take turns; ratios are to the first of them, of rates where ``tiles`` differ."""
    seconds = take_turns(contestants, rounds, clock)
    handled = {name: tiles if isinstance(tiles, int) else tiles[name] for name in contestants}
    first = next(iter(contestants))
    rows = []
    for name, own in seconds.items():
        scale = handled[name] / handled[first] if handled[first] else 1.0
        low, middle, high = quartiles([a / b * scale for a, b in zip(seconds[first], own, strict=True)])
        note = (notes or {}).get(name, "")
        rows.append(Row(part, case, name, 1000 * statistics.median(own), handled[name], middle, low, high, note))
    return rows


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high
