"""Workers: processes that segment a cohort's slides; one that dies is replaced, and its slide is gone on with."""

from __future__ import annotations

import argparse
import multiprocessing
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from lpd.cli.segmenting import Outcome, Segmenter
from lpd.errors import LpdError
from lpd.inference.cohort import CohortSlide
from lpd.runs import request_stop

#: A slide that has ended so many processes is given up.
_MOST_DEATHS = 3
_LOOK_S = 0.3


@dataclass(eq=False)
class _Worker:
    """A process, the line to it, and the slide that it has in hand."""

    process: SpawnProcess
    line: Connection
    slide: CohortSlide


def segment_in_processes(
    folders: Mapping[CohortSlide, Path], args: argparse.Namespace, count: int, threads: int | None
) -> Iterator[Outcome]:
    """Segment slides in ``count`` processes, each with a model of its own; outcomes come as slides end.

    Ctrl-C and SIGTERM end it early: what slides in hand have come to is saved, and they come out as stopped.

    Args:
        folders: of the results, by slide.
        args: of the command.
        count: processes at a time, at least 1.
        threads: of each network, on a CPU; None for all cores.
    """
    waiting, deaths = deque(folders), Counter[CohortSlide]()
    idle: list[tuple[SpawnProcess, Connection]] = []
    busy: dict[Connection, _Worker] = {}
    with _listening() as stopping:
        try:
            while busy or (waiting and not stopping.is_set()):
                if stopping.is_set():
                    _stop(busy, folders)
                while waiting and not stopping.is_set() and len(busy) < count:
                    process, line = idle.pop() if idle else _hired(args, threads)
                    try:
                        line.send((waiting[0], folders[waiting[0]]))
                    except OSError:  # it died while it had nothing to do
                        process.join()
                        continue
                    busy[line] = _Worker(process, line, waiting.popleft())
                ready = wait(list(busy), timeout=_LOOK_S)
                for line in [line for line in busy if line in ready]:
                    worker = busy.pop(line)
                    try:
                        outcome: Outcome = worker.line.recv()
                    except (EOFError, OSError):  # it died
                        worker.process.join()
                        deaths[worker.slide] += 1
                        if deaths[worker.slide] < _MOST_DEATHS:
                            waiting.appendleft(worker.slide)
                        else:
                            yield _given_up(worker, folders[worker.slide], deaths[worker.slide])
                    else:
                        idle.append((worker.process, worker.line))
                        yield outcome
        finally:
            lines = [*idle, *((w.process, w.line) for w in busy.values())]
            for _, line in lines:
                line.close()  # who waits for a slide ends at that
            while any(process.is_alive() for process, _ in lines):  # where nobody wants the outcomes any more
                _stop(busy, folders)
                for process, _ in lines:
                    process.join(_LOOK_S)


def _stop(busy: Mapping[Connection, _Worker], folders: Mapping[CohortSlide, Path]) -> None:
    """Ask all slides in hand to save and stop; one that has not begun makes its folder, and is asked, later."""
    for worker in busy.values():
        _ask_to_stop(folders[worker.slide])


def _ask_to_stop(folder: Path) -> None:
    with suppress(OSError):
        if folder.is_dir():
            request_stop(folder)


def _hired(args: argparse.Namespace, threads: int | None) -> tuple[SpawnProcess, Connection]:
    context = multiprocessing.get_context("spawn")
    ours, its = context.Pipe()
    process = context.Process(target=_work, args=(its, args, threads), name="lpd-worker", daemon=True)
    process.start()
    its.close()  # so that the line breaks when the process dies
    return process, ours


def _given_up(worker: _Worker, folder: Path, deaths: int) -> Outcome:
    said = (
        f"{worker.slide.path.name} ended its process {deaths} times (exit code {worker.process.exitcode}): give it "
        f"more memory, or open it by itself to see whether it is damaged; what was finished is in {folder}"
    )
    return Outcome(worker.slide.path, folder, "failed", said)


def _work(line: Connection, args: argparse.Namespace, threads: int | None) -> None:
    """The life of a worker: a slide at a time, until the line closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of Ctrl-C the leading process tells by a stop request
    current: list[Path] = []
    threading.Thread(target=_stop_with_parent, args=(current,), daemon=True).start()
    segmenter: Segmenter | None = None
    while True:
        try:
            slide, folder = line.recv()
        except (EOFError, OSError):
            return
        current[:] = [folder]
        try:
            segmenter = segmenter or Segmenter(args, threads=threads, quiet=True)
            outcome = segmenter.segment(slide, folder)
        except LpdError as error:  # the model cannot be loaded
            outcome = Outcome(slide.path, folder, "failed", str(error))
        except KeyboardInterrupt:  # stopped while it waited for the device
            outcome = Outcome(slide.path, folder, "stopped", f"{slide.path.name} was not begun", 0.0, True)
        except Exception as error:  # a fault of ours or of a library, which trying again would not mend
            outcome = Outcome(slide.path, folder, "failed", f"{slide.path.name}: {type(error).__name__}: {error}")
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
                _ask_to_stop(folder)
            time.sleep(_LOOK_S)


@contextmanager
def _listening() -> Iterator[threading.Event]:
    """Ctrl-C and SIGTERM as an event, inside the block."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = {n: signal.signal(n, lambda *_: event.set()) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
