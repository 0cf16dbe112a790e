"""Where the resident worker of a person is found, whether it matches, and the line to it."""

from __future__ import annotations

import hashlib
import json
import os
import select
import socket
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lpd
from lpd.errors import RunError
from lpd.runs import is_alive, replacing

#: Names another folder than the usual one, for those who want several workers.
FOLDER_VARIABLE = "LPD_RESIDENT"
_CARD = "resident.json"
LOG_NAME = "resident.log"
#: A caller proves with so many bytes that it may read the worker's card.
_LONGEST_GREETING = 4096
_LOOK_S = 0.3


@dataclass(frozen=True)
class Card:
    """How to reach a running worker.

    Attributes:
        port: on 127.0.0.1.
        token: whoever knows it can read the folder, and so is the same person.
        pid: of the worker.
        stamp: see :func:`code_stamp`.
    """

    port: int
    token: str
    pid: int
    stamp: str


def resident_folder() -> Path:
    """The folder of this person's worker, which nobody else may look into; made if missing.

    Raises:
        RunError: it cannot be made, or belongs to somebody else.
    """
    folder = _usual_folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = folder.lstat()
    except OSError as error:
        raise RunError(
            f"cannot make {folder} ({error.strerror or error}): name another folder in {FOLDER_VARIABLE}"
        ) from error
    if os.name != "nt" and (facts.st_uid != os.getuid() or facts.st_mode & 0o077):
        raise RunError(f"{folder} is open to others: delete it, or name another folder in {FOLDER_VARIABLE}")
    return folder


def _usual_folder() -> Path:
    if named := os.environ.get(FOLDER_VARIABLE):
        return Path(named)
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(runtime) / "lpd"
    who = os.environ.get("USERNAME", "user") if os.name == "nt" else os.getuid()
    return Path(tempfile.gettempdir()) / f"lpd-{who}"


def code_stamp() -> str:
    """Differs where a worker would not do as this process does: other code, Python, GPUs or threads, other rights of
    new files, or another priority."""
    package = Path(lpd.__file__).parent
    files = sorted(package.rglob("*.py"))
    facts = [(str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files]
    own: list[object] = [os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")]
    own += [_umask(), os.nice(0) if hasattr(os, "nice") else 0]
    return hashlib.sha256(repr((lpd.__version__, sys.executable, own, facts)).encode()).hexdigest()[:16]


def _umask() -> int:
    """Which rights new files do not get; Python tells it only to who sets it, so others' files are kept closed then."""
    before = os.umask(0o077)
    os.umask(before)
    return before


def write_card(folder: Path, card: Card) -> None:
    """Tell this person's processes how to reach the worker."""
    with replacing(folder / _CARD) as temporary:
        temporary.touch(mode=0o600)
        temporary.write_text(json.dumps(vars(card)), encoding="utf-8")


def remove_card(folder: Path) -> None:
    (folder / _CARD).unlink(missing_ok=True)


def read_card(folder: Path) -> Card | None:
    """How to reach the running worker; None if none runs."""
    if not is_alive(folder):
        return None
    try:
        return Card(**json.loads((folder / _CARD).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # it is just starting or ending
        return None


class Line:
    """Messages, a JSON object each, over a socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        # Unbuffered: what has been read ahead would be there while the socket says that nothing is.
        self._reading = connection.makefile("rb", buffering=0)

    @classmethod
    def to(cls, card: Card) -> Line:
        """A line to a worker, the caller's token being told.

        Raises:
            OSError: nobody answers.
        """
        line = cls(socket.create_connection(("127.0.0.1", card.port), timeout=5))
        line._connection.settimeout(None)
        line.send({"token": card.token})
        return line

    def hurry(self, seconds: float | None) -> None:
        """Wait no longer than that for a message; for ever if None."""
        self._connection.settimeout(seconds)

    def send(self, message: dict[str, Any]) -> None:
        """Say something.

        Raises:
            OSError: nobody listens any more.
        """
        self._connection.sendall(json.dumps(message).encode() + b"\n")

    def receive(self, *, greeting: bool = False, meanwhile: Callable[[], None] | None = None) -> dict[str, Any] | None:
        """The next message, waited for; None if the other side is gone, or says nothing that makes sense.

        Args:
            greeting: from somebody unknown: a long one makes no sense.
            meanwhile: called several times a second until there is one.
        """
        try:
            while meanwhile and not select.select([self._connection], [], [], _LOOK_S)[0]:
                meanwhile()
            text = self._reading.readline(_LONGEST_GREETING if greeting else -1)
            message = json.loads(text) if text.endswith(b"\n") else None
        except (OSError, ValueError):
            return None
        return message if isinstance(message, dict) else None

    def close(self) -> None:
        for end in (self._reading, self._connection):
            with suppress(OSError):
                end.close()
