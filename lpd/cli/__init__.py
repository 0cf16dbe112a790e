"""The ``lpd`` command: one file a sub-command, each with ``add_parser`` and ``run``."""

from __future__ import annotations

import argparse
import importlib
import io
import sys
from collections.abc import Sequence

from lpd import __version__
from lpd.errors import LpdError

COMMANDS = (
    "segment",
    "pieces",
    "export",
    "prototypes",
    "resident",
    "train",
    "evaluate",
    "bank",
    "labels",
    "check",
    "phantom",
)


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; importing it brings in neither torch nor OpenSlide."""
    parser = argparse.ArgumentParser(prog="lpd", description="Weakly supervised tissue segmentation on whole slides.")
    parser.add_argument("--version", action="version", version=f"lpd {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        importlib.import_module(f"lpd.cli.{name}").add_parser(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 if all went well, 1 for an :class:`LpdError` (its sentence goes to stderr), 130 when interrupted; what a
        command returns otherwise. Wrong flags exit with argparse's 2.
    """
    args = build_parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal that lacks a letter of some name gets it spelt out
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return int(args.run(args))
    except LpdError as error:
        print(f"lpd {args.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"lpd {args.command}: interrupted", file=sys.stderr)
        return 130
