"""The slide files below a folder: found anew at each look, each with an id that tells no path."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lpd.slide.endings import SLIDE_SUFFIXES
from lpd.slide.label_image import is_label_image


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
        return self.relative.rpartition("/")[2]

    @property
    def folder(self) -> str:
        """Sub-folder that it lies in, with ``/`` between parts; empty at the top."""
        return self.relative.rpartition("/")[0]

    @property
    def version(self) -> tuple[Path, int, int]:
        return self.path, self.size, self.mtime_ns

    def is_as_listed(self) -> bool:
        """Whether the file is still the one that was found; what is not opened anyway counts as such."""
        try:
            facts = self.path.stat()
        except OSError:
            return False
        return bool(self.refusal) or (facts.st_size, facts.st_mtime_ns) == (self.size, self.mtime_ns)


def find_slides(folder: Path) -> list[SlideFile]:
    """All slides below ``folder``, sorted by path. Hidden files and folders, and links to folders, are left out.

    Args:
        folder: an absolute path without links in it.
    """
    return sorted(_one_per_dicom_folder(_walk(folder)), key=lambda file: file.relative.lower())


def slide_id(place: bytes) -> str:
    """The id of the slide that lies at ``place``, seen from the slides folder, with ``/`` between parts."""
    return hashlib.sha256(place).hexdigest()[:16]


def _walk(folder: Path) -> Iterator[SlideFile]:
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        try:
            with os.scandir(folder / inside) as listing:
                entries = [entry for entry in listing if not entry.name.startswith(".")]
        except OSError:  # taken away, or not to be looked into: its slides are not there
            continue
        stems = {entry.name.rpartition(".")[0] for entry in entries if _is_slide(entry.name)}
        for entry in entries:
            if _is_folder(entry):
                waiting.append(f"{inside}{entry.name}/")
            elif _is_slide(entry.name) and not is_label_image(entry.name, stems):
                yield _look_at(entry, inside + entry.name, folder)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _is_slide(name: str) -> bool:
    stem, dot, ending = name.rpartition(".")  # of thousands of names, Path alone would take a third of the time
    return bool(stem) and f"{dot}{ending.lower()}" in SLIDE_SUFFIXES


def _look_at(entry: os.DirEntry[str], place: str, folder: Path) -> SlideFile:
    path = Path(entry.path)
    name_bytes = os.fsencode(place)
    number = slide_id(name_bytes)
    relative = name_bytes.decode("utf-8", "replace")
    refused = partial(SlideFile, number, path, relative, 0, 0)
    try:
        # What is no link lies where it was found: resolving 5,000 paths takes longer than all the rest.
        if entry.is_symlink() and not path.resolve(strict=True).is_relative_to(folder):
            return refused(f"{relative} is a link that leaves the slides folder: copy the slide into it")
        facts = entry.stat()
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle, before Python 3.13
        reason = getattr(error, "strerror", None) or "broken link"
        return refused(f"{relative} cannot be read ({reason}): check the file and its permissions")
    if not stat.S_ISREG(facts.st_mode):  # opening a pipe would wait for ever
        return refused(f"{relative} is not a file: replace it with the slide itself")
    if os.fsencode(relative) != name_bytes:
        return refused(f"{relative} has a name with characters that are not UTF-8: rename the file")
    return SlideFile(number, path, relative, facts.st_size, facts.st_mtime_ns)


def _one_per_dicom_folder(files: Iterable[SlideFile]) -> Iterator[SlideFile]:
    # A DICOM slide is a folder of files that OpenSlide opens through any one of them; the largest is the base level.
    largest: dict[Path, SlideFile] = {}
    for file in files:
        if not file.relative.lower().endswith(".dcm"):
            yield file
        elif file.size > getattr(largest.get(file.path.parent), "size", -1):
            largest[file.path.parent] = file
    yield from largest.values()
