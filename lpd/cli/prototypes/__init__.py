"""``lpd prototypes``: what each prototype looks at, measured, compared, drawn; one file a sub-command."""

from __future__ import annotations

import argparse
import importlib
from typing import Any

#: Each a module of this package with ``add_parser`` and ``run``.
COMMANDS: tuple[str, ...] = ("maps", "metrics", "compare", "gallery", "figure", "edit")


def add_parser(commands: Any) -> None:
    """Add the command and its sub-commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "prototypes", help="see, measure and compare prototypes", description=__doc__
    )
    own = parser.add_subparsers(dest="prototypes", metavar="WHAT", required=True)
    for name in COMMANDS:
        importlib.import_module(f"lpd.cli.prototypes.{name}").add_parser(own)
