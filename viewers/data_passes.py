"""Passes of a model over data sets: one command at a time, which tells how far it is; unasked for, it is ended."""

from __future__ import annotations

import logging
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lpd.errors import LpdError, RunError
from lpd.runs import read_state
from viewers.commands import sentence_of
from viewers.job_log import LOG_NAME
from viewers.processes import signal_group, start_process

_LOGGER = logging.getLogger(__name__)
#: Which data set, split and model.
Key = tuple[str, str, str]
#: Browsers let a page in the background ask once a minute.
_PATIENCE_S = 150.0
_LOOK_S = 0.2


@dataclass
class _Pass:
    arguments: Sequence[str | Path]
    told: Callable[[LpdError], LpdError]
    finish: Callable[[], None]
    asked: dict[str, float] = field(default_factory=dict)  # by who asks: when last
    folder: Path | None = None  # of the command's run, once it has begun
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

    def begin(
        self,
        key: Key,
        who: str,
        command: Sequence[str],
        arguments: Sequence[str | Path],
        told: Callable[[LpdError], LpdError],
        finish: Callable[[], None],
    ) -> None:
        """Let a pass wait for its turn; one that is there already has one more who asks.

        Args:
            key: what it is of.
            who: asks.
            command: how to call ``lpd``.
            arguments: to be followed by ``--run`` and a folder.
            told: makes an error fit to be told.
            finish: called when it has ended well.
        """
        with self._guard:
            one = self._passes.setdefault(key, _Pass((*command, *arguments), told, finish))
            one.asked[who] = time.monotonic()
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name="data passes", daemon=True)
                self._worker.start()

    def look(self, key: Key, who: str) -> dict[str, Any] | None:
        """How far a pass is: ``done`` tiles of ``total`` (0 until known), and whether it is ``waiting``; None if there
        is none, or none any more.

        Raises:
            LpdError: it failed; whoever asks after that may begin it anew.
        """
        with self._guard:
            one = self._passes.get(key)
            if one is None:
                return None
            if one.error is not None:
                del self._passes[key]
                if not one.wanted():  # it was long ago
                    return None
                raise one.error
            one.asked[who] = time.monotonic()
            folder = one.folder
        if folder is None:
            return {"done": 0, "total": 0, "waiting": True}
        try:
            progress = read_state(folder).progress
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
                ended = self._run(one)
                if ended:
                    one.finish()
            except LpdError as error:
                one.error = one.told(error)
            except Exception:  # those that wait have nothing to do with it
                _LOGGER.exception("a pass over a data set failed")
                one.error = LpdError("something unexpected went wrong: the app's own window says what")
            finally:
                with self._guard:
                    one.folder = None
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
        with TemporaryDirectory(prefix="lpd-pass-") as name:
            folder = Path(name)
            argv = (*map(str, one.arguments), "--run", str(folder))
            process = start_process(argv, folder, folder / LOG_NAME)
            one.folder = folder
            while True:
                with suppress(subprocess.TimeoutExpired):
                    if process.wait(_LOOK_S):
                        raise LpdError(sentence_of(folder))
                    return True
                with self._guard:
                    wanted = one.wanted()
                if not wanted:
                    with suppress(OSError):  # it has ended in this moment
                        signal_group(process.pid, force=True)
                    process.wait()
                    return False
