"""Labelling: a label set, that is classes, a tile size and what people have ticked; threads may share it."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from filelock import FileLock, Timeout

from lpd.errors import ConfigError, DatasetError, OutdatedError
from lpd.labelling.grid import Cell, TileGrid
from lpd.labelling.log import (
    FORMAT_VERSION,
    MOST_CELLS,
    Kind,
    LabelEdit,
    LabelledSlide,
    LabelLog,
    LabelScheme,
    slide_line,
)

LOG_NAME = "labels.jsonl"
#: The author where people have no names.
NO_NAME = "local"
_PATIENCE_S = 30
_LONGEST_REASON = 200


@dataclass(frozen=True)
class Tick:
    """What is said of one tile.

    Attributes:
        classes: codes of what it shows, in the scheme's order; empty if none of the classes.
        author, time: of the last edit that changed it.
        proposed: why it was proposed; empty where the person chose it.
    """

    classes: tuple[str, ...]
    author: str
    time: str
    proposed: str = ""


@dataclass(frozen=True)
class Wish:
    """An edit that somebody wants.

    Attributes:
        slide: of the tiles; its first edit fixes its grid.
        cells: one or more.
        kind: any but ``undo``.
        classes: codes.
        proposed: why these tiles were proposed.
        since: revision that the person saw.
    """

    slide: LabelledSlide
    cells: tuple[Cell, ...]
    kind: Kind
    classes: tuple[str, ...] = ()
    proposed: str = ""
    since: int = 0


class Labelling:
    """A label set in a folder of its own; :meth:`create` begins one.

    Attributes:
        folder: of the label set; its name is the set's id.
        scheme: what never changes of it.
    """

    def __init__(self, folder: Path) -> None:
        """Open one.

        Raises:
            DatasetError: there is none, or it is damaged.
        """
        self.folder = folder
        self._log = LabelLog(folder / LOG_NAME)
        if not self._log.path.is_file():
            raise DatasetError(f"{folder.name} holds no label set: it has no {LOG_NAME}")
        self._guard = threading.RLock()
        self._tiles: dict[str, dict[Cell, Tick]] = {}
        self.refresh()
        if self._log.scheme is None:
            raise DatasetError(f"{folder.name}/{LOG_NAME} has no first line: put back a copy of the file")
        self.scheme = self._log.scheme

    @classmethod
    def create(cls, folder: Path, scheme: LabelScheme) -> Labelling:
        """Begin a label set in a new folder.

        Raises:
            DatasetError: the folder holds one already, or cannot be written.
        """
        path = folder / LOG_NAME
        if path.exists():
            raise DatasetError(f"{folder.name} holds a label set already: choose another folder")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.touch()
        except OSError as error:
            raise DatasetError(f"cannot write to {folder} ({error.strerror or error}): check the disk") from error
        try:
            LabelLog(path).append(
                [{"labels": FORMAT_VERSION, **replace(scheme, created=scheme.created or _now()).to_dict()}]
            )
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return cls(folder)

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def log_path(self) -> Path:
        """The log of all edits."""
        return self._log.path

    @property
    def slides(self) -> Mapping[str, LabelledSlide]:
        """Slides that somebody has said something of, by fingerprint."""
        return dict(self._log.slides)

    def refresh(self) -> int:
        """Take in what others have said meanwhile.

        Returns:
            The revision.

        Raises:
            DatasetError: the log is damaged.
        """
        with self._guard:
            self._follow(self._log.refresh())
            return self._log.revision

    def grid(self, slide: LabelledSlide) -> TileGrid:
        """The tiles of a slide.

        Raises:
            ConfigError: it was labelled at another resolution before.
            SlideError: it is too coarse or too small, see :class:`~lpd.labelling.grid.TileGrid`.
        """
        known = self._log.slides.get(slide.fingerprint)
        if known is not None and known != replace(slide, name=known.name):
            raise ConfigError(
                f"{slide.name} was labelled at {known.mpp:.4g} µm/px, and is of {slide.mpp:.4g} µm/px now: "
                "enter the old resolution again, or begin another label set"
            )
        return slide.grid(self.scheme)

    def tiles(self, fingerprint: str) -> Mapping[Cell, Tick]:
        """The labelled tiles of a slide."""
        with self._guard:
            return dict(self._tiles.get(fingerprint, {}))

    def changed(self, fingerprint: str, since: int) -> Mapping[Cell, Tick | None]:
        """What was said of a slide's tiles after revision ``since``; None of those that have no label any more."""
        with self._guard:
            tiles = self._tiles.get(fingerprint, {})
            if since <= 0:
                return dict(tiles)
            later = (e for e in self._log.edits if e.revision > since and e.slide == fingerprint)
            return {cell: tiles.get(cell) for edit in later for cell in edit.cells}

    def counts(self) -> dict[str, dict[str, int]]:
        """By slide, how many labelled tiles show each class; ``""`` none of them, ``"tiles"`` how many there are."""
        with self._guard:
            return {
                slide: count_classes(tiles.values(), self.scheme.classes.codes) for slide, tiles in self._tiles.items()
            }

    def edit(self, author: str, wish: Wish) -> LabelEdit:
        """Say something of some tiles.

        Raises:
            OutdatedError: somebody has said something of one of them after ``wish.since``.
            ConfigError: there is no such class or tile, or too many tiles at once.
            SlideError, DatasetError: see :meth:`grid`; the log cannot be written.
        """
        codes = self.scheme.classes.codes
        unknown = [code for code in wish.classes if code not in codes]
        if unknown or wish.kind not in ("set", "add", "remove", "clear"):
            raise ConfigError(f"there is no class {(unknown or [wish.kind])[0]!r}: the set has {', '.join(codes)}")
        if not 1 <= len(wish.cells) <= MOST_CELLS:
            raise ConfigError(f"{len(wish.cells):,} tiles at once are not 1 to {MOST_CELLS:,}: take a smaller region")
        with self._writing():
            self.grid(wish.slide).require(wish.cells)
            self._require_news(wish)
            lines = []
            if wish.slide.fingerprint not in self._log.slides:
                lines.append(slide_line(self._log.revision + 1, wish.slide))
            classes = tuple(code for code in codes if code in wish.classes)
            made = LabelEdit(
                self._log.revision + 1 + len(lines),
                str(uuid.uuid4()),
                wish.kind,
                author,
                _now(),
                wish.slide.fingerprint,
                tuple(dict.fromkeys(wish.cells)),
                classes,
                wish.proposed[:_LONGEST_REASON],
            )
            self._follow(self._log.append([*lines, asdict(made)]))
            return made

    def undo(self, author: str) -> LabelEdit:
        """Take back the last edit of a person that stands; what others have said of its tiles later stays.

        Raises:
            DatasetError: there is none, or the log cannot be written.
        """
        with self._writing():
            last = self.last_of(author)
            if last is None:
                raise DatasetError(
                    f"there is nothing of {author} to undo: what others have ticked is theirs to take back"
                )
            undo = replace(
                last, revision=self._log.revision + 1, id=str(uuid.uuid4()), kind="undo", time=_now(), undoes=last.id
            )
            self._follow(self._log.append([asdict(undo)]))
            return undo

    def last_of(self, author: str) -> LabelEdit | None:
        """What :meth:`undo` would take back."""
        with self._guard:
            return next((edit for edit in reversed(self._log.active()) if edit.author == author), None)

    def _require_news(self, wish: Wish) -> None:
        cells = set(wish.cells)
        for edit in reversed(self._log.edits):
            if edit.revision <= wish.since:
                return
            if edit.slide == wish.slide.fingerprint and not cells.isdisjoint(edit.cells):
                raise OutdatedError(
                    f"{edit.author} has labelled this tile meanwhile: it is shown as saved now, so look again"
                )

    def _follow(self, edits: Sequence[LabelEdit]) -> None:
        for slide in {edit.slide for edit in edits if edit.kind == "undo"}:
            self._tiles[slide] = {}
            for edit in self._log.active(slide):
                self._apply(edit)
        rebuilt = {edit.slide for edit in edits if edit.kind == "undo"}
        for edit in edits:
            if edit.slide not in rebuilt:
                self._apply(edit)

    def _apply(self, edit: LabelEdit) -> None:
        tiles = self._tiles.setdefault(edit.slide, {})
        scheme = self._log.scheme
        codes = scheme.classes.codes if scheme else ()
        for cell in edit.cells:
            before = tiles.get(cell)
            had = set(before.classes) if before else set()
            now = {"set": set(edit.classes), "add": had | set(edit.classes), "remove": had - set(edit.classes)}
            left = now.get(edit.kind)
            if left is None or (edit.kind == "remove" and not left and (had or before is None)):
                tiles.pop(cell, None)
                continue
            proposed = edit.proposed or (before.proposed if before else "")
            tiles[cell] = Tick(tuple(c for c in codes if c in left), edit.author, edit.time, proposed)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Alone among threads and processes, with everything that was said before taken in."""
        with self._guard:
            try:
                lock = FileLock(self.folder / "lock")
                lock.acquire(timeout=_PATIENCE_S)
            except Timeout:
                raise DatasetError(f"the label set {self.id} is being written by another program: try again") from None
            except OSError as error:
                raise DatasetError(f"cannot write to {self.id} ({error.strerror or error}): check the disk") from error
            try:
                self._follow(self._log.refresh())
                yield
            finally:
                lock.release()


def count_classes(ticks: Iterable[Tick], codes: Sequence[str]) -> dict[str, int]:
    """How many tiles show each class; ``""`` none of them, ``"tiles"`` how many there are."""
    counts = dict.fromkeys((*codes, "", "tiles"), 0)
    for tick in ticks:
        counts["tiles"] += 1
        for code in tick.classes or ("",):
            counts[code] += 1
    return counts


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
