"""``lpd check``: look a tile set over before training on it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpd.cli.progress import progress_bar

if TYPE_CHECKING:
    from lpd.data.check import DatasetCheck, Finding, SplitSummary

_SHOWN = 5  # files a finding names; the JSON names all

_EPILOG = """\
DATA holds train/ (or training/) with name[1010].png, one digit a class, and valid/ (or val/) and test/ with img/
and mask/. dataset.yaml names the classes and the µm/px; without it the four classes of BCSS-WSSS are assumed if the
labels have four digits. The case of a tile is the part of its name before the coordinates (NAME_xmin12_ymin34…,
NAME_x12_y34, NAME-12-34), or the TCGA patient in it. The exit code is 1 if there is an error, else 0."""


def add_parser(commands: Any) -> None:
    """Add the command's flags."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "check",
        help="look a tile set over before training",
        description="Count what a tile set holds, and find bad files, wrong labels and masks, copies and leaks.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="tile set: dataset.yaml and the split folders")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything, with all file names, to FILE")
    parser.add_argument(
        "--smallest-share",
        type=float,
        metavar="S",
        help="share of a mask from which a class must be in the tile's label (default: 0.05)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print numbers and findings.

    Returns:
        1 if there is an error among the findings, else 0.
    """
    from lpd.data.check import SMALLEST_SHARE, check_dataset
    from lpd.runs import write_json_atomically

    share = SMALLEST_SHARE if args.smallest_share is None else args.smallest_share
    with progress_bar(args.data.name, "tile") as progress:
        check = check_dataset(args.data, progress, smallest_share=share)
    print(_report(check))
    if args.json is not None:
        write_json_atomically(args.json, check.to_dict())
    return 1 if check.errors else 0


def _report(check: DatasetCheck) -> str:
    scale = "unknown µm/px" if check.mpp is None else f"{check.mpp:g} µm/px"
    parts = [f"{check.name}: {scale}, classes {' '.join(check.classes)}"]
    parts += [_split(split, check.classes) for split in check.splits]
    parts += [_finding(finding) for finding in check.findings]
    parts.append(f"{_number(len(check.errors), 'error')}, {_number(len(check.warnings), 'warning')}")
    return "\n\n".join(parts)


def _split(split: SplitSummary, classes: tuple[str, ...]) -> str:
    size = "no readable tile" if split.size is None else f"{split.size[0]} × {split.size[1]} px"
    one = split.labelled - split.no_class - split.several_classes
    rows = [
        f"{_number(split.tiles, 'tile')}, {size}, {_number(split.cases, 'case')} by name",
        "labels  " + _shares(classes, split.class_tiles, split.labelled),
        f"        no class {split.no_class}, one {one}, several {split.several_classes}",
    ]
    if split.from_masks:
        rows.append(f"        {split.from_masks} from the mask, where one pixel of a class is enough")
    if split.labelled < split.tiles:
        rows.append(f"        {split.tiles - split.labelled} without a usable label")
    if split.pixels is not None:
        rows.append("pixels  " + _shares((*classes, "background", "ignore"), split.pixels, sum(split.pixels)))
    return "\n".join([f"{split.split:<7} {rows[0]}", *(f"        {row}" for row in rows[1:])])


def _shares(names: tuple[str, ...], counts: tuple[int, ...], total: int) -> str:
    return "  ".join(
        f"{name} {count} ({100 * count / total if total else 0:.1f} %)"
        for name, count in zip(names, counts, strict=True)
    )


def _finding(finding: Finding) -> str:
    where = f" in {finding.split}" if finding.split else ""
    rows = [f"{finding.severity}: {finding.rule}{where}, {finding.count}: {finding.says}"]
    rows += [f"    {item}" for item in finding.items[:_SHOWN]]
    if finding.count > _SHOWN:
        rows.append(f"    … and {finding.count - _SHOWN} more")
    return "\n".join(rows)


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
