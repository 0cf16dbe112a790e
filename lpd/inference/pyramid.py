"""Pyramid: a zarr array with coarser copies beside it that grow together, block by block."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr as _zarr
from numcodecs import Blosc

from lpd.classes import NOT_COMPUTED
from lpd.inference.chunk_buffer import ChunkBuffer, Mask
from lpd.inference.chunk_files import ChunkFiles

zarr: Any = _zarr
Bytes = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]

#: Format 2 is what OME-NGFF 0.4 prescribes. zarr 3 calls the argument ``zarr_format``, zarr 2.18 ``zarr_version``.
FORMAT_2 = {"zarr_format" if int(zarr.__version__.split(".")[0]) >= 3 else "zarr_version": 2}
_SMALLEST_PX = 256
_CHUNK_PX = 512
#: What a pyramid keeps of chunks that blocks are written into: a row of them of a mask 60,000 px wide.
_BUFFER_BYTES = 32 * 1024 * 1024


def level_count(height: int, width: int) -> int:
    """How many levels, each half the one before, until the longer side is at most 256 px; at least 1."""
    count = 1
    while max(height, width) > _SMALLEST_PX << (count - 1):
        count += 1
    return count


def create_arrays(
    group_path: Path, shape: Sequence[int], chunks: tuple[int, ...] | None = None, effort: int = 3
) -> int:
    """Create the levels ``0``, ``1``, … of a uint8 pyramid of ``shape`` (…, H, W), all 255; returns their number.

    A chunk holds 512 × 512 px of one index of the other axes, or ``chunks``; ``effort`` is zstd's level.
    """
    *lead, height, width = shape
    count = level_count(height, width)
    for level in range(count):
        zarr.create(
            shape=(*lead, _halved(height, level), _halved(width, level)),
            chunks=chunks or (*(1 for _ in lead), _CHUNK_PX, _CHUNK_PX),
            dtype="uint8",
            fill_value=NOT_COMPUTED,
            compressor=Blosc("zstd", clevel=effort, shuffle=Blosc.NOSHUFFLE),
            store=str(group_path),
            path=str(level),
            dimension_separator="/",
            **FORMAT_2,
        )
    return count


class Pyramid:
    """Reads and writes a uint8 pyramid (…, H, W); pixel i of level k is pixel i · 2^k of level 0.

    Each level depends on level 0 alone, so that writing a block completes its part of every level at once, and an
    overview can be read while the slide is still being computed. One process may write; any number may read: a chunk
    is a file that the store replaces as a whole.
    """

    def __init__(self, group_path: Path) -> None:
        group = zarr.open_group(str(group_path), mode="r+", **FORMAT_2)
        self._levels: list[Any] = []
        while str(len(self._levels)) in group:
            self._levels.append(group[str(len(self._levels))])
        if len(self._levels) < (level_count(*self.shape[-2:]) if self._levels else 1):
            raise KeyError(f"level {len(self._levels)} is missing")
        self._buffer = ChunkBuffer(self._levels, _BUFFER_BYTES)
        self._files = [ChunkFiles(group_path / str(number), level) for number, level in enumerate(self._levels)]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the finest level."""
        return tuple(int(n) for n in self._levels[0].shape)

    def write(self, x: int, y: int, block: Bytes, where: Mask | None = None) -> None:
        """Put ``block`` (…, h, w) with its upper left pixel at column ``x``, row ``y`` of level 0, into every level.

        Values for which ``where`` (h, w) is False stay as they are. Others see it after :meth:`flush`.
        """
        for level in range(len(self._levels)):
            step = 1 << level
            top, left = -(-y // step), -(-x // step)
            own = slice(top * step - y, None, step), slice(left * step - x, None, step)
            part = block[..., own[0], own[1]]
            if part.size:
                self._buffer.put(level, left, top, part, None if where is None else where[own])

    def flush(self) -> None:
        """Let others see what has been written."""
        self._buffer.flush()

    def sample(self, ys: Indices, xs: Indices, step: float, lead: tuple[int | slice, ...] = ()) -> Bytes:
        """Values at the rows ``ys`` and columns ``xs`` of level 0, each rising; 255 outside.

        Args:
            step: distance of neighbouring samples in level-0 pixels; the coarsest level that is not coarser is read.
            lead: index into the axes before the last two; a slice leaves an axis as it is.

        Returns:
            uint8 (…, len(ys), len(xs)).
        """
        self.flush()  # of what this very object has written
        level = self.level(step)
        *others, height, width = self.shape
        kept = np.empty(others, dtype=np.bool_)[lead].shape
        out = np.full((*kept, len(ys), len(xs)), NOT_COMPUTED, dtype=np.uint8)
        rows, columns = _inside(ys, height), _inside(xs, width)
        y, x = ys[rows] >> level, xs[columns] >> level
        if len(y) and len(x):
            slab = self._slab(level, lead, int(y[0]), int(y[-1]) + 1, int(x[0]), int(x[-1]) + 1)
            # Picking rows and columns takes longer than decoding them: where all are wanted they are taken as they are.
            whole = slab.shape[-2:] == (len(y), len(x)) and _each_once(y) and _each_once(x)
            out[..., rows, columns] = slab if whole else slab[(..., *np.ix_(y - y[0], x - x[0]))]
        return out

    def level(self, step: float) -> int:
        """The level that :meth:`sample` reads for samples so far apart."""
        return min(max(0, int(np.floor(np.log2(max(step, 1.0))))), len(self._levels) - 1)

    def _slab(self, level: int, lead: tuple[int | slice, ...], top: int, bottom: int, left: int, right: int) -> Bytes:
        if self._files[level].takes(lead):
            return self._files[level].read(lead, top, bottom, left, right)
        return np.asarray(self._levels[level][(*lead, slice(top, bottom), slice(left, right))])


def _inside(places: Indices, length: int) -> slice:
    """Which of some rising places are 0 to length − 1."""
    return slice(int(np.searchsorted(places, 0)), int(np.searchsorted(places, length)))


def _each_once(places: Indices) -> bool:
    return bool((np.diff(places) == 1).all())


def _halved(length: int, times: int) -> int:
    return -(-length // (1 << times))
