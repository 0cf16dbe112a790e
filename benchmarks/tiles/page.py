"""docs/tiles.md from what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.speed.reporting import tables
from benchmarks.speed.timing import Row
from benchmarks.tiles.load import CONDITIONS, Load

_HEAD = """\
# Tiles: what they cost and how long people wait

Made by `python -m benchmarks.tiles --page docs/tiles.md`. Contestants took turns; a ratio is the median of the rounds'
own, with quartiles. Milliseconds depend on what else the machine does, CPU time and ratios hardly.
"""


def page(machine: str, rows: Sequence[Row], loads: Sequence[Load]) -> str:
    """The whole page, Markdown."""
    parts = [_HEAD + "\n" + machine, "## One tile\n\nCPU time of one process.\n\n" + tables(rows)]
    if loads:
        parts += [
            "## Eight people\n\n" + _OVER_HTTP,
            *(_table(c, [x for x in loads if x.condition == c]) for c in CONDITIONS),
        ]
    return "\n\n".join(parts) + "\n"


_OVER_HTTP = """\
Each moves a screen of 6 × 4 tiles a step four times a second, over six connections, on levels larger than the screen,
and after eight steps goes on with another level, each person at a moment of their own; waits count from wish to last
byte while panning, not while a screen is first filled. Server, people and segmentation share the machine.
*Seen before*: of a slide that has been looked at; *first sight*: of a copy that nobody has asked for yet, its opening
included. CPU is the server's."""


def _table(condition: str, loads: Sequence[Load]) -> str:
    lines = [f"**{condition}**\n", "| | p50, ms | p95, ms | CPU ms a tile | tiles |", "|---|---|---|---|---|"]
    lines += [f"| {x.name} | {x.p50_ms:.0f} | {x.p95_ms:.0f} | {x.cpu_ms:.1f} | {x.tiles} |" for x in loads]
    return "\n".join(lines)


def write_page(path: Path, text: str) -> None:
    """Write the page."""
    path.write_text(text, encoding="utf-8")
