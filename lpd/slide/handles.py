"""HandlePool: open files of one kind, each used by one thread at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from lpd.errors import SlideError


class _Handle(Protocol):
    def close(self) -> object: ...


T = TypeVar("T", bound=_Handle)
#: Handles kept open while nobody reads.
_IDLE = 8


class HandlePool(Generic[T]):
    """Lends handles of one file; one that an error occurred with is thrown away, as it may refuse all that follows."""

    def __init__(self, path: Path, open_one: Callable[[], T]) -> None:
        self._path = path
        self._open = open_one
        self._lock = threading.Lock()
        self._idle: list[T] = []
        self._closed = False

    @contextmanager
    def borrowed(self) -> Iterator[T]:
        """A handle that no other thread uses inside the block.

        Raises:
            SlideError: the pool was closed.
        """
        handle = self._take()
        try:
            yield handle
        except BaseException:
            handle.close()
            raise
        self._give_back(handle)

    def close(self) -> None:
        """Close what nobody uses now, and the rest when it comes back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for handle in idle:
            handle.close()

    def _take(self) -> T:
        with self._lock:
            if self._closed:
                raise SlideError(f"{self._path.name} was closed: open it again to read from it")
            if self._idle:
                return self._idle.pop()
        return self._open()

    def _give_back(self, handle: T) -> None:
        with self._lock:
            if not self._closed and len(self._idle) < _IDLE:
                self._idle.append(handle)
                return
        handle.close()
