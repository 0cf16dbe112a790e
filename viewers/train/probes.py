"""Probes: how long a training will take and what it needs, measured by ``lpd train --probe`` before it starts."""

from __future__ import annotations

import json
import secrets
import shutil
from pathlib import Path
from typing import Any

from viewers.errors import NotFoundError
from viewers.job_log import log_lines
from viewers.train.errands import Errands, failure
from viewers.train.trainings import Wish


class Probes:
    """One probe at a time; what it found is told until the next one begins.

    Args:
        folder: for its log; emptied at each start.
        command: how to call ``lpd``.
    """

    def __init__(self, folder: Path, command: tuple[str, ...]) -> None:
        self.folder = folder
        self._command = command
        self._errands = Errands("something else is being measured: wait for it, or try again in a moment")

    def start(self, wish: Wish) -> str:
        """Begin to measure; answers the probe's number.

        Raises:
            LpdError: another one is at work, or it cannot be started.
        """
        number = secrets.token_hex(6)
        place = self.folder / number
        queue = wish.arguments.index("--queue")  # it is short, and whoever waits for it should not wait in line
        arguments = (*wish.arguments[:queue], "--out", str(place / "none"), "--probe", *wish.arguments[queue + 2 :])
        self._errands.start(number, (*self._command, *arguments), place)
        for left in self.folder.glob("*"):
            if left != place:
                shutil.rmtree(left, ignore_errors=True)
        return number

    def state(self, number: str) -> dict[str, Any]:
        """``{"state": "running"}``, ``{"state": "done", "found": …}`` or ``{"state": "failed", "error": …}``.

        Raises:
            NotFoundError: there is no such probe any more.
        """
        try:
            code = self._errands.code(number)
        except KeyError:
            raise NotFoundError("this was measured before the app was started anew: measure again") from None
        if code is None:
            return {"state": "running"}
        found = _found(log_lines(self.folder / number))
        if code or found is None:
            return {"state": "failed", "error": failure(self.folder / number)}
        return {"state": "done", "found": found}

    def end(self, number: str) -> None:
        """Give it up."""
        self._errands.end(number)


def _found(lines: list[str]) -> dict[str, Any] | None:
    for line in reversed(lines):
        if line.startswith("{"):
            try:
                found: dict[str, Any] = json.loads(line)
                return found
            except ValueError:
                return None
    return None
