"""Slides of any size, made in seconds: a phantom's own encoded tiles, repeated, in squares of tissue and of glass."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image

from lpd.data.phantom import write_phantom_slide
from lpd.data.phantom.slide import declare_jpeg
from lpd.runs import replacing

#: Side of the phantom: one tile of its level 2, and so one square of the pattern on every level.
_SQUARE_PX = 4096
_TILE_PX, _FACTOR, _LEVELS = 256, 4, 3
_HEADER = "Aperio Image Library format, repeated synthetic phantom"
_GLASS = (243, 241, 243)

Squares = npt.NDArray[np.bool_]
_Tiles = dict[bool, list[list[bytes]]]


def write_large_slide(path: Path, width: int, height: int, share: float = 1.0) -> Path:
    """Write an Aperio-like slide of 0.5 µm/px, levels of downsample 1, 4 and 16; only one small phantom is drawn.

    Args:
        width, height: in level-0 pixels.
        share: of the squares of 4,096 px, how many show the phantom; the others are glass.
    """
    levels = _square()
    across, down = -(-width // _SQUARE_PX), -(-height // _SQUARE_PX)
    squares = np.random.default_rng(1).permutation(across * down).reshape(down, across) < round(share * across * down)
    with replacing(path) as temporary:
        with tifffile.TiffWriter(temporary, bigtiff=width * height > 6e9) as tiff:
            for level, tiles in enumerate(levels):
                size = width // _FACTOR**level, height // _FACTOR**level
                _write_level(tiff, size, _spread(tiles, squares, size), (width, height))
        declare_jpeg(temporary)
    return path


@cache
def _square() -> list[_Tiles]:
    """The levels of the small phantom, which takes longest."""
    with TemporaryDirectory() as folder:
        small = Path(folder) / "square.tif"
        write_phantom_slide(small, _SQUARE_PX, _SQUARE_PX)
        return _encoded_levels(small)


def _encoded_levels(path: Path) -> list[_Tiles]:
    """The tiles of each level as rows of bytes, by whether they are to show the phantom; else glass."""
    found: list[_Tiles] = []
    with tifffile.TiffFile(path) as tiff, path.open("rb") as file:
        for page in tiff.pages:
            if not isinstance(page, tifffile.TiffPage) or not page.is_tiled:
                continue
            streams = []
            for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
                file.seek(offset)
                streams.append(file.read(count))
            side = -(-page.imagewidth // _TILE_PX)
            rows = [streams[i : i + side] for i in range(0, len(streams), side)]
            found.append({True: rows, False: [[_glass()] * side] * len(rows)})
    return found[:_LEVELS]


def _glass() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (_TILE_PX, _TILE_PX), _GLASS).save(stream, "JPEG", quality=80, subsampling="4:2:0")
    return stream.getvalue()


def _spread(tiles: _Tiles, squares: Squares, size: tuple[int, int]) -> Iterator[bytes]:
    side = len(tiles[True])
    for row in range(-(-size[1] // _TILE_PX)):
        for column in range(-(-size[0] // _TILE_PX)):
            yield tiles[bool(squares[row // side, column // side])][row % side][column % side]


def _write_level(
    tiff: tifffile.TiffWriter, size: tuple[int, int], tiles: Iterator[bytes], whole: tuple[int, int]
) -> None:
    shown = f"{whole[0]}x{whole[1]} [0,0 {whole[0]}x{whole[1]}] ({_TILE_PX}x{_TILE_PX})"
    shown += "" if size == whole else f" -> {size[0]}x{size[1]}"
    tiff.write(
        tiles,
        shape=(size[1], size[0], 3),
        dtype=np.uint8,
        tile=(_TILE_PX, _TILE_PX),
        photometric="rgb",
        compression="zlib",  # declare_jpeg puts this right
        description=f"{_HEADER} \r\n{shown} JPEG/RGB Q=80|AppMag = 20|MPP = 0.5",
        metadata=None,
        software=False,
        datetime=None,
    )
