"""ChunkBuffer: chunks of zarr arrays in memory, each read and written as a whole, however many blocks make it up."""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lpd.inference.own_memory import kept

Bytes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
#: An array's number, a row and a column of chunks.
_Key = tuple[int, int, int]


@dataclass(eq=False)
class _Chunk:
    """Values (…, h, w) of the chunks at one place, those of all leading axes; ``dirty`` if the disk lacks some."""

    values: Bytes
    dirty: bool


class ChunkBuffer:
    """Writes blocks into arrays (…, H, W) whose chunks are squares of the last two axes.

    Blocks come row by row: what ends above one is written and dropped, and all is where rows begin anew. Else chunks
    are kept until there are too many, those longest untouched going first. What :meth:`flush` has not been called for
    may be in memory only. For one thread at a time.

    Attributes:
        bytes: what chunks take now.
    """

    def __init__(self, arrays: Sequence[Any], capacity_bytes: int) -> None:
        """Keep nothing yet.

        Args:
            arrays: zarr arrays of uint8 with as many axes each.
            capacity_bytes: what chunks may take together; one is kept in any case.
        """
        self._arrays = arrays
        self._capacity = capacity_bytes
        self._chunks: OrderedDict[_Key, _Chunk] = OrderedDict()
        self._rows = [0] * len(arrays)  # of chunks, that the block put last begins in
        self.bytes = 0

    def put(self, array: int, x: int, y: int, block: Bytes, where: Mask | None = None) -> None:
        """Put ``block`` (…, h, w) with its upper left value at column ``x``, row ``y`` of one of the arrays.

        Values for which ``where`` (h, w) is False stay as they are.
        """
        height, width = block.shape[-2:]
        side_y, side_x = self._arrays[array].chunks[-2:]
        self._drop_above(array, y // side_y)
        for row, top, bottom in _parts(y, height, side_y):
            for column, left, right in _parts(x, width, side_x):
                chunk = self._chunk((array, row, column))
                y0, x0 = top - row * side_y, left - column * side_x
                target = chunk.values[..., y0 : y0 + bottom - top, x0 : x0 + right - left]
                part = slice(top - y, bottom - y), slice(left - x, right - x)
                np.copyto(target, block[..., part[0], part[1]], where=True if where is None else where[part])
                chunk.dirty = True

    def flush(self) -> None:
        """Write what the disk lacks.

        Raises:
            OSError: it cannot be written; it is kept for another try.
        """
        for key, chunk in self._chunks.items():
            if chunk.dirty:
                self._write(key, chunk)

    def _chunk(self, key: _Key) -> _Chunk:
        chunk = self._chunks.get(key)
        if chunk is None:
            values = np.asarray(self._arrays[key[0]][self._where(key)])
            chunk = self._chunks[key] = _Chunk(kept(values), dirty=False)
            self.bytes += chunk.values.nbytes
            self._make_room()
        self._chunks.move_to_end(key)
        return chunk

    def _drop_above(self, array: int, row: int) -> None:
        before, self._rows[array] = self._rows[array], row
        if row != before:
            for key in [key for key in self._chunks if key[0] == array and (key[1] < row or row < before)]:
                self._drop(key)

    def _make_room(self) -> None:
        while self.bytes > self._capacity and len(self._chunks) > 1:
            self._drop(next(iter(self._chunks)))

    def _drop(self, key: _Key) -> None:
        chunk = self._chunks[key]
        if chunk.dirty:
            self._write(key, chunk)
        del self._chunks[key]
        self.bytes -= chunk.values.nbytes

    def _write(self, key: _Key, chunk: _Chunk) -> None:
        _patiently(self._arrays[key[0]], self._where(key), chunk.values)
        chunk.dirty = False

    def _where(self, key: _Key) -> tuple[Any, ...]:
        number, row, column = key
        *_, height, width = self._arrays[number].shape
        side_y, side_x = self._arrays[number].chunks[-2:]
        rows = slice(row * side_y, min(height, (row + 1) * side_y))
        return (..., rows, slice(column * side_x, min(width, (column + 1) * side_x)))


def _parts(start: int, length: int, side: int) -> Iterator[tuple[int, int, int]]:
    """(chunk, first, end) of [start, start + length) for each chunk of ``side`` that it touches."""
    for number in range(start // side, -(-(start + length) // side)):
        yield number, max(start, number * side), min(start + length, (number + 1) * side)


def _patiently(array: Any, where: tuple[Any, ...], values: Bytes) -> None:
    # Windows refuses to replace a chunk file that a reader holds open; readers here are brief.
    for attempt in range(20):
        try:
            array[where] = values
            return
        except PermissionError:
            if os.name != "nt" or attempt == 19:
                raise
            time.sleep(0.05)
