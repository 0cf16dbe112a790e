"""Writes a phantom as a pyramidal TIFF that OpenSlide reads as Aperio, with its true mask beside it."""

from __future__ import annotations

import io
import json
import os
import zlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image, ImageDraw, ImageFont

from lpd.classes import BCSS
from lpd.data.phantom.layout import MPP, kinds_to_mask
from lpd.data.phantom.textures import PERIOD, REACH
from lpd.data.phantom.tissue import Case, case_seed
from lpd.errors import ConfigError, SlideError
from lpd.runs import replacing

#: Level-0 pixels per mask pixel: the mask is 2 µm/px, its pixel (0, 0) covers level-0 pixels 0 … 3 both ways.
MASK_DOWNSAMPLE = 4

_TILE = 256
_BLOCK = PERIOD  # drawn at once: 4 x 4 tiles of level 0, one of level 1, one of the mask
_FACTOR = 4  # between levels, as Aperio does
_QUALITY = 80
_AHEAD = 8  # blocks drawn ahead of the writer, per worker
_SOFTWARE = "LPD synthetic phantom"
_HEADER = "Aperio Image Library format, written by LPD: synthetic phantom, no patient"

Pixels = npt.NDArray[np.uint8]


def mask_path(slide: Path) -> Path:
    """Where the true mask of the phantom ``slide`` lies: ``<stem>.mask.tif`` beside it."""
    return slide.with_name(f"{slide.stem}.mask.tif")


def write_phantom_slide(
    path: Path,
    width: int = 6144,
    height: int = 4608,
    seed: int = 7,
    *,
    force: bool = False,
    workers: int | None = None,
) -> None:
    """Write a slide of 0.5 µm/px (objective 20) with levels of downsample 1, 4 and 16, and its mask.

    The mask is a tiled, deflated uint8 TIFF in the slide's frame at MASK_DOWNSAMPLE, holding the class at the middle
    of its pixels: 0 … C−1, C for glass. Both files depend on ``width``, ``height`` and ``seed`` alone, not on
    ``workers`` (default: the number of cores). Beside a fixed 250 MB, memory grows by 1/85 of the slide's raw size
    for level 2 and by the encoded level 1.

    Args:
        path: of the slide, ending in .tif, .tiff or .svs.
        width, height: in level-0 pixels, 512 to 200,000.
        seed: any non-negative integer.
        force: replace existing files.

    Raises:
        ConfigError: size, seed, file name or number of workers is out of range.
        SlideError: a file exists and ``force`` is not given, the folder cannot be written, or the disk is full.
    """
    _check(path, width, height, seed)
    workers = worker_count(workers)
    try:
        _check_free(path, force)
        path.parent.mkdir(parents=True, exist_ok=True)
        writer = _Writer(Case.make(case_seed("slide", seed), (width, height)), width, height, f"seed {seed}")
        with replacing(path) as slide, replacing(mask_path(path)) as mask:
            writer.write_slide(slide, workers)
            writer.write_mask(mask)
    except OSError as error:
        raise SlideError(
            f"cannot write {path} ({error.strerror or error}): free some space or choose another folder"
        ) from error


def worker_count(workers: int | None) -> int:
    """How many threads draw: as many as the machine has cores if nobody says.

    Raises:
        ConfigError: it is not between 1 and 256.
    """
    if workers is not None and not 1 <= workers <= 256:
        raise ConfigError(f"{workers} workers: 1 to 256 can draw, or leave it out for one per core")
    return workers or os.cpu_count() or 1


def _check(path: Path, width: int, height: int, seed: int) -> None:
    if path.suffix.lower() not in (".tif", ".tiff", ".svs"):
        raise ConfigError(f"{path.name} does not end in .tif, .tiff or .svs, as a phantom slide must")
    if not (512 <= width <= 200_000 and 512 <= height <= 200_000):
        raise ConfigError(f"phantom size {width} x {height} px is not between 512 and 200,000 both ways")
    if seed < 0:
        raise ConfigError(f"seed {seed} is negative")


def _check_free(path: Path, force: bool) -> None:
    for existing in (path, mask_path(path)):
        if existing.exists() and not force:
            raise SlideError(f"{existing} exists already: choose another name or replace it with --force")


