"""DirectReader: reads a slide's own JPEG tiles where that shows what OpenSlide shows, at a sixth of its cost."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from lpd.slide.handles import HandlePool
from lpd.slide.jpeg_stream import is_sound, stand_alone
from lpd.slide.jpeg_tiles import JpegTiles, Pixels, decoded, find_jpeg_tiles
from lpd.slide.levels import Level

#: Decoded tiles kept per slide: those that a read has shown a part of, as the next one shows the rest.
_CACHE_BYTES = 32 * 1024 * 1024
#: Tiles of each level that must be the very pixels that OpenSlide shows.
_COMPARED = 4
#: Of how many tiles those with most bytes are compared.
_LOOKED_AT = 64

#: (level, x, y, width, height) to RGB pixels, or None where OpenSlide cannot show exactly these.
Reference = Callable[[int, int, int, int, int], Image.Image | None]
_Key = tuple[int, int, int]


class DirectReader:
    """Pixels of a slide file's levels. What it cannot read is left to OpenSlide, and so is the verdict on damage."""

    def __init__(self, path: Path, levels: tuple[Level, ...], reference: Reference) -> None:
        """Look at nothing yet: many slides are opened for what they say of themselves only.

        Args:
            path: a TIFF file whose levels OpenSlide composes of the file's own tiles, none overlapping.
            levels: of the slide.
            reference: what OpenSlide shows.
        """
        self._path = path
        self._levels = levels
        self._reference = reference
        self._files: HandlePool[BinaryIO] = HandlePool(path, lambda: path.open("rb"))
        self._lock = threading.Lock()
        self._trusted: dict[int, bool] = {}
        self._sound: dict[int, bytearray] = {}
        self._cache: OrderedDict[_Key, Pixels] = OrderedDict()
        self._cached_bytes = 0

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Pixels | None:
        """A rectangle inside ``level``, in its own pixels, as a fresh uint8 (height, width, 3) RGB; None if OpenSlide
        alone can show it.

        Raises:
            SlideError: the reader was closed.
        """
        tiles = self._tiles.get(level)
        if tiles is None or not self._is_trusted(level, tiles):
            return None
        return self._composed(level, tiles, x, y, width, height)

    def jpeg(self, level: int, x: int, y: int, width: int, height: int) -> bytes | None:
        """The file's own tile as a JPEG file that shows just this rectangle of ``level``; None if it has none.

        A tile is looked over for damage when it is first asked for.

        Raises:
            SlideError: the reader was closed.
        """
        tiles = self._tiles.get(level)
        if tiles is None or not tiles.is_tile(x, y, width, height) or not self._is_trusted(level, tiles):
            return None
        column, row = x // tiles.tile_width, y // tiles.tile_height
        stream = self._stream(tiles, column, row)
        picture = stand_alone(stream, width, height) if stream else None
        sound = self._sound.setdefault(level, bytearray(tiles.columns * tiles.rows))
        number = row * tiles.columns + column
        if picture and not sound[number]:
            sound[number] = is_sound(picture)
        return picture if sound[number] else None

    def close(self) -> None:
        self._files.close()
        with self._lock:
            self._cache.clear()
            self._cached_bytes = 0

    @cached_property
    def _tiles(self) -> Mapping[int, JpegTiles]:
        return find_jpeg_tiles(self._path, self._levels)

    def _is_trusted(self, level: int, tiles: JpegTiles) -> bool:
        trusted = self._trusted.get(level)
        if trusted is None:  # two threads may both look, and find the same
            trusted = self._trusted[level] = self._agrees(level, tiles)
        return trusted

    def _agrees(self, level: int, tiles: JpegTiles) -> bool:
        """Whether tiles all over the level show exactly what OpenSlide shows.

        Of a level that lost an odd row or column OpenSlide can show its first tile only without interpolating; where
        that one is right, and so is level 0, the others are.
        """
        compared = 0
        for number in self._to_compare(tiles):
            row, column = divmod(number, tiles.columns)
            x, y = column * tiles.tile_width, row * tiles.tile_height
            box = x, y, min(tiles.tile_width, tiles.width_px - x), min(tiles.tile_height, tiles.height_px - y)
            expected = self._reference(level, *box)
            if expected is None:
                continue
            found = self._composed(level, tiles, *box)
            if found is None or not np.array_equal(found, np.asarray(expected)):
                return False
            compared += 1
            if compared == _COMPARED:
                return True
        few = compared == tiles.columns * tiles.rows
        return few or (compared > 0 and level > 0 and 0 in self._tiles and self._is_trusted(0, self._tiles[0]))

    @staticmethod
    def _to_compare(tiles: JpegTiles) -> list[int]:
        """Numbers of some tiles, the first among them, those with most bytes first: empty glass tells little."""
        some = np.unique(np.linspace(0, tiles.columns * tiles.rows - 1, _LOOKED_AT).round().astype(int)).tolist()
        return sorted(some, key=lambda number: -tiles.counts[number])

    def _composed(self, level: int, tiles: JpegTiles, x: int, y: int, width: int, height: int) -> Pixels | None:
        out = np.empty((height, width, 3), dtype=np.uint8)
        for column, row in tiles.touching(x, y, width, height):
            left, top = column * tiles.tile_width, row * tiles.tile_height
            x0, x1 = max(x, left), min(x + width, left + tiles.tile_width)
            y0, y1 = max(y, top), min(y + height, top + tiles.tile_height)
            keep = (x1 - x0) * (y1 - y0) < tiles.tile_width * tiles.tile_height
            pixels = self._tile((level, column, row), tiles, keep=keep)
            if pixels is None:
                return None
            out[y0 - y : y1 - y, x0 - x : x1 - x] = pixels[y0 - top : y1 - top, x0 - left : x1 - left]
        return out

    def _tile(self, key: _Key, tiles: JpegTiles, *, keep: bool) -> Pixels | None:
        with self._lock:
            pixels = self._cache.get(key)
            if pixels is not None:
                self._cache.move_to_end(key)
                return pixels
        stream = self._stream(tiles, *key[1:])
        pixels = None if stream is None else decoded(stream, tiles)
        if keep and pixels is not None:
            self._remember(key, pixels)
        return pixels

    def _stream(self, tiles: JpegTiles, column: int, row: int) -> bytes | None:
        try:
            with self._files.borrowed() as file:
                return tiles.stream(file, column, row)
        except OSError:  # OpenSlide will say what is wrong
            return None

    def _remember(self, key: _Key, pixels: Pixels) -> None:
        with self._lock:
            if key not in self._cache:
                self._cache[key] = pixels
                self._cached_bytes += pixels.nbytes
            while self._cached_bytes > _CACHE_BYTES:
                self._cached_bytes -= self._cache.popitem(last=False)[1].nbytes
