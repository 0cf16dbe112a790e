"""``lpd prototypes gallery``: the places where each prototype is most active, as a table and as sheets of pictures."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpd.cli.arguments import positive
from lpd.cli.progress import progress_bar
from lpd.cli.prototypes.tables import names, with_given, write_csv, write_plot
from lpd.errors import ConfigError
from lpd.inference.settings import DEVICES

if TYPE_CHECKING:
    from lpd.explain.gallery import TopRegion
    from lpd.explain.slide_figures import SlideFigures
    from lpd.inference.store import ResultStore
    from lpd.slide.slide import Slide

TABLE = "regions.csv"

_EPILOG = f"""\
RESULT is a folder that lpd segment --prototype-maps wrote; several must be of one model. FOLDER receives {TABLE}
(prototype, its name, rank, slide, rectangle in level-0 pixels, score, unit) and a sheet CLASS.png of each class: a row
for each prototype, its best regions from left to right. The score is the mean of the prototype's map over the tissue of
the region, a cosine from -1 to 1; a linear head (plain CAM) has logits. Slides are looked for where they were
segmented, then below --slides.
  lpd prototypes gallery results/a results/b --out gallery --per-prototype 8 --per-slide 4
Over a tile set the network runs on each tile: FOLDER receives places.csv (prototype, its name, rank, split, tile, case,
rectangle in the tile, score) and the sheets, each tile with its place framed. Scores are cosines in the deepest scale,
those of a linear head to its weights. A place is half as wide as a tile, all of its pixels count; a case is the patient
or slide that a tile's name says, else the tile.
  lpd prototypes gallery --checkpoint FILE.safetensors --data TILES --split train --out gallery --per-case 1"""


def add_parser(commands: Any) -> None:
    """Add this command to ``lpd prototypes``."""
    parser = commands.add_parser(
        "gallery",
        help="where each prototype is most active",
        description="Find the regions, as large as the model's tiles, where each prototype is most active.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("results", metavar="RESULT", type=Path, nargs="*", help="result folder with prototype maps")
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="look at this model on --data instead")
    parser.add_argument("--data", type=Path, metavar="TILES", help="tile set, with or without masks")
    parser.add_argument("--split", choices=("train", "valid", "test"), help="of the tile set (default: valid)")
    parser.add_argument("--device", choices=DEVICES, help="where the network runs on tiles (default: auto)")
    parser.add_argument("--out", metavar="FOLDER", type=Path, help="for the table and the sheets")
    parser.add_argument("--json", type=Path, metavar="FILE", help="of a tile set: everything, numbered from 0")
    parser.add_argument("--slides", metavar="FOLDER", type=Path, help="the slides, if they have been moved since")
    parser.add_argument("--per-prototype", metavar="N", type=positive, default=8, help="regions (default: %(default)s)")
    parser.add_argument(
        "--per-slide", metavar="N", type=positive, help="of these on one slide (default: 4; all if there is one slide)"
    )
    parser.add_argument(
        "--per-case",
        metavar="N",
        type=positive,
        help="of these in one case's tiles (default: 2; all if there is one case)",
    )
    parser.add_argument(
        "--run", type=Path, metavar="FOLDER", dest="run_folder", help="of a tile set: where to keep how far it is"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the table and the sheets.

    Raises:
        LpdError: the request makes no sense; a result cannot be read, or they are of several models.
    """
    _check(args)
    if args.data:
        from lpd.cli.prototypes.data_gallery import run_on_tiles

        return run_on_tiles(args)
    from lpd.cli.prototypes.results import names_of_result, open_result
    from lpd.evaluation.files import check_writable
    from lpd.explain.gallery import top_regions, unit_of
    from lpd.explain.slide_figures import pooled_figures

    stores = [open_result(folder) for folder in args.results]
    labels = _labels(args.results, stores)
    per_slide = args.per_slide or (args.per_prototype if len(stores) == 1 else min(4, args.per_prototype))
    found = top_regions(list(zip(labels, stores, strict=True)), args.per_prototype, per_slide)
    figures = pooled_figures(stores)
    check_writable(args.out)
    plain = names(stores[0].meta.classes.codes, figures.per_class)
    given, unit = names_of_result(stores[0]) or [""] * len(plain), unit_of(stores[0])
    called = with_given(plain, given)
    rows = [
        [*name, rank, r.slide, r.x_l0, r.y_l0, r.width_l0, r.height_l0, f"{r.score:.6f}", unit]
        for name, own in zip(zip(plain, given, strict=True), found, strict=True)
        for rank, r in enumerate(own, 1)
    ]
    header = ("prototype", "name", "rank", "slide", "x_l0", "y_l0", "width_l0", "height_l0", "score", "unit")
    write_csv(args.out / TABLE, header, rows)
    print(f"{len(rows)} regions of {len(called)} prototypes -> {args.out / TABLE}")
    with _slides(dict(zip(labels, stores, strict=True)), args.slides) as slides:
        if slides:
            _write_sheets(args.out, stores[0], found, figures, slides, called)
    return 0


def _check(args: argparse.Namespace) -> None:
    if bool(args.checkpoint) != bool(args.data):
        raise ConfigError("--checkpoint and --data belong together: pass both, or results")
    if bool(args.results) == bool(args.data):
        raise ConfigError("pass either result folders, or --checkpoint FILE and --data TILES")
    others = ("slides", "per_slide") if args.data else ("split", "device", "json", "per_case", "run_folder")
    for flag in (name for name in others if getattr(args, name) is not None):
        kind = "results" if args.data else "tile sets"
        raise ConfigError(f"--{flag.removesuffix('_folder').replace('_', '-')} is for {kind}: leave it out")
    if args.out is None and args.json is None:
        raise ConfigError("nothing would be written: pass --out FOLDER")


def _labels(folders: Sequence[Path], stores: Sequence[ResultStore]) -> list[str]:
    """Slides' names, with their folders where two are called alike."""
    own = [store.meta.slide_name for store in stores]
    return [name if own.count(name) == 1 else f"{name} ({folder})" for name, folder in zip(own, folders, strict=True)]


@contextmanager
def _slides(stores: Mapping[str, ResultStore], folder: Path | None) -> Iterator[dict[str, Slide]]:
    """The slides that were found, by label; those that were not are told of."""
    from lpd.cli.prototypes.results import open_slide_of

    with ExitStack() as stack:
        slides = {}
        for label, store in stores.items():
            slide = open_slide_of(store, folder)
            if slide is None:
                where = f"below {folder}" if folder else "where it was segmented: --slides FOLDER says where slides are"
                print(f"lpd prototypes: no pictures of {label}, which is not {where}", file=sys.stderr)
            else:
                slides[label] = stack.enter_context(slide)
        yield slides


def _write_sheets(
    out: Path,
    store: ResultStore,
    found: Sequence[Sequence[TopRegion]],
    figures: SlideFigures,
    slides: Mapping[str, Slide],
    called: Sequence[str],
) -> None:
    from lpd.explain.contact_sheet import contact_sheet
    from lpd.explain.gallery import unit_of

    with progress_bar("gallery", "class") as progress:
        for index, own in enumerate(store.meta.classes.classes):
            part = slice(index * figures.per_class, (index + 1) * figures.per_class)
            name = re.sub(r"[^\w.-]", "_", own.code)
            path = out / f"{name}.png"
            sheet = contact_sheet(own, found[part], figures.classes[index], slides, called[part], unit_of(store))
            write_plot(path, sheet)
            progress(index + 1, store.meta.classes.count)
            print(f"{own.name} -> {path}")
