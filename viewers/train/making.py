"""A small synthetic data set made by one button: ``lpd phantom tiles`` in a process of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from lpd.errors import LpdError
from viewers.job_log import LOG_NAME, log_lines
from viewers.processes import signal_group, start_process

#: Enough to see a training learn, in a minute or two on two cores.
SIZES = ("--train", "96", "--valid", "16", "--test", "16")
_NAME, _UNFINISHED = "phantom", ".phantom-unfinished"


class PhantomMaker:
    """Makes ``DATA/phantom``, which is listed once it is whole.

    Args:
        folder: of the data sets; made if missing.
        command: how to call ``lpd``.
    """

    def __init__(self, folder: Path, command: tuple[str, ...] = (sys.executable, "-m", "lpd")) -> None:
        self.folder = folder
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._error = ""
        self._guard = threading.Lock()

    def state(self) -> dict[str, Any]:
        """Whether it is being made, why it could not be, and whether it is there already."""
        made = (self.folder / _NAME).exists()
        return {"making": self._process is not None, "error": self._error, "made": made}

    def start(self) -> None:
        """Begin, unless it is being made; returns at once.

        Raises:
            LpdError: there is one already, or it cannot be started.
        """
        with self._guard:
            if self._process is not None:
                return
            if (self.folder / _NAME).exists():
                raise LpdError(f"there is a data set {_NAME} already: use it, or rename its folder first")
            unfinished = self.folder / _UNFINISHED
            shutil.rmtree(unfinished, ignore_errors=True)
            try:
                unfinished.mkdir(parents=True)
            except OSError as error:
                raise LpdError(
                    f"the data folder cannot be written ({error.strerror}): name another with --data"
                ) from error
            argv = (*self._command, "phantom", "tiles", str(unfinished / _NAME), *SIZES)
            self._process, self._error = start_process(argv, unfinished, unfinished / LOG_NAME), ""
            threading.Thread(target=self._finish, args=(self._process, unfinished), daemon=True).start()

    def end(self) -> None:
        """Give up what is being made."""
        process = self._process
        if process is not None and process.poll() is None:
            signal_group(process.pid, force=True)

    def _finish(self, process: subprocess.Popen[bytes], unfinished: Path) -> None:
        code = process.wait()
        error = ""
        if code:
            said = next((line for line in reversed(log_lines(unfinished)) if line.startswith("lpd ")), "")
            error = said.partition(": ")[2] or "the synthetic set could not be made: check the disk, then try again"
        else:
            try:
                (unfinished / _NAME).rename(self.folder / _NAME)
            except OSError as failed:
                error = f"the synthetic set cannot be put in place ({failed.strerror}): check the disk"
        shutil.rmtree(unfinished, ignore_errors=True)
        self._process, self._error = None, error
