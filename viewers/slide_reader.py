"""SlideReader: looks at slides that nobody has opened yet, behind the scenes, one after the other."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress

from viewers.slide_folder import SlideFile

#: It rests as long as it worked, but no longer than this, so that tiles never wait for it.
_LONGEST_REST_S = 0.5
#: What was found is written this often.
_SAVE_EVERY_S = 5.0


class SlideReader:
    """A thread that lives as long as there is something to read.

    Args:
        read: looks at one slide; keeps its errors to itself.
        save: called now and then, and when all is read.
    """

    def __init__(self, read: Callable[[SlideFile], object], save: Callable[[], None]) -> None:
        self._read = read
        self._save = save
        self._waiting: deque[SlideFile] = deque()
        self._guard = threading.Condition()
        self._working = False

    def want(self, files: Iterable[SlideFile]) -> None:
        """Read these, in this order, instead of what is still waiting; returns at once."""
        with self._guard:
            self._waiting = deque(files)
            if self._waiting and not self._working:
                self._working = True
                threading.Thread(target=self._work, name="read slides", daemon=True).start()

    def wait(self, seconds: float) -> None:
        """Wait until all is read, but no longer than so many seconds."""
        with self._guard:
            self._guard.wait_for(lambda: not self._working, max(0.0, seconds))

    def _work(self) -> None:
        _step_back()
        saved = time.monotonic()
        while (file := self._next()) is not None:
            start = time.monotonic()
            self._read(file)
            worked = time.monotonic() - start
            time.sleep(min(worked, _LONGEST_REST_S))
            if time.monotonic() - saved > _SAVE_EVERY_S:
                self._save()
                saved = time.monotonic()

    def _next(self) -> SlideFile | None:
        with self._guard:
            if self._waiting:
                return self._waiting.popleft()
        self._save()
        with self._guard:
            if self._waiting:
                return self._waiting.popleft()
            self._working = False
            self._guard.notify_all()
            return None


def _step_back() -> None:
    """Let other threads go first, where a thread has a priority of its own."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
