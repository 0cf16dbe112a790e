"""``lpd resident``: a process that keeps models loaded and segments what `lpd segment` and the app bring."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

from lpd.cli.arguments import positive
from lpd.cli.resident_place import Card, remove_card, resident_folder, write_card
from lpd.runs import Run, is_alive, request_stop

_LOOK_S = 0.3


def add_parser(commands: Any) -> None:
    """Add this command to the ``lpd`` command line."""
    parser = commands.add_parser(
        "resident",
        help="keep models loaded for the segmentations that follow",
        description="Run a worker that keeps models loaded: while it runs, `lpd segment` hands its slides over and "
        "begins at once. One slide is computed at a time on each device, others wait. It listens to this machine and "
        "this user only, and ends by itself when nothing is to be done.",
    )
    parser.add_argument(
        "--idle", type=positive, default=10, metavar="MIN", help="end after so many minutes without work (default: 10)"
    )
    parser.add_argument("--stop", action="store_true", help="end the one that runs; slides in hand save and stop")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until there is nothing to do, or end the worker that serves.

    Returns:
        0; 1 if another one is already there, or there is none to stop.

    Raises:
        RunError: the worker's folder cannot be used, or another worker is in it.
    """
    folder = resident_folder()
    if args.stop:
        return 0 if _end(folder) else 1
    with Run(folder, "resident") as own:
        # What takes seconds to load, before anybody is told to come.
        import lpd.inference.pipeline  # noqa: F401
        from lpd.cli.resident_server import Server

        with Server() as server:
            card = Card(server.server_address[1], server.token, os.getpid(), server.stamp)
            write_card(folder, card)
            try:
                server.serve(args.idle * 60.0, own.stop_requested)
            finally:
                remove_card(folder)
        own.complete()
    return 0


def _end(folder: Path) -> bool:
    """Ask the worker to end and wait until it has; False if none runs."""
    if not is_alive(folder):
        return False
    while is_alive(folder):
        request_stop(folder)
        time.sleep(_LOOK_S)
    return True
