"""Files that only their owner may read: password hashes and session secrets, replaced whole."""

from __future__ import annotations

import os
from pathlib import Path

from lpd.errors import LpdError
from lpd.runs import replacing

OWNER_ONLY = 0o600


def write_privately(path: Path, text: str) -> None:
    """Put ``text`` in place of ``path`` at once, never readable by other people of this machine.

    Raises:
        LpdError: the folder cannot be written.
    """
    try:
        with replacing(path) as temporary:
            number = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
            with os.fdopen(number, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
    except OSError as error:
        raise LpdError(f"cannot write {path} ({error.strerror or error}): check the folder and the disk") from error
