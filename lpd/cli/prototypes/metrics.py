"""``lpd prototypes metrics``: how alike the prototypes of each class are, and how they share it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpd.cli.progress import progress_bar
from lpd.cli.prototypes.tables import (
    called,
    check_plot,
    definitions,
    figures_header,
    figures_rows,
    figures_table,
    flagged,
    with_names,
    write_csv,
    write_plot,
)
from lpd.errors import ConfigError
from lpd.inference.settings import DEVICES
from lpd.runs import write_json_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_EPILOG = """\
RESULT is a folder that lpd segment --prototype-maps wrote. Of several results of one model there is also a table of
all of them together. Inside of a result, a class's region is where its mask says so; of a tile set, where the true
mask does. What the columns are stands below each table (--no-definitions leaves it out).
  lpd prototypes metrics results/a results/b --csv figures.csv --plot figures.pdf
  lpd prototypes metrics --checkpoint FILE.safetensors --data TILES"""


def add_parser(commands: Any) -> None:
    """Add this command to ``lpd prototypes``."""
    parser = commands.add_parser(
        "metrics",
        help="how alike the prototypes of a class are, how they share it",
        description="Measure the prototypes of each class inside of its region: on slides, from stored maps, or on a "
        "tile set with masks.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("results", metavar="RESULT", type=Path, nargs="*", help="result folder with prototype maps")
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="measure this model on --data instead")
    parser.add_argument("--data", type=Path, metavar="TILES", help="tile set with masks")
    parser.add_argument("--split", choices=("valid", "test"), help="of the tile set (default: valid)")
    parser.add_argument("--scale", type=int, metavar="S", help="scale of the tile set's maps (default: the deepest)")
    parser.add_argument("--device", choices=DEVICES, help="where the network runs on tiles (default: auto)")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="a row for each result and class")
    parser.add_argument("--json", type=Path, metavar="FILE", help="everything; prototypes are numbered from 0 there")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="usage and correlations, .png, .svg or .pdf")
    parser.add_argument("--no-definitions", action="store_true", help="leave out what the columns are")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the tables and write what was asked for.

    Raises:
        LpdError: the request makes no sense, or a result cannot be measured; nothing has been written.
    """
    _check(args)
    found, figure = _of_tiles(args) if args.data else _of_results(args)
    for index, (name, own) in enumerate(found):
        print(name if index == 0 else f"\n{name}")
        print(figures_table(own))
        for line in [*called(own), *flagged(own)]:
            print(line)
    if not args.no_definitions:
        print(f"\n{definitions(found[0][1])}")
    if args.csv:
        rows = [row for name, own in found for row in figures_rows(_named(own, name), own)]
        write_csv(args.csv, figures_header(("slide", "checkpoint")), rows)
    if args.json:
        write_json_atomically(args.json, {"version": 1, "figures": [{"name": name, **own} for name, own in found]})
    if args.plot:
        write_plot(args.plot, figure())
    return 0


def _named(own: dict[str, Any], name: str) -> tuple[str, str]:
    return own.get("slide", name), own["checkpoint"]


def _check(args: argparse.Namespace) -> None:
    check_plot(args.plot)
    if bool(args.checkpoint) != bool(args.data):
        raise ConfigError("--checkpoint and --data belong together: pass both, or results")
    if bool(args.results) == bool(args.data):
        raise ConfigError("pass either result folders, or --checkpoint FILE and --data TILES")
    if args.results:
        for flag in ("split", "scale", "device"):
            if getattr(args, flag) is not None:
                raise ConfigError(f"--{flag} is for tile sets: leave it out, or pass --checkpoint and --data")


Found = tuple[list[tuple[str, dict[str, Any]]], Any]


def _of_results(args: argparse.Namespace) -> Found:
    from lpd.cli.prototypes.results import names_of_result, open_result
    from lpd.explain.slide_figures import pooled_figures, slide_figures

    stores = [open_result(folder) for folder in args.results]
    figures = []
    with progress_bar("metrics", "slide") as progress:
        for index, store in enumerate(stores):
            figures.append(slide_figures(store))
            progress(index + 1, len(stores))
    measured = list(zip(figures, (store.meta.classes for store in stores), strict=True))
    if len(stores) > 1 and len({store.meta.checkpoint_digest for store in stores}) == 1:
        measured.append((pooled_figures(stores), stores[0].meta.classes))

    def figure() -> Figure:
        from lpd.explain.plots import plot_figures

        return plot_figures(measured)

    names = [names_of_result(store) for store in stores]
    names += names[:1] * (len(measured) - len(stores))  # of all together, which are of one model
    return [(_title(own), with_names(own.to_dict(), n)) for (own, _), n in zip(measured, names, strict=True)], figure


def _title(own: Any) -> str:
    return (
        f"{own.slide_name}, {own.checkpoint_name}: {own.per_class} prototypes a class, "
        f"maps every {own.step_um:.3g} µm, tiles of {own.tile_um:.4g} µm"
    )


def _of_tiles(args: argparse.Namespace) -> Found:
    from lpd.cli.prototypes.pictures import prototype_names
    from lpd.data.tiles import TileSet
    from lpd.explain.figures import check_classes, prototype_figures
    from lpd.inference.devices import choose_device
    from lpd.model.checkpoint import load_checkpoint

    network, info = load_checkpoint(args.checkpoint, choose_device(args.device or "auto"))
    if info.model.groups:
        print(f"lpd prototypes: of {info.name} all are measured, those muted or merged in it, too", file=sys.stderr)
    tiles = TileSet.open(args.data, args.split or "valid")
    check_classes(tiles, info)
    with progress_bar(args.data.name, "tile") as progress:
        found = prototype_figures(network.eval(), tiles, info.input, scale=args.scale, progress=progress)
    name = f"{tiles.info.name} ({args.split or 'valid'})"

    def figure() -> Figure:
        from lpd.explain.plots import plot_data_figures

        return plot_data_figures([(f"{info.name}, {name}", found, info.classes)])

    title = f"{name}, {info.name}: {found['prototypes_per_class']} prototypes a class, maps of scale {found['scale']}"
    return [(title, with_names({"slide": name, "checkpoint": info.name, **found}, prototype_names(info)))], figure
