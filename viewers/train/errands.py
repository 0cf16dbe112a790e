"""Errands: commands that are watched while they run, each by a key, and can be given up; one at a time."""

from __future__ import annotations

import subprocess
import threading
from contextlib import suppress
from pathlib import Path

from lpd.errors import LpdError
from viewers.job_log import LOG_NAME, log_lines
from viewers.processes import signal_group, start_process


class Errands:
    """What runs now, of one kind. What came of an errand lies in its folder; nothing here outlives the app.

    Args:
        busy: what a person is told who asks for a second one.
    """

    def __init__(self, busy: str) -> None:
        self._busy = busy
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._guard = threading.Lock()

    def start(self, key: str, argv: tuple[str, ...], folder: Path) -> None:
        """Begin; what is printed goes to a log in the folder, which is made.

        Raises:
            LpdError: another one is running, or it cannot be started.
        """
        with self._guard:
            if any(process.poll() is None for process in self._running.values()):
                raise LpdError(self._busy)
            try:
                folder.mkdir(parents=True, exist_ok=True)
                (folder / LOG_NAME).unlink(missing_ok=True)
            except OSError as error:
                raise LpdError(f"{folder.parent.name} cannot be written ({error.strerror}): check the disk") from error
            self._running = {key: start_process(argv, folder, folder / LOG_NAME)}

    def code(self, key: str) -> int | None:
        """The exit code of an errand that has ended; None while it runs.

        Raises:
            KeyError: nothing is known of it.
        """
        return self._running[key].poll()

    def runs(self, key: str) -> bool:
        """Whether it is running."""
        process = self._running.get(key)
        return process is not None and process.poll() is None

    def running(self) -> list[str]:
        """The keys of those that run."""
        return [key for key in list(self._running) if self.runs(key)]

    def end(self, key: str) -> None:
        """Give it up."""
        process = self._running.get(key)
        if process is not None and process.poll() is None:
            with suppress(OSError):  # it ended in this moment
                signal_group(process.pid, force=True)
            process.wait()


def failure(folder: Path) -> str:
    """The sentence with which a command failed."""
    for line in reversed(log_lines(folder)):
        if line.startswith("lpd "):
            return line.partition(": ")[2]
    return "it ended without a word: it was given up, or the machine is short of memory"
