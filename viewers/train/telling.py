"""What the page is told of a training: state, place in the line, what it left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from lpd.recipe.run_files import BEST, CONFIG, LAST, PREVIEWS
from lpd.runs import RunState
from viewers.train.curves import best_scores
from viewers.train.records import Training


@dataclass(frozen=True)
class Place:
    """A training as one that waits for a device, see :class:`viewers.jobs.InLine`."""

    id: str
    line: str
    created: float
    run: RunState

    @classmethod
    def of(cls, training: Training) -> Place:
        return cls(f"training {training.name}", training.line, training.asked, training.run)


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
        "queue_position": line.get(Place.of(training).id),
        "device": training.line,
        "can_go_on": training.can_go_on,
        "exact": training.goes_on_exactly,
        "terminal": not training.argv,
        "checkpoints": [which for which, file in (("last", LAST), ("best", BEST)) if (folder / file).is_file()],
        "has_settings": (folder / CONFIG).is_file(),
        "previews": _previews(folder),
    }


def described_once(training: Training, line: Mapping[str, int]) -> dict[str, Any]:
    """The same with its scores, which are read again only when they have changed."""
    return describe(training, line) | {"scores": _scores(training.folder, _changed(training.folder))}


@lru_cache(maxsize=512)
def _scores(folder: Path, _changed: tuple[int, int]) -> dict[str, Any]:
    return best_scores(folder)


def _changed(folder: Path) -> tuple[int, int]:
    try:
        facts = (folder / "metrics.jsonl").stat()
    except OSError:
        return 0, 0
    return facts.st_mtime_ns, facts.st_size


def _previews(folder: Path) -> list[int]:
    names = (path.stem.removeprefix("step-") for path in (folder / PREVIEWS).glob("step-*.png"))
    return sorted(int(name) for name in names if name.isdigit())
