"""What the benchmark says: a table to read, and JSON with the machine that it comes from."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

import timm
import torch

import lpd
from benchmarks.speed.scene import Scene
from benchmarks.speed.timing import Row
from lpd.runs import write_json_atomically

_HEAD = ("", "ms", "tiles/s", "times as fast", "quartiles", "")


def machine(scene: Scene) -> dict[str, Any]:
    """What a reader needs to know of the machine, and no more."""
    cuda = scene.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(scene.device) if cuda else f"CPU, {platform.machine()}",
        "cores": os.cpu_count(),
        "threads": scene.threads,
        "clock": scene.clock.unit,
        "encoder": scene.encoder,
        "batch_size": scene.batch_size,
        "rounds": scene.rounds,
        "versions": {
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "timm": str(timm.__version__),
            "lpd": lpd.__version__,
        },
    }


def write_json(path: Path, scene: Scene, rows: Sequence[Row]) -> None:
    """Everything that was measured."""
    write_json_atomically(path, {"machine": machine(scene), "rows": [asdict(row) for row in rows]})


def tables(rows: Sequence[Row]) -> str:
    """Markdown, a table for each case."""
    found = []
    for (part, case), own in groupby(rows, key=lambda row: (row.part, row.case)):
        lines = [_HEAD, ("---",) * len(_HEAD), *(_cells(row) for row in own)]
        found.append(f"**{part}: {case}**\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines))
    return "\n\n".join(found)


def _cells(row: Row) -> tuple[str, ...]:
    rate = f"{row.tiles_per_s:.1f}" if row.tiles else ""
    spread = "" if row.low == row.high else f"{row.low:.2f}–{row.high:.2f}"
    return row.name, _figures(row.ms), rate, f"{row.ratio:.2f}", spread, row.note


def _figures(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"
