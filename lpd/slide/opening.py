"""open_slide: any slide or image file to a Slide, or one sentence on why not."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

import numpy as np
import numpy.typing as npt
import openslide

from lpd.errors import SlideError
from lpd.slide.array_source import ArraySource
from lpd.slide.openslide_source import OpenSlideSource
from lpd.slide.plain_source import PlainSource
from lpd.slide.resolution import Resolution, given_resolution, slide_resolution
from lpd.slide.slide import Slide
from lpd.slide.source import Source

#: A fingerprint looks at so many parts of so many bytes, spread evenly from the first byte of a file to its last.
_PARTS, _PART_BYTES = 16, 16 * 1024


def open_slide(path: Path, *, mpp: float | None = None, icc: bool = True) -> Slide:
    """Open a whole-slide image: any OpenSlide format, else a plain PNG, JPEG or TIFF image.

    Args:
        path: the file; its content decides the format, not its name.
        mpp: µm per full-resolution pixel, if it is known better than the file knows it.
        icc: turn colours into sRGB where the file has an ICC profile.

    Raises:
        SlideError: there is no such file, its name is no text, or it cannot be read as a slide or image.
        ConfigError: ``mpp`` is not between 0.01 and 100.
    """
    given = None if mpp is None else given_resolution(mpp)
    path = Path(path)
    fingerprint = _fingerprint(path)
    source, found = _open_source(path)
    return Slide(path, source, given or found, fingerprint, icc=icc)


def open_pixels(pixels: npt.NDArray[np.uint8], mpp: float) -> Slide:
    """Pixels in memory as a slide.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        mpp: µm per pixel.

    Raises:
        ShapeError: the pixels are not (H, W, 3) uint8.
        ConfigError: ``mpp`` is not between 0.01 and 100.
    """
    source = ArraySource(pixels)
    fingerprint = hashlib.sha256(pixels.tobytes()).hexdigest()[:16]
    return Slide(Path("pixels"), source, given_resolution(mpp), fingerprint, icc=False)


def _open_source(path: Path) -> tuple[Source, Resolution | None]:
    try:
        slide = OpenSlideSource(path)
    except openslide.OpenSlideUnsupportedFormatError:
        image = PlainSource(path)
        return image, image.resolution
    return slide, slide_resolution(slide.properties)


def _fingerprint(path: Path) -> str:
    """16 hexadecimal digits from a file's size and 16 parts of it, see :class:`~lpd.slide.slide.Slide`."""
    try:
        size = _regular_size(path)
        digest = hashlib.sha256(str(size).encode())
        with path.open("rb") as file:
            for number in range(_PARTS):
                file.seek(number * max(0, size - _PART_BYTES) // (_PARTS - 1))
                digest.update(file.read(_PART_BYTES))
    except FileNotFoundError:
        raise SlideError(f"{path} does not exist: check the name") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SlideError(f"{path} cannot be read ({reason})") from error
    return digest.hexdigest()[:16]


def _regular_size(path: Path) -> int:
    """Bytes of a file that can be a slide. A pipe or a device is never opened: it may wait or go on for ever."""
    facts = path.stat()
    if stat.S_ISDIR(facts.st_mode):
        raise SlideError(f"{path} is a folder: name the slide file in it")
    if not stat.S_ISREG(facts.st_mode):
        raise SlideError(f"{path} is a pipe or device, not a file: copy the slide into a file")
    if facts.st_size == 0:
        raise SlideError(f"{path} is empty (0 bytes): copy it again")
    try:
        str(path.resolve()).encode()
    except UnicodeEncodeError:
        shown = str(path).encode(errors="backslashreplace").decode()
        raise SlideError(f"{shown} has a name that is not UTF-8 text, which no result could state: rename it") from None
    return facts.st_size
