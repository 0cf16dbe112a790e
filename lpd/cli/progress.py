"""Progress as a bar on stderr, where that is a terminal: of any long work, and of a run that also writes its state."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

from lpd.runs import Progress, Run


@contextmanager
def progress_bar(name: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """A function that shows how many units of how many are done, inside the block."""
    with tqdm(desc=name, unit=unit, disable=None, file=sys.stderr) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show


class ReportingRun(Run):
    """Shows what :meth:`advance` is told between entering and leaving :meth:`bar`."""

    _show: Callable[[int, int], None] | None = None

    @contextmanager
    def bar(self, name: str, unit: str) -> Iterator[None]:
        """Show progress inside the block."""
        with progress_bar(name, unit) as self._show:
            try:
                yield
            finally:
                self._show = None

    def advance(self, done: int, total: int, unit: str = "tiles") -> Progress:
        progress = super().advance(done, total, unit)
        if self._show is not None:
            self._show(done, total)
        return progress
