"""Passes of a model over data sets: one command at a time, which tells how far it is; unasked for, it is ended."""

from __future__ import annotations

import logging
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lpd.errors import LpdError, RunError
from lpd.runs import is_alive, read_state
from viewers.commands import sentence_of
from viewers.job_log import LOG_NAME
from viewers.processes import signal_group, start_process

_LOGGER = logging.getLogger(__name__)
#: Which data set, split and model.
Key = tuple[str, str, str]
#: Browsers let a page in the background ask once a minute.
_PATIENCE_S = 150.0
_LOOK_S = 0.2
#: A folder of a run is older when nobody starts or reads it any more.
_LEFT_S = 3600.0


@dataclass(frozen=True)
class Work:
    """What a pass does.

    Attributes:
        argv: the command with its arguments, but ``--run`` and a folder.
        folder: of its run; nothing but such folders lies beside it. An app that was killed may have begun it there.
        told: makes an error fit to be told.
        finish: called when it has ended well.
    """

    argv: tuple[str, ...]
    folder: Path
    told: Callable[[LpdError], LpdError]
    finish: Callable[[], None]


@dataclass
class _Pass:
    work: Work
    asked: dict[str, float] = field(default_factory=dict)  # by who asks: when last
    begun: bool = False
    error: LpdError | None = None

    def wanted(self) -> bool:
        """Whether somebody has asked lately; the guard must be held."""
        since = time.monotonic() - _PATIENCE_S
        self.asked = {who: when for who, when in self.asked.items() if when > since}
        return bool(self.asked)


class DataPasses:
    """Begins passes, tells how far they are, ends those that nobody asks for any more.

    A pass may take hours, and a proxy gives a request a minute: so who wants an answer asks again and again.
    """

    def __init__(self) -> None:
        self._passes: dict[Key, _Pass] = {}
        self._guard = threading.Lock()
        self._worker: threading.Thread | None = None

    def begin(self, key: Key, who: str, work: Work) -> None:
        """Let a pass wait for its turn; one that is there already has one more who asks.

        Args:
            key: what it is of.
            who: asks.
            work: what it does.
        """
        with self._guard:
            one = self._passes.get(key)
            if one is None or one.error is not None:  # who has not heard of the error yet waits for the new one
                one = self._passes[key] = _Pass(work, one.asked if one else {})
            one.asked[who] = time.monotonic()
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name="data passes", daemon=True)
                self._worker.start()

    def look(self, key: Key, who: str) -> dict[str, Any] | None:
        """How far a pass is: ``done`` tiles of ``total`` (0 until known), and whether it is ``waiting``; None if there
        is none, or none any more.

        Raises:
            LpdError: it failed; told once to each who waits for it. Whoever asks after that may begin it anew.
        """
        with self._guard:
            one = self._passes.get(key)
            if one is None:
                return None
            if one.error is not None:
                waited = one.wanted() and one.asked.pop(who, None) is not None
                if not one.asked:
                    del self._passes[key]
                if not waited:
                    return None
                raise one.error
            one.asked[who] = time.monotonic()
        if not one.begun:
            return {"done": 0, "total": 0, "waiting": True}
        try:
            progress = read_state(one.work.folder).progress
        except RunError:  # it ends in this moment
            return {"done": 0, "total": 0, "waiting": False}
        return {"done": progress.done, "total": progress.total, "waiting": False}

    def leave(self, key: Key, who: str) -> None:
        """Somebody does not want it any more; it is ended if nobody else does."""
        with self._guard:
            if (one := self._passes.get(key)) is not None:
                one.asked.pop(who, None)

    def _work(self) -> None:
        while (found := self._next()) is not None:
            key, one = found
            try:
                if self._run(one):
                    one.work.finish()
            except LpdError as error:
                one.error = one.work.told(error)
            except Exception:  # those that wait have nothing to do with it
                _LOGGER.exception("a pass over a data set failed")
                one.error = LpdError("something unexpected went wrong: the app's own window says what")
            finally:
                shutil.rmtree(one.work.folder, ignore_errors=True)
                with self._guard:
                    if one.error is None:
                        self._passes.pop(key, None)

    def _next(self) -> tuple[Key, _Pass] | None:
        """The pass that waits longest; what nobody wants is dropped, and without any the worker ends."""
        with self._guard:
            self._passes = {key: one for key, one in self._passes.items() if one.wanted()}
            waiting = next(((key, one) for key, one in self._passes.items() if one.error is None), None)
            if waiting is None:
                self._worker = None
            return waiting

    def _run(self, one: _Pass) -> bool:
        """Whether it has ended well.

        Raises:
            LpdError: it failed, with its own sentence, or cannot be started.
        """
        folder = one.work.folder
        _clear(folder)
        process = _Left(folder) if is_alive(folder) else _Started(one.work)
        one.begun = True
        while (well := process.ended()) is None:
            with self._guard:
                wanted = one.wanted()
            if not wanted:
                process.end()
                return False
        if not well:
            raise LpdError(sentence_of(folder))
        return True


class _Started:
    """The process of a pass, a child of this one.

    Raises:
        LpdError: it cannot be started.
    """

    def __init__(self, work: Work) -> None:
        work.folder.mkdir(parents=True, exist_ok=True)  # one that was left may have ended in this moment
        argv = (*work.argv, "--run", str(work.folder))
        self._process = start_process(argv, work.folder, work.folder / LOG_NAME)

    def ended(self) -> bool | None:
        """Whether it has ended well; None if it has not after a moment."""
        try:
            return self._process.wait(_LOOK_S) == 0
        except subprocess.TimeoutExpired:
            return None

    def end(self) -> None:
        with suppress(OSError):  # it has ended in this moment
            signal_group(self._process.pid, force=True)
        self._process.wait()


class _Left:
    """That of a pass which an app that was killed had begun."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def ended(self) -> bool | None:
        """As :meth:`_Started.ended`."""
        if is_alive(self._folder):
            time.sleep(_LOOK_S)
            return None
        return read_state(self._folder).state == "done"

    def end(self) -> None:
        while is_alive(self._folder):
            pid = read_state(self._folder).pid
            with suppress(OSError):
                if pid:  # else it has not said yet who it is, and the group 0 is the app's own
                    signal_group(pid, force=True)
            time.sleep(_LOOK_S)


def _clear(folder: Path) -> None:
    """Delete what lies where a pass begins or beside it since an app was killed, unless it is still at work."""
    for other in {folder, *folder.parent.glob("*")}:
        with suppress(OSError):  # it is not there
            left = other == folder or time.time() - other.stat().st_mtime > _LEFT_S
            if left and not is_alive(other):
                shutil.rmtree(other, ignore_errors=True)
