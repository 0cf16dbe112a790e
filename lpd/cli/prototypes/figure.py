"""``lpd prototypes figure``: the maps of all prototypes of one or more models on one place, as one figure."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpd.cli.prototypes.pictures import (
    add_data,
    find_tile,
    inspected,
    open_tiles,
    prototype_names,
    read_picture,
    read_truth,
    tile_shown,
)
from lpd.errors import ConfigError
from lpd.inference.settings import DEVICES

if TYPE_CHECKING:
    from lpd.explain.inspection import Inspection
    from lpd.inference.store import ResultStore
    from lpd.model.header import CheckpointInfo

_KINDS = ("png", "svg", "pdf")
#: What each way of asking needs and may have beside it.
_WAYS = {
    "result": ("result", "at", "size", "slide"),
    "image": ("checkpoint", "image", "mask", "mpp", "device"),
    "data": ("checkpoint", "data", "name", "split", "device"),
    "projection": ("projection", "checkpoint", "examples", "device"),
}
_NEEDED = {"result": ("at",), "image": ("checkpoint",), "data": ("checkpoint", "name"), "projection": ("checkpoint",)}
_EPILOG = """\
A place of a slide, from the maps that lpd segment --prototype-maps has kept; a second result of the same slide stands
beside the first:
  lpd prototypes figure --result results/a --result others/a --at 12000,8000 --out a.pdf
An image, or a tile of a data set with its mask, through the network, with the CAMs of all scales:
  lpd prototypes figure --checkpoint A.safetensors --checkpoint B.safetensors --image tile.png --out tile.png
  lpd prototypes figure --checkpoint A.safetensors --data TILES --name tile-7 --out tile-7.svg
Where the prototypes lie to one another: their two main directions (PCA) in the deepest scale; with a result of the
model the place where each is most active stands beside its point:
  lpd prototypes figure --projection --checkpoint A.safetensors --examples results/a --out prototypes.pdf

