"""EditLog: every edit of a review in one file that only grows; what it says is what was decided, by whom and when."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from lpd.append_only import append_whole
from lpd.errors import ResultError
from lpd.inference.frame import Box
from lpd.review.pixels import LARGEST_PX, Pixels

Kind = Literal["accept", "relabel", "brush", "erase", "undo", "redo"]
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Edit:
    """One line of the log.

    Attributes:
        revision: 1, 2, … in the order of the file.
        id: UUID.
        kind: ``accept`` (a region has the class it was given), ``relabel`` (it has another), ``brush`` (painted),
            ``erase`` (what was said of these pixels is taken back), ``undo`` (an edit is), ``redo`` (an undo is).
        author: name of the person; ``local`` where people have no names.
        time: UTC, ISO 8601.
        value: mask value that the pixels have by this edit, 0 … C; None for ``erase``, ``undo`` and ``redo``.
        code: the value's class code, or ``background``; for people.
        box: mask pixels around what is edited.
        pixels: how many are; of ``undo`` and ``redo`` those of the edit that is taken or brought back.
        undoes: id of the edit taken back by ``undo``, or of the undo taken back by ``redo``.
    """

    revision: int
    id: str
    kind: Kind
    author: str
    time: str
    value: int | None
    code: str
    box: Box
    pixels: int
    undoes: str = ""


class EditLog:
    """The file: a line about the mask that it is of, then a line an edit. One process appends, any number read.

    Args:
        path: of the file, which the first edit makes.
        about: what the first line says, and has to say: plain JSON values, ``mask_size`` and ``classes`` among them.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self.path = path
        self._about = {"review": FORMAT_VERSION, **about}
        self.edits: list[Edit] = []
        self._starts: list[int] = []
        self._end = 0

    def refresh(self) -> None:
        """Read what was appended meanwhile.

        Raises:
            ResultError: the file is damaged, or of another mask.
        """
        try:
            with self.path.open("rb") as file:
                if file.seek(0, os.SEEK_END) < self._end:
                    self._forget()
                file.seek(self._end)
                for line in file:
                    if not line.endswith(b"\n"):
                        return  # still being written, or cut off by a kill: it was never said
                    self._take(line)
                    self._end += len(line)
        except FileNotFoundError:
            self._forget()
        except OSError as error:
            raise ResultError(f"cannot read {self.path} ({error.strerror or error}): check the disk") from error
        except (ValueError, KeyError, TypeError) as error:
            raise ResultError(
                f"line {len(self.edits) + 1 + bool(self._end)} of {self.path} is damaged ({error}): "
                "put back a copy of the file, or move it away to begin the review anew"
            ) from error

    def append(self, edit: Edit, pixels: Pixels | None) -> None:
        """Add an edit with its pixels; ``refresh`` has been called under the same lock.

        Raises:
            ResultError: the disk is full or cannot be written; the file is as before.
        """
        box = edit.box
        line = {**asdict(edit), "box": [box.x0, box.y0, box.x1, box.y1]}
        if pixels is not None:
            line["where"] = pixels.encoded()
        lines = ([_line(self._about)] if not self._end else []) + [_line(line)]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            append_whole(self.path, self._end, b"".join(lines))
        except OSError as error:
            raise ResultError(
                f"cannot write {self.path} ({error.strerror or error}): free some space, then do it again"
            ) from error
        self.refresh()

    def retract(self) -> None:
        """Take back the last line, which could not be carried out."""
        self.edits.pop()
        self._end = self._starts.pop()
        with self.path.open("ab") as file:
            file.truncate(self._end)

    def pixels(self, edit: Edit) -> Pixels:
        """The pixels of an edit; of ``undo`` and ``redo`` those of the edit that is taken or brought back.

        Raises:
            ResultError: they are damaged.
        """
        while edit.undoes:
            edit = next(one for one in self.edits if one.id == edit.undoes)
        try:
            with self.path.open("rb") as file:
                file.seek(self._starts[edit.revision - 1])
                return Pixels.decoded(edit.box, json.loads(file.readline())["where"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ResultError(
                f"edit {edit.id} in {self.path} is damaged ({error}): put back a copy of the file"
            ) from error

    def active(self, until: int | None = None) -> list[Edit]:
        """The edits that stand, in their order; as of revision ``until`` if that is given."""
        edits = self.edits[:until]
        redone = {edit.undoes for edit in edits if edit.kind == "redo"}
        undone = {edit.undoes for edit in edits if edit.kind == "undo" and edit.id not in redone}
        return [edit for edit in edits if not edit.undoes and edit.id not in undone]

    def undone_by(self, author: str) -> list[Edit]:
        """The undos of a person that a redo can take back, the next one last: those since their last new edit."""
        undos: list[Edit] = []
        for edit in self.edits:
            if edit.author != author:
                continue
            if edit.kind == "undo":
                undos.append(edit)
            elif edit.kind == "redo":
                undos = [undo for undo in undos if undo.id != edit.undoes]
            else:
                undos = []
        return undos

    def _take(self, line: bytes) -> None:
        data = json.loads(line)
        if not self._end:
            self._check(data)
            return
        edit = Edit(**{**{k: v for k, v in data.items() if k != "where"}, "box": Box(*map(int, data["box"]))})
        self._check_edit(edit)
        self.edits.append(edit)
        self._starts.append(self._end)

    def _check_edit(self, edit: Edit) -> None:
        if edit.kind not in get_args(Kind) or edit.revision != len(self.edits) + 1:
            raise ValueError(f"edit {edit.revision} of kind {str(edit.kind)[:20]!r} does not follow")
        box, (width, height) = edit.box, self._about["mask_size"]
        if not box or box.intersection(Box(0, 0, width, height)) != box or max(box.width, box.height) > LARGEST_PX:
            raise ValueError(f"its box {box} is not one of the mask")
        if edit.value is not None and not 0 <= edit.value <= len(self._about["classes"]):
            raise ValueError(f"there is no class {edit.value}")
        if (edit.value is None) != (edit.kind in ("erase", "undo", "redo")):
            raise ValueError(f"{edit.kind} does not give pixels the value {edit.value}")
        takes_back = [one for one in self.edits if one.id == edit.undoes]
        if edit.kind in ("undo", "redo") and [one.kind == "undo" for one in takes_back] != [edit.kind == "redo"]:
            raise ValueError(f"it undoes {edit.undoes[:40]!r}, which is not there")
        if edit.kind not in ("undo", "redo") and edit.undoes:
            raise ValueError(f"{edit.kind} undoes nothing")

    def _check(self, data: Mapping[str, Any]) -> None:
        differing = [key for key, value in self._about.items() if data.get(key) != value]
        if differing:
            raise ResultError(
                f"{self.path} is the review of another mask: its {differing[0]} is "
                f"{str(data.get(differing[0]))[:40]!r}, not {str(self._about[differing[0]])[:40]!r}: "
                "move it back to the result that it belongs to"
            )

    def _forget(self) -> None:
        self.edits, self._starts, self._end = [], [], 0


def _line(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, ensure_ascii=False).encode() + b"\n"
