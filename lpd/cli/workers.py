"""Workers: processes of this machine that segment a cohort's slides; one that dies is replaced."""

from __future__ import annotations

import argparse
import multiprocessing
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from lpd.cli.crew import LOOK_S, Ended, ask_to_stop, attempt, lead, stillborn
from lpd.cli.segmenting import Outcome, Segmenter
from lpd.inference.cohort import CohortSlide


def segment_in_processes(
    folders: Mapping[CohortSlide, Path], args: argparse.Namespace, count: int, threads: int | None
) -> Iterator[Outcome]:
    """Segment slides in ``count`` processes, each with a model of its own; see :func:`lpd.cli.crew.lead`.

    Args:
        folders: of the results, by slide.
        args: of the command.
        count: processes at a time, at least 1.
        threads: of each network, on a CPU; None for all cores.
    """
    return lead(folders, _Processes(args, count, threads))


@dataclass(eq=False)
class _Worker:
    """A process, the line to it, and the slide that it has in hand, with the folder of its result."""

    process: SpawnProcess
    line: Connection
    slide: CohortSlide
    folder: Path


class _Processes:
    """Up to ``count`` processes, hired one by one; none is given a slide before it has loaded its model.

    Else a slide would be blamed for deaths that it had no part in.
    """

    def __init__(self, args: argparse.Namespace, count: int, threads: int | None) -> None:
        self._args, self._count, self._threads = args, count, threads
        self._loading: dict[Connection, SpawnProcess] = {}
        self._idle: list[tuple[SpawnProcess, Connection]] = []
        self._busy: dict[Connection, _Worker] = {}
        self._stillborn = 0

    def begin(self, slide: CohortSlide, folder: Path, again: bool) -> bool:
        while self._idle:
            process, line = self._idle.pop()
            try:
                line.send((slide, folder, again))
            except OSError:  # it died while it had nothing to do
                process.join()
                continue
            self._busy[line] = _Worker(process, line, slide, folder)
            return True
        if len(self._busy) + len(self._loading) < self._count:
            process, line = _hired(self._args, self._threads)
            self._loading[line] = process
        return False

    def ended(self, wait_s: float) -> list[Ended]:
        ready = set(wait([*self._busy, *self._loading], timeout=wait_s))
        for line in [line for line in self._loading if line in ready]:
            self._welcome(self._loading.pop(line), line)
        return [self._end_of(self._busy.pop(line)) for line in list(self._busy) if line in ready]

    def _welcome(self, process: SpawnProcess, line: Connection) -> None:
        try:
            line.recv()
        except (EOFError, OSError):  # it died
            process.join()
            self._stillborn += 1
            stillborn(self._stillborn, f"exit code {process.exitcode}")
        else:
            self._stillborn = 0
            self._idle.append((process, line))

    def _end_of(self, worker: _Worker) -> Ended:
        try:
            outcome: Outcome = worker.line.recv()
        except (EOFError, OSError):  # it died
            worker.process.join()
            return Ended(worker.slide, death=f"exit code {worker.process.exitcode}")
        self._idle.append((worker.process, worker.line))
        return Ended(worker.slide, outcome)

    def stop(self) -> None:
        for worker in self._busy.values():
            ask_to_stop(worker.folder)

    def close(self) -> None:
        lines = [
            *self._idle,
            *((process, line) for line, process in self._loading.items()),
            *((w.process, w.line) for w in self._busy.values()),
        ]
        for process in self._loading.values():  # with nothing in hand
            process.kill()
        for _, line in lines:
            line.close()  # who waits for a slide ends at that
        while any(process.is_alive() for process, _ in lines):  # where nobody wants the outcomes any more
            self.stop()
            for process, _ in lines:
                process.join(LOOK_S)


def _hired(args: argparse.Namespace, threads: int | None) -> tuple[SpawnProcess, Connection]:
    context = multiprocessing.get_context("spawn")
    ours, its = context.Pipe()
    process = context.Process(target=_work, args=(its, args, threads), name="lpd-worker", daemon=True)
    process.start()
    its.close()  # so that the line breaks when the process dies
    return process, ours


def _work(line: Connection, args: argparse.Namespace, threads: int | None) -> None:
    """The life of a worker: it says when it is ready; then a slide at a time, until the line closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of Ctrl-C the leading process tells by a stop request
    current: list[Path] = []
    threading.Thread(target=_stop_with_parent, args=(current,), daemon=True).start()
    segmenter: Segmenter | None = None

    def segment() -> Outcome:
        nonlocal segmenter
        segmenter = segmenter or Segmenter(args, threads=threads, quiet=True)
        return segmenter.segment(slide, folder, again=again)

    with suppress(Exception):  # what is wrong with the model is said of each slide
        segmenter = Segmenter(args, threads=threads, quiet=True)
    with suppress(OSError):
        line.send(None)
    while True:
        try:
            slide, folder, again = line.recv()
        except (EOFError, OSError):
            return
        current[:] = [folder]
        outcome = attempt(slide, folder, segment)
        try:
            line.send(outcome)
        except OSError:  # nobody listens any more
            return


def _stop_with_parent(current: list[Path]) -> None:
    """Save and stop when the leading process is gone: nobody would wait for the result."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        while True:  # a run forgets what was asked before it began
            for folder in current:
                ask_to_stop(folder)
            time.sleep(LOOK_S)
