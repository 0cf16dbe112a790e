"""Decoders: the few threads that decode pixels, shared out so that nobody's slide keeps the others' waiting."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass
class _Line:
    """Work on one slide: what waits, and how much of it runs."""

    waiting: deque[Callable[[], None]] = field(default_factory=deque)
    running: int = 0


class Decoders:
    """Runs work on slides in threads: for one slide as much at a time as there are cores, for all four times as much.

    Whoever waits takes no thread: lists, jobs and the page are answered meanwhile. A slide that is slow, such as a
    large plain image that is decoded whole, takes only its own share of the threads. A thread that is done takes the
    next work by itself: the event loop, which may have much to do, need not be asked in between.

    Args:
        cores: that the machine has.
    """

    def __init__(self, cores: int | None = None) -> None:
        self._at_once = max(2, cores or os.cpu_count() or 1)
        self._threads = ThreadPoolExecutor(4 * self._at_once, "decode")
        self._lines: dict[str, _Line] = {}
        self._guard = threading.Lock()

    async def run(self, slide_id: str, work: Callable[[], T]) -> T:
        """What ``work`` returns, or raises, when it is its turn. What nobody waits for any more is not begun."""
        result: Future[T] = Future()
        task = partial(_settle, result, work)
        with self._guard:
            line = self._lines.setdefault(slide_id, _Line())
            begins = line.running < self._at_once
            if begins:
                line.running += 1
            else:
                line.waiting.append(task)
        if begins:
            self._threads.submit(self._do, slide_id, line, task)
        return await asyncio.wrap_future(result)

    def _do(self, slide_id: str, line: _Line, task: Callable[[], None]) -> None:
        task()
        with self._guard:
            following = line.waiting.popleft() if line.waiting else None
            if following is None:
                line.running -= 1
                if not line.running:
                    del self._lines[slide_id]
        if following is not None:  # last of all: then slides that have waited meanwhile have their turn
            self._threads.submit(self._do, slide_id, line, following)


def _settle(result: Future[Any], work: Callable[[], Any]) -> None:
    if not result.set_running_or_notify_cancel():
        return
    try:
        result.set_result(work())
    except BaseException as error:
        result.set_exception(error)
    finally:
        del result  # which an error's traceback would hold, and with it all that the work held, until the next look
