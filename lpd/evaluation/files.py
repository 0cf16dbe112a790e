"""Writing into the folder of a report: whole files or none, and one sentence where the disk refuses."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lpd.errors import RunError
from lpd.runs import replacing


def check_writable(folder: Path) -> None:
    """Make the folder and try it, before work is done that it shall hold.

    Raises:
        RunError: it cannot be made or written.
    """
    with _said(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text so that a reader sees the old file or the new one, never a part.

    Raises:
        RunError: the file cannot be written.
    """
    with written(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """A temporary path for the block to write, which then replaces ``path``.

    Raises:
        RunError: the disk is full or the folder cannot be written.
    """
    with _said(path), replacing(path) as temporary:
        yield temporary


@contextmanager
def _said(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise RunError(f"cannot write {path} ({reason}): free some space or choose another folder") from error
