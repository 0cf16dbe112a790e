"""ChangeLog: which parts of a result are finished, one JSON line each, appended by one process and read by others."""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from lpd.inference.frame import Box, MaskFrame
from lpd.slide.region import Region

#: The log of a result, in its folder.
CHANGES_NAME = "changes.jsonl"
_REGION = tuple(field.name for field in dataclasses.fields(Region))


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


@dataclass(frozen=True)
class PartLog:
    """How far one of a result's parts is.

    Attributes:
        boxes: mask pixels; those of them that the part asks for are finished.
        rects: the same as level-0 rectangles, rounded outwards.
        complete: all of it is finished.
    """

    boxes: tuple[Box, ...]
    rects: tuple[Region, ...]
    complete: bool


class ChangeLog:
    """The file ``changes.jsonl``: its first line names the run, revisions count those that follow from 1.

    A line ``part`` begins each part but the first.
    """

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

    def begin_part(self) -> None:
        """Say that what follows belongs to a further part."""
        self._write([{"part": len(self.parts())}])

    def append(self, regions: Iterable[Region], boxes: Iterable[Box | None] = ()) -> None:
        """Say that ``regions`` are finished, in this order; ``boxes`` are their mask pixels."""
        lines = (dataclasses.asdict(region) for region in regions)
        told = zip_longest(lines, ([b.x0, b.y0, b.x1, b.y1] if b else None for b in boxes))
        self._write({**line, "box": box} if box else line for line, box in told)

    def finish(self) -> None:
        """Say that nothing will follow because everything is there."""
        self._write([{"complete": True}])

    def read(self, since: int = 0, run: str = "") -> Changes:
        """Lines after revision ``since`` of ``run``; everything if the file is another run's."""
        first, *lines = list(self._lines()) or [{"run": ""}]
        if run != first["run"]:
            since = 0
        return Changes(
            first["run"], len(lines), _rects(lines[max(0, since) :]), bool(lines) and "complete" in lines[-1]
        )

    def parts(self) -> list[PartLog]:
        """How far each part is that the file knows of, one at least."""
        lines = [*self._lines()][1:]
        starts = [0, *(number for number, line in enumerate(lines) if "part" in line)]
        parts = [lines[start:end] for start, end in zip(starts, [*starts[1:], None], strict=True)]
        return [
            PartLog(
                tuple(Box(*line["box"]) for line in part if "box" in line),
                _rects(part),
                any("complete" in line for line in part),
            )
            for part in parts
        ]

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


def finished_rows(rects: Sequence[Region], frame: MaskFrame, wanted: Box) -> tuple[Box]:
    """The rows from the top of ``wanted`` on that the rectangles, which were finished row by row, cover in full."""
    right, last = frame.to_l0(wanted), wanted.y0
    for rect in rects:
        if right is not None and rect.right_l0 >= right.right_l0:  # the end of a row of panels
            # Level-0 rectangles are rounded outwards: the row that a whole pixel less still touches is surely there.
            last = max(last, math.floor((rect.bottom_l0 - 1) / frame.scale))
    return (Box(wanted.x0, wanted.y0, wanted.x1, min(last, wanted.y1)),)


def _line(values: dict[str, Any]) -> bytes:
    return json.dumps(values).encode() + b"\n"


def _rects(lines: Iterable[dict[str, Any]]) -> tuple[Region, ...]:
    return tuple(Region(*(line[name] for name in _REGION)) for line in lines if "x_l0" in line)
