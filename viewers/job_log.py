"""The log of a job: what its command printed, and where people find it."""

from __future__ import annotations

import os
from pathlib import Path

LOG_NAME = "log.txt"


def reason(folder: Path) -> str:
    """The sentence with which the command failed before it had a run folder."""
    for line in reversed(log_lines(folder)):
        if line.startswith("lpd "):  # "lpd segment: <sentence>"
            return line.partition(": ")[2]
    return f"The work could not be started: look at {where(folder)}."


def where(folder: Path, name: str = LOG_NAME) -> str:
    """Where the job's log is, as people find it from the project's folder."""
    return f"{folder.parent.name}/{folder.name}/{name}"


def log_lines(folder: Path) -> list[str]:
    try:
        with (folder / LOG_NAME).open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 16_384))
            return log.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []
