"""LabelLog: all that people have said of a label set's tiles, in one file that only grows."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from lpd.append_only import append_whole
from lpd.classes import ClassScheme
from lpd.errors import ConfigError, DatasetError
from lpd.labelling.grid import Cell, TileGrid

Kind = Literal["set", "add", "remove", "clear", "undo"]
FORMAT_VERSION = 1
MOST_CELLS = 4096
_LONGEST_NAME = 100
#: A few cells. Slides of smaller tiles would have millions.
_LEAST_UM = 30.0


@dataclass(frozen=True)
class LabelScheme:
    """What a label set is: its first line, which never changes.

    Attributes:
        name: for people, 1 to 100 characters.
        classes: in the order of the label digits.
        mpp: µm per pixel of the tiles.
        tile_px: their side, a multiple of 32.
        author: who began it.
        created: UTC, ISO 8601.

    Raises:
        ConfigError: a value is out of range.
    """

    name: str
    classes: ClassScheme
    mpp: float
    tile_px: int = 224
    author: str = ""
    created: str = ""

    def __post_init__(self) -> None:
        if not 0 < len(self.name.strip()) <= _LONGEST_NAME or not self.name.isprintable():
            raise ConfigError(f"{self.name[:40]!r} cannot name a label set: give 1 to {_LONGEST_NAME} characters")
        if not 0.05 <= self.mpp <= 20:
            raise ConfigError(f"tiles of {self.mpp} µm/px are none: mpp must lie in 0.05 to 20, 0.5 to 1 is usual")
        if not 32 <= self.tile_px <= 1024 or self.tile_px % 32:
            raise ConfigError(f"a tile of {self.tile_px} px cannot be learnt from: take a multiple of 32 up to 1024")
        if self.tile_px * self.mpp < _LEAST_UM:
            raise ConfigError(
                f"a tile of {self.tile_px * self.mpp:.3g} µm shows no tissue: make it {_LEAST_UM:g} µm wide at least"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form, read back by :meth:`from_dict`."""
        plain = {"name": self.name, "mpp": self.mpp, "tile_px": self.tile_px}
        return {**plain, "author": self.author, "created": self.created, **self.classes.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LabelScheme:
        """Rebuild from :meth:`to_dict`; raises KeyError, TypeError, ValueError or ConfigError."""
        facts = str(data["name"]), ClassScheme.from_dict(data), float(data["mpp"]), int(data["tile_px"])
        return cls(*facts, str(data.get("author", "")), str(data.get("created", "")))


@dataclass(frozen=True)
class LabelledSlide:
    """A slide as it was when somebody first said something of it; its grid lies where it lay then.

    Attributes:
        fingerprint, name: of the slide.
        width_l0, height_l0, mpp: its size in level-0 pixels, and µm per level-0 pixel.
    """

    fingerprint: str
    name: str
    width_l0: int
    height_l0: int
    mpp: float

    def grid(self, scheme: LabelScheme) -> TileGrid:
        """Its tiles; raises as :class:`~lpd.labelling.grid.TileGrid` does."""
        return TileGrid(self.width_l0, self.height_l0, self.mpp, scheme.mpp, scheme.tile_px)


@dataclass(frozen=True)
class LabelEdit:
    """One line of the log.

    Attributes:
        revision: 1, 2, … in the order of the file, lines about slides included.
        id: UUID.
        kind: ``set`` (the tiles show these classes and no others; none of them if there are none), ``add``, ``remove``
            (a tile that is left without any has no label), ``clear`` (they have no label), ``undo`` (of another edit).
        author: name of the person; ``local`` where people have no names.
        time: UTC, ISO 8601.
        slide: its fingerprint.
        cells: the tiles; of ``undo`` those of the edit that it takes back.
        classes: codes.
        proposed: why these tiles were proposed; empty where the person chose them.
        undoes: id of the edit taken back by ``undo``.
    """

    revision: int
    id: str
    kind: Kind
    author: str
    time: str
    slide: str
    cells: tuple[Cell, ...]
    classes: tuple[str, ...] = ()
    proposed: str = ""
    undoes: str = ""


@dataclass
class LabelLog:
    """The file: a line about the label set, then a line for each slide and each edit. One process appends at a time."""

    path: Path
    scheme: LabelScheme | None = None
    slides: dict[str, LabelledSlide] = field(default_factory=dict)
    edits: list[LabelEdit] = field(default_factory=list)
    revision: int = 0
    _ids: set[str] = field(default_factory=set)
    _end: int = 0

    def refresh(self) -> list[LabelEdit]:
        """Read what was appended meanwhile.

        Returns:
            The edits among it.

        Raises:
            DatasetError: the file is missing or damaged.
        """
        known = len(self.edits)
        try:
            with self.path.open("rb") as file:
                if file.seek(0, os.SEEK_END) < self._end:
                    raise ValueError("it has become shorter")
                file.seek(self._end)
                for line in file:
                    if not line.endswith(b"\n"):
                        break  # still being written, or cut off by a kill: it was never said
                    self._take(json.loads(line))
                    self._end += len(line)
        except OSError as error:
            raise DatasetError(
                f"the label set {self.path.parent.name} cannot be read ({error.strerror or error}): check the disk"
            ) from error
        except (ValueError, KeyError, TypeError, ConfigError) as error:
            raise DatasetError(
                f"line {self.revision + 1 + bool(self._end)} of {self.path.parent.name}/{self.path.name} is damaged "
                f"({error}): put back a copy of the file"
            ) from error
        return self.edits[known:]

    def append(self, lines: Sequence[Mapping[str, Any]]) -> list[LabelEdit]:
        """Add lines, all or none; :meth:`refresh` has been called under the same lock.

        Raises:
            DatasetError: the disk is full or cannot be written; the file is as before.
        """
        content = b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines)
        try:
            append_whole(self.path, self._end, content)
        except OSError as error:
            raise DatasetError(
                f"the label set {self.path.parent.name} cannot be written ({error.strerror or error}): "
                "free some space, then do it again"
            ) from error
        return self.refresh()

    def active(self, slide: str | None = None) -> list[LabelEdit]:
        """The edits that stand, in their order; those of one slide if it is named."""
        undone = {edit.undoes for edit in self.edits if edit.kind == "undo"}
        standing = (edit for edit in self.edits if edit.kind != "undo" and edit.id not in undone)
        return [edit for edit in standing if slide in (None, edit.slide)]

    def _take(self, data: Mapping[str, Any]) -> None:
        if not self._end:
            if data.get("labels") != FORMAT_VERSION:
                raise ValueError(
                    f"it begins a label set of version {str(data.get('labels'))[:20]!r}, not {FORMAT_VERSION}"
                )
            self.scheme = LabelScheme.from_dict(data)
            return
        if data["revision"] != self.revision + 1:
            raise ValueError(f"revision {data['revision']} does not follow {self.revision}")
        if data["kind"] == "slide":
            self._take_slide(data)
        else:
            self._take_edit(data)
        self.revision += 1

    def _take_slide(self, data: Mapping[str, Any]) -> None:
        slide = LabelledSlide(**{key: value for key, value in data.items() if key not in ("kind", "revision")})
        slide.grid(self._scheme)
        self.slides[slide.fingerprint] = slide

    def _take_edit(self, data: Mapping[str, Any]) -> None:
        cells = tuple((int(column), int(row)) for column, row in data["cells"])
        edit = LabelEdit(**{**data, "cells": cells, "classes": tuple(data["classes"])})
        if edit.kind not in get_args(Kind) or edit.slide not in self.slides or not 1 <= len(cells) <= MOST_CELLS:
            raise ValueError(f"an edit of kind {str(edit.kind)[:20]!r} of {len(cells)} tiles of this slide is none")
        if not set(edit.classes) <= set(self._scheme.classes.codes):
            raise ValueError(f"there is no class {sorted(set(edit.classes) - set(self._scheme.classes.codes))[0]!r}")
        if edit.kind == "undo" and edit.undoes not in self._ids:
            raise ValueError(f"it undoes {edit.undoes[:40]!r}, which is not there")
        self.edits.append(edit)
        self._ids.add(edit.id)

    @property
    def _scheme(self) -> LabelScheme:
        if self.scheme is None:
            raise ValueError("the first line is missing")
        return self.scheme


def slide_line(revision: int, slide: LabelledSlide) -> dict[str, Any]:
    """A line about a slide."""
    return {"kind": "slide", "revision": revision, **asdict(slide)}
