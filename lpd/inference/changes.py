"""ChangeLog: which parts of a result are finished, one JSON line each, appended by one process and read by others."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpd.slide.region import Region


@dataclass(frozen=True)
class Changes:
    """What is new in a result.

    Attributes:
        run: pass it back the next time; another one stands for a result that was begun anew. Empty if there is none.
        revision: pass it as ``since`` the next time; 0 for a result without a finished panel.
        rects: level-0 rectangles finished after ``since``, oldest first.
        complete: the whole request has been computed; stays False for a cancelled or crashed run.
    """

    run: str
    revision: int
    rects: tuple[Region, ...]
    complete: bool


class ChangeLog:
    """The file ``changes.jsonl``: its first line names the run, revisions count those that follow from 1."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written = 0

    def start(self) -> None:
        """Begin anew, as a run of its own."""
        self._path.write_bytes(_line({"run": uuid.uuid4().hex}))
        self._written = 0

    def go_on(self) -> None:
        """Continue the run of a process that ended early, maybe in the middle of a line."""
        content = self._path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if not whole:
            raise ValueError("its log names no run")
        if whole != content:
            with self._path.open("r+b") as file:
                file.truncate(len(whole))
        self._written = whole.count(b"\n") - 1

    def append(self, regions: Iterable[Region]) -> None:
        """Say that ``regions`` are finished, in this order."""
        self._write(dataclasses.asdict(region) for region in regions)

    def finish(self) -> None:
        """Say that nothing will follow because everything is there."""
        self._write([{"complete": True}])

    def read(self, since: int = 0, run: str = "") -> Changes:
        """Lines after revision ``since`` of ``run``; everything if the file is another run's."""
        first, *lines = list(self._lines()) or [{"run": ""}]
        if run != first["run"]:
            since = 0
        rects = tuple(Region(**_without_revision(line)) for line in lines[max(0, since) :] if "x_l0" in line)
        return Changes(first["run"], len(lines), rects, bool(lines) and "complete" in lines[-1])

    def _write(self, lines: Iterable[dict[str, Any]]) -> None:
        """Add lines: all of them or, where the disk is full, none, so that a later try does not follow half a line."""
        numbered = [_line({"revision": self._written + n, **line}) for n, line in enumerate(lines, 1)]
        text = b"".join(numbered)
        with self._path.open("ab", buffering=0) as file:
            size = file.tell()
            try:
                if file.write(text) != len(text):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                file.truncate(size)
                raise
        self._written += len(numbered)

    def _lines(self) -> Iterator[dict[str, Any]]:
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return
        for line in content.split(b"\n")[:-1]:  # what follows the last newline is still being written
            yield json.loads(line)


def _line(values: dict[str, Any]) -> bytes:
    return json.dumps(values).encode() + b"\n"


def _without_revision(line: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in line.items() if k != "revision"}
