"""Checks of data sets: ``lpd check`` in a process of its own, its findings kept until a file changes."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from lpd.errors import LpdError
from viewers.job_log import LOG_NAME, log_lines
from viewers.processes import signal_group, start_process
from viewers.train.datasets import DataSet

_REPORT = "check.json"
_MOST_ITEMS = 8  # of a finding that are shown


class Checks:
    """What ``lpd check`` found, by data set; ``folder`` is a cache that may be deleted at any time.

    Args:
        folder: where reports are kept.
        command: how to call ``lpd``.
    """

    def __init__(self, folder: Path, command: tuple[str, ...] = (sys.executable, "-m", "lpd")) -> None:
        self.folder = folder
        self._command = command
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._guard = threading.Lock()

    def ask(self, data: DataSet) -> dict[str, Any]:
        """The findings, or that they are being looked for: the first question begins the check.

        Returns:
            ``{"state": "done", "report": …}``, ``{"state": "running"}`` or ``{"state": "failed", "error": …}``.
        """
        place = self.folder / f"{data.id}-{fingerprint(data.path)}"
        with self._guard:
            running = self._running.get(place.name)
            if running is None:
                return _known(place, data) or self._begin(place, data)
            if running.poll() is None:
                return {"state": "running"}
            del self._running[place.name]
        return _known(place, data) or {"state": "failed", "error": _sentence(place, data)}

    def end(self) -> None:
        """End what is being checked."""
        with self._guard:
            for process in self._running.values():
                if process.poll() is None:
                    signal_group(process.pid, force=True)
                process.wait()

    def _begin(self, place: Path, data: DataSet) -> dict[str, Any]:
        try:
            place.mkdir(parents=True, exist_ok=True)
            argv = (*self._command, "check", str(data.path), "--json", str(place / _REPORT))
            self._running[place.name] = start_process(argv, place, place / LOG_NAME)
        except OSError as error:
            return {"state": "failed", "error": f"the check cannot be started ({error.strerror})"}
        except LpdError as error:
            return {"state": "failed", "error": str(error)}
        return {"state": "running"}


def fingerprint(folder: Path) -> str:
    """Changes with any name, size or time of a file below the folder; no file is opened."""
    digest = hashlib.sha256()
    for place, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            try:
                facts = os.stat(os.path.join(place, name))  # noqa: PTH116, PTH118  (many thousands of files)
            except OSError:
                continue
            digest.update(os.fsencode(f"{name}\t{facts.st_size}\t{facts.st_mtime_ns}\n"))
    return digest.hexdigest()[:16]


def _known(place: Path, data: DataSet) -> dict[str, Any] | None:
    try:
        report = json.loads((place / _REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    findings = [
        {**finding, "items": finding["items"][:_MOST_ITEMS], "count": len(finding["items"])}
        for finding in report["findings"]
    ]
    return {"state": "done", "report": {**report, "folder": data.relative, "findings": findings}}


def _sentence(place: Path, data: DataSet) -> str:
    said = next((line for line in reversed(log_lines(place)) if line.startswith("lpd ")), "")
    text = said.partition(": ")[2] or "the check ended without a word: try it again"
    return text.replace(str(data.path), data.relative)
