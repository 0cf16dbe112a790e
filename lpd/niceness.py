"""Niceness of processes that have a session of their own: who goes first to a core."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path

_TRIES, _BREAK_S = 4, 0.11


def give_way(session: int, by: int = 0) -> None:
    """Let a process and its children be nicer than this one; on POSIX, elsewhere nothing happens.

    Linux with autogroups shares the cores among sessions first; a process's own niceness counts only within its
    session, and a new session begins at 0. So the session is told as well.

    Args:
        session: id of a process that leads a session of its own. One that has ended is left alone.
        by: how much nicer, 0 to 19.
    """
    if sys.platform == "win32":
        return
    nice = min(19, os.getpriority(os.PRIO_PROCESS, 0) + by)
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, session, nice)
    _tell_autogroup(session, nice)


def _tell_autogroup(session: int, nice: int) -> None:
    for _ in range(_TRIES):
        try:
            Path(f"/proc/{session}/autogroup").write_text(str(nice), encoding="ascii")
        except BlockingIOError:  # the system takes ten changes a second of all its users
            time.sleep(_BREAK_S)
        except OSError:  # without autogroups there is nothing to tell
            return
        else:
            return
