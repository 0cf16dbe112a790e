"""Processes of their own for long work: started in a group apart, ended as a group, on POSIX and Windows."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

from lpd.errors import LpdError
from lpd.niceness import give_way

_NICER = 5
_PROJECT = Path(__file__).resolve().parents[1]


def start_process(argv: tuple[str, ...], folder: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start ``argv`` in ``folder`` with all it prints going to ``log``; it outlives this process.

    It gives way to the app: people who look at slides do not wait for what is computed.

    Raises:
        LpdError: it cannot be started.
    """
    path = os.pathsep.join(filter(None, (str(_PROJECT), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    try:
        with log.open("ab") as printed:
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=printed, stderr=printed, cwd=folder, env=environment, **_apart()
            )
    except OSError as error:
        raise LpdError(f"cannot start {argv[0]} ({error.strerror}): check the Python installation") from error
    give_way(process.pid, by=_NICER)
    return process


def signal_group(pid: int, *, force: bool) -> None:
    """Ask the group that ``pid`` leads to end, or end it by force.

    Raises:
        OSError: there is no such group any more.
    """
    if os.name == "nt":
        os.kill(pid, signal.SIGTERM)  # Windows has one way to end a process, and it is immediate
    else:
        os.killpg(pid, signal.SIGKILL if force else signal.SIGTERM)


def _apart() -> dict[str, Any]:
    # A group of its own: Ctrl-C in the app's console must not end the work.
    if os.name != "nt":
        return {"start_new_session": True}
    names = ("CREATE_NEW_PROCESS_GROUP", "CREATE_NO_WINDOW", "BELOW_NORMAL_PRIORITY_CLASS")
    return {"creationflags": sum(getattr(subprocess, name, 0) for name in names)}
