"""Segmenting by the resident worker: slides go over, outcomes come back; if it goes, the work goes on without it."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from lpd.cli.crew import LOOK_S, ask_to_stop, listening
from lpd.cli.progress import progress_bar
from lpd.cli.resident_job import Job, from_message
from lpd.cli.resident_place import LOG_NAME, Card, Line, code_stamp, read_card, resident_folder
from lpd.cli.segmenting import Outcome
from lpd.errors import LpdError, RunError
from lpd.inference.cohort import CohortSlide
from lpd.runs import read_state

#: A worker that has not answered by then is not waited for.
_START_PATIENCE_S = 90.0


def segment_by_resident(
    folders: Mapping[CohortSlide, Path], args: argparse.Namespace, *, start: bool
) -> Iterator[Outcome]:
    """Outcomes of as many slides as the worker sees to; of none if there is no worker, or it runs other code.

    Ctrl-C and SIGTERM let the slide in hand save and stop; it comes out as stopped.

    Args:
        folders: of the results, by slide.
        args: of the command.
        start: if no worker runs, start one, which outlives this process.

    Raises:
        LpdError: the request cannot be met for any slide; nothing has been written.
    """
    try:
        folder = resident_folder()
        card = read_card(folder) or (_started(folder) if start else None)
        line = Line.to(card) if card else None
    except (RunError, OSError):  # it is a convenience
        return
    if line is None:
        return
    with closing(line), listening() as stopping:
        try:
            line.send({"stamp": code_stamp(), "job": Job(folders, args).to_message()})
        except OSError:
            return
        yield from _outcomes(line, len(folders), stopping.is_set)
        if stopping.is_set():  # nor shall the work go on without the worker
            raise KeyboardInterrupt


def _outcomes(line: Line, count: int, asked_to_stop: Callable[[], bool]) -> Iterator[Outcome]:
    for _ in range(count):
        message = line.receive()
        if message is None or "begins" not in message:
            if message and "error" in message:
                raise LpdError(message["error"])
            return
        outcome = _watched(line, Path(message["begins"]), asked_to_stop)
        if outcome is None:
            return
        yield outcome


def _watched(line: Line, folder: Path, asked_to_stop: Callable[[], bool]) -> Outcome | None:
    """The outcome of the slide in hand, its progress shown meanwhile; None if the worker is gone."""
    with progress_bar(folder.name, "tile") as show:

        def look() -> None:
            if asked_to_stop():
                ask_to_stop(folder)
            try:
                progress = read_state(folder).progress
            except LpdError:
                return
            if progress.total:
                show(progress.done, progress.total)

        message: dict[str, Any] | None = line.receive(meanwhile=look)
    return from_message(message["outcome"]) if message and "outcome" in message else None


def _started(folder: Path) -> Card | None:
    """Start a worker and wait until it answers; None if it does not."""
    command = [sys.executable, "-m", "lpd", "resident"]
    with (folder / LOG_NAME).open("ab") as printed:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=printed, stderr=printed, **_apart())
    deadline = time.monotonic() + _START_PATIENCE_S
    while time.monotonic() < deadline:
        card = read_card(folder)
        if card is not None:
            return card
        if process.poll():  # 0 or still running: another one may have been quicker
            return None
        time.sleep(LOOK_S / 3)
    return None


def _apart() -> dict[str, Any]:
    # A group of its own: it outlives this process, and Ctrl-C in its terminal.
    if os.name != "nt":
        return {"start_new_session": True}
    return {"creationflags": sum(getattr(subprocess, n, 0) for n in ("CREATE_NEW_PROCESS_GROUP", "CREATE_NO_WINDOW"))}
