"""Commands that a person waits for: seconds of work with the network, in a process of its own, its error as ours."""

from __future__ import annotations

import logging
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from lpd.errors import LpdError
from viewers.job_log import LOG_NAME, log_lines
from viewers.processes import signal_group, start_process

_LOGGER = logging.getLogger(__name__)
#: Networks are large: one at a time, whoever asks.
_ONE_AT_A_TIME = threading.Lock()


def run_command(command: Sequence[str], arguments: Sequence[str | Path], patience_s: float = 120.0) -> None:
    """Run ``lpd`` with some arguments to its end.

    Raises:
        LpdError: it failed, with its own sentence; it cannot be started; it was not done in time.
    """
    argv = (*command, *map(str, arguments))
    with TemporaryDirectory(prefix="lpd-") as folder, _ONE_AT_A_TIME:
        process = start_process(argv, Path(folder), Path(folder) / LOG_NAME)
        try:
            code = process.wait(patience_s)
        except subprocess.TimeoutExpired:
            signal_group(process.pid, force=True)
            process.wait()
            raise LpdError(f"this was not done in {patience_s:.0f} s: the machine may be busy, so try again") from None
        if code:
            raise LpdError(_sentence(log_lines(Path(folder))))


def _sentence(lines: Sequence[str]) -> str:
    """The one that a command ends with, ``lpd segment: …``."""
    for line in reversed(lines):
        if line.startswith("lpd "):
            return line.partition(": ")[2]
    _LOGGER.error("a command failed:\n%s", "\n".join(lines))
    return "something unexpected went wrong: the app's own window says what"
