"""docs/performance.md from measured rows: the aims first, then every table."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.speed.reporting import tables
from benchmarks.speed.timing import Row
from lpd.inference.devices import computes_bf16


@dataclass(frozen=True)
class _Aim:
    """``found`` takes a row's figure from the rows of ``part`` whose name begins with ``name``."""

    text: str
    part: str
    name: str
    found: Callable[[Sequence[Row]], str]


def _ratios(rows: Sequence[Row]) -> str:
    return "; ".join(f"{row.ratio:.2f} ({row.case.split(',')[0]})" for row in rows)


def _beside(rows: Sequence[Row]) -> str:
    return "; ".join(f"{row.ratio:.2f} × ({row.case.split(',')[0]}, {row.name.split(', ', 1)[1]})" for row in rows)


def _peaks(rows: Sequence[Row]) -> str:
    return "; ".join(f"{row.name}: {row.note.removeprefix('peak ')}" for row in rows)


def _seconds(rows: Sequence[Row]) -> str:
    return "; ".join(f"{row.ms / 1000:.2f} s" for row in rows)


def _exports(rows: Sequence[Row]) -> str:
    return "; ".join(f"{row.name}: {row.ms / 1000:.0f} CPU-s, {row.note.removeprefix('peak ')}" for row in rows)


def _runs(rows: Sequence[Row]) -> str:
    return "; ".join(f"{row.case.split(' px')[0]} px: {row.ms / 1000:.0f} s on the wall, {row.note}" for row in rows)


_AIMS = (
    _Aim("end to end / the network alone, CPU: ≥ 0.95", "whole", "the whole slide, not adapted", _ratios),
    _Aim("reading / libjpeg-turbo on the same bytes: ≥ 0.70", "reading", "Slide.read", _ratios),
    _Aim(
        "pipeline overhead beside TIAToolbox, the same tiles, a network that costs nothing: ≥ 5 ×; MiT-B1: ≥ 3.5 ×",
        "peer",
        "this project",
        _beside,
    ),
    _Aim("added peak memory, 8k → 100k px: flat, ≤ 300 MB", "memory", "", _peaks),
    _Aim("`lpd segment` of a slide of 100,000 × 80,000 px on 2 cores: all files", "large", "lpd segment", _runs),
    _Aim("GeoJSON + OME-TIFF of a 30k × 30k mask: ≤ 350 MB, ≤ 60 CPU-s", "export", "", _exports),
    _Aim("second job to its first window: ≤ 1 s", "start-up", "the resident worker", _seconds),
)

#: Written by hand: what is known of why an aim is missed.
_CAUSES = Path(__file__).parents[2] / "docs" / "performance-causes.md"
_WHY = """\
## What is missed, and why

Written by hand from decisions and profiles, in `performance-causes.md`; the table above is made anew each time."""

_HEAD = """\
# Performance of the engine

Made by `python -m benchmarks.engine` (`--json docs/performance.json --page docs/performance.md`). Contestants took
turns; a ratio is the median of the rounds' own, with quartiles. A virtual machine with {cores} cores of {machine}
({half} instructions for bf16) that others used at the same time; one thread, CPU time of the process, but for start-up,
which is wall time.
**No GPU was at hand**: idle share, MFU and tiles/s on one are not measured, and its code paths have never run.
"""


def write_page(path: Path, rows: Sequence[Row]) -> None:
    """Write the page; an aim of a part that has not been measured says so."""
    lines = ["| aim | found |", "|---|---|"]
    for aim in _AIMS:
        own = [row for row in rows if row.part == aim.part and row.name.startswith(aim.name)]
        lines.append(f"| {aim.text} | {aim.found(own) or 'not measured'} |")
    half = "with" if computes_bf16(torch.device("cpu")) else "without"
    head = _HEAD.format(cores=os.cpu_count(), machine=platform.machine(), half=half)
    text = "\n\n".join(
        [
            head.strip(),
            "## Against the aims\n\n" + "\n".join(lines),
            _WHY,
            _CAUSES.read_text(encoding="utf-8").strip(),
            "## All figures",
            tables(rows),
        ]
    )
    path.write_text(text + "\n", encoding="utf-8")
