"""Segmenting by the resident worker: slides go over, outcomes come back; if it goes, the work goes on without it."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import lpd
from lpd.cli.crew import LOOK_S, ask_to_stop, listening
from lpd.cli.progress import progress_bar
from lpd.cli.resident_job import Job, from_message
from lpd.cli.resident_place import LOG_NAME, Card, Line, code_stamp, read_card, resident_folder
from lpd.cli.segmenting import Outcome
from lpd.errors import LpdError, RunError
from lpd.inference.cohort import CohortSlide
from lpd.niceness import give_way
from lpd.runs import is_alive, read_state

#: A worker that has not answered by then is not waited for.
_START_PATIENCE_S = 90.0
#: Time to save a slide, once somebody has asked to stop.
_STOP_PATIENCE_S = 30.0


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
        KeyboardInterrupt: somebody asked to stop, and no slide was in hand or the worker does not react.
    """
    line = _line(start=start)
    if line is None:
        return
    with closing(line), listening() as stopping:
        try:
            line.send({"stamp": code_stamp(), "job": Job(folders, args).to_message()})
        except OSError:
            return
        yield from _outcomes(line, len(folders), _Stop(stopping))
        if stopping.is_set():  # nor shall the work go on without the worker
            raise KeyboardInterrupt


def _line(*, start: bool) -> Line | None:
    """A line to the worker; None if there is none to be had, as it is a convenience."""
    try:
        folder = resident_folder()
        card = read_card(folder) or (_started(folder) if start else None)
        return Line.to(card) if card else None
    except RunError as error:
        if start:
            print(f"lpd segment: going on without a resident worker: {error}", file=sys.stderr)
    except OSError:
        pass
    return None


class _Stop:
    """What somebody who asks to stop is granted: at once where nothing is in hand, else time to save it."""

    def __init__(self, asked: threading.Event) -> None:
        self._asked = asked
        self._since: float | None = None

    def without_slide(self) -> None:
        """Look while no slide is in hand."""
        if self._asked.is_set():
            raise KeyboardInterrupt

    def with_slide(self, folder: Path) -> None:
        """Look while the worker has one in hand."""
        if not self._asked.is_set():
            return
        self._since = self._since or time.monotonic()
        if time.monotonic() - self._since > _STOP_PATIENCE_S:
            raise KeyboardInterrupt
        ask_to_stop(folder)


def _outcomes(line: Line, count: int, stop: _Stop) -> Iterator[Outcome]:
    for _ in range(count):
        message = line.receive(meanwhile=stop.without_slide)
        if message is None or "begins" not in message:
            if message and "error" in message:
                raise LpdError(message["error"])
            return
        outcome = _watched(line, Path(message["begins"]), stop)
        if outcome is None:
            return
        yield outcome


def _watched(line: Line, folder: Path, stop: _Stop) -> Outcome | None:
    """The outcome of the slide in hand, its progress shown meanwhile; None if the worker is gone."""
    with progress_bar(folder.name, "tile") as show:

        def look() -> None:
            stop.with_slide(folder)
            try:
                progress = read_state(folder).progress
            except LpdError:
                return
            if progress.total:
                show(progress.done, progress.total)

        message = line.receive(meanwhile=look)
    if not message or "outcome" not in message:
        return None
    sys.stderr.write(message.get("trace", ""))
    return from_message(message["outcome"])


def _started(folder: Path) -> Card | None:
    """Start a worker and wait until it answers; None if it does not."""
    command = [sys.executable, "-m", "lpd", "resident"]
    path = os.pathsep.join(filter(None, (str(Path(lpd.__file__).parents[1]), os.environ.get("PYTHONPATH"))))
    with (folder / LOG_NAME).open("wb") as printed:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=printed,
            cwd=folder,  # not the caller's, which may be on a disk that is taken out
            env={**os.environ, "PYTHONPATH": path},
            **_apart(),
        )
    give_way(process.pid)
    deadline = time.monotonic() + _START_PATIENCE_S
    while time.monotonic() < deadline:
        card = read_card(folder)
        if card is not None:
            return card
        if process.poll() is not None and not is_alive(folder):  # else another one was quicker
            return None
        time.sleep(LOOK_S / 3)
    return None


def _apart() -> dict[str, Any]:
    # A group of its own: it outlives this process, and Ctrl-C in its terminal.
    if os.name != "nt":
        return {"start_new_session": True}
    return {"creationflags": sum(getattr(subprocess, n, 0) for n in ("CREATE_NEW_PROCESS_GROUP", "CREATE_NO_WINDOW"))}
