"""``lpd prototypes edit``: name, mute and merge prototypes; muting and merging make a new checkpoint."""

from __future__ import annotations

import argparse
import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpd.errors import ConfigError

if TYPE_CHECKING:
    from lpd.model.header import CheckpointInfo

_EPILOG = """\
A prototype is its class and its number in it, from 1 on: TUM:2. A muted one no longer counts; merged ones count as
one, whose map is the mean of theirs. The new checkpoint holds the same weights and says what was muted and merged; its
scores are unknown until lpd evaluate measures them. Without --mute, --merge and --out names go into a small file
beside the checkpoint, NAME.prototypes.json, and into every copy saved from it.
  lpd prototypes edit luad.safetensors --name TUM:1="glands"
  lpd prototypes edit luad.safetensors --mute TUM:2,STR:1 --merge NOR:1+3 --out luad-edited.safetensors"""


def add_parser(commands: Any) -> None:
    """Add the sub-command's flags."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "edit",
        help="name, mute or merge prototypes",
        description="Name prototypes of a checkpoint, or save a copy in which some are muted or merged.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT.safetensors")
    parser.add_argument("--mute", action="append", default=[], metavar="TUM:2,…", help="prototypes that do not count")
    parser.add_argument(
        "--merge", action="append", default=[], metavar="TUM:1+3,…", help="prototypes that count as one"
    )
    parser.add_argument("--name", action="append", default=[], metavar="TUM:1=NAME", help="an empty NAME takes it away")
    parser.add_argument("--author", help="who names and edits (default: the name you are logged in with)")
    parser.add_argument("--out", type=Path, metavar="NEW.safetensors", help="the new checkpoint; must not exist")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write names or a new checkpoint, and say what is in it."""
    from lpd.model.editing import save_edited
    from lpd.model.header import read_info
    from lpd.model.names import names_path, prototype_number, write_names

    info = read_info(args.checkpoint)
    muted = [prototype_number(info, label) for label in _split(args.mute)]
    merged = [_merged(info, text) for text in _split(args.merge)]
    names = dict(_named(info, text) for text in args.name)
    author = _login() if args.author is None else args.author
    if not args.out:
        if muted or merged:
            raise ConfigError("--mute and --merge make a new checkpoint: name it with --out NEW.safetensors")
        if not names:
            raise ConfigError("there is nothing to do: pass --name, or --mute or --merge with --out")
        print(_listed(write_names(args.checkpoint, names, author).to_dict(info)))
        print(f"names -> {names_path(args.checkpoint)}")
        return 0
    new = save_edited(args.checkpoint, args.out, muted, merged, names, author)
    if new.names:
        print(_listed(new.names))
    for code, own in zip(info.classes.codes, new.model.groups, strict=False):
        first = info.classes.codes.index(code) * info.model.prototypes_per_class - 1
        print(f"{code}: " + ", ".join("+".join(str(m - first) for m in group) for group in own))
    print(f"its scores are not known yet: lpd evaluate measures them -> {args.out}")
    return 0


def _split(texts: list[str]) -> list[str]:
    return [part for text in texts for part in text.split(",") if part.strip()]


def _merged(info: CheckpointInfo, text: str) -> list[int]:
    """``TUM:1+3`` as numbers."""
    from lpd.model.names import prototype_number

    first, *others = text.strip().split("+")
    code = first.rpartition(":")[0]
    return [prototype_number(info, label) for label in (first, *(f"{code}:{k}" for k in others))]


def _named(info: CheckpointInfo, text: str) -> tuple[int, str]:
    from lpd.model.names import prototype_number

    label, equals, name = text.partition("=")
    if not equals:
        raise ConfigError(f"--name {text!r} has no '=': write it as {info.classes.codes[0]}:1=NAME")
    return prototype_number(info, label), name


def _listed(names: Any) -> str:
    return "\n".join(f"{code}:{k}  {entry['name']}" for code, own in names.items() for k, entry in own.items())


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""
