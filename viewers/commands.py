"""Commands that a person waits for: seconds of work with the network, in a process of its own, its error as ours."""

from __future__ import annotations

import logging
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from lpd.errors import LpdError
from viewers.job_log import LOG_NAME, log_lines
from viewers.processes import signal_group, start_process
from viewers.turns import stop_if_abandoned

_LOGGER = logging.getLogger(__name__)
#: Networks are large: one at a time, whoever asks.
_ONE_AT_A_TIME = threading.Lock()
#: Nobody's picture takes longer.
_LONGEST_S = 3600.0
_LOOK_S = 0.2


@contextmanager
def scratch(cache: Path) -> Iterator[Path]:
    """A folder for what a command reads and writes, gone afterwards; so is what an app that was killed had left.

    Pictures that people send are patients': they do not lie about in the system's folder for temporary files.

    Args:
        cache: of :class:`viewers.services.Services`.
    """
    place = cache / "pictures"
    place.mkdir(parents=True, exist_ok=True)
    clear_scratch(cache, _LONGEST_S)
    with TemporaryDirectory(dir=place) as folder:
        yield Path(folder)


def clear_scratch(cache: Path, older_s: float = 0.0) -> None:
    """Delete such folders that are older than that."""
    for left in (cache / "pictures").glob("*"):
        with suppress(OSError):  # another app on the same folder may be at it
            if time.time() - left.stat().st_mtime >= older_s:
                shutil.rmtree(left, ignore_errors=True)


def run_command(command: Sequence[str], arguments: Sequence[str | Path], patience_s: float = 120.0) -> None:
    """Run ``lpd`` with some arguments to its end.

    Raises:
        LpdError: it failed, with its own sentence; it cannot be started; it was not done in time.
        AbandonedError: whoever asked has gone; the process was ended.
    """
    argv = (*command, *map(str, arguments))
    with TemporaryDirectory(prefix="lpd-log-") as folder, _alone():
        process = start_process(argv, Path(folder), Path(folder) / LOG_NAME)
        try:
            code = _ended(process, patience_s)
        except LpdError:
            signal_group(process.pid, force=True)
            process.wait()
            raise
        if code:
            raise LpdError(sentence_of(Path(folder)))


@contextmanager
def _alone() -> Iterator[None]:
    while not _ONE_AT_A_TIME.acquire(timeout=_LOOK_S):
        stop_if_abandoned()
    try:
        yield
    finally:
        _ONE_AT_A_TIME.release()


def _ended(process: subprocess.Popen[bytes], patience_s: float) -> int:
    """The exit code of a process that somebody waits for."""
    deadline = time.monotonic() + patience_s
    while True:
        stop_if_abandoned()
        try:
            return process.wait(_LOOK_S)
        except subprocess.TimeoutExpired:
            if time.monotonic() > deadline:
                text = f"this was not done in {patience_s:.0f} s: the machine may be busy, so try again"
                raise LpdError(text) from None


def sentence_of(folder: Path) -> str:
    """The one that a command's log ends with, ``lpd segment: …``."""
    lines = log_lines(folder)
    for line in reversed(lines):
        if line.startswith("lpd "):
            return line.partition(": ")[2]
    _LOGGER.error("a command failed:\n%s", "\n".join(lines))
    return "something unexpected went wrong: the app's own window says what"
