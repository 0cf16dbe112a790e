"""The slides of one folder: opaque ids, lazily opened handles, what each slide says of itself."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

from lpd.errors import LpdError
from lpd.slide.opening import open_slide
from lpd.slide.slide import Slide
from viewers.errors import NotFoundError
from viewers.overviews import Overviews
from viewers.pool import Pool
from viewers.resolutions import RememberedMpp
from viewers.slide_folder import SlideFile, find_slides
from viewers.slide_info import KnownSlides, SlideInfo, describe_slide
from viewers.slide_reader import SlideReader

__all__ = ["Catalogue", "SlideFile", "SlideInfo"]

_LOGGER = logging.getLogger(__name__)
_OPEN_SLIDES = 10
#: So many unread slides may be opened while somebody waits for the list.
_FEW = 50
#: A file that changes is looked for anew once in so many seconds.
_CHANGES_S = 1.0
_Version = tuple[Path, int, int]


class Catalogue:
    """Slides below ``folder``, sub-folders included; nothing outside it can be reached through an id.

    Args:
        folder: where slides lie. It may be empty, and may change while the app runs.
        remembered: resolutions that people gave to slides that lack one.
        known: what slides said of themselves when they were opened before.
        overviews: of slides that have none; without it their tiles take as long as they take.

    Raises:
        LpdError: ``folder`` is not a folder.
    """

    def __init__(
        self,
        folder: Path,
        remembered: RememberedMpp,
        known: KnownSlides | None = None,
        overviews: Overviews | None = None,
    ) -> None:
        if not folder.is_dir():
            raise LpdError(f"there is no slides folder {folder}: create it or name another one with --slides")
        self.folder = folder.resolve()
        self._remembered = remembered
        self._known = known or KnownSlides()
        self._overviews = overviews
        self._files: dict[str, SlideFile] = {}
        self._looked = -math.inf
        self._guard = threading.Lock()
        self._pool: Pool[_Version, Slide] = Pool(lambda key: open_slide(key[0]), Slide.close, _OPEN_SLIDES)
        self._reader = SlideReader(self._read_behind_the_scenes, self._known.save)

    def files(self, max_age_s: float = 0.0) -> list[SlideFile]:
        """All slide files, sorted by path; read from the disk anew unless that was done so few seconds ago."""
        with self._guard:
            if time.monotonic() - self._looked < max_age_s:
                return list(self._files.values())
        begun = time.monotonic()
        found = find_slides(self.folder)
        with self._guard:
            self._files = {file.id: file for file in found}
            self._looked = begun
        return found

    def file(self, slide_id: str) -> SlideFile:
        """The file behind an id.

        Raises:
            NotFoundError: no slide in the folder has this id.
        """
        with self._guard:
            found = self._files.get(slide_id)
        if found is None or not found.path.exists():
            found = next((file for file in self.files() if file.id == slide_id), None)
        elif not found.is_as_listed():  # replaced, or still being copied: then once a second must do
            found = next((file for file in self.files(_CHANGES_S) if file.id == slide_id), None)
        if found is None:
            raise NotFoundError(
                f"no slide has the id {slide_id[:40]!r}: it may have been moved or deleted, so reload the page"
            )
        return found

    def info(self, slide_id: str) -> SlideInfo:
        """What the slide says of itself; opens it the first time.

        Raises:
            NotFoundError: no slide in the folder has this id.
            LpdError: it cannot be opened.
        """
        found = self._look_at(self.file(slide_id))
        if isinstance(found, LpdError):
            raise found
        return found

    def known_info(self, slide_id: str) -> SlideInfo | None:
        """What the slide has said of itself if it has been asked before; opens nothing and looks for nothing."""
        with self._guard:
            file = self._files.get(slide_id)
        found = self._known.get(file) if file else None
        return self._with_remembered_mpp(found) if isinstance(found, SlideInfo) else None

    def infos(
        self, patience_s: float, max_age_s: float = 0.0
    ) -> Iterator[tuple[SlideFile, SlideInfo | LpdError | None]]:
        """Each slide file with what is known of it; None for those that nobody has opened yet.

        They are opened behind the scenes from now on. A few are waited for, but no longer than ``patience_s`` seconds.
        ``max_age_s`` is as in :meth:`files`.
        """
        listed = [(file, self._known.get(file)) for file in self.files(max_age_s)]
        unread = [file for file, found in listed if found is None]
        if unread:
            self._reader.want(unread)
            self._reader.wait(patience_s if len(unread) <= _FEW else 0.0)
        for file, known in listed:
            found = known or self._known.get(file)
            yield file, self._with_remembered_mpp(found) if isinstance(found, SlideInfo) else found

    def borrow(self, slide_id: str) -> AbstractContextManager[Slide]:
        """The opened slide, for a ``with`` block.

        Raises:
            NotFoundError: no slide in the folder has this id.
            PreparingError: an overview of it is being made first.
            LpdError: it cannot be opened.
        """
        file = self.file(slide_id)
        _refuse(file)
        return self._with_overview(self._pool.borrow(file.version))

    def borrow_briefly(self, slide_id: str) -> AbstractContextManager[Slide]:
        """As :meth:`borrow`, for one look: a slide that is not open is closed again, and no other one in its place.

        Raises:
            NotFoundError: no slide in the folder has this id.
            LpdError: it cannot be opened.
        """
        file = self.file(slide_id)
        _refuse(file)
        return self._with_overview(self._pool.borrow_briefly(file.version))

    @contextmanager
    def _with_overview(self, borrowed: AbstractContextManager[Slide]) -> Iterator[Slide]:
        with borrowed as slide:
            if self._overviews is not None:
                self._overviews.require(slide)
            yield slide

    def close(self) -> None:
        """Close the slides that nobody is using; what is asked for later is opened again."""
        self._pool.drop(lambda _version: True)

    def remember_mpp(self, slide_id: str, mpp: float | None) -> SlideInfo:
        """Note the resolution a person states, in µm per pixel; None forgets it.

        Raises:
            LpdError: ``mpp`` is not between 0.01 and 100.
        """
        self._remembered.set(self.info(slide_id).fingerprint, mpp)
        return self.info(slide_id)

    def _look_at(self, file: SlideFile) -> SlideInfo | LpdError:
        found = self._known.get(file)
        if found is None:
            found = self._inspect(file)
            self._known.put(file, found)
        return self._with_remembered_mpp(found) if isinstance(found, SlideInfo) else found

    def _inspect(self, file: SlideFile) -> SlideInfo | LpdError:
        try:
            _refuse(file)
            with self._pool.borrow_briefly(file.version) as slide:
                return describe_slide(file, slide)
        except LpdError as error:
            return type(error)(str(error).replace(str(file.path), file.relative))

    def _read_behind_the_scenes(self, file: SlideFile) -> None:
        try:
            self._look_at(file)
        except Exception:
            _LOGGER.exception("%s cannot be opened", file.path)
            self._known.put(file, LpdError(f"{file.name} cannot be opened: the console of the app says why"))

    def _with_remembered_mpp(self, info: SlideInfo) -> SlideInfo:
        mpp = self._remembered.get(info.fingerprint)
        return info if mpp is None else replace(info, mpp=mpp, mpp_origin="given")


def _refuse(file: SlideFile) -> None:
    if file.refusal:
        raise LpdError(file.refusal)
