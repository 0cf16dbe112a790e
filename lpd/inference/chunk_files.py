"""Chunks of a result's zarr arrays straight from their files: the same values at a fraction of zarr's own work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numcodecs import Blosc

Bytes = npt.NDArray[np.uint8]


class ChunkFiles:
    """Reads one array as :func:`lpd.inference.pyramid.create_arrays` makes them.

    That is zarr format 2, uint8, Blosc, files named row/column after the places on other axes. A chunk without a file
    holds the fill value alone. Files are replaced as a whole, so that another process may write.
    """

    def __init__(self, folder: Path, array: Any) -> None:
        """Of the zarr ``array`` in ``folder``."""
        self._folder = folder
        self._shape: tuple[int, ...] = tuple(array.shape)
        self._chunks: tuple[int, ...] = tuple(array.chunks)
        self._fill = int(array.fill_value)
        self._codec = Blosc()

    def takes(self, lead: Sequence[int | slice]) -> bool:
        """True for one index of each leading axis where a chunk has no more of them."""
        single = all(isinstance(index, int) and index >= 0 for index in lead)
        return single and len(lead) == len(self._shape) - 2 and all(side == 1 for side in self._chunks[:-2])

    def read(self, lead: Sequence[int | slice], top: int, bottom: int, left: int, right: int) -> Bytes:
        """Values (bottom − top, right − left) from inside the array, at a ``lead`` that :meth:`takes` is true of.

        Raises:
            OSError, ValueError, RuntimeError: a file cannot be read.
        """
        out = np.empty((bottom - top, right - left), np.uint8)
        side_y, side_x = self._chunks[-2:]
        for row in range(top // side_y, -(-bottom // side_y)):
            y0, y1 = max(top, row * side_y), min(bottom, (row + 1) * side_y)
            for column in range(left // side_x, -(-right // side_x)):
                x0, x1 = max(left, column * side_x), min(right, (column + 1) * side_x)
                chunk = self._chunk((*lead, row, column))
                part = np.s_[y0 - row * side_y : y1 - row * side_y, x0 - column * side_x : x1 - column * side_x]
                out[y0 - top : y1 - top, x0 - left : x1 - left] = self._fill if chunk is None else chunk[part]
        return out

    def _chunk(self, place: Sequence[int | slice]) -> Bytes | None:
        try:
            content = self._folder.joinpath(*map(str, place)).read_bytes()
        except FileNotFoundError:
            return None
        return np.frombuffer(self._codec.decode(content), np.uint8).reshape(self._chunks[-2:])
