"""``lpd prototypes compare``: which prototype of one result does what which of another does, and how both fare."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpd.cli.prototypes.tables import (
    ALL,
    COLUMNS,
    aligned,
    check_plot,
    decimal,
    definitions,
    flagged,
    names,
    usage_of,
    with_given,
    write_csv,
    write_plot,
)
from lpd.runs import write_json_atomically

if TYPE_CHECKING:
    from lpd.explain.matching import Matching

_EPILOG = """\
LEFT and RIGHT are results of one slide by two models (learnable and clustered prototypes, say), made by
lpd segment --prototype-maps. Prototypes are matched one to one within each class that both know, so that the sum of
the correlations of their maps over the tissue is highest; figures of merit stand side by side below.
  lpd prototypes compare results/a/slide results/b/slide --csv pairs.csv --plot pairs.pdf"""


def add_parser(commands: Any) -> None:
    """Add this command to ``lpd prototypes``."""
    parser = commands.add_parser(
        "compare",
        help="match the prototypes of two results of a slide",
        description="Match the prototypes of two results of one slide by their maps, and compare figures of merit.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("left", metavar="LEFT", type=Path, help="result folder with prototype maps")
    parser.add_argument("right", metavar="RIGHT", type=Path, help="another one, of the same slide")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="a row for each pair and each prototype left over")
    parser.add_argument("--json", type=Path, metavar="FILE", help="everything; prototypes are numbered from 0 there")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="all correlations, .png, .svg or .pdf")
    parser.add_argument("--no-definitions", action="store_true", help="leave out what the figures are")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the pairs and both sets of figures, and write what was asked for.

    Raises:
        LpdError: the two cannot be compared, or one cannot be read; nothing has been written.
    """
    from lpd.cli.prototypes.results import names_of_result, open_result
    from lpd.explain.matching import match
    from lpd.explain.slide_figures import slide_figures

    check_plot(args.plot)
    stores = open_result(args.left), open_result(args.right)
    found = match(*stores)
    figures = [slide_figures(store).to_dict() for store in stores]
    per_class = [own["prototypes_per_class"] for own in figures]
    plain = [names(s.meta.classes.codes, k) for s, k in zip(stores, per_class, strict=True)]
    given = [names_of_result(store) or [""] * len(own) for own, store in zip(plain, stores, strict=True)]
    for side, own in zip(("left", "right"), figures, strict=True):
        print(f"{side}: {own['checkpoint']}, {own['prototypes_per_class']} prototypes a class")
    print(f"{figures[0]['slide']}: {found.cells} tissue cells, one every {found.step_um:.3g} µm\n")
    rows = _rows(found, *plain)
    called = list(map(with_given, plain, given))
    print(_pairs_table(rows, *(dict(zip(*both, strict=True)) for both in zip(plain, called, strict=True))))
    print(f"\n{_side_by_side(*figures)}")
    for side, own in zip(("left", "right"), figures, strict=True):
        for line in flagged(own):
            print(f"{side}: {line}")
    if not args.no_definitions:
        from lpd.explain.definitions import DEFINITIONS

        print(f"\ncorrelation: {DEFINITIONS['similarity']}\n{definitions(figures[0])}")
    if args.csv:
        named = [{"": "", **dict(zip(own, n, strict=True))} for own, n in zip(plain, given, strict=True)]
        header = ("class", "left", "right", "correlation", "left_name", "right_name")
        write_csv(args.csv, header, [[*row, named[0][row[1]], named[1][row[2]]] for row in rows])
    if args.json:
        left, right = figures
        write_json_atomically(args.json, {"version": 1, "matching": found.to_dict(), "left": left, "right": right})
    if args.plot:
        from lpd.explain.plots import plot_matching

        write_plot(args.plot, plot_matching(found, *called))
    return 0


def _rows(found: Matching, left: Sequence[str], right: Sequence[str]) -> list[list[Any]]:
    """Class, both names (one of them empty where there is no counterpart), correlation."""
    rows: list[list[Any]] = []
    for own in found.classes:
        for pair in own.pairs:
            value = "" if pair.similarity is None else f"{pair.similarity:.6f}"
            rows.append([own.code, left[pair.left], right[pair.right], value])
        rows += [[own.code, left[m], "", ""] for m in own.unmatched_left]
        rows += [[own.code, "", right[m], ""] for m in own.unmatched_right]
    named = {row[1] for row in rows} | {row[2] for row in rows}
    rows += [[left[m].rsplit(" ", 1)[0], left[m], "", ""] for m in found.unmatched_left if left[m] not in named]
    rows += [[right[m].rsplit(" ", 1)[0], "", right[m], ""] for m in found.unmatched_right if right[m] not in named]
    return rows


def _pairs_table(rows: Sequence[Sequence[str]], left: Mapping[str, str], right: Mapping[str, str]) -> str:
    """``left`` and ``right``: what prototypes are called."""
    shown = [["left", "right", "correlation"]]
    for _, one, other, value in rows:
        shown.append([left.get(one, "–"), right.get(other, "–"), f"{float(value):.3f}" if value else "–"])
    return aligned(shown)


def _side_by_side(left: Mapping[str, Any], right: Mapping[str, Any]) -> str:
    """A row for each class, then all (each side's own classes, if they differ); each figure of both, left / right."""
    shown = [name for name in COLUMNS if name in left]
    rows = [["class", *(COLUMNS[name] for name in shown), "usage"]]
    codes = [*left["classes"], *(code for code in right["classes"] if code not in left["classes"])]
    for code in [*codes, ALL]:
        both = [side if code == ALL else side["classes"].get(code, {}) for side in (left, right)]
        figures = [" / ".join(decimal(own.get(name)) for own in both) for name in shown]
        usage = " / ".join(map(usage_of, both))
        named = "each's all" if code == ALL and left["classes"].keys() != right["classes"].keys() else code
        rows.append([named, *figures, "" if code == ALL else usage])
    return aligned(rows)
