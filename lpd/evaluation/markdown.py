"""The report for people to read: Markdown made of the JSON report alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from lpd.evaluation.bootstrap import FEW_GROUPS
from lpd.evaluation.matrix import matrix_rows
from lpd.evaluation.paper import POWER_RULE
from lpd.evaluation.protocols import GIVEN, IGNORED, RULE
from lpd.evaluation.refining import ADAPT, PLAIN

_USE = "**Research use only. Not a medical device.**"
_SCORES = """\
IoU of a class: of all pixels that either the truth or the model calls so, the share that both call so. Dice weighs what
both agree on twice. mIoU and mDice are the means over the classes, each class counting the same; FwIoU weighs the
classes by their true area. All figures are percentages."""
_ROWS_ARE_TRUTH = "Rows are the truth, columns what the model says; each row sums to 100 %."

Report = Mapping[str, Any]


def to_markdown(report: Report, pictures: Sequence[tuple[str, str]] = ()) -> str:
    """Write a report out.

    Args:
        report: of :func:`lpd.evaluation.report.measure`, with ``model`` (what the checkpoint says of itself) if known.
        pictures: (caption, path relative to the report) of each.
    """
    parts = [
        f"# Evaluation of {_text(report.get('checkpoint', 'a network'))}",
        _USE,
        _what(report),
        _summary(report),
        "## Scores",
        _SCORES,
        "Mean IoU of the tissue classes:",
        _matrix(report, "mIoU"),
        f"Mean IoU with background as one more class (*{GIVEN}* is flattering: background is copied from the truth):",
        _matrix(report, "mIoU with background"),
        "### By class",
        _by_class(report),
        "### All measures",
        _matrix(report),
        "## Which tissue is taken for which",
        f"Predicted gate, unrefined. {_ROWS_ARE_TRUTH}",
        _confusion(report, IGNORED),
        _confusion(report, RULE),
        "## Is the class in the tile? The gate",
        _gate(report),
        *_paper(report),
        *_against(report),
        *_pictures(pictures),
        "## How it was scored",
        _protocols(report),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _what(report: Report) -> str:
    data, model = report["data"], report.get("model", {})
    classes = ", ".join(f"{_text(name)} ({_text(code)})" for code, name in data["classes"].items())
    views = "mean of the tile and its mirror image" if report["flip"] else "one view a tile"
    groups = f"{data['groups']} group{'s' * (data['groups'] != 1)}"
    rows = [
        ("tiles", f"{data['tiles']} of split `{data['split']}` of {_text(data['name'])}, from {groups}"),
        ("size", f"{data['tile_px']} px at {data['mpp']:g} µm/px"),
        ("classes", classes),
        ("fingerprint of the tiles", f"`{data['fingerprint']}`"),
        ("licence of the tiles", _text(data["licence"])),
        *((_text(key.replace("_", " ")), _text(value)) for key, value in model.items()),
        ("input", views),
    ]
    return _table(("what", "which"), rows)


def _summary(report: Report) -> str:
    scores, spread = report["gates"]["predicted"][IGNORED], report["spread"]
    if scores["miou"] is None:
        return "No labelled tissue pixel: nothing can be said of this model on these tiles."
    lines = [
        f"Deciding by itself which classes a tile shows, the model gives {_percent(scores['accuracy'])} % of tissue",
        f"pixels their right class; mean IoU {_percent(scores['miou'])} %, mean Dice {_percent(scores['mdice'])} %.",
    ]
    if spread["low"] is None:
        lines.append("All tiles come from one group: how much the score would differ elsewhere is unknown.")
    else:
        lines.append(
            f"Drawing the {spread['groups']} groups of tiles (patient, slide or picture, by file name) anew "
            f"{spread['resamples']} times puts the mean IoU between {_percent(spread['low'])} and "
            f"{_percent(spread['high'])} % in {100 * spread['level']:g} % of the draws."
        )
    rare = {code: n for code, n in spread["groups_by_class"].items() if n < FEW_GROUPS}
    if rare:
        shown = ", ".join(f"{_text(code)} in {n}" for code, n in rare.items())
        lines.append(f"Few groups show a class ({shown}): its figures, and the interval, say little of it.")
    return " ".join(lines)


def _matrix(report: Report, measure: str | None = None) -> str:
    """Gate × background × refinement of one measure, or of all."""
    rows = [row for row in matrix_rows(report) if measure in (None, row.measure)]
    named = measure is None
    head = ["gate", "background", *(["measure"] if named else []), *map(_refinement, rows[0].values)]
    cells = [
        [row.gate, row.background, *([row.measure] if named else []), *map(_percent, row.values.values())]
        for row in rows
    ]
    return _table(head, cells)


def _by_class(report: Report) -> str:
    tables = {PLAIN: report["gates"], **report["refined"]}
    names = report["data"]["classes"]
    pixels = [sum(row) for row in report["confusion"][PLAIN]["predicted"][IGNORED]]
    head = ["class", "true area", "tiles"]
    head += [f"{kind}, {_refinement(name)}" for name in tables for kind in ("IoU", "Dice")]
    rows = []
    for (code, name), true in zip(names.items(), pixels, strict=True):
        share = true / sum(pixels) if sum(pixels) else None
        row = [f"{_text(name)} ({_text(code)})", f"{_percent(share)} %", str(report["gate"][code]["present"])]
        for table in tables.values():
            scores = table["predicted"][IGNORED]
            row += [_percent(scores["iou"][code]), _percent(scores["dice"][code])]
        rows.append(row)
    return "Predicted gate, background ignored.\n\n" + _table(head, rows)


def _confusion(report: Report, background: str) -> str:
    counts = report["confusion"][PLAIN]["predicted"][background]
    names = [_text(code) for code in report["data"]["classes"]] + ["background"]
    rows = []
    for name, row in zip(names, counts, strict=False):
        total = sum(row)
        shares = [_percent(value / total if total else None) for value in row]
        rows.append([f"**{name}**", *shares, f"{total:,}".replace(",", " ")])
    return _table([f"background {background}", *names[: len(counts)], "true pixels"], rows)


def _gate(report: Report) -> str:
    head = ("class", "tiles that show it", "right", "sensitivity", "specificity", "Brier score", "ECE")
    rows = [
        (
            _text(code),
            f"{row['present']} of {row['tiles']}",
            *(_percent(row[key]) for key in ("accuracy", "sensitivity", "specificity")),
            f"{row['brier']:.3f}",
            f"{row['ece']:.3f}",
        )
        for code, row in report["gate"].items()
    ]
    return "\n\n".join(
        (
            "A class passes where its gate scores above one half. Brier score: mean squared distance between score and "
            "truth (0 best). ECE, expected calibration error over ten equally wide bins: how far the scores lie from "
            "the share of tiles that show the class (0 best).",
            _table(head, rows),
            f"Of the gate's fit: {report['protocols']['gate']}.",
            _reliability(report),
        )
    )


def _reliability(report: Report) -> str:
    rows = [
        (
            _text(code),
            f"{row['from']:.1f}–{row['to']:.1f}",
            f"{row['tiles']}",
            _percent(row["mean_score"]),
            _percent(row["share_present"]),
        )
        for code, gate in report["gate"].items()
        for row in gate["bins"]
    ]
    return _table(("class", "gate score", "tiles", "mean score", "of these tiles show it"), rows)


def _paper(report: Report) -> list[str]:
    if "paper" not in report:
        return []
    paper, notes = report["paper"], report["protocols"]["paper"]
    codes = list(report["data"]["classes"])
    rows = [
        (
            labels,
            background,
            *(_percent(paper[labels][background][k]) for k in ("miou", "miou_with_background", "accuracy")),
            *(_percent(paper[labels][background]["iou"][name]) for name in (*codes, "background")),
        )
        for labels in ("oracle", "predicted")
        for background in (POWER_RULE, GIVEN)
    ]
    head = (
        "image label",
        "background",
        "mIoU",
        "mIoU with background",
        "right pixels",
        *map(_text, codes),
        "background",
    )
    return [
        "## The paper's own map, for comparison",
        f"{_sentence(notes['map'])} Image label *oracle*: {notes['oracle']}. *Predicted*: {notes['predicted']}. "
        f"Background *{POWER_RULE}*: {notes[POWER_RULE]}. *{_sentence(GIVEN)[:-1]}*: {notes[GIVEN]}.",
        _table(head, rows),
    ]


def _against(report: Report) -> list[str]:
    if "against" not in report:
        return []
    return ["## Against another model", f"{against_sentence(report)} It says nothing of the spread between trainings."]


def against_sentence(report: Report) -> str:
    """The paired difference as a sentence."""
    found = report["against"]
    if found["difference"] is None:
        return f"Nothing can be said of the difference from {_text(found['model'])}."
    signed = [
        f"{round(100 * found[key], 1) or 0.0:+.1f}".replace("-", "−")  # never −0.0
        for key in ("difference", "low", "high")
        if found[key] is not None
    ]
    interval = (
        f", {100 * report['spread']['level']:g} % interval {signed[1]} to {signed[2]}" if len(signed) == 3 else ""
    )
    return (
        f"Mean IoU minus that of {_text(found['model'])} on the same tiles (predicted gate, background ignored): "
        f"{signed[0]}{interval}."
    )


def _pictures(pictures: Sequence[tuple[str, str]]) -> list[str]:
    shown = [
        f"{_text(caption)}\n\n![{_text(caption)}]({quote(str(PurePosixPath(path)))})" for caption, path in pictures
    ]
    return ["## Where it errs", *shown] if shown else []


def _protocols(report: Report) -> str:
    notes = report["protocols"]
    similarity = ", ".join(
        f"scale {scale} {'–' if value is None else f'{value:.3f}'}"
        for scale, value in report["jeffreys_similarity"].items()
    )
    return "\n".join(
        [
            *(f"- gate *{name}*: {note}" for name, note in notes["gates"].items()),
            *(f"- background *{name}*: {note}" for name, note in notes["backgrounds"].items()),
            *(f"- refinement *{_refinement(name)}*: {note}" for name, note in notes["refinements"].items()),
            "- pixels that nobody labelled count nowhere; a class that neither truth nor model shows has no score (–)",
            f"- likeness of a class's prototypes inside its true regions (Jeffreys, 1 alike, 0 disjoint): {similarity}",
        ]
    )


def _refinement(name: str) -> str:
    return {PLAIN: "unrefined", ADAPT: "adapted"}.get(name, name.upper())


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _text(value: object) -> str:
    """Text of others, which must neither end a cell nor start markup."""
    flat = " ".join(str(value).split())
    return "".join(f"\\{c}" if c in "\\`*|<>[]" else c for c in flat)
