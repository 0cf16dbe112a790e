"""Decoders: the few threads that decode pixels, shared out so that nobody's slide keeps the others' waiting."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from anyio import CapacityLimiter, Semaphore, to_thread

T = TypeVar("T")


@dataclass
class _Turn:
    """Those who want the same slide."""

    free: Semaphore
    users: int = field(default=0)


class Decoders:
    """Runs work on slides in threads: for one slide as much at a time as there are cores, for all four times as much.

    Whoever waits does so in the event loop, which costs no thread: lists, jobs and the page are answered meanwhile. A
    slide that is slow, such as a large plain image that is decoded whole, takes only its own share of the threads.

    Args:
        cores: that the machine has.
    """

    def __init__(self, cores: int | None = None) -> None:
        self._at_once = max(2, cores or os.cpu_count() or 1)
        self._threads = CapacityLimiter(4 * self._at_once)
        self._turns: dict[str, _Turn] = {}

    async def run(self, slide_id: str, work: Callable[[], T]) -> T:
        """What ``work`` returns, or raises, when it is its turn."""
        async with self._turn(slide_id):
            return await to_thread.run_sync(work, limiter=self._threads)

    @asynccontextmanager
    async def _turn(self, slide_id: str) -> AsyncIterator[None]:
        turn = self._turns.setdefault(slide_id, _Turn(Semaphore(self._at_once)))
        turn.users += 1
        try:
            async with turn.free:
                yield
        finally:
            turn.users -= 1
            if not turn.users:
                del self._turns[slide_id]
