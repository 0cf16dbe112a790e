"""Sessions: who has logged in, kept by the browser in a signed cookie; the server keeps a secret and what was ended."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import threading
import time
from pathlib import Path

from lpd.errors import LpdError
from viewers.passwords import PasswordHash
from viewers.private_files import write_privately
from viewers.users import UsersFile

LIFETIME_S = 12 * 3600
_LONGEST_TOKEN = 1024


class Sessions:
    """Makes and checks session tokens. A token dies with its time, with log-out, and with the user's password.

    Args:
        path: file of the secret and of the sessions that were ended before their time; made if missing, for its
            owner alone. With it, sessions outlive a restart; deleting it logs everybody out.
        users: whose sessions count.

    Raises:
        LpdError: the file cannot be written.
    """

    def __init__(self, path: Path, users: UsersFile) -> None:
        self._path = path
        self._users = users
        self._guard = threading.Lock()
        self._secret, self._ended = _read(path)
        self._save()

    def begin(self, name: str) -> str:
        """A token for a user who has just shown the password."""
        payload = json.dumps([name, int(time.time()) + LIFETIME_S, secrets.token_hex(8)]).encode()
        return f"{_encode(payload)}.{_encode(self._sign(payload, name))}"

    def user(self, token: str) -> str | None:
        """The user that a token belongs to, or None for one that is forged, over, ended, or of an older password."""
        read = self._read_token(token)
        return read[0] if read else None

    def end(self, token: str) -> None:
        """Log out: the token counts no more, not even after a restart.

        Raises:
            LpdError: that cannot be written down.
        """
        read = self._read_token(token)
        if read:
            with self._guard:
                self._ended[read[2]] = read[1]
                self._save()

    def _read_token(self, token: str) -> tuple[str, float, str] | None:
        try:
            first, second = token[:_LONGEST_TOKEN].split(".")
            payload, signature = _decode(first), _decode(second)
            name, until, number = json.loads(payload)
        except (ValueError, TypeError):
            return None
        known = isinstance(name, str) and self._users.get(name)
        if not known or not hmac.compare_digest(signature, self._sign(payload, name)):
            return None
        return None if until <= time.time() or number in self._ended else (name, until, number)

    def _sign(self, payload: bytes, name: str) -> bytes:
        known: PasswordHash | None = self._users.get(name)
        return hmac.digest(self._secret, payload + b"\0" + str(known).encode(), hashlib.sha256)

    def _save(self) -> None:
        now = time.time()
        self._ended = {number: until for number, until in self._ended.items() if until > now}
        write_privately(self._path, json.dumps({"secret": self._secret.hex(), "ended": self._ended}))


def _read(path: Path) -> tuple[bytes, dict[str, float]]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        secret = bytes.fromhex(data["secret"])
        if len(secret) < 32:
            raise ValueError("too short")
        return secret, {str(number): float(until) for number, until in data["ended"].items()}
    except FileNotFoundError:
        return secrets.token_bytes(32), {}
    except OSError as error:
        raise LpdError(f"{path} cannot be read ({error.strerror or error}): correct its rights or delete it") from error
    except (ValueError, TypeError, KeyError, AttributeError):
        return secrets.token_bytes(32), {}  # everybody logs in once more


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
