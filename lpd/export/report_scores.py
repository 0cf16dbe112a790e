"""The scores that a checkpoint carries, as rows of a report: what was measured, how, and how sure it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lpd.classes import ClassScheme

#: The network's own gate, as on slides; the others need to know the truth.
_GATE = "predicted"
_BACKGROUNDS = ("ignored", "tissue rule")


@dataclass(frozen=True)
class ScoreRow:
    """One protocol of one measurement; shares in percent, 0–100.

    Attributes:
        data: tiles that were scored.
        protocol: how.
        miou: mean intersection over union of the tissue classes.
        interval: of ``miou``, in words; empty if it was not estimated.
        iou: (class name, IoU or None) in mask order.
    """

    data: str
    protocol: str
    miou: float
    interval: str
    iou: tuple[tuple[str, float | None], ...]


def score_rows(scores: Mapping[str, Any], classes: ClassScheme) -> tuple[ScoreRow, ...]:
    """Rows of what a checkpoint says of its scores; what is not understood is left out."""
    rows: list[ScoreRow] = []
    for report in scores.values():
        try:
            rows += _rows(report, classes)
        except (KeyError, TypeError, ValueError, AttributeError):  # of another version, or made by somebody else
            continue
    return tuple(rows)


def _rows(report: Mapping[str, Any], classes: ClassScheme) -> list[ScoreRow]:
    told = report["data"]
    data = f"{told['tiles']} tiles of split {told['split']} of {told['name']}, {told['groups']} groups"
    sources = [("", report["gates"]), (", prototypes adapted", report.get("refined", {}).get("adapt", {}))]
    rows = []
    for suffix, gates in sources:
        for background in _BACKGROUNDS:
            found = gates.get(_GATE, {}).get(background)
            if found:
                iou = tuple((c.name, _percent(found["iou"].get(c.code))) for c in classes.classes)
                interval = "" if suffix else _interval(report.get("spread", {}), background)
                protocol = f"gate {_GATE}, background {background}{suffix}"
                rows.append(ScoreRow(data, protocol, 100 * float(found["miou"]), interval, iou))
    return rows


def _interval(spread: Mapping[str, Any], background: str) -> str:
    measured = spread.get("gate"), spread.get("background"), spread.get("refinement", "none")
    if measured != (_GATE, background, "none"):
        return ""
    low, high, level = (100 * float(spread[name]) for name in ("low", "high", "level"))
    return f"{low:.1f} to {high:.1f} ({level:.0f} %, over {spread['groups']} groups)"


def _percent(value: Any) -> float | None:
    return None if value is None else 100 * float(value)
