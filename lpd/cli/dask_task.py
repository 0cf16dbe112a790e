"""Task: a slide as a worker of a Dask cluster is sent it, and what the worker does with it."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from lpd.cli.elsewhere import Answer, Order, Work, answer_to, wait_until_free
from lpd.cli.segmenting import Outcome, Segmenter


@dataclass(frozen=True)
class Task:
    """What a worker is sent.

    Attributes:
        command: which one this is part of; the worker keeps the model for its next slide.
        order: of the command.
        neighbours: workers of the cluster on that machine; they share its cores.
    """

    command: str
    order: Order
    neighbours: int


@dataclass
class _Desk:
    """What a worker keeps between slides."""

    command: str = ""
    segmenter: Segmenter | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def model_for(self, task: Task) -> Segmenter:
        if self.command != task.command or self.segmenter is None:
            self.command, self.segmenter = task.command, None  # two models may be more than fit
            threads = max(1, (os.cpu_count() or 1) // task.neighbours) if task.neighbours > 1 else None
            self.segmenter = Segmenter(task.order.args, threads=threads, quiet=True)
        return self.segmenter


def load_task(task: Task) -> None:
    """Load the model, in a thread of a Dask worker; what is wrong with it is said of each slide."""
    from distributed import get_worker

    desk = _desk_of(get_worker())
    with suppress(Exception), desk.lock:
        desk.model_for(task)


def segment_task(task: Task, work: Work) -> Answer:
    """Segment one slide, in a thread of a Dask worker."""
    from distributed import get_worker

    desk = _desk_of(get_worker())

    def segment() -> Outcome:
        with desk.lock:  # another command may have sent a slide, too
            segmenter = desk.model_for(task)
            wait_until_free(work.folder)
            return segmenter.segment(work.slide, work.folder, again=work.again)

    return answer_to(task.order, work, segment)


def forget(command: str, dask_worker: Any = None) -> None:
    """Free a worker's model, unless it is another command's; Dask fills the worker in."""
    desk = _desk_of(dask_worker)
    if desk.command == command:
        desk.command, desk.segmenter = "", None


def _desk_of(worker: Any) -> _Desk:
    if not hasattr(worker, "lpd_desk"):
        worker.lpd_desk = _Desk()
    desk: _Desk = worker.lpd_desk
    return desk
