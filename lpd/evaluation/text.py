"""The report for a terminal: plain tables of one JSON report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lpd.evaluation.bootstrap import FEW_GROUPS
from lpd.evaluation.markdown import against_sentence
from lpd.evaluation.matrix import matrix_rows

Report = Mapping[str, Any]


def to_text(report: Report) -> str:
    """Tables of a report of :func:`lpd.evaluation.report.measure`; with ``checkpoint``, the file's name."""
    data = report["data"]
    parts = [
        f"{Path(report['checkpoint']).stem} on {data['tiles']} {data['split']} tiles of {data['name']} "
        f"from {data['groups']} groups; percentages",
        *(_matrix(report, gate) for gate in report["gates"]),
        _by_class(report),
        _spread(report["spread"]),
        _gate(report["gate"]),
        *([_paper(report)] if "paper" in report else []),
        _similarity(report["jeffreys_similarity"]),
    ]
    if "against" in report:
        parts.append(against_sentence(report))
    return "\n\n".join(parts)


def _matrix(report: Report, gate: str) -> str:
    rows = [row for row in matrix_rows(report) if row.gate == gate]
    lines = [f"{f'gate {gate}':<46}" + "".join(f"{name:>7}" for name in rows[0].values)]
    background = ""
    for row in rows:
        shown = f"background {row.background}" if row.background != background else ""
        background = row.background
        lines.append(f"  {shown:<22} {row.measure:<21}" + "".join(f"{_percent(v):>7}" for v in row.values.values()))
    return "\n".join(lines)


def _by_class(report: Report) -> str:
    scores = report["gates"]["predicted"]["ignored"]
    rows = [
        f"  {code:<12} IoU {_percent(scores['iou'][code])}   Dice {_percent(scores['dice'][code])}"
        for code in scores["iou"]
    ]
    return "\n".join(["by class, gate predicted, background ignored", *rows])


def _spread(spread: Report) -> str:
    if spread["low"] is None:
        return "interval of mIoU  unknown: all tiles come from one group"
    few = ", ".join(f"{code} in {n}" for code, n in spread["groups_by_class"].items() if n < FEW_GROUPS)
    return (
        f"interval of mIoU  {_percent(spread['low']).strip()} to {_percent(spread['high']).strip()} "
        f"({100 * spread['level']:g} % of draws of {spread['groups']} groups)"
        + (f"; few groups show a class: {few}" if few else "")
    )


def _gate(gate: Report) -> str:
    rows = [
        f"  {code:<12} right {_percent(row['accuracy'])}   sensitivity {_percent(row['sensitivity'])}   "
        f"specificity {_percent(row['specificity'])}   Brier {row['brier']:.3f}   ECE {row['ece']:.3f}"
        for code, row in gate.items()
    ]
    return "\n".join(["gate by tile", *rows])


def _paper(report: Report) -> str:
    rows = [
        f"  labels {labels:<10} background {background:<11} mIoU {_percent(table['miou'])}   "
        f"with background {_percent(table['miou_with_background'])}"
        for labels in ("oracle", "predicted")
        for background, table in report["paper"][labels].items()
    ]
    return "\n".join(["the paper's own map, for comparison", *rows])


def _similarity(by_scale: Mapping[str, float | None]) -> str:
    shown = (f"scale {scale}: {'–' if value is None else f'{value:.3f}'}" for scale, value in by_scale.items())
    return f"prototype similarity (Jeffreys)  {', '.join(shown)}"


def _percent(value: float | None) -> str:
    return "    –" if value is None else f"{100 * value:5.1f}"
