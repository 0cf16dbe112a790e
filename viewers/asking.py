"""Asking for a password on the terminal, where it is not shown."""

from __future__ import annotations

import getpass
import warnings

from lpd.errors import LpdError


def new_password(name: str) -> str:
    """Ask twice for a user's new password.

    Raises:
        LpdError: the two differ, or there is no terminal that can hide what is typed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", getpass.GetPassWarning)
            first = getpass.getpass(f"Password for {name}: ")
            second = getpass.getpass("Once more: ")
    except (getpass.GetPassWarning, EOFError, OSError):
        raise LpdError("there is no terminal to ask for the password without showing it: run this in one") from None
    if first != second:
        raise LpdError("the two passwords differ: nothing was changed, run the command again")
    return first
