"""Names that people give to files and folders here: what is one on this system shall be one on every other."""

from __future__ import annotations

import re

from lpd.errors import LpdError

#: What Windows takes for a device, whatever the ending.
RESERVED = re.compile(r"^(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])(?=\.|$)", re.IGNORECASE)
_NAME = re.compile(r"\w[\w .+-]{0,99}")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._ -]{0,78}[A-Za-z0-9_-])?")


def require_name(name: str, use: str) -> str:
    """A name of up to 100 letters of any script, digits, spaces and ``. _ + -``, without spaces around it.

    Args:
        name: as somebody typed it.
        use: what it shall be, such as ``a model's name``.

    Raises:
        LpdError: it will not do.
    """
    name = name.strip()
    if not _NAME.fullmatch(name) or name.endswith("."):
        rule = "use up to 100 letters, digits, spaces and . _ + -, with no full stop at the end"
        raise LpdError(f"{name[:80]!r} cannot be {use}: {rule}")
    return _not_a_device(name, use)


def is_plain_name(name: str) -> bool:
    """Whether a name is good in addresses and commands as well: up to 80 letters A-Z, digits, spaces, ``. _ -``."""
    return _PLAIN_NAME.fullmatch(name) is not None and not RESERVED.match(name)


def require_plain_name(name: str, use: str) -> str:
    """A name that :func:`is_plain_name`.

    Raises:
        LpdError: it will not do.
    """
    if not _PLAIN_NAME.fullmatch(name):
        raise LpdError(f"{name[:80]!r} cannot be {use}: use up to 80 letters A-Z, digits, spaces and . _ - alone")
    return _not_a_device(name, use)


def _not_a_device(name: str, use: str) -> str:
    if RESERVED.match(name):
        raise LpdError(f"{name!r} cannot be {use}: Windows takes it for a device, so choose another one")
    return name
