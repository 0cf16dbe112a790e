"""Logs that only grow: what is added is there as a whole and on the disk, or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def append_whole(path: Path, end: int, content: bytes) -> None:
    """Write ``content`` behind the first ``end`` bytes of a file; what lies behind them, which a kill left, is dropped.

    The caller holds a lock under which it has found ``end``.

    Raises:
        OSError: the disk is full or the file cannot be written; it ends at ``end`` then.
    """
    with path.open("ab", buffering=0) as file:
        file.truncate(end)
        try:
            if file.write(content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file.fileno())
        except OSError:
            file.truncate(end)
            raise
