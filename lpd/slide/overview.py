"""Overview: coarse copies of a slide whose file has none, made once, kept in a file, and read by memory map."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from lpd.errors import SlideError
from lpd.runs import replacing
from lpd.slide.levels import Level
from lpd.slide.region import Region
from lpd.slide.source import Source

#: Each copy has 1/8 of the width and height of what it is made of: 1.6 % more pixels in all.
STEP = 8
#: Copies are made until the longer side is at most this.
_LONGEST_PX = 1024
#: Side of the pieces that are read at a time, a multiple of the step.
_PIECE_PX = 2048

Copy = npt.NDArray[np.uint8]


def write_overview(source: Source, path: Path, report: Callable[[float], None]) -> None:
    """Make the copies of the coarsest level of a slide: means of 8 × 8 pixels, raw RGB, one copy after another.

    Memory is that of a piece of 2048 × 2048 pixels; the file has 1/21 of a byte for each byte of the level's pixels.

    Args:
        source: of the slide.
        path: of the file; it appears when it is whole.
        report: is told how much is done, 0–1; what it raises ends the work.

    Raises:
        SlideError: the slide is damaged.
        OSError: the file cannot be written.
    """
    last = len(source.levels) - 1
    levels = _copies(source.levels[last])
    with replacing(path) as temporary:
        temporary.write_bytes(b"")
        copies = _mapped(temporary, levels, "r+", grow=True)
        level = source.levels[last]
        for y in range(0, level.height_px, _PIECE_PX):
            for x in range(0, level.width_px, _PIECE_PX):
                size = min(_PIECE_PX, level.width_px - x), min(_PIECE_PX, level.height_px - y)
                _put(copies[0], x, y, source.read(last, x, y, *size))
            report(min(1.0, (y + _PIECE_PX) / level.height_px))
        for fine, coarse in pairwise(copies):
            for y in range(0, fine.shape[0], _PIECE_PX):
                for x in range(0, fine.shape[1], _PIECE_PX):
                    _put(coarse, x, y, Image.fromarray(fine[y : y + _PIECE_PX, x : x + _PIECE_PX]))
        for copy in copies:
            copy.flush()
        del copies  # some systems replace no file that is mapped


class OverviewSource:
    """A :class:`~lpd.slide.source.Source` with further, coarser levels, from a file by :func:`write_overview`.

    Raises:
        SlideError: the file is no overview of this slide.
        OSError: it cannot be read.
    """

    def __init__(self, source: Source, path: Path) -> None:
        self._source = source
        self._own = len(source.levels)
        copies = _copies(source.levels[-1])
        self._copies = _mapped(path, copies, "r")
        self.vendor, self.properties, self.icc_profile = source.vendor, source.properties, source.icc_profile
        self.bounds: Region = source.bounds
        self.levels = (*source.levels, *copies)

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Image.Image:
        if level < self._own:
            return self._source.read(level, x, y, width, height)
        return Image.fromarray(self._copies[level - self._own][y : y + height, x : x + width])

    def pixels(self, level: int, x: int, y: int, width: int, height: int) -> Copy | None:
        if level < self._own:
            return self._source.pixels(level, x, y, width, height)
        return np.array(self._copies[level - self._own][y : y + height, x : x + width])

    def jpeg(self, level: int, x: int, y: int, width: int, height: int) -> bytes | None:
        return self._source.jpeg(level, x, y, width, height) if level < self._own else None

    def associated(self) -> dict[str, Image.Image]:
        return self._source.associated()

    def close(self) -> None:
        self._source.close()


def _copies(level: Level) -> tuple[Level, ...]:
    levels = [level]
    while len(levels) == 1 or max(levels[-1].width_px, levels[-1].height_px) > _LONGEST_PX:
        last = levels[-1]
        size = -(-last.width_px // STEP), -(-last.height_px // STEP)
        levels.append(Level(*size, last.scale_x * STEP, last.scale_y * STEP))
    return tuple(levels[1:])


def _mapped(path: Path, levels: tuple[Level, ...], mode: str, *, grow: bool = False) -> list[np.memmap]:
    sizes = [level.width_px * level.height_px * 3 for level in levels]
    if grow:
        with path.open("r+b") as file:
            file.truncate(sum(sizes))
    elif path.stat().st_size != sum(sizes):
        raise SlideError(f"{path} is no overview of this slide: delete it, it is made again")
    starts = np.cumsum([0, *sizes]).tolist()
    shapes = [(level.height_px, level.width_px, 3) for level in levels]
    return [
        np.memmap(path, np.uint8, mode, offset, shape)  # type: ignore[call-overload]
        for offset, shape in zip(starts, shapes, strict=False)
    ]


def _put(copy: Copy, x: int, y: int, piece: Image.Image) -> None:
    small = np.asarray(piece.reduce(STEP))
    top, left = y // STEP, x // STEP
    copy[top : top + small.shape[0], left : left + small.shape[1]] = small
