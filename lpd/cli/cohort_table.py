"""CohortTable: ``cohort.csv``, a line for each slide of a cohort: how far it is, why it failed, its areas."""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lpd.cli.segmenting import Outcome
from lpd.runs import replacing

if TYPE_CHECKING:
    from lpd.inference.cohort import CohortSlide

NAME = "cohort.csv"
#: Beside ``done``, ``kept``, ``stopped`` and ``failed``: nobody has looked at it yet.
WAITING = "waiting"


class CohortTable:
    """Written anew, as a whole, after each slide."""

    def __init__(self, out: Path, folders: Mapping[CohortSlide, Path], codes: Sequence[str]) -> None:
        self._path, self._codes, self._complained = out / NAME, tuple(codes), False
        self._rows = {slide.path: self._row(slide.path, folder.name, WAITING) for slide, folder in folders.items()}

    def add(self, outcome: Outcome) -> bool:
        """Note what became of a slide; False if the file cannot be written, which must not hold up the slides.

        What cannot be written is said once; the next slide's note tries again, with all the notes before.
        """
        summary, reason = outcome.summary, outcome.said if outcome.state in ("failed", "stopped") else ""
        tissue = f"{summary['tissue_mm2']:.6f}" if summary else ""
        figures = [f"{outcome.seconds:.1f}", summary.get("device", ""), summary.get("backend", ""), tissue]
        areas = [f"{outcome.areas_mm2[c]:.6f}" if c in outcome.areas_mm2 else "" for c in self._codes]
        row = self._row(outcome.slide, outcome.folder.name, outcome.state, reason, *figures, *areas)
        self._rows[outcome.slide] = row
        try:
            self._write()
        except OSError as error:
            if not self._complained:
                why = f"({error.strerror or error}): close it or free some space"
                print(f"lpd segment: cannot write {self._path} {why}", file=sys.stderr)
            self._complained = True
            return False
        return True

    def _row(self, slide: Path, folder: str, *cells: str) -> list[str]:
        return [str(slide), folder, *cells]

    def _write(self) -> None:
        head = ["slide", "folder", "state", "reason", "seconds", "device", "backend", "tissue_mm2"]
        head += [f"{code}_mm2" for code in self._codes]
        # A name that is not UTF-8 is spelt out, as in its slide's own refusal.
        with (
            replacing(self._path) as temporary,
            temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
        ):
            writer = csv.writer(file)
            writer.writerow(head)
            writer.writerows([*row, *[""] * (len(head) - len(row))] for row in self._rows.values())