@dataclass(frozen=True)
class _Block:
    """What one square of _BLOCK level-0 pixels becomes: encoded tiles, and its part of level 2."""

    tiles: tuple[bytes, ...]  # level 0, row by row
    tile_1: bytes
    part_2: Pixels
    mask: Pixels


@dataclass
class _Writer:
    """One pass over the blocks writes level 0 as it goes and keeps what the smaller images need."""

    case: Case
    width: int
    height: int
    origin: str
    level_1: list[bytes] = field(default_factory=list)
    masks: list[bytes] = field(default_factory=list)
    uniform: dict[int, _Block] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rows, self.columns = -(-self.height // _BLOCK), -(-self.width // _BLOCK)
        part = _BLOCK // _FACTOR**2
        self.level_2 = np.zeros((self.rows * part, self.columns * part, 3), np.uint8)

    def write_slide(self, path: Path, workers: int) -> None:
        with tifffile.TiffWriter(path, bigtiff=self.width * self.height > 6e9) as tiff:
            self._page(tiff, 0, self._level_0(workers))
            level_2 = self.level_2[: self.height // _FACTOR**2, : self.width // _FACTOR**2]
            self._flat_page(tiff, "", _thumbnail(level_2))
            self._page(tiff, 1, iter(self.level_1))
            self._page(tiff, 2, _encoded_tiles(level_2))
            self._flat_page(tiff, "label", _label(self.origin))
        declare_jpeg(path)

    def write_mask(self, path: Path) -> None:
        shape = (-(-self.height // MASK_DOWNSAMPLE), -(-self.width // MASK_DOWNSAMPLE))
        what = {"what": _SOFTWARE, "downsample": MASK_DOWNSAMPLE, "mpp": MPP * MASK_DOWNSAMPLE, **BCSS.to_dict()}
        side = _BLOCK // MASK_DOWNSAMPLE
        with tifffile.TiffWriter(path) as tiff:
            tiff.write(
                iter(self.masks),
                shape=shape,
                dtype=np.uint8,
                tile=(side, side),
                photometric="minisblack",
                compression="zlib",
                resolution=(1e4 / (MPP * MASK_DOWNSAMPLE),) * 2,
                resolutionunit="CENTIMETER",
                description=json.dumps(what),
                **_PLAIN,
            )

    def _level_0(self, workers: int) -> Iterator[bytes]:
        across = -(-self.width // _TILE)
        down = -(-self.height // _TILE)
        per_block = _BLOCK // _TILE
        blocks = self._blocks(workers)
        for row in range(self.rows):
            band = [next(blocks) for _ in range(self.columns)]
            self._keep(row, band)
            for tile_row in range(min(per_block, down - row * per_block)):
                tiles = [tile for block in band for tile in block.tiles[tile_row * per_block :][:per_block]]
                yield from tiles[:across]

    def _keep(self, row: int, band: list[_Block]) -> None:
        self.masks += [_deflated(block.mask) for block in band]
        if row * _TILE < self.height // _FACTOR:
            self.level_1 += [block.tile_1 for block in band][: -(-(self.width // _FACTOR) // _TILE)]
        side = _BLOCK // _FACTOR**2
        self.level_2[row * side : (row + 1) * side] = np.concatenate([block.part_2 for block in band], axis=1)

    def _blocks(self, workers: int) -> Iterator[_Block]:
        """Blocks row by row, drawn a few ahead by ``workers`` threads (NumPy and Pillow let go of the interpreter)."""
        waiting: deque[Future[_Block]] = deque()
        with ThreadPoolExecutor(workers) as pool:
            try:
                for number in range(self.rows * self.columns):
                    row, column = divmod(number, self.columns)
                    waiting.append(pool.submit(self._block, column * _BLOCK, row * _BLOCK))
                    if len(waiting) > workers * _AHEAD:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def _block(self, x: int, y: int) -> _Block:
        around = self.case.layout.kinds(x - REACH, y - REACH, _BLOCK + 2 * REACH, _BLOCK + 2 * REACH)
        kind = int(around[0, 0])
        if (around != kind).any():
            return _finished(*self.case.paint(around, x, y))
        if kind not in self.uniform:  # blocks are as large as the textures' period, so these are all alike
            self.uniform[kind] = _finished(*self.case.paint(around, x, y))
        return self.uniform[kind]

    def _page(self, tiff: tifffile.TiffWriter, level: int, tiles: Iterator[bytes]) -> None:
        width, height = self.width // _FACTOR**level, self.height // _FACTOR**level
        size = f"{self.width}x{self.height} [0,0 {self.width}x{self.height}] ({_TILE}x{_TILE})"
        title = f"{_SOFTWARE} {self.origin}"
        if level:
            size += f" -> {width}x{height}"
        tiff.write(
            tiles,
            shape=(height, width, 3),
            dtype=np.uint8,
            tile=(_TILE, _TILE),
            photometric="rgb",
            compression="zlib",  # declare_jpeg puts this right
            description=f"{_HEADER} \r\n{size} JPEG/RGB Q={_QUALITY}|AppMag = 20|MPP = {MPP:.4f}|Title = {title}",
            **_PLAIN,
        )

    def _flat_page(self, tiff: tifffile.TiffWriter, name: str, image: Pixels) -> None:
        height, width = image.shape[:2]
        tiff.write(
            image,
            photometric="rgb",
            subfiletype=1 if name else 0,
            description=f"{_HEADER} \r\n{name} {width}x{height}",
            **_PLAIN,
        )


_PLAIN: dict[str, Any] = {"metadata": None, "software": False, "datetime": None}


def declare_jpeg(path: Path) -> None:
    """Set the tags of tiled pages to what their bytes are.

    tifffile passes encoded tiles through, but accepts the name JPEG only where imagecodecs is installed.
    """
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for page in tiff.pages:
            assert isinstance(page, tifffile.TiffPage)  # not a frame, which is a page that shares another's tags
            if page.is_tiled:
                page.tags["Compression"].overwrite(7)
                page.tags["PhotometricInterpretation"].overwrite(6)  # YCbCr, subsampled 2 x 2 unless said otherwise


def _finished(image: Pixels, kinds: npt.NDArray[np.uint8]) -> _Block:
    starts = range(0, _BLOCK, _TILE)
    level_1 = _halved(_halved(image))
    middle = MASK_DOWNSAMPLE // 2
    return _Block(
        tuple(_jpeg(image[y : y + _TILE, x : x + _TILE]) for y in starts for x in starts),
        _jpeg(level_1),
        _halved(_halved(level_1)),
        np.ascontiguousarray(kinds_to_mask(kinds[middle::MASK_DOWNSAMPLE, middle::MASK_DOWNSAMPLE])),
    )


def _halved(image: Pixels) -> Pixels:
    wide = image.astype(np.uint16)
    total = wide[::2, ::2] + wide[1::2, ::2] + wide[::2, 1::2] + wide[1::2, 1::2]
    return ((total + 2) // 4).astype(np.uint8)


def _jpeg(image: Pixels) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=_QUALITY, subsampling="4:2:0")
    return stream.getvalue()


def _deflated(tile: Pixels) -> bytes:
    return zlib.compress(tile.tobytes(), 6)


def _encoded_tiles(image: Pixels) -> Iterator[bytes]:
    height, width = image.shape[:2]
    padded = np.pad(image, ((0, -height % _TILE), (0, -width % _TILE), (0, 0)), mode="edge")
    for y in range(0, height, _TILE):
        for x in range(0, width, _TILE):
            yield _jpeg(padded[y : y + _TILE, x : x + _TILE])


def _thumbnail(level_2: Pixels) -> Pixels:
    picture = Image.fromarray(level_2)
    picture.thumbnail((1024, 768))
    ImageDraw.Draw(picture).text((4, 2), "SYNTHETIC", fill=(90, 90, 90), font=ImageFont.load_default(14))
    return np.asarray(picture)


def _label(origin: str) -> Pixels:
    picture = Image.new("RGB", (320, 320), (250, 248, 240))
    pen = ImageDraw.Draw(picture)
    for line, (text, size) in enumerate((("SYNTHETIC", 46), ("phantom, no patient", 24), (origin, 24))):
        pen.text((20, 60 + 70 * line), text, fill=(20, 20, 20), font=ImageFont.load_default(size))
    return np.asarray(picture)
