"""OpenSlideSource: slides in the formats that OpenSlide reads, from several threads at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openslide
from PIL import Image, ImageCms

from lpd.errors import SlideError
from lpd.slide.color import on_white
from lpd.slide.direct_reader import DirectReader
from lpd.slide.handles import HandlePool
from lpd.slide.jpeg_tiles import Pixels
from lpd.slide.levels import make_levels
from lpd.slide.region import Region

#: Decoded tiles kept per slide, shared by all its handles. Reading in order needs only a few rows of tiles.
_CACHE_BYTES = 32 * 1024 * 1024
#: Formats whose levels are TIFF pages, composed of their tiles side by side.
_OF_PLAIN_TILES = frozenset({"aperio", "generic-tiff"})
#: OpenSlide's reads are put right where they are off by more than this part of a level pixel; less is not seen.
_EXACT_PX = 1 / 16
#: Neighbours that putting right looks at.
_MARGIN_PX = 2


class OpenSlideSource:
    """A slide read by OpenSlide; see :class:`lpd.slide.source.Source`.

    Each read borrows a handle that no other thread uses. OpenSlide refuses every call on a handle after one error,
    so a handle that failed is thrown away and the next read gets a fresh one.

    Raises:
        openslide.OpenSlideUnsupportedFormatError: the file is of another format.
        SlideError: OpenSlide knows the format, but the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._cache = openslide.OpenSlideCache(_CACHE_BYTES)
        self._handles = HandlePool(path, self._opened)
        with self._borrowed() as handle:
            self.properties = dict(handle.properties)
            self.levels = make_levels(handle.level_dimensions)
            self.bounds = _bounds(self.properties, handle.dimensions)
            self.vendor = self.properties.get(openslide.PROPERTY_NAME_VENDOR, "unknown")
            self.icc_profile = _icc_profile(handle)
            self._downsamples = tuple(handle.level_downsamples)
        self._direct = DirectReader(path, self.levels, self._shown) if self.vendor in _OF_PLAIN_TILES else None

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Image.Image:
        found = self.pixels(level, x, y, width, height)
        return self._composed(level, x, y, width, height) if found is None else Image.fromarray(found)

    def pixels(self, level: int, x: int, y: int, width: int, height: int) -> Pixels | None:
        return self._direct.read(level, x, y, width, height) if self._direct else None

    def jpeg(self, level: int, x: int, y: int, width: int, height: int) -> bytes | None:
        return self._direct.jpeg(level, x, y, width, height) if self._direct else None

    def _shown(self, level: int, x: int, y: int, width: int, height: int) -> Image.Image | None:
        """What OpenSlide shows of a level's rectangle, if it can be asked for just that one."""
        downsample = self._downsamples[level]
        location = round(x * downsample), round(y * downsample)
        if location != (x * downsample, y * downsample):
            return None
        with self._borrowed() as handle:
            return on_white(handle.read_region(location, level, (width, height)))

    def _composed(self, level: int, x: int, y: int, width: int, height: int) -> Image.Image:
        across = _Span.around(x, width, self.levels[level].width_px, self._downsamples[level])
        down = _Span.around(y, height, self.levels[level].height_px, self._downsamples[level])
        with self._borrowed() as handle:
            picture = on_white(handle.read_region((across.location, down.location), level, (across.count, down.count)))
        if not across.lead and not down.lead:
            return picture
        # One more pixel all around, the edge repeated: at the level's far edge there was none to read.
        picture = Image.fromarray(np.pad(np.asarray(picture), ((1, 1), (1, 1), (0, 0)), mode="edge"))
        left, top = across.lead + 1, down.lead + 1
        box = left, top, left + width, top + height
        return picture.resize((width, height), Image.Resampling.BICUBIC, box)

    def associated(self) -> dict[str, Image.Image]:
        pictures: dict[str, Image.Image] = {}
        with self._borrowed() as handle:
            names = list(handle.associated_images)
        for name in names:
            try:
                with self._borrowed() as handle:
                    pictures[name] = on_white(handle.associated_images[name])
            except SlideError:
                continue  # a damaged label must not keep the slide itself from being used
        return pictures

    def close(self) -> None:
        self._handles.close()
        if self._direct:
            self._direct.close()

    @contextmanager
    def _borrowed(self) -> Iterator[openslide.OpenSlide]:
        try:
            with self._handles.borrowed() as handle:
                yield handle
        except openslide.OpenSlideUnsupportedFormatError:
            raise
        except openslide.OpenSlideError as error:
            raise SlideError(
                f"{self._path.name} is damaged and cannot be read ({error}): copy or export it again"
            ) from error

    def _opened(self) -> openslide.OpenSlide:
        handle = openslide.OpenSlide(self._path)
        handle.set_cache(self._cache)
        return handle


@dataclass(frozen=True)
class _Span:
    """What to ask OpenSlide for along one axis.

    OpenSlide takes whole level-0 pixels. Where its downsample is no whole number, as 2.0013 for a level that lost an
    odd column, they fall between level pixels, and it interpolates: what it shows is off by up to half a level-0 pixel,
    here to one side and there to the other.

    Attributes:
        location: where to begin, in level-0 pixels.
        count: how many level pixels to read.
        lead: which of them, counted from the first and not always whole, is where the wanted ones begin; 0 if they are
            the wanted ones, but for less than is seen.
    """

    location: int
    count: int
    lead: float

    @classmethod
    def around(cls, start: int, count: int, length: int, downsample: float) -> _Span:
        """The span for ``count`` pixels from ``start`` on of a level ``length`` pixels long."""
        location = round(start * downsample)
        if abs(location / downsample - start) <= _EXACT_PX and (
            start + count < length or location == start * downsample
        ):
            return cls(location, count, 0.0)
        first, end = max(0, start - _MARGIN_PX), min(length, start + count + _MARGIN_PX)
        exact = first * downsample
        # One that ends at the level's edge begins early, not late: its last pixels must not mix with the outside.
        location = int(exact) if end == length else round(exact)
        return cls(location, end - first, start - location / downsample)


def _bounds(properties: dict[str, str], size: tuple[int, int]) -> Region:
    """The part of level 0 that holds the slide; the whole of it if the file does not say or says nonsense."""
    whole = Region(0, 0, *size)
    try:
        x = int(properties.get(openslide.PROPERTY_NAME_BOUNDS_X, 0))
        y = int(properties.get(openslide.PROPERTY_NAME_BOUNDS_Y, 0))
        width = int(properties.get(openslide.PROPERTY_NAME_BOUNDS_WIDTH, size[0] - x))
        height = int(properties.get(openslide.PROPERTY_NAME_BOUNDS_HEIGHT, size[1] - y))
    except ValueError:
        return whole
    if width < 1 or height < 1:
        return whole
    return Region(x, y, width, height).intersection(whole) or whole


def _icc_profile(handle: openslide.OpenSlide) -> bytes | None:
    try:
        profile = handle.color_profile
    except (OSError, ImageCms.PyCMSError):
        return None  # a damaged profile: colours as stored
    return None if profile is None else bytes(profile.tobytes())
