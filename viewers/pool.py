"""A bounded pool of opened things (slides, result stores): least recently used go first, never while in use."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass
class _Entry(Generic[V]):
    value: V
    users: int = 0


class Pool(Generic[K, V]):
    """Opens on first use, keeps at most ``limit`` idle or busy values, closes the rest; thread-safe.

    Args:
        open_value: makes the value of a key; its errors reach the borrower.
        close_value: frees a value that has been dropped.
        limit: how many values stay open. More are open only while more than that are in use at once.
    """

    def __init__(self, open_value: Callable[[K], V], close_value: Callable[[V], None], limit: int) -> None:
        self._open = open_value
        self._close = close_value
        self._limit = limit
        self._guard = threading.Lock()
        self._opening: dict[K, threading.Lock] = {}
        self._entries: OrderedDict[K, _Entry[V]] = OrderedDict()

    @contextmanager
    def borrow(self, key: K) -> Iterator[V]:
        """The value of ``key``, open for as long as the block lasts."""
        entry = self._take(key)
        try:
            yield entry.value
        finally:
            self._give_back(entry)

    @contextmanager
    def borrow_briefly(self, key: K) -> Iterator[V]:
        """As :meth:`borrow`, but a value that is not open is opened for this block alone, and closes no other one."""
        with self._guard:
            entry = self._use(key)
        if entry is None:
            value = self._open(key)
            try:
                yield value
            finally:
                self._close(value)
            return
        try:
            yield entry.value
        finally:
            self._give_back(entry)

    def drop(self, belongs: Callable[[K], bool]) -> None:
        """Forget the idle values whose key ``belongs``; busy ones go when the pool is next trimmed."""
        with self._guard:
            keys = [k for k, entry in self._entries.items() if belongs(k) and not entry.users]
            dropped = [self._entries.pop(k).value for k in keys]
        for value in dropped:
            self._close(value)

    def _take(self, key: K) -> _Entry[V]:
        with self._guard:
            found = self._use(key)
            opening = self._opening.setdefault(key, threading.Lock())
        if found:
            return found
        with opening:  # two requests for one unopened slide open it once; other slides do not wait
            with self._guard:
                found = self._use(key)
            return found or self._add(key, self._open(key))

    def _use(self, key: K) -> _Entry[V] | None:
        entry = self._entries.get(key)
        if entry:
            entry.users += 1
            self._entries.move_to_end(key)
        return entry

    def _add(self, key: K, value: V) -> _Entry[V]:
        entry = _Entry(value, users=1)
        with self._guard:
            self._entries[key] = entry
            dropped = self._trim()
        for old in dropped:
            self._close(old)
        return entry

    def _give_back(self, entry: _Entry[V]) -> None:
        with self._guard:
            entry.users -= 1
            dropped = self._trim()
        for old in dropped:
            self._close(old)

    def _trim(self) -> list[V]:
        idle = [k for k, entry in self._entries.items() if not entry.users]
        excess = max(0, len(self._entries) - self._limit)
        for key in idle[:excess]:
            self._opening.pop(key, None)
        return [self._entries.pop(k).value for k in idle[:excess]]
