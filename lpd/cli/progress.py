"""ReportingRun: a run whose progress is also a bar on stderr, where that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from lpd.runs import Progress, Run


class ReportingRun(Run):
    """Shows what :meth:`advance` is told between entering and leaving :meth:`bar`."""

    _bar: tqdm[Any] | None = None

    @contextmanager
    def bar(self, name: str, unit: str) -> Iterator[None]:
        """Show progress inside the block."""
        with tqdm(desc=name, unit=unit, disable=None, file=sys.stderr) as self._bar:
            try:
                yield
            finally:
                self._bar = None

    def advance(self, done: int, total: int, unit: str = "tiles") -> Progress:
        progress = super().advance(done, total, unit)
        if self._bar is not None:
            self._bar.total = total
            self._bar.update(done - self._bar.n)
        return progress
