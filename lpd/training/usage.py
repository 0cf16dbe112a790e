"""How well a training uses its device: whether it has tiles to work on, and how much memory it has needed."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Usage:
    """Of the time since it was last asked, and of the memory since the start.

    On a GPU, steps are handed over before they are computed: waiting for tiles begins there only once it has caught up.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._since = time.monotonic()
        self._waited_s = 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around whatever is waited for before the next step can begin."""
        start = time.monotonic()
        try:
            yield
        finally:
            self._waited_s += time.monotonic() - start

    def take(self) -> dict[str, float | None]:
        """``busy``: share of the time that was no waiting, 0 to 1; ``memory_mb``: most memory so far, in MiB."""
        now = time.monotonic()
        busy = 1 - self._waited_s / max(now - self._since, 1e-9)
        self._since, self._waited_s = now, 0.0
        memory = peak_memory(self._device)
        return {"busy": round(max(0.0, busy), 3), "memory_mb": None if memory is None else round(memory / 2**20)}


def peak_memory(device: torch.device) -> int | None:
    """Most memory that was needed at once, in bytes: of the GPU, or of this process on a CPU; None if nobody knows."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_reserved(device))
    return _peak_bytes() if device.type == "cpu" else None


def _peak_bytes() -> int | None:
    """None on Windows."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
