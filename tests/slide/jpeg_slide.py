"""Slides of JPEG tiles as scanners write them: with tables apart, in YCbCr or RGB."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

TILE = 64
_JPEG_TABLES = 347


def texture(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Smooth colours that differ everywhere, so that no tile can be taken for another."""
    coarse = np.random.default_rng(seed).integers(0, 255, (height // 12 + 2, width // 12 + 2, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def write_jpeg_slide(path: Path, levels: list[np.ndarray], *, rgb: bool = False, left_out: int | None = None) -> Path:
    """A TIFF of JPEG tiles of 64 px whose tables stand in a tag; tile ``left_out`` of level 0 has no bytes.

    With ``rgb``, the file's photometric tag alone says so, as in Aperio's.
    """
    with tifffile.TiffWriter(path) as writer:
        for number, level in enumerate(levels):
            tiles = [_encoded(tile, rgb=rgb) for tile in _tiles(level)]
            tables, _ = _split(tiles[0])
            bare = [b"" if (number, i) == (0, left_out) else _split(tile)[1] for i, tile in enumerate(tiles)]
            writer.write(
                iter(bare),
                shape=level.shape,
                dtype=np.uint8,
                tile=(TILE, TILE),
                photometric="rgb",
                compression="zlib",
                subfiletype=1 if number else 0,
                extratags=[(_JPEG_TABLES, 7, len(tables), tables, True)],
                metadata=None,
            )
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for page in tiff.pages:
            page.tags["Compression"].overwrite(7)
            page.tags["PhotometricInterpretation"].overwrite(2 if rgb else 6)
    return path


def _tiles(level: np.ndarray) -> Iterator[np.ndarray]:
    height, width = level.shape[:2]
    padded = np.pad(level, ((0, -height % TILE), (0, -width % TILE), (0, 0)), mode="edge")
    for y in range(0, height, TILE):
        for x in range(0, width, TILE):
            yield padded[y : y + TILE, x : x + TILE]


def _encoded(tile: np.ndarray, *, rgb: bool) -> bytes:
    out = io.BytesIO()
    Image.fromarray(tile).save(out, "JPEG", quality=80, subsampling=0 if rgb else 2, keep_rgb=rgb)
    return out.getvalue()


def _split(stream: bytes) -> tuple[bytes, bytes]:
    """(tables, the rest) of a JPEG file, each framed by its markers; JFIF and Adobe markers are dropped."""
    tables, rest, at = b"", b"", 2
    while stream[at + 1] != 0xDA:
        marker, length = stream[at + 1], int.from_bytes(stream[at + 2 : at + 4], "big")
        segment = stream[at : at + 2 + length]
        if marker in (0xDB, 0xC4):
            tables += segment
        elif not 0xE0 <= marker <= 0xEF:
            rest += segment
        at += 2 + length
    data = at + 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
    head = b"\xff\xd8" + rest + stream[at:data]
    for name, number in zip(b"RGB", (1, 2, 3), strict=True):  # components named R, G, B would tell by themselves
        head = head.replace(bytes((name, 0x11)), bytes((number, 0x11)), 1)
        head = head.replace(bytes((name, 0x00)), bytes((number, 0x00)), 1)
    return b"\xff\xd8" + tables + b"\xff\xd9", head + stream[data:]
