"""What the folder of a training tells: who started it with which command, how far it is, and how it ended."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lpd.errors import LpdError
from lpd.recipe.run_files import CONFIG, LAST, METRICS, RESUME
from lpd.runs import RunState, StateName, read_state
from viewers.children import EXIT_NAME
from viewers.errors import NotFoundError
from viewers.job_log import log_lines, reason, where
from viewers.lines import InLine

RECORD, STOP_WANTED = "training.json", "cancel"
#: How a run reports an error that is not one of ours: by the name of its class.
_UNEXPECTED = re.compile(r"\w+(Error|Exception|Warning|Exit|Iteration): ")
#: A training that an app, which is gone, had only just started counts as dead after this long.
_START_PATIENCE_S = 120.0


@dataclass(frozen=True)
class Training:
    """One training as its folder tells it.

    Attributes:
        name: of the folder, which is the training's id.
        data: name of the data set, ``data_id`` its id here; both empty for a training that a terminal started.
        user: who asked for it; empty where people have no names.
        created, asked: Unix seconds; ``asked`` moves when it is gone on with: its place in the line is the last then.
        argv: the command; empty for a training that a terminal started.
        run: its state.
    """

    name: str
    folder: Path
    created: float
    asked: float
    run: RunState
    data: str = ""
    data_id: str = ""
    user: str = ""
    argv: tuple[str, ...] = ()

    @property
    def in_line(self) -> InLine:
        """Where it stands; in no line before the command has said what device ``auto`` is here."""
        named = self.argv[self.argv.index("--device") + 1] if "--device" in self.argv else "auto"
        device = self.run.device or ("" if named == "auto" else named)
        return InLine(self.name, device, self.asked, self.run.state == "queued")

    @property
    def can_go_on(self) -> bool:
        """Whether its command can be given again, to go on where it last saved itself or to begin anew."""
        return bool(self.argv) and self.run.ended and self.run.state != "done"

    @property
    def goes_on_exactly(self) -> bool:
        """Whether it has saved itself, so that going on loses nothing but the steps since."""
        return (self.folder / RESUME).is_file()


def is_training(folder: Path) -> bool:
    """Whether a folder is one of a training, started here or in a terminal."""
    return not folder.is_symlink() and any((folder / name).is_file() for name in (RECORD, CONFIG, METRICS))


def read_training(folder: Path, *, child: bool) -> Training:
    """A training as it is now.

    Args:
        folder: of the training.
        child: whether its process is one of this app's that has not ended.

    Raises:
        NotFoundError: its record cannot be read.
    """
    try:
        record = _record(folder)
        created = float(record.get("created") or folder.stat().st_mtime)
        training = Training(
            name=folder.name,
            folder=folder,
            created=created,
            asked=float(record.get("asked") or created),
            run=RunState(),
            data=str(record.get("data", "")),
            data_id=str(record.get("data_id", "")),
            user=str(record.get("user", "")),
            argv=tuple(str(part) for part in record.get("argv", ())),
        )
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise NotFoundError(
            f"the record of training {folder.name} cannot be read ({error}): delete its folder"
        ) from error
    return replace(training, run=_state(training, child=child))


def _record(folder: Path) -> Mapping[str, Any]:
    try:
        content: Mapping[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return content
    except FileNotFoundError:
        return {}


def _state(training: Training, *, child: bool) -> RunState:
    folder = training.folder
    try:
        state = read_state(folder)
    except LpdError as error:
        return RunState(state="failed", message=str(error))
    wanted = (folder / STOP_WANTED).exists()
    if state.state == "new":
        return _state_before_run(training, child=child, wanted=wanted)
    if state.state == "crashed":
        if wanted:
            return replace(state, state="cancelled", message="ended by force")
        return replace(state, message=_how_it_died(folder))
    if state.state == "failed" and _UNEXPECTED.match(state.message):
        return replace(state, message=f"Something unexpected went wrong: {where(folder)} says what.")
    if state.state in ("done", "cancelled"):  # what it was last at is of no use any more
        return replace(state, message="")
    return replace(state, message="Stopping: saving what it has learned …") if wanted and not state.ended else state


def _state_before_run(training: Training, *, child: bool, wanted: bool) -> RunState:
    """State of a training whose command has not said anything yet: starting, or ended on the way."""
    folder = training.folder
    name: StateName = "queued"
    message = "Stopping …" if wanted else "Starting …"
    if not training.argv:  # of a terminal, by an lpd that left no state
        name, message = ("done", "") if (folder / LAST).is_file() else ("failed", "it says nothing of how it ended")
    elif (folder / EXIT_NAME).exists() or (not child and time.time() - training.asked > _START_PATIENCE_S):
        name = "cancelled" if wanted else "failed"
        message = "" if wanted else reason(folder)
    return RunState(kind="train", state=name, message=message, started=training.asked, updated=training.asked)


def _how_it_died(folder: Path) -> str:
    said = next((line for line in reversed(log_lines(folder)) if line.startswith("lpd ")), "")
    if said:
        return said.partition(": ")[2]
    try:
        code = int(json.loads((folder / EXIT_NAME).read_text(encoding="utf-8"))["exit_code"])
    except (OSError, ValueError, KeyError, TypeError):
        code = 0
    if code == -getattr(signal, "SIGKILL", 9):
        return "the process was killed, by somebody or by a system short of memory: then lower optimizer.batch_size"
    if code < 0:
        return f"the process was ended by signal {-code}"
    return "the process ended without a word: it was killed, or the machine went down"
