"""What slides say of themselves, remembered by path, size and time: in memory, and in a file for the next start."""

from __future__ import annotations

import json
import logging
import threading
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import UnionType
from typing import Any

import lpd
from lpd.errors import LpdError
from lpd.runs import replacing
from lpd.slide.slide import Slide
from viewers.slide_folder import SlideFile

_LOGGER = logging.getLogger(__name__)
#: What is said of this many files is kept; of the others it is asked again.
_LIMIT = 50_000
#: Changes when a file of an earlier version would be misunderstood, or what slides say is understood otherwise.
_FORMAT = f"1, lpd {lpd.__version__}"


@dataclass(frozen=True)
class SlideInfo:
    """What a slide says of itself, with the resolution a person gave, if any; sizes in level-0 pixels.

    ``synthetic`` is true of a phantom: drawn by a program, not scanned from tissue.
    """

    file: SlideFile
    vendor: str
    width_l0: int
    height_l0: int
    mpp: float | None
    mpp_origin: str
    fingerprint: str
    objective: str
    synthetic: bool


def describe_slide(file: SlideFile, slide: Slide) -> SlideInfo:
    """Ask an open slide."""
    said = {name: str(slide.properties.get(name, "")) for name in _ASKED}
    return SlideInfo(
        file=file,
        vendor=slide.vendor,
        width_l0=slide.width_l0,
        height_l0=slide.height_l0,
        mpp=slide.mpp.value if slide.mpp else None,
        mpp_origin=slide.mpp.origin if slide.mpp else "",
        fingerprint=slide.fingerprint,
        objective=said["openslide.objective-power"],
        synthetic=any("synthetic phantom" in text.lower() for text in said.values()),
    )


_ASKED = ("openslide.objective-power", "openslide.comment", "tiff.ImageDescription")
_KEPT = {field.name: str(field.type) for field in fields(SlideInfo) if field.name != "file"}
_KINDS: dict[str, type | UnionType] = {"str": str, "int": int, "bool": bool, "float | None": float | None}
_NOBODY = SlideFile("", Path(), "", 0, 0)


class KnownSlides:
    """Facts, or why a slide cannot be opened, of files as they were when they were looked at; thread-safe.

    Refusals are not written: a file that could not be read once may be readable after the next start.

    Args:
        path: file to keep facts in; a damaged one is ignored. None keeps them for as long as the app runs.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._guard = threading.Lock()
        self._saving = threading.Lock()
        self._known: OrderedDict[tuple[Path, int, int], SlideInfo | LpdError] = OrderedDict()
        self._changed = False
        if path is not None:
            self._known.update(_read(path))

    def get(self, file: SlideFile) -> SlideInfo | LpdError | None:
        """What is known of this very file; None if nothing is."""
        found = self._known.get(file.version)
        if isinstance(found, SlideInfo) and found.file.id != file.id:  # read from the file, or of another folder
            found = self._known[file.version] = replace(found, file=file)
        return found

    def put(self, file: SlideFile, found: SlideInfo | LpdError) -> None:
        """Remember; what was put first goes first when there is too much."""
        with self._guard:
            self._known[file.version] = found
            self._known.move_to_end(file.version)
            while len(self._known) > _LIMIT:
                self._known.popitem(last=False)
            self._changed = True

    def save(self) -> None:
        """Write what is new to the file. A full or read-only disk costs the next start some time, and nothing else."""
        with self._saving:
            with self._guard:
                if self._path is None or not self._changed:
                    return
                self._changed = False
                known = [(key, info) for key, info in self._known.items() if isinstance(info, SlideInfo)]
            slides = [[str(path), size, mtime, _facts(info)] for (path, size, mtime), info in known]
            try:
                with replacing(self._path) as temporary:
                    temporary.write_text(json.dumps({"format": _FORMAT, "slides": slides}), encoding="utf-8")
            except (OSError, ValueError) as error:
                _LOGGER.warning("cannot keep what slides say of themselves in %s (%s)", self._path, error)


def _facts(info: SlideInfo) -> dict[str, Any]:
    return {name: getattr(info, name) for name in _KEPT}


def _read(path: Path) -> dict[tuple[Path, int, int], SlideInfo]:
    found: dict[tuple[Path, int, int], SlideInfo] = {}
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):  # no file, or not one of ours
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["format"] == _FORMAT:
            for name, size, mtime, facts in data["slides"]:
                found[Path(name), int(size), int(mtime)] = _checked(facts)
    return found


def _checked(facts: dict[str, Any]) -> SlideInfo:
    """Facts from a file, as sound as from a slide.

    Raises:
        TypeError, ValueError, KeyError: they are not.
    """
    for name, kind in _KEPT.items():
        if not isinstance(facts[name], _KINDS[kind]):
            raise TypeError(name)
    if min(facts["width_l0"], facts["height_l0"]) < 1:
        raise ValueError("size")
    return SlideInfo(file=_NOBODY, **{name: facts[name] for name in _KEPT})
