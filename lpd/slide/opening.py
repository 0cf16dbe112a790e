"""open_slide: any slide or image file to a Slide, or one sentence on why not."""

from __future__ import annotations

import hashlib
from pathlib import Path

import openslide

from lpd.errors import SlideError
from lpd.slide.openslide_source import OpenSlideSource
from lpd.slide.plain_source import PlainSource
from lpd.slide.resolution import Resolution, given_resolution, slide_resolution
from lpd.slide.slide import Slide
from lpd.slide.source import Source

#: Endings of the files that OpenSlide 4 or Pillow open, in lower case.
SLIDE_SUFFIXES = frozenset(
    {".svs", ".tif", ".tiff", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide", ".dcm"}
    | {".png", ".jpg", ".jpeg"}
)
#: Bytes at the head and at the tail of a file that its fingerprint looks at.
_FINGERPRINT_BYTES = 64 * 1024


def is_slide_path(path: Path) -> bool:
    """True if the file's ending is one of a slide or image; the file itself is not looked at."""
    return path.suffix.lower() in SLIDE_SUFFIXES


def open_slide(path: Path, *, mpp: float | None = None, icc: bool = True) -> Slide:
    """Open a whole-slide image: any OpenSlide format, else a plain PNG, JPEG or TIFF image.

    Args:
        path: the file; its content decides the format, not its name.
        mpp: µm per full-resolution pixel, if it is known better than the file knows it.
        icc: turn colours into sRGB where the file has an ICC profile.

    Raises:
        SlideError: there is no such file, or it cannot be read as a slide or image.
        ConfigError: ``mpp`` is not between 0.01 and 100.
    """
    given = None if mpp is None else given_resolution(mpp)
    path = Path(path)
    fingerprint = _fingerprint(path)
    source, found = _open_source(path)
    return Slide(path, source, given or found, fingerprint, icc=icc)


def _open_source(path: Path) -> tuple[Source, Resolution | None]:
    try:
        slide = OpenSlideSource(path)
    except openslide.OpenSlideUnsupportedFormatError:
        image = PlainSource(path)
        return image, image.resolution
    return slide, slide_resolution(slide.properties)


def _fingerprint(path: Path) -> str:
    """16 hexadecimal digits from size, time of change, head and tail: the same in every process."""
    if path.is_dir():
        raise SlideError(f"{path} is a folder: name the slide file in it")
    try:
        with path.open("rb") as file:
            head = file.read(_FINGERPRINT_BYTES)
            stat = path.stat()
            file.seek(max(0, stat.st_size - _FINGERPRINT_BYTES))
            tail = file.read()
    except FileNotFoundError:
        raise SlideError(f"{path} does not exist: check the name") from None
    except OSError as error:
        raise SlideError(f"{path} cannot be read ({error.strerror or error})") from error
    if not head:
        raise SlideError(f"{path} is empty (0 bytes): copy it again")
    facts = f"{stat.st_size}:{stat.st_mtime_ns}:".encode()
    return hashlib.sha256(facts + head + tail).hexdigest()[:16]
