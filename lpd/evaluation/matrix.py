"""The rows of the report's matrix: gate × background protocol × measure, with a column for each refinement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lpd.evaluation.protocols import GIVEN, IGNORED, RULE
from lpd.evaluation.refining import PLAIN

_TISSUE = {"miou": "mIoU", "mdice": "mDice", "fwiou": "FwIoU"}
_WITH_BACKGROUND = {
    "miou_with_background": "mIoU with background",
    "mdice_with_background": "mDice with background",
    "fwiou_with_background": "FwIoU with background",
}
#: What is shown of each background protocol; under ``given`` the tissue figures are those of ``ignored``.
_MEASURES = {IGNORED: _TISSUE, RULE: {**_TISSUE, **_WITH_BACKGROUND}, GIVEN: _WITH_BACKGROUND}


@dataclass(frozen=True)
class MatrixRow:
    """One measure under one gate and background protocol; ``values`` by refinement, fractions of 1 or None."""

    gate: str
    background: str
    measure: str
    values: Mapping[str, float | None]


def matrix_rows(report: Mapping[str, Any]) -> list[MatrixRow]:
    """All rows of a report, gate by gate; the first value of each is that of the plain map."""
    tables = {PLAIN: report["gates"], **report["refined"]}
    return [
        MatrixRow(gate, background, label, {name: table[gate][background][key] for name, table in tables.items()})
        for gate, protocols in report["gates"].items()
        for background in protocols
        for key, label in _MEASURES[background].items()
    ]
