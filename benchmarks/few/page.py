"""docs/few-tiles.md from records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.few.arms import ARMS
from benchmarks.few.running import PRESET
from benchmarks.study.records import Record

#: Written by hand.
_CONCLUSIONS = Path(__file__).parents[2] / "docs" / "few-tiles-conclusions.md"

_HEAD = """\
# How far ten minutes of labels go

Made by `python -m benchmarks.few`; the numbers behind it are in `few-tiles.json`. Tissue of six organs (`{data}`), of
which somebody labels a part: all tiles of one patient, then the next patient's, 200 tiles being one every three seconds
for ten minutes. The seed decides whose. Preset `{preset}` in fp32 and nothing else changed, on one core; the averaged
weights at the end of the fixed schedule are scored (no epoch is picked) on all {valid[0]} `valid` tiles of
{valid[1]} other patients: mean IoU over tissue classes in percent, true background left out, mean ± standard deviation
over seeds {seeds}. *Predicted* gate: the network says which classes are in a tile; *oracle* is told.
*Preview*: the encoder of `{preview}`, which was trained on another tissue;
*ImageNet*: `{encoder}`.
"""


def page(records: Sequence[Record]) -> str:
    """The whole page as Markdown; of what was not run it says so."""
    if not records:
        return "# How far ten minutes of labels go\n\nNot measured yet.\n"
    one = records[0]
    seeds = sorted({record["seed"] for record in records})
    encoder, preview = one["starts"]
    head = _HEAD.format(
        data=one["data"],
        preset=PRESET,
        valid=one["valid"],
        seeds=", ".join(map(str, seeds)),
        encoder=encoder,
        preview=preview,
    )
    codes = list(one["gates"]["predicted"]["iou"])
    titles = ["labels", "runs", "patients", "epochs", "predicted", *codes, "oracle", "CPU minutes"]
    rows = [titles, ["---"] * len(titles)]
    found = {arm: [r for r in records if r["arm"] == arm] for arm in ARMS}
    rows += [_row(arm, runs, codes) for arm, runs in found.items() if runs]
    lines = [head, *(f"| {' | '.join(row)} |" for row in rows)]
    if missing := [arm for arm in ARMS if len(found[arm]) < len(seeds)]:
        lines.append(f"\nNot or not fully run: {'; '.join(missing)}.")
    return "\n".join([*lines, "", "## What it says", "", _CONCLUSIONS.read_text(encoding="utf-8").strip()]) + "\n"


def _row(arm: str, runs: Sequence[Record], codes: Sequence[str]) -> list[str]:
    def spread(values: Sequence[Any]) -> str:
        percent = 100 * np.array([float("nan") if value is None else value for value in values])
        return f"{percent.mean():.1f}" + (f" ± {percent.std(ddof=1):.1f}" if len(runs) > 1 else "")

    gates = {gate: spread([run["gates"][gate]["miou"] for run in runs]) for gate in ("predicted", "oracle")}
    classes = [spread([run["gates"]["predicted"]["iou"][code] for run in runs]) for code in codes]
    people = sorted({run["patients"] for run in runs})
    minutes = np.mean([run["cpu_seconds"] for run in runs]) / 60
    told = f"{people[0]}" + (f"–{people[-1]}" if len(people) > 1 else "")
    cells = [arm, str(len(runs)), told, str(runs[0]["epochs"])]
    return [*cells, f"**{gates['predicted']}**", *classes, gates["oracle"], f"{minutes:.1f}"]
