"""Passwords as scrypt hashes: one line of text that carries its own parameters."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import unicodedata
from dataclasses import dataclass

from lpd.errors import LpdError

SHORTEST, LONGEST = 8, 1024
_COST, _BLOCK, _PARALLEL = 15, 8, 1  # 32 MiB and about 0.1 s of one core for each try
_SALT_BYTES, _KEY_BYTES = 16, 32
_LARGEST_MEMORY = 256 * 2**20


@dataclass(frozen=True)
class PasswordHash:
    """What scrypt made of a password; ``cost`` is the binary logarithm of its N, ``block`` r, ``parallel`` p."""

    cost: int
    block: int
    parallel: int
    salt: bytes
    key: bytes

    @classmethod
    def of(cls, password: str) -> PasswordHash:
        """Hash a new password under a new salt.

        Raises:
            LpdError: the password is shorter than 8 characters or longer than 1024.
        """
        if not SHORTEST <= len(password) <= LONGEST:
            raise LpdError(f"the password has {len(password)} characters: choose one of {SHORTEST} to {LONGEST}")
        salt = secrets.token_bytes(_SALT_BYTES)
        empty = cls(_COST, _BLOCK, _PARALLEL, salt, b"")
        return cls(_COST, _BLOCK, _PARALLEL, salt, empty._derive(password, _KEY_BYTES))

    @classmethod
    def parse(cls, text: str) -> PasswordHash:
        """Read ``scrypt$cost$block$parallel$salt$key``, the last two in base64.

        Raises:
            LpdError: it is something else, or its parameters are too weak or need more than 256 MiB.
        """
        try:
            name, cost, block, parallel, salt, key = text.split("$")
            read = cls(int(cost), int(block), int(parallel), _bytes(salt), _bytes(key))
        except (ValueError, binascii.Error):
            raise LpdError("is not of the form name:scrypt$cost$block$parallel$salt$key") from None
        if name != "scrypt" or len(read.salt) < 8 or len(read.key) < 16:
            raise LpdError("is not of the form name:scrypt$cost$block$parallel$salt$key")
        if not (14 <= read.cost <= 20 and 1 <= read.block <= 64 and 1 <= read.parallel <= 16):
            raise LpdError(f"has scrypt parameters {cost}, {block}, {parallel}, which are not safe")
        if read._memory > _LARGEST_MEMORY:
            raise LpdError(f"needs {read._memory >> 20} MiB for each log-in, more than {_LARGEST_MEMORY >> 20}")
        return read

    def __str__(self) -> str:
        salt, key = (base64.b64encode(part).decode("ascii") for part in (self.salt, self.key))
        return f"scrypt${self.cost}${self.block}${self.parallel}${salt}${key}"

    def fits(self, password: str) -> bool:
        """Whether it is the password; takes the same time whatever the answer."""
        return hmac.compare_digest(self._derive(password[:LONGEST], len(self.key)), self.key)

    @property
    def _memory(self) -> int:
        return 128 * self.block * ((1 << self.cost) + self.parallel + 2)

    def _derive(self, password: str, length: int) -> bytes:
        typed = unicodedata.normalize("NFKC", password).encode(
            "utf-8", "surrogatepass"
        )  # keyboards compose ä in two ways
        n, memory = 2**self.cost, self._memory + 2**20
        return hashlib.scrypt(typed, salt=self.salt, n=n, r=self.block, p=self.parallel, maxmem=memory, dklen=length)


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
