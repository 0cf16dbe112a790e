"""What the page is told of a training: state, place in the line, what it left."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lpd.recipe.run_files import BEST, CONFIG, LAST, PREVIEWS
from viewers.train.curves import best_scores, read_curves
from viewers.train.records import Training

_KEPT = 2048


def describe(training: Training, line: Mapping[str, int]) -> dict[str, Any]:
    """A training as plain JSON; paths stay on the server."""
    folder, run = training.folder, training.run
    return {
        "name": training.name,
        "data": training.data,
        "data_id": training.data_id,
        "user": training.user,
        "created": training.created,
        "state": run.state,
        "ended": run.ended,
        "message": run.message.replace(f"{folder.parent}/", ""),
        "progress": asdict(run.progress),
        "started": run.started,
        "updated": run.updated,
        "queue_position": line.get(training.name),
        "device": training.in_line.device,
        "can_go_on": training.can_go_on,
        "exact": training.goes_on_exactly,
        "terminal": not training.argv,
        "checkpoints": [which for which, file in (("last", LAST), ("best", BEST)) if (folder / file).is_file()],
        "has_settings": (folder / CONFIG).is_file(),
        "previews": _previews(folder),
    }


def described_once(training: Training, line: Mapping[str, int]) -> dict[str, Any]:
    """The same with its scores."""
    return describe(training, line) | {"scores": _SCORES.of(training.folder)}


class _Scores:
    """Scores of trainings; of their metrics only what is new is read. Threads may share it."""

    def __init__(self) -> None:
        self._known: OrderedDict[Path, tuple[str, int, Mapping[str, Any]]] = OrderedDict()
        self._guard = threading.Lock()

    def of(self, folder: Path) -> Mapping[str, Any]:
        with self._guard:
            run, since, before = self._known.pop(folder, ("", 0, {}))
        told = read_curves(folder, run, since)
        scores = best_scores(told["valid"], {} if told["anew"] else before)
        with self._guard:
            self._known[folder] = told["run"], told["since"], scores
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return scores


def _previews(folder: Path) -> list[int]:
    names = (path.stem.removeprefix("step-") for path in (folder / PREVIEWS).glob("step-*.png"))
    return sorted(int(name) for name in names if name.isdigit())


_SCORES = _Scores()
