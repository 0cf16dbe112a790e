"""Deep Zoom tiles of slides as JPEG: the file's own where it has them, else encoded; kept for a while."""

from __future__ import annotations

from collections.abc import Hashable

from lpd.errors import ConfigError
from lpd.slide.deepzoom import DeepZoom
from lpd.slide.region import Region
from viewers import images
from viewers.byte_cache import ByteCache
from viewers.catalog import Catalogue
from viewers.errors import NotFoundError
from viewers.slide_info import SlideInfo

#: About 6,000 tiles: what several people look at on the same slides, and what one comes back to with another browser.
_CACHE_BYTES = 128 * 1024 * 1024
_LARGEST_INDEX = 2**31


class Tiles:
    """Tiles of the catalogue's slides."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._cache = ByteCache(_CACHE_BYTES)

    def kept(self, info: SlideInfo, level: int, col: int, row: int) -> bytes | None:
        """The tile if it is in memory; never waits."""
        return self._cache.get(_key(info, level, col, row))

    def jpeg(self, info: SlideInfo, level: int, col: int, row: int) -> bytes:
        """One tile.

        Raises:
            NotFoundError: the slide has no such tile, or is there no more.
            LpdError: it cannot be read.
        """
        region, size = tile_address(info, level, col, row)
        key = _key(info, level, col, row)
        content = self._cache.get(key)
        if content is None:
            with self._catalogue.borrow(info.file.id) as slide:
                content = slide.stored_jpeg(region, size)
                if content is None:
                    content = images.jpeg(slide.read(region, size))
                self._cache.put(key, content)
        return content


def _key(info: SlideInfo, level: int, col: int, row: int) -> tuple[Hashable, ...]:
    return info.fingerprint, info.file.version, level, col, row


def deep_zoom(info: SlideInfo) -> DeepZoom:
    """The tile geometry that slide and overlays share."""
    return DeepZoom(info.width_l0, info.height_l0)


def tile_address(info: SlideInfo, level: int, col: int, row: int) -> tuple[Region, tuple[int, int]]:
    """Region and (width, height) in pixels of a tile.

    Raises:
        NotFoundError: the slide has no such tile.
    """
    try:
        if max(level, col, row) > _LARGEST_INDEX:
            raise ConfigError("there is no tile so far out")
        return deep_zoom(info).tile(level, col, row)
    except ConfigError as error:
        raise NotFoundError(str(error)) from error
