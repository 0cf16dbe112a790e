"""Tiled JPEG levels of TIFF files: where their tiles lie, and their pixels, as OpenSlide shows them and much sooner."""

from __future__ import annotations

import logging
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import simplejpeg
import tifffile

from lpd.slide.levels import Level

Pixels = npt.NDArray[np.uint8]

#: What tifffile raises on odd files; what it would say of them is OpenSlide's to say.
_ODD = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, struct.error)
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_JPEG, _RGB, _YCBCR = 7, 2, 6  # TIFF's numbers for compression and photometric interpretation
_START = b"\xff\xd8"
#: An APP14 marker that says "Adobe, no transform": without one, three components are taken for YCbCr.
_IS_RGB = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"


@dataclass(frozen=True, eq=False)
class JpegTiles:
    """The tiles of one level.

    Attributes:
        width_px, height_px: of the level.
        tile_width, tile_height: of its tiles; those at the right and lower edge reach past it.
        offsets, counts: where each tile's bytes lie in the file, row by row; of 0 bytes if the file leaves it out.
        head: what belongs between a tile's first marker and the rest: tables that all tiles share.
    """

    width_px: int
    height_px: int
    tile_width: int
    tile_height: int
    offsets: Sequence[int]
    counts: Sequence[int]
    head: bytes

    @property
    def columns(self) -> int:
        return -(-self.width_px // self.tile_width)

    @property
    def rows(self) -> int:
        return -(-self.height_px // self.tile_height)

    def is_whole(self) -> bool:
        """True if the file names a place for each tile."""
        return len(self.offsets) == len(self.counts) == self.columns * self.rows

    def is_tile(self, x: int, y: int, width: int, height: int) -> bool:
        """True if a rectangle is one of the tiles, and no part of it reaches past the level."""
        whole = (width, height) == (self.tile_width, self.tile_height)
        aligned = x % self.tile_width == 0 and y % self.tile_height == 0
        return whole and aligned and 0 <= x <= self.width_px - width and 0 <= y <= self.height_px - height

    def stream(self, file: BinaryIO, column: int, row: int) -> bytes:
        """One tile as a JPEG file of its own; empty if the slide leaves it out."""
        number = row * self.columns + column
        file.seek(self.offsets[number])
        data = file.read(self.counts[number])
        return data[:2] + self.head + data[2:] if data else data

    def touching(self, x: int, y: int, width: int, height: int) -> Iterator[tuple[int, int]]:
        """(column, row) of the tiles that share a pixel with a rectangle."""
        for row in range(y // self.tile_height, -(-(y + height) // self.tile_height)):
            for column in range(x // self.tile_width, -(-(x + width) // self.tile_width)):
                yield column, row


def decoded(stream: bytes, tiles: JpegTiles) -> Pixels | None:
    """A tile's pixels (h, w, 3) RGB; None if anything about it is unusual, which OpenSlide shall judge."""
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(stream, "RGB", fastdct=False, fastupsample=False, strict=True)
    except ValueError:
        return None
    return pixels if pixels.shape == (tiles.tile_height, tiles.tile_width, 3) else None


def find_jpeg_tiles(path: Path, levels: Sequence[Level]) -> dict[int, JpegTiles]:
    """The tiles of those levels that a TIFF file holds as pages of plain 8-bit JPEG tiles, by level; maybe none."""
    found: list[JpegTiles] = []
    try:
        with tifffile.TiffFile(path) as tiff:
            for page in tiff.pages:
                if not isinstance(page, tifffile.TiffPage) or not _is_plain(page):
                    continue
                found.append(_tiles_of(page))
    except _ODD:  # OpenSlide will find it so, too, or not
        return {}
    sizes = Counter((level.width_px, level.height_px) for level in levels)
    pages = Counter((tiles.width_px, tiles.height_px) for tiles in found)
    by_size = {(tiles.width_px, tiles.height_px): tiles for tiles in found if tiles.is_whole()}
    return {
        number: by_size[size]
        for number, size in enumerate((level.width_px, level.height_px) for level in levels)
        if size in by_size and sizes[size] == pages[size] == 1  # planes of one size could be taken for one another
    }


def _is_plain(page: tifffile.TiffPage) -> bool:
    return bool(
        page.is_tiled
        and page.compression == _JPEG
        and page.photometric in (_RGB, _YCBCR)
        and (page.samplesperpixel, page.bitspersample, page.planarconfig, page.imagedepth) == (3, 8, 1, 1)
    )


def _tiles_of(page: tifffile.TiffPage) -> JpegTiles:
    tables = page.jpegtables[2:-2] if page.jpegtables else b""
    return JpegTiles(
        page.imagewidth,
        page.imagelength,
        page.tilewidth,
        page.tilelength,
        page.dataoffsets,
        page.databytecounts,
        (_IS_RGB if page.photometric == _RGB else b"") + tables,
    )
