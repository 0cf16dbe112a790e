"""Results of single trainings, kept in one file, so that a study may be interrupted, continued and told again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lpd.evaluation.files import write_text

Record = Mapping[str, Any]


class Records:
    """Records by data set, arm and seed; :meth:`add` writes the file anew, one record a line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.all: list[Record] = json.loads(path.read_text(encoding="utf-8"))["runs"] if path.exists() else []

    def find(self, data: str, arm: str, seed: int) -> Record | None:
        """The record of one training, None if it was not done yet."""
        wanted = {"data": data, "arm": arm, "seed": seed}
        return next((r for r in self.all if {k: r[k] for k in wanted} == wanted), None)

    def add(self, record: Record) -> None:
        """Keep one more, in place of an older one of the same name."""
        key = ("data", "arm", "seed")
        others = [r for r in self.all if any(r[k] != record[k] for k in key)]
        self.all = sorted([*others, record], key=lambda r: [str(r[k]) for k in key])
        lines = (json.dumps(r, ensure_ascii=False, allow_nan=False, separators=(",", ":")) for r in self.all)
        write_text(self._path, '{"runs": [\n' + ",\n".join(lines) + "\n]}\n")
