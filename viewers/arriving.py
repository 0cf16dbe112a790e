"""Arriving: a slide file on its way into the slides folder, under a hidden name until it is whole and can be opened."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import threading
import time
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from lpd.errors import LpdError, SlideError
from lpd.slide.endings import SLIDE_SUFFIXES
from lpd.slide.label_image import LABEL_ENDINGS
from lpd.slide.opening import open_slide
from viewers.file_names import RESERVED

_PREFIX = ".arriving-"
#: What a power cut left behind is cleared away after so long.
_STALE_S = 24 * 3600
#: Slides made of several files.
_MANY_FILES = frozenset({".mrxs", ".vms", ".vmu", ".dcm"})
_LONGEST_NAME_BYTES = 150
_FORBIDDEN = re.compile(r'[<>:"|?*%]')
_SPARE_BYTES = 200 * 10**6
_placing = threading.Lock()


class ExistsError(LpdError):
    """A file of that name is in the folder already."""


def safe_name(told: str) -> str:
    """A file name that is one on every system, made of what somebody called their file.

    Raises:
        LpdError: it is not the name of a slide that consists of one file.
    """
    name = re.split(r"[\\/]", unicodedata.normalize("NFC", told))[-1]
    name = "".join(c if c.isprintable() else "_" for c in name)
    name = _FORBIDDEN.sub("_", name).strip(" .")
    stem, dot, ending = name.rpartition(".")
    suffix = f"{dot}{ending}".lower()
    if suffix in _MANY_FILES:
        raise LpdError(
            f"{name[:80]} is one of several files that make up a slide: copy all of them, with their folder, "
            "into the slides folder"
        )
    if not stem or suffix not in SLIDE_SUFFIXES:
        known = " ".join(sorted(SLIDE_SUFFIXES - _MANY_FILES))
        raise LpdError(f"{name[:80] or 'a file without a name'} is no slide by its ending: it must be one of {known}")
    if name.lower().endswith(LABEL_ENDINGS):
        raise LpdError(f"{name[:80]} is the ground truth of another slide by its name: give it a name of its own")
    stem = RESERVED.sub(r"_\1", stem.rstrip(" ."))
    stem = stem.encode("utf-8", "replace")[:_LONGEST_NAME_BYTES].decode("utf-8", "ignore")
    return f"{stem}.{ending}"


class Arrival:
    """A file that is being written; ``path`` is where, until it is put in place."""

    def __init__(self, folder: Path, name: str) -> None:
        self.target = folder / name
        self.path = folder / f"{_PREFIX}{secrets.token_hex(6)}{self.target.suffix}"
        self.size = 0
        self._file: BinaryIO = self.path.open("xb")

    def write(self, part: bytes) -> None:
        """
        Raises:
            OSError: the disk is full, or went away.
        """
        self._file.write(part)
        self.size += len(part)

    def settle(self) -> Path:
        """Put the file where it belongs, if it can be opened as a slide and nothing is there.

        Raises:
            LpdError: it cannot, or something is.
        """
        self._file.close()
        self._require_slide()
        _put_in_place(self.path, self.target)
        return self.target

    def clear(self) -> None:
        """Leave nothing behind."""
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self.path.unlink(missing_ok=True)

    def _require_slide(self) -> None:
        if not self.size:
            raise SlideError(f"{self.target.name} is empty: choose the slide file itself")
        try:
            open_slide(self.path).close()
        except LpdError as error:
            said = str(error).replace(str(self.path), self.target.name).replace(self.path.name, self.target.name)
            raise SlideError(f"{said}; nothing was kept") from error


@contextmanager
def arriving(folder: Path, told_name: str, size: int) -> Iterator[Arrival]:
    """A place to write a file of ``size`` bytes (0: unknown) into; nothing of it is left unless it was settled.

    Raises:
        LpdError: the name is no slide's, one of that name is there, or the disk is full or cannot be written.
    """
    name = safe_name(told_name)
    _require_new(folder / name)
    try:
        free = shutil.disk_usage(folder).free
        if size > free - _SPARE_BYTES:
            raise LpdError(
                f"{name} has {size / 1e9:.2f} GB and the disk of the slides folder {max(free, 0) / 1e9:.2f} GB left: "
                "free some space, then try again"
            )
        arrival = Arrival(folder, name)
    except OSError as error:
        raise _sentence(name, error) from error
    try:
        yield arrival
    except OSError as error:
        raise _sentence(name, error) from error
    finally:
        arrival.clear()


def clear_stale(folder: Path) -> None:
    """Delete what a power cut or a kill left of files on their way, a day later; another app may be busy with newer."""
    with suppress(OSError):
        for path in folder.glob(f"{_PREFIX}*"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > _STALE_S:
                    path.unlink()


def _require_new(target: Path) -> None:
    if os.path.lexists(target):
        raise ExistsError(f"{target.name} is in the slides folder already: rename your file, or delete that one there")


def _put_in_place(path: Path, target: Path) -> None:
    """Rename, but never over another file, whoever made it meanwhile."""
    with _placing:
        _require_new(target)
        try:
            os.link(path, target)  # refuses what exists, in one step
        except FileExistsError:
            _require_new(target)
        except OSError:  # a disk without hard links: where rename replaces, the look above has to do
            path.rename(target)


def _sentence(name: str, error: OSError) -> LpdError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return LpdError(
            f"the disk of the slides folder became full before {name} was there: free some space, then try again; "
            "nothing was kept"
        )
    return LpdError(f"{name} cannot be put into the slides folder ({error.strerror or error}): check its permissions")
