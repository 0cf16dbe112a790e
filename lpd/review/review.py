"""Review: what people have said of one result's mask; kept beside the result, which stays as it is."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from lpd.classes import NOT_COMPUTED, ClassScheme
from lpd.errors import OutdatedError, ResultError
from lpd.export.areas import Tally, tally_of
from lpd.export.source import Mask
from lpd.inference.frame import Box, sample_places
from lpd.inference.store import ResultStore, now
from lpd.review.finding import Found, find_region
from lpd.review.layer import CorrectionLayer, Counts
from lpd.review.log import Edit, EditLog, Kind
from lpd.review.pixels import Pixels, stroke
from lpd.slide.region import Region

FOLDER, LOG_NAME = "review", "log.jsonl"
#: The author of edits where people have no names.
NO_NAME = "local"
_PATIENCE_S = 30
_MOST_POINTS = 5000


@dataclass(frozen=True)
class Author:
    """Somebody whose edits stand.

    Attributes:
        name: of the person; ``local`` where people have no names.
        edits: how many of them stand.
        last: time of the last one, UTC, ISO 8601.
    """

    name: str
    edits: int
    last: str


@dataclass(frozen=True)
class Status:
    """How far a review is.

    Attributes:
        revision: number of lines of the log; 0 if nobody has said anything.
        authors: who has, those who came last first.
        counts: how much has been judged; None if no edit stands.
        pixel_mm2: area of a mask pixel, mm².
        corrected: areas by class of the mask with the corrections in it; None if no edit stands.
    """

    revision: int
    authors: tuple[Author, ...]
    counts: Counts | None
    pixel_mm2: float
    corrected: Tally | None


class Review:
    """The review of a result's mask, in ``review/<run>`` of its folder; ``<run>`` is what ``changes.jsonl`` names it.

    A result that is begun anew is another run: its review begins anew, too, and the earlier one stays where it is.
    May be shared by threads; other processes may read and write it as well.

    Attributes:
        run: the run whose mask this is about.
        folder: of the review; made by the first edit.
    """

    def __init__(self, store: ResultStore) -> None:
        """Open it.

        Raises:
            ResultError: the result does not say which run it is of, or the review is damaged or another mask's.
        """
        self.run = store.changes().run
        if not self.run:
            raise ResultError(f"{store.folder} does not say which run it is of: segment the slide again to review it")
        self.folder = store.folder / FOLDER / self.run
        self._store = store
        self._log = EditLog(self.folder / LOG_NAME, _about(store, self.run))
        self._layer = CorrectionLayer(self.folder, store)
        self._guard = threading.RLock()
        self.refresh()

    @property
    def log_path(self) -> Path:
        """The log of all edits."""
        return self._log.path

    @property
    def log(self) -> EditLog:
        return self._log

    @property
    def store(self) -> ResultStore:
        return self._store

    @property
    def classes(self) -> ClassScheme:
        """What the values of :meth:`read` mean."""
        return self._store.meta.classes

    def refresh(self) -> int:
        """Take in what others have said meanwhile.

        Returns:
            The revision: how many edits there are.

        Raises:
            ResultError: the review cannot be read.
        """
        with self._guard:
            self._log.refresh()
            if self._layer.is_behind(self._log):
                with self._writing():
                    pass
            return len(self._log.edits)

    def status(self) -> Status:
        """How far the review is.

        Raises:
            ResultError: the review cannot be read.
        """
        revision = self.refresh()
        with self._guard:
            standing = self._log.active()
            authors: dict[str, Author] = {}
            for edit in standing:
                before = authors.pop(edit.author, None)
                authors[edit.author] = Author(edit.author, 1 + (before.edits if before else 0), edit.time)
            counts = self._layer.counts() if standing else None
        pixel_mm2 = (self._store.meta.mask_mpp / 1000) ** 2
        corrected = tally_of(self._store.meta, np.array(counts.corrected)) if counts else None
        return Status(revision, tuple(reversed(authors.values())), counts, pixel_mm2, corrected)

    def earlier(self) -> tuple[str, ...]:
        """Runs of the same folder whose masks were reviewed and then replaced."""
        logs = sorted(self.folder.parent.glob(f"*/{LOG_NAME}"))
        return tuple(path.parent.name for path in logs if path.parent != self.folder)

    def changes(self, since: int) -> tuple[Region, ...]:
        """One level-0 rectangle for each edit after revision ``since``, oldest first."""
        self.refresh()
        frame = self._store.meta.frame
        found = (frame.to_l0(edit.box) for edit in self._log.edits[max(0, since) :])
        return tuple(region or Region(0, 0, 1, 1) for region in found)

    def last_of(self, author: str) -> Edit | None:
        """What :meth:`undo` would take back."""
        own = [edit for edit in self._log.active() if edit.author == author]
        return own[-1] if own else None

    def last_undone_of(self, author: str) -> Edit | None:
        """The edit that :meth:`redo` would bring back."""
        undos = self._log.undone_by(author)
        return next((edit for edit in self._log.edits if undos and edit.id == undos[-1].undoes), None)

    def read(self, region: Region, size: tuple[int, int]) -> Mask:
        """Corrections in ``region`` (level 0), nearest neighbour, as uint8 (h, w) for ``size`` = (w, h); else 255."""
        ys, xs, step = sample_places(region, size, self._store.meta.scale)
        return self._layer.sample(ys, xs, step) if self._log.edits else _nothing(size)

    def read_px(self, x_px: int, y_px: int, size: tuple[int, int], step: int = 1) -> Mask:
        """Corrections of the mask's own pixels, as :meth:`~lpd.inference.store.ResultStore.read_mask_px` reads them."""
        if not self._log.edits:
            return _nothing(size)
        exact = step & (step - 1) == 0 and x_px % step == y_px % step == 0
        ys, xs = y_px + step * np.arange(size[1]), x_px + step * np.arange(size[0])
        return self._layer.sample(ys, xs, float(step if exact else 1))

    def corrected_px(self, x_px: int, y_px: int, size: tuple[int, int], step: int = 1) -> Mask:
        """The mask with the corrections in it, as :meth:`read_px`."""
        said = self.read_px(x_px, y_px, size, step)
        mask = self._store.read_mask_px(x_px, y_px, size, step)
        return np.where(said == NOT_COMPUTED, mask, said)

    def find(self, x_l0: float, y_l0: float, view: Region | None = None) -> Found:
        """The region of the corrected mask around a place, see :func:`~lpd.review.finding.find_region`.

        Args:
            x_l0, y_l0: the place.
            view: what the person sees; the whole slide if that is not said.

        Raises:
            ResultError: there is none, or it is too large.
        """
        frame, scale = self._store.meta.frame, self._store.meta.scale
        seen = frame.to_mask(view) if view else frame.bounds
        return find_region(self.corrected_px, int(x_l0 // scale), int(y_l0 // scale), seen)

    def judge(
        self, author: str, place: tuple[float, float], value: int | None, *, view: Region | None = None, since: int
    ) -> Edit:
        """Accept the region around a place (``value`` None, or the one it has), or give it another class.

        Args:
            author: who says so.
            place: (x, y) in level-0 pixels.
            value: mask value, C for background.
            view: see :meth:`find`.
            since: revision that the person saw.

        Raises:
            OutdatedError: somebody else has edited this place after that.
            ResultError: there is no such region or class, or it cannot be written; nothing has changed.
        """
        with self._writing():
            found = self.find(*place, view)
            value = found.value if value is None else self._checked(value)
            kind: Kind = "accept" if value == found.value else "relabel"
            return self._add(kind, author, value, found.pixels, since)

    def paint(
        self,
        author: str,
        points_l0: Sequence[tuple[float, float]],
        radius_um: float,
        value: int | None,
        *,
        since: int,
    ) -> Edit:
        """Give what a round brush covers a class, or take back what was said of it (``value`` None).

        Only what has been computed is painted, and only what has been corrected is taken back.

        Args:
            author, value, since: see :meth:`judge`.
            points_l0: (x, y) of the corners of the stroke's line in level-0 pixels.
            radius_um: of the brush, in µm.

        Raises:
            OutdatedError, ResultError: see :meth:`judge`; also if the stroke is too long or covers nothing.
        """
        if not 1 <= len(points_l0) <= _MOST_POINTS:
            raise ResultError(f"a stroke has 1 to {_MOST_POINTS:,} points, not {len(points_l0):,}: paint it in parts")
        meta = self._store.meta
        if not 0 < radius_um * 2 <= meta.mask_mpp * 4096:
            raise ResultError(
                f"a brush of {2 * radius_um:,.0f} µm is too large: {meta.mask_mpp * 4096:,.0f} µm is the largest"
            )
        line = [(x / meta.scale, y / meta.scale) for x, y in points_l0]
        with self._writing():
            value = None if value is None else self._checked(value)
            pixels = stroke(line, radius_um / meta.mask_mpp, meta.frame.bounds)
            pixels = pixels and self._paintable(pixels, value)
            if pixels is None:
                raise ResultError(
                    "no correction lies under the eraser: move it over one"
                    if value is None
                    else "nothing that has been computed lies under the brush: paint elsewhere, or with a larger one"
                )
            return self._add("erase" if value is None else "brush", author, value, pixels, since)

    def undo(self, author: str) -> Edit:
        """Take back the last edit of a person that stands; what others have said of its pixels later stays.

        Raises:
            ResultError: there is none, or it cannot be written.
        """
        with self._writing():
            last = self.last_of(author)
            if last is None:
                raise ResultError(f"there is no edit of {author} to undo: those of others are theirs to take back")
            return self._commit(self._taking_back("undo", author, last), None)

    def redo(self, author: str, *, since: int) -> Edit:
        """Bring back what a person has taken back last, unless they have said something new since.

        It stands where it stood: what others have said of its pixels later is not painted over.

        Args:
            author, since: see :meth:`judge`.

        Raises:
            OutdatedError: somebody has edited this place after that.
            ResultError: there is nothing to bring back, or it cannot be written.
        """
        with self._writing():
            undos = self._log.undone_by(author)
            if not undos:
                raise ResultError(f"there is no edit of {author} to bring back: nothing was taken back before")
            self._require_seen(undos[-1].box, since)
            return self._commit(self._taking_back("redo", author, undos[-1]), None)

    def _taking_back(self, kind: Kind, author: str, edit: Edit) -> Edit:
        return Edit(self._next, str(uuid.uuid4()), kind, author, now(), None, "", edit.box, edit.pixels, edit.id)

    def _paintable(self, pixels: Pixels, value: int | None) -> Pixels | None:
        box = pixels.box
        read = self.read_px if value is None else self._store.read_mask_px
        known = read(box.x0, box.y0, (box.width, box.height)) != NOT_COMPUTED
        painted = Pixels(box, pixels.where & known)
        return painted if painted.where.any() else None

    def _checked(self, value: int) -> int:
        classes = self._store.meta.classes
        if not 0 <= value <= classes.background:
            raise ResultError(f"class {value} does not exist: this result has {classes.count} classes and background")
        return value

    @property
    def _next(self) -> int:
        return len(self._log.edits) + 1

    def _add(self, kind: Kind, author: str, value: int | None, pixels: Pixels, since: int) -> Edit:
        self._require_seen(pixels.box.grown(1), since)  # a neighbour may have cut a region shorter
        code = "" if value is None else [*self._store.meta.classes.codes, "background"][value]
        edit = Edit(self._next, str(uuid.uuid4()), kind, author, now(), value, code, pixels.box, pixels.count)
        return self._commit(edit, pixels)

    def _require_seen(self, box: Box, since: int) -> None:
        for edit in self._log.edits[max(0, since) :]:
            if edit.box.intersection(box):
                raise OutdatedError(
                    f"{edit.author} has corrected this place meanwhile: it is shown as saved now, "
                    "so look again and do it anew"
                )

    def _commit(self, edit: Edit, pixels: Pixels | None) -> Edit:
        self._log.append(edit, pixels)
        try:
            self._layer.follow(self._log)
        except BaseException:
            self._log.retract()
            self._layer.invalidate()
            raise
        return edit

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Alone among threads and processes, with everything that was said before taken in."""
        with self._guard:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                lock = FileLock(self.folder / "lock")
                lock.acquire(timeout=_PATIENCE_S)
            except Timeout:
                raise ResultError(
                    f"{self.folder} is being written by another program: wait, then do it again"
                ) from None
            except OSError as error:
                raise ResultError(
                    f"cannot write to {self.folder} ({error.strerror or error}): check the disk"
                ) from error
            try:
                self._log.refresh()
                if self._layer.is_behind(self._log):
                    self._layer.follow(self._log)
                yield
            finally:
                lock.release()


def _about(store: ResultStore, run: str) -> dict[str, object]:
    meta = store.meta
    return {
        "run": run,
        "slide": meta.slide_name,
        "slide_fingerprint": meta.slide_fingerprint,
        "checkpoint": meta.checkpoint_name,
        "checkpoint_digest": meta.checkpoint_digest,
        "classes": list(meta.classes.codes),
        "mask_size": list(meta.mask_size),
        "mask_mpp": meta.mask_mpp,
    }


def _nothing(size: tuple[int, int]) -> Mask:
    return np.full((size[1], size[0]), NOT_COMPUTED, np.uint8)
