"""The users file: one line ``name:scrypt$…`` for each person, read again whenever it changes."""

from __future__ import annotations

import logging
import re
import threading
import time
from pathlib import Path

from lpd.errors import LpdError
from viewers.passwords import PasswordHash
from viewers.private_files import write_privately

_LOGGER = logging.getLogger(__name__)
_NAME = re.compile(r"[\w.@-]{1,64}")
_LOOK_EVERY_S = 1.0


class UsersFile:
    """Who may log in, as ``path`` says now.

    Args:
        path: the file. Empty lines and those that begin with ``#`` mean nothing.

    Raises:
        LpdError: it cannot be read, a line is malformed (which one is said), or nobody is in it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._guard = threading.Lock()
        self._version = _version(path)
        self._users = read_users(path)
        self._looked = time.monotonic()
        if not self._users:
            raise LpdError(f"{path} names no users: add one with python app.py --add-user NAME --auth {path}")
        # What is compared when there is no such user, so that the time of an answer does not tell who exists.
        self._nobody = PasswordHash.of("no such user")

    def get(self, name: str) -> PasswordHash | None:
        """The hash of a user's password; None for a name that is not in the file (any more)."""
        self._look()
        return self._users.get(name)

    def fits(self, name: str, password: str) -> bool:
        """Whether the user exists and this is the password; takes about a tenth of a second either way."""
        known = self.get(name)
        fits = (known or self._nobody).fits(password)
        return known is not None and fits

    def _look(self) -> None:
        with self._guard:
            if time.monotonic() - self._looked < _LOOK_EVERY_S:
                return
            self._looked = time.monotonic()
            version = _version(self.path)
            if version == self._version:
                return
            self._version = version
            try:
                self._users = read_users(self.path)
            except LpdError as error:  # an editor's slip must not lock a department out
                _LOGGER.error("%s; the users from before stay until the file can be read", error)


def read_users(path: Path) -> dict[str, PasswordHash]:
    """Hashes by user name.

    Raises:
        LpdError: the file cannot be read, or a line is malformed or names a user for the second time.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise LpdError(f"the users file {path} cannot be read ({reason}): name another one with --auth") from error
    users: dict[str, PasswordHash] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, rest = line.strip().partition(":")
        try:
            _require_name(name)
            if name in users:
                raise LpdError(f"names {name} again")
            users[name] = PasswordHash.parse(rest)
        except LpdError as error:
            raise LpdError(f"{path} line {number} {error}: correct or delete it") from None
    return users


def add_user(path: Path, name: str, password: str) -> bool:
    """Add a user to the file, or give one a new password; other lines stay as they are. Returns True if new.

    Raises:
        LpdError: the name or the password cannot be used, or the file cannot be read or written.
    """
    try:
        _require_name(name)
    except LpdError:
        raise LpdError(f"{name[:70]!r} is no user name: use up to 64 letters, digits, and . _ @ -") from None
    line = f"{name}:{PasswordHash.of(password)}"
    lines: list[str] = []
    if path.exists():
        read_users(path)  # nothing is written over a file that is something else
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    kept = [line for line in lines if line.partition(":")[0].strip() != name]
    write_privately(path, "".join(f"{line}\n" for line in (*kept, line)))
    return len(kept) == len(lines)


def _require_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise LpdError(f"has the user name {name[:70]!r}, which is not made of letters, digits, and . _ @ -")


def _version(path: Path) -> tuple[int, int, int] | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_mtime_ns, facts.st_size, facts.st_ino
