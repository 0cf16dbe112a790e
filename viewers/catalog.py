"""The slides of one folder: opaque ids, lazily opened handles, what each slide says of itself."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from lpd.errors import LpdError
from lpd.slide.opening import is_slide_path, open_slide
from lpd.slide.slide import Slide
from viewers.errors import NotFoundError
from viewers.pool import Pool
from viewers.resolutions import RememberedMpp

_OPEN_SLIDES = 6


@dataclass(frozen=True)
class SlideFile:
    """A file that the catalogue lists; ``refusal`` says why it will not be opened, if so."""

    id: str
    path: Path
    relative: str
    size: int
    mtime_ns: int
    refusal: str = ""

    @property
    def name(self) -> str:
        """File name as people can read it."""
        return PurePosixPath(self.relative).name

    @property
    def version(self) -> tuple[Path, int, int]:
        return self.path, self.size, self.mtime_ns


@dataclass(frozen=True)
class SlideInfo:
    """What a slide says of itself, with the resolution a person gave, if any; sizes in level-0 pixels."""

    file: SlideFile
    vendor: str
    width_l0: int
    height_l0: int
    mpp: float | None
    mpp_origin: str
    fingerprint: str
    objective: str
    properties: dict[str, str]

    @property
    def synthetic(self) -> bool:
        """True for a phantom: drawn by a program, not scanned from tissue."""
        told = (self.properties.get(name, "") for name in ("openslide.comment", "tiff.ImageDescription"))
        return any("synthetic phantom" in text.lower() for text in told)


class Catalogue:
    """Slides below ``folder``, sub-folders included; nothing outside it can be reached through an id.

    Args:
        folder: where slides lie. It may be empty, and may change while the app runs.
        remembered: resolutions that people gave to slides that lack one.

    Raises:
        LpdError: ``folder`` is not a folder.
    """

    def __init__(self, folder: Path, remembered: RememberedMpp) -> None:
        if not folder.is_dir():
            raise LpdError(f"there is no slides folder {folder}: create it or name another one with --slides")
        self.folder = folder.resolve()
        self._remembered = remembered
        self._files: dict[str, SlideFile] = {}
        self._info: dict[tuple[Path, int, int], SlideInfo | LpdError] = {}
        self._guard = threading.Lock()
        self._pool: Pool[tuple[Path, int, int], Slide] = Pool(lambda key: open_slide(key[0]), Slide.close, _OPEN_SLIDES)

    def files(self) -> list[SlideFile]:
        """All slide files, read from the disk anew, sorted by path."""
        found = sorted(_one_per_dicom_folder(self._walk()), key=lambda file: file.relative.lower())
        with self._guard:
            self._files = {file.id: file for file in found}
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
        file = self.file(slide_id)
        known = self._info.get(file.version)
        if known is None:
            known = self._info[file.version] = self._inspect(file)
        if isinstance(known, LpdError):
            raise known
        return self._with_remembered_mpp(known)

    def infos(self, budget_s: float) -> Iterator[tuple[SlideFile, SlideInfo | LpdError | None]]:
        """Each slide file with what is known of it; None for those not opened when ``budget_s`` seconds are over."""
        deadline = time.monotonic() + budget_s
        for file in self.files():
            if file.version not in self._info and time.monotonic() > deadline:
                yield file, None
                continue
            try:
                yield file, self.info(file.id)
            except LpdError as error:
                yield file, error

    def borrow(self, slide_id: str) -> AbstractContextManager[Slide]:
        """The opened slide, for a ``with`` block.

        Raises:
            NotFoundError: no slide in the folder has this id.
            LpdError: it cannot be opened.
        """
        return self._borrow(self.file(slide_id))

    def remember_mpp(self, slide_id: str, mpp: float | None) -> SlideInfo:
        """Note the resolution a person states, in µm per pixel; None forgets it.

        Raises:
            LpdError: ``mpp`` is not between 0.01 and 100.
        """
        self._remembered.set(self.info(slide_id).fingerprint, mpp)
        return self.info(slide_id)

    def _borrow(self, file: SlideFile) -> AbstractContextManager[Slide]:
        if file.refusal:
            raise LpdError(file.refusal)
        return self._pool.borrow(file.version)

    def _inspect(self, file: SlideFile) -> SlideInfo | LpdError:
        try:
            with self._borrow(file) as slide:
                slide.require_overview()
                return _describe(file, slide)
        except LpdError as error:
            return type(error)(str(error).replace(str(file.path), file.relative))

    def _with_remembered_mpp(self, info: SlideInfo) -> SlideInfo:
        mpp = self._remembered.get(info.fingerprint)
        return info if mpp is None else SlideInfo(**{**vars(info), "mpp": mpp, "mpp_origin": "given"})

    def _walk(self) -> Iterator[SlideFile]:
        for parent, folders, names in os.walk(self.folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in names:
                path = Path(parent, name)
                if is_slide_path(path) and not name.startswith(".") and not _is_phantom_mask(path):
                    yield self._look_at(path)

    def _look_at(self, path: Path) -> SlideFile:
        name_bytes = os.fsencode(path.relative_to(self.folder).as_posix())
        slide_id = hashlib.sha256(name_bytes).hexdigest()[:16]
        relative = name_bytes.decode("utf-8", "replace")
        refused = partial(SlideFile, slide_id, path, relative, 0, 0)
        try:
            if not path.resolve(strict=True).is_relative_to(self.folder):
                return refused(f"{relative} is a link that leaves the slides folder: copy the slide into it")
            facts = path.stat()
        except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle, before Python 3.13
            reason = getattr(error, "strerror", None) or "broken link"
            return refused(f"{relative} cannot be read ({reason}): check the file and its permissions")
        if not stat.S_ISREG(facts.st_mode):  # opening a pipe would wait for ever
            return refused(f"{relative} is not a file: replace it with the slide itself")
        if os.fsencode(relative) != name_bytes:
            return refused(f"{relative} has a name with characters that are not UTF-8: rename the file")
        return SlideFile(slide_id, path, relative, facts.st_size, facts.st_mtime_ns)


def _describe(file: SlideFile, slide: Slide) -> SlideInfo:
    properties = {str(k): str(v) for k, v in slide.properties.items()}
    return SlideInfo(
        file=file,
        vendor=slide.vendor,
        width_l0=slide.width_l0,
        height_l0=slide.height_l0,
        mpp=slide.mpp.value if slide.mpp else None,
        mpp_origin=slide.mpp.origin if slide.mpp else "",
        fingerprint=slide.fingerprint,
        objective=properties.get("openslide.objective-power", ""),
        properties=properties,
    )


def _is_phantom_mask(path: Path) -> bool:
    # ``lpd phantom slide`` writes the true mask beside the slide; it is no slide to look at.
    stem = path.name.removesuffix(".mask.tif")
    return stem != path.name and any(path.with_name(stem + ending).exists() for ending in (".tif", ".tiff", ".svs"))


def _one_per_dicom_folder(files: Iterator[SlideFile]) -> Iterator[SlideFile]:
    # A DICOM slide is a folder of files that OpenSlide opens through any one of them; the largest is the base level.
    largest: dict[Path, SlideFile] = {}
    for file in files:
        if file.path.suffix.lower() != ".dcm":
            yield file
        elif file.size > getattr(largest.get(file.path.parent), "size", -1):
            largest[file.path.parent] = file
    yield from largest.values()
