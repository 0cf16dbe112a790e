"""Processes that this app has started for named work, each waited for so that none stays a zombie."""

from __future__ import annotations

import logging
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from lpd.errors import RunError
from lpd.runs import write_json_atomically
from viewers.job_log import LOG_NAME
from viewers.processes import start_process

_LOGGER = logging.getLogger(__name__)
#: Written into a work's folder when its process has ended: exit code and time.
EXIT_NAME = "exit.json"


class Children:
    """The processes of one kind of work, by its name; what runs on from an earlier app is not among them."""

    def __init__(self) -> None:
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._processes

    def start(self, name: str, argv: Sequence[str], folder: Path) -> None:
        """Start ``argv`` in ``folder``, with its log there; how it ended is noted there, too.

        Raises:
            LpdError: it cannot be started.
        """
        self._processes[name] = process = start_process(tuple(argv), folder, folder / LOG_NAME)
        threading.Thread(target=self._reap, args=(name, folder, process), name=f"reap {name}", daemon=True).start()

    def pid(self, name: str) -> int | None:
        """Of the work's process, if it has one that has not ended."""
        process = self._processes.get(name)
        return process.pid if process else None

    def gone(self, name: str, patience_s: float) -> bool:
        """Wait for a process that is just ending; False if it has not by then."""
        deadline = time.monotonic() + patience_s
        while name in self._processes and time.monotonic() < deadline:
            time.sleep(0.05)
        return name not in self._processes

    def _reap(self, name: str, folder: Path, process: subprocess.Popen[bytes]) -> None:
        code = process.wait()
        try:
            if folder.is_dir():  # work that was deleted meanwhile must not come back
                write_json_atomically(folder / EXIT_NAME, {"exit_code": code, "ended": time.time()})
        except RunError as error:
            _LOGGER.warning("%s", error)
        finally:
            del self._processes[name]
