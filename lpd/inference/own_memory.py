"""Arrays in memory of their own, for what is kept for long among much that is not.

An allocator keeps the gaps that short-lived arrays leave between long-lived ones, tens of MB beside the blocks of a
wide slide. These here leave none: they go back to the system when they are dropped.
"""

from __future__ import annotations

import mmap
import sys
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
_SMALL_BYTES = 1 << 15


def kept(values: Array) -> Array:
    """A writable copy of an array, in pages of its own unless it is small."""
    if values.nbytes < _SMALL_BYTES:
        return values.copy()
    if sys.platform == "win32":
        pages = mmap.mmap(-1, values.nbytes)
    else:
        pages = mmap.mmap(-1, values.nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    copy = np.frombuffer(pages, dtype=values.dtype).reshape(values.shape)
    copy[...] = values
    return copy
