"""Evaluations: a training's checkpoint scored on any data set by ``lpd evaluate``, kept in the training's folder."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lpd.errors import LpdError
from lpd.recipe.run_files import BEST, LAST
from viewers.errors import NotFoundError, NotReadyError
from viewers.train.datasets import DataSet
from viewers.train.errands import Errands, failure
from viewers.train.records import Training

_FOLDER, _REPORT, _SHEET = "evaluations", "report.json", "worst.png"
_FILES: Mapping[str, str] = {"last": LAST, "best": BEST}


class Evaluations:
    """One evaluation at a time; reports stay.

    Args:
        command: how to call ``lpd``.
    """

    def __init__(self, command: tuple[str, ...]) -> None:
        self._command = command
        self._errands = Errands("another model is being scored: wait for it, or stop it first")

    def start(self, training: Training, which: str, data: DataSet, split: str) -> str:
        """Begin to score; answers the key of the evaluation.

        Raises:
            LpdError: there is no such checkpoint, another evaluation is at work, or it cannot be started.
        """
        checkpoint = training.folder / _FILES[which]
        if not checkpoint.is_file():
            raise LpdError(f"training {training.name} has no {which} checkpoint yet")
        key = f"{data.id}-{split}-{which}"
        out = training.folder / _FOLDER / key
        what = ["--checkpoint", str(checkpoint), "--data", str(data.path), "--split", split]
        argv = ("evaluate", *what, "--out", str(out), "--refine", "none")
        self._errands.start(f"{training.name}/{key}", (*self._command, *argv), out)
        for old in (_REPORT, _SHEET):  # if this one is stopped or fails, scores of before must not be told as its own
            with suppress(OSError):
                (out / old).unlink(missing_ok=True)
        return key

    def end(self, training: Training, key: str) -> None:
        """Give one up."""
        self._errands.end(f"{training.name}/{_known(training, key).name}")

    def end_all(self, training: Training) -> None:
        """Give up whatever is at work on a training, before its folder is deleted."""
        for key in self._errands.running():
            if key.startswith(f"{training.name}/"):
                self._errands.end(key)

    def all(self, training: Training, names: Mapping[str, str]) -> list[dict[str, Any]]:
        """All evaluations of a training, the newest first, as plain JSON.

        Args:
            training: whose they are.
            names: of data sets by id.
        """
        told = [self._tell(training, place, names) for place in _places(training)]
        return sorted(told, key=lambda one: -float(one["when"]))

    def _tell(self, training: Training, place: Path, names: Mapping[str, str]) -> dict[str, Any]:
        data, split, which = place.name.split("-", 2)
        name = names.get(data, "a data set that is gone")
        said: dict[str, Any] = {"key": place.name, "data": name, "split": split, "which": which}
        said |= {"when": place.stat().st_mtime, "picture": (place / _SHEET).is_file()}
        if self._errands.runs(f"{training.name}/{place.name}"):
            return said | {"state": "running", "when": time.time(), "picture": False}
        try:
            scores = _scores(json.loads((place / _REPORT).read_text(encoding="utf-8")))
        except OSError:
            return said | {"state": "failed", "error": failure(place)}
        except (ValueError, KeyError, TypeError, AttributeError):
            return said | {"state": "failed", "error": "its report is damaged or of another lpd: score it again"}
        return said | {
            "state": "done",
            "outdated": _is_older(place / _REPORT, training.folder / _FILES[which]),
            **scores,
        }


def sheet(training: Training, key: str) -> Path:
    """The picture of the worst tiles.

    Raises:
        NotFoundError: there is no such evaluation.
        NotReadyError: it has drawn none.
    """
    path = _known(training, key) / _SHEET
    if not path.is_file():
        raise NotReadyError(f"evaluation {key} has no picture: it is drawn at the end")
    return path


def _places(training: Training) -> list[Path]:
    """Folders of evaluations, without those that somebody else made there."""
    inner = (training.folder / _FOLDER).glob("*-*-*")
    return [path for path in inner if path.name.rpartition("-")[2] in _FILES and path.is_dir()]


def _is_older(report: Path, checkpoint: Path) -> bool:
    """Whether a checkpoint was written again after it was scored: its training has gone on, or begun anew."""
    try:
        return report.stat().st_mtime_ns < checkpoint.stat().st_mtime_ns
    except OSError:
        return True


def _known(training: Training, key: str) -> Path:
    places = {path.name: path for path in _places(training)}
    if key not in places:
        raise NotFoundError(f"training {training.name} has no evaluation {key[:60]!r}: reload the page")
    return places[key]


def _scores(report: Mapping[str, Any]) -> dict[str, Any]:
    gates = {gate: _plain(scores["ignored"]) for gate, scores in report["gates"].items()}
    confusion = report["confusion"]["none"]["predicted"]["ignored"]
    return {"tiles": report["data"]["tiles"], "gates": gates, "confusion": confusion}


def _plain(scores: Mapping[str, Any]) -> dict[str, Any]:
    return {name: scores.get(name) for name in ("miou", "mdice", "iou")}
