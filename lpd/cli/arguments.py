"""Flags and kinds of values that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path

from lpd.recipe.presets import PRESETS


def positive(text: str) -> int:
    """A whole number of at least 1."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return number


def key_and_value(text: str) -> tuple[str, str]:
    """A word such as ``partition=gpu``."""
    key, equals, value = text.partition("=")
    if not key.isidentifier() or not equals or not value:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE; what is no option comes before the flag")
    return key, value


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add the flags that the settings of a training come from; :func:`lpd.recipe.settings_file.read_config` reads."""
    parser.add_argument("--preset", choices=tuple(PRESETS), default="default", help="where settings start from")
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML with any of the settings")
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        dest="settings",
        metavar="GROUP.NAME=VALUE",
        help="single settings, values as in YAML",
    )