Columns are classes, rows prototypes. All maps have one scale of colours; values are fused cosines from -1 to 1 (of a
linear head: logits). In SVG and PDF letters stay letters. The same figure gives the same file."""


def add_parser(commands: Any) -> None:
    """Add this command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "figure",
        help="draw the maps of all prototypes on one place",
        description="Draw the maps of all prototypes of one or more models on one place: PNG, SVG or PDF.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    folder: dict[str, Any] = {"type": Path, "action": "append"}
    parser.add_argument("--result", metavar="FOLDER", **folder, help="result folder with maps; may be given again")
    parser.add_argument("--at", metavar="X,Y", type=_point, help="middle of the place, level-0 pixels")
    parser.add_argument("--size", metavar="PX", type=float, help="its side, level-0 pixels (default: the model's tile)")
    parser.add_argument("--slide", metavar="SLIDE", type=Path, help="the slide, if it has been moved since")
    parser.add_argument("--checkpoint", metavar="FILE", **folder, help="checkpoint; may be given again")
    parser.add_argument("--image", metavar="FILE", type=Path, help="image file: PNG, JPEG, TIFF")
    parser.add_argument("--mask", metavar="FILE", type=Path, help="its true classes, a value a pixel")
    add_data(parser)
    parser.add_argument("--name", metavar="TILE", help="file name of a tile of the tile set")
    parser.add_argument("--projection", action="store_const", const=True, help="prototypes as points of a plane")
    parser.add_argument(
        "--examples", metavar="FOLDER", **folder, help="result of a projected model, for pictures; may be given again"
    )
    parser.add_argument("--out", metavar="FILE", type=Path, required=True, help="file.png, file.svg or file.pdf")
    parser.add_argument("--dpi", metavar="N", type=float, default=300.0, help="pixels per inch (default: 300)")
    parser.add_argument(
        "--opacity", metavar="SHARE", type=float, default=1.0, help="below 1 maps lie over the picture (default: 1)"
    )
    parser.add_argument("--device", choices=DEVICES, help="where networks run (default: auto)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Draw and write the figure.

    Raises:
        LpdError: the request makes no sense, or something cannot be read or written.
    """
    way = _way(args)
    kind = args.out.suffix.lower().lstrip(".")
    if kind not in _KINDS:
        raise ConfigError(f"{args.out} does not end in {', '.join('.' + k for k in _KINDS)}: say which it shall be")
    if not 30 <= args.dpi <= 1200:
        raise ConfigError(f"--dpi {args.dpi:g} is not between 30 and 1200: journals ask for 300")
    from lpd.evaluation.files import written
    from lpd.explain.drawing import figure_bytes

    figure = _projection(args) if way == "projection" else _inspection(args, way)
    with written(args.out) as temporary:
        temporary.write_bytes(figure_bytes(figure, kind, args.dpi))
    print(f"{args.out}", flush=True)
    return 0


def _way(args: argparse.Namespace) -> str:
    given = [key for key in sorted({k for keys in _WAYS.values() for k in keys}) if vars(args)[key] is not None]
    ways = [way for way in _WAYS if way in given]
    if len(ways) != 1:
        asked = f"{' and '.join('--' + w for w in ways)} exclude one another" if ways else "nothing is asked for"
        raise ConfigError(f"{asked}: pass one of --result, --image, --data or --projection")
    for key in given:
        if key not in _WAYS[ways[0]]:
            raise ConfigError(f"--{key} does not go with --{ways[0]}: leave it out")
    for key in _NEEDED[ways[0]]:
        if key not in given:
            raise ConfigError(f"--{ways[0]} needs --{key}: see lpd prototypes figure --help")
    return ways[0]


def _inspection(args: argparse.Namespace, way: str) -> Any:
    from lpd.explain.inspection_figure import draw_inspection

    inspections = _of_results(args) if way == "result" else _of_picture(args)
    return draw_inspection(inspections, opacity=args.opacity)


def _of_results(args: argparse.Namespace) -> list[Inspection]:
    from lpd.cli.prototypes.results import names_of_result
    from lpd.explain.inspecting_store import inspect_slide, tile_box
    from lpd.inference.store import ResultStore
    from lpd.slide.opening import open_slide

    stores = [ResultStore.open(folder) for folder in args.result]
    for store in stores[1:]:
        if store.meta.slide_fingerprint != stores[0].meta.slide_fingerprint:
            raise ConfigError(
                f"{stores[0].folder} and {store.folder} are results of different slides: choose one slide"
            )
    boxes, size = [], args.size
    for store in stores:
        boxes.append(tile_box(store, args.at[0], args.at[1], size))
        size = size or boxes[0].width * store.meta.scale
    with open_slide(_slide_path(args, stores[0]), mpp=stores[0].meta.slide_mpp) as slide:
        if slide.fingerprint != stores[0].meta.slide_fingerprint:
            raise ConfigError(f"{slide.path} is not the slide that {stores[0].folder} is a result of: pass that one")
        return [
            inspect_slide(store, slide, box, names=names_of_result(store))
            for store, box in zip(stores, boxes, strict=True)
        ]


def _slide_path(args: argparse.Namespace, store: ResultStore) -> Path:
    from lpd.inference.manifest_file import read_manifest

    if args.slide is not None:
        return Path(args.slide)
    path = Path(read_manifest(store.folder).get("slide", {}).get("path", ""))
    if not path.is_file():
        raise ConfigError(f"the slide of {store.folder} is not at {path}: pass --slide")
    return path


def _of_picture(args: argparse.Namespace) -> list[Inspection]:
    from dataclasses import replace

    from lpd.model.header import read_info

    if args.image is not None:
        shown = read_picture(args.image, args.mpp)
        if args.mask is not None:
            scheme = read_info(args.checkpoint[0]).classes
            shown = replace(shown, truth=read_truth(args.mask, shown, scheme), truth_scheme=scheme)
    else:
        tiles = open_tiles(args)
        shown = tile_shown(tiles, find_tile(tiles, args.name))
    from lpd.inference.devices import choose_device  # only now: what cannot be shown is told at once
    from lpd.model.checkpoint import load_checkpoint

    device = choose_device(args.device or "auto")
    models = [load_checkpoint(path, device) for path in args.checkpoint]
    return [inspected(network, info, shown, models[0][1].input.mpp) for network, info in models]


def _projection(args: argparse.Namespace) -> Any:
    from lpd.explain.directions import read_directions
    from lpd.explain.projection import draw_projection
    from lpd.inference.devices import choose_device
    from lpd.model.checkpoint import load_checkpoint

    models: Sequence[Any] = [load_checkpoint(path, choose_device(args.device or "auto")) for path in args.checkpoint]
    crops = _examples(args.examples or (), [info for _, info in models])
    directions = [read_directions(network, info, prototype_names(info)) for network, info in models]
    return draw_projection(directions, crops=crops)


def _examples(results: Sequence[Path], models: Sequence[CheckpointInfo]) -> dict[tuple[int, int], Any]:
    """The best place of each prototype, by numbers of model and prototype, from results of these models."""
    from lpd.cli.prototypes.results import open_result, open_slide_of
    from lpd.explain.contact_sheet import crop
    from lpd.explain.gallery import top_regions
    from lpd.model.header import file_digest

    digests = [file_digest(info.path) for info in models]
    crops: dict[tuple[int, int], Any] = {}
    for folder in results:
        store = open_result(folder)
        if store.meta.checkpoint_digest not in digests:
            raise ConfigError(f"{folder} is a result of {store.meta.checkpoint_name}: pass that --checkpoint as well")
        number = digests.index(store.meta.checkpoint_digest)
        found = top_regions([(store.meta.slide_name, store)], per_prototype=1, per_slide=1)
        slide = open_slide_of(store, None)
        if slide is None:
            print(f"lpd prototypes: no examples of {folder}: its slide is not where it was", file=sys.stderr)
            continue
        with slide:
            crops |= {(number, m): crop(slide, own[0]) for m, own in enumerate(found) if own}
    return crops


def _point(text: str) -> tuple[float, float]:
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not X,Y in level-0 pixels, as in 12000,8000") from None
    return x, y
