"""docs/results.md from records: tables, intervals, and what is missing so far."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.study.arms import ARMS, BASELINE, RECIPES
from benchmarks.study.differences import mious, paired_interval
from benchmarks.study.records import Records

_GATES = ("predicted", "oracle", "none")
_FIGURES = {
    "jeffreys_similarity": "Jeffreys similarity",
    "map_cosine": "map cosine",
    "map_iou": "map IoU",
    "union_coverage": "coverage",
    "effective_prototypes": "effective prototypes",
    "prototype_cosine": "prototype cosine",
    "silhouette": "silhouette",
}


def report(records: Records, seeds: Sequence[int], conclusions: str) -> str:
    """The whole page as Markdown."""
    parts = [_HEAD.format(seeds=", ".join(map(str, seeds)))]
    for data in RECIPES:
        by_arm = {arm: found for arm in ARMS if (found := _found(records, data, arm, seeds))}
        if not by_arm:
            continue
        parts += [f"## {data}", _origin(by_arm), _scores(by_arm), _prototypes(by_arm)]
        if missing := _missing(records, data, seeds):
            parts.append(f"Not run yet: {'; '.join(missing)}.")
    return "\n\n".join([*parts, "## What it says", conclusions.strip()]) + "\n"


_HEAD = """\
# Results on real tissue

Made by `python -m benchmarks.study`; the numbers behind it are in `results.json`. Seeds {seeds}; mean ± standard
deviation over seeds. Every network trains on image-level labels alone, with the same encoder, schedule, augmentation
and averaging; each line of the tables changes only what it names. The averaged weights at the end of the fixed
schedule are scored (no epoch is picked) on `valid`: mean IoU over tissue classes in percent, true background left out.
*Predicted* gate: the network says how likely each class is in a tile; *oracle* is told the true image label, *none* has
no gate. *Adapted* is the predicted gate with prototypes taken anew from each picture or patient (`lpd evaluate --refine
adapt`); slides are adapted to in that way, and nothing is trained for it.

Differences to plain CAM come with a 95 % interval: pictures (or patients) and seeds are drawn anew 2,000 times, the
same ones for both arms, and the scores under the predicted gate are compared; a class that a draw does not show is left
out of that draw, as in `lpd evaluate`. Plain CAM can be given adapted prototypes
too, so adapted maps are compared with its plain and with its adapted ones.

Prototype figures are means over true class regions of `valid`: *Jeffreys similarity* (1 alike, 0 disjoint), cosine and
IoU of a class's maps with one another, share of the region that they cover together, how many prototypes are in use
(of K), cosine between the adapted prototypes, silhouette of the pixels grouped by prototype."""


def _found(records: Records, data: str, arm: str, seeds: Sequence[int]) -> list[Any]:
    return [record for seed in seeds if (record := records.find(data, arm, seed)) is not None]


def _missing(records: Records, data: str, seeds: Sequence[int]) -> list[str]:
    by_arm = {arm: [str(s) for s in seeds if records.find(data, arm, s) is None] for arm in ARMS}
    return [f"{arm} (seed {', '.join(left)})" for arm, left in by_arm.items() if left]


def _origin(by_arm: dict[str, list[Any]]) -> str:
    records = [r for found in by_arm.values() for r in found]
    recipe, encoder = records[0]["recipe"], records[0]["encoder"]
    groups = len(records[0]["groups"])
    train, valid = records[0]["fingerprints"]
    return (
        f"Recipe: {', '.join(f'`{part}`' for part in recipe)}; encoder `{encoder}`. {groups} pictures or patients in "
        f"`valid`. Fingerprints `{train}` (train), `{valid}` (valid). Trained on {records[0]['device']}."
    )


def _scores(by_arm: dict[str, list[Any]]) -> str:
    baseline = by_arm.get(BASELINE, [])
    codes = list(next(iter(by_arm.values()))[0]["gates"]["predicted"]["iou"])
    head = ["arm", "runs", "predicted", *codes, "oracle", "none", "predicted − plain CAM", "adapted"]
    rows = [[*head, "adapted − plain CAM", "adapted − plain CAM, adapted"]]
    for arm, found in by_arm.items():
        gates = [_spread([_percent(r["gates"].get(gate, {}).get("miou")) for r in found]) for gate in _GATES]
        classes = [_spread([_percent(r["gates"]["predicted"]["iou"][c]) for r in found]) for c in codes]
        adapted = _spread([_percent(_pooled(r["adapted"])) for r in found])
        pairs = [("groups", "groups"), ("adapted", "groups"), ("adapted", "adapted")]
        plain, against, alike = (_difference(found, baseline, of) for of in pairs)
        cells = [arm, str(len(found)), f"**{gates[0]}**", *classes, *gates[1:], plain, f"**{adapted}**", against, alike]
        rows.append(cells)
    questions = "\n".join(f"- *{arm}*: {ARMS[arm].question}" for arm in by_arm)
    return f"{_table(rows[0], rows[1:])}\n\n{questions}"


def _pooled(groups: dict[str, Any]) -> float:
    return float(mious(np.array([sum(np.array(counts, dtype=float) for counts in groups.values())]))[0])


def _difference(found: list[Any], baseline: list[Any], of: tuple[str, str]) -> str:
    """Of two arms; and of a network with adapted prototypes and without, if it is the baseline itself."""
    pairs = [
        (r, b) for r in found for b in baseline if r["seed"] == b["seed"] and (r["arm"], of[0]) != (b["arm"], of[1])
    ]
    if not pairs:
        return ""
    middle, low, high = (100 * x for x in paired_interval([r for r, _ in pairs], [b for _, b in pairs], of=of))
    return f"{middle:+.1f} ({low:+.1f} to {high:+.1f})"


def _prototypes(by_arm: dict[str, list[Any]]) -> str:
    rows = [
        [arm, scale, *(_spread([r["figures"][scale][name] for r in found], 2) for name in _FIGURES)]
        for arm, found in by_arm.items()
        for scale in found[0]["figures"]
    ]
    return _table(["arm", "scale", *_FIGURES.values()], rows) if rows else "No prototype figures yet."


def _percent(fraction: float | None) -> float | None:
    return None if fraction is None else 100 * fraction


def _spread(values: list[float | None], digits: int = 1) -> str:
    known = [v for v in values if v is not None]
    if not known:
        return "–"
    mean = f"{np.mean(known):.{digits}f}"
    return f"{mean} ± {np.std(known, ddof=1):.{digits}f}" if len(known) > 1 else mean


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_report(path: Path, records: Records, seeds: Sequence[int], conclusions: str) -> None:
    """Write the page."""
    path.write_text(report(records, seeds, conclusions), encoding="utf-8")
