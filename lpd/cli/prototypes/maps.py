"""``lpd prototypes maps``: each prototype's map of images or tiles, as arrays and as heatmaps."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpd.cli.progress import progress_bar
from lpd.cli.prototypes.pictures import (
    IMAGE_SUFFIXES,
    Shown,
    add_data,
    find_tile,
    inspected,
    open_tiles,
    read_picture,
    tile_shown,
)
from lpd.errors import ConfigError, DatasetError, LpdError
from lpd.inference.settings import DEVICES

if TYPE_CHECKING:
    from lpd.explain.inspection import Inspection

ARRAYS = "maps.npz"
_EPILOG = f"""\
OUT/NAME/ receives of each image {ARRAYS} and a heatmap PNG per prototype, as large as the network saw the image.
{ARRAYS} holds (C classes, K prototypes a class, cells of stride_px pixels of the network):
  maps        (C, K, h, w) fused cosines, -1 to 1 (unit "cosine"); of a linear head (unit "logit") logits
  class_maps  (C, h, w)    the same of classes;  cam_1, cam_2, … (C, h, w) of single scales of the network
  gates       (C,)         probability that the class is in the image
  scores      (C,)         mean score of the class over the image's tissue, 0 to 1; NaN without tissue
  mask        (H, W)       0 … C-1 classes, C background; truth (H, W) the same where it is known, 255 not labelled
  names (C, K), muted (C, K), classes (C,), unit, stride_px, checkpoint, place, mpp, region (x, y, width, height)
Colours go from the lowest to the highest value of the image's maps; --range makes them those of all images.
For a slide: lpd segment SLIDE --prototype-maps keeps the maps in the result."""


def add_parser(commands: Any) -> None:
    """Add this command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "maps",
        help="write each prototype's map of images or tiles",
        description="Write each prototype's map of images or tiles: arrays and heatmaps.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--checkpoint", metavar="FILE", type=Path, required=True, help="checkpoint saved by lpd")
    parser.add_argument("--image", metavar="FILE", type=Path, help="image file, or a folder of them")
    add_data(parser)
    parser.add_argument("--name", metavar="TILE", nargs="+", help="tiles of the tile set (default: all)")
    parser.add_argument("--out", metavar="FOLDER", type=Path, required=True, help="folder for the maps")
    parser.add_argument(
        "--range", metavar=("LOW", "HIGH"), type=float, nargs=2, help="values of the first and the last colour"
    )
    parser.add_argument("--device", choices=DEVICES, default="auto", help="where the network runs (default: auto)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the maps of all images; a bad one is reported and the others go on.

    Returns:
        0 if all were written, 1 if any failed.

    Raises:
        LpdError: the request makes no sense for any image.
    """
    pictures = _pictures(args)
    from lpd.evaluation.files import check_writable
    from lpd.inference.devices import choose_device
    from lpd.model.checkpoint import load_checkpoint

    network, info = load_checkpoint(args.checkpoint, choose_device(args.device))
    check_writable(args.out)
    failed = 0
    with progress_bar("maps", "image") as progress:
        for number, (name, read) in enumerate(pictures):
            try:
                _write(args.out / name, inspected(network, info, read(), info.input.mpp), args.range)
            except LpdError as error:
                if len(pictures) == 1:
                    raise
                print(f"lpd prototypes: {error}", file=sys.stderr)
                failed += 1
            progress(number + 1, len(pictures))
    print(f"{len(pictures) - failed} of {len(pictures)} images -> {args.out}", flush=True)
    return int(failed > 0)


def _pictures(args: argparse.Namespace) -> list[tuple[str, Callable[[], Shown]]]:
    """Of each picture the name of its folder, and how to read it."""
    if (args.image is None) == (args.data is None):
        raise ConfigError("pass either --image or --data: the pictures whose maps are to be written")
    if args.range is not None and not args.range[0] < args.range[1]:
        raise ConfigError(f"--range {args.range[0]:g} {args.range[1]:g} does not rise: give the lower value first")
    for key, other in (("split", "data"), ("name", "data"), ("mpp", "image")):
        if vars(args)[key] is not None and vars(args)[other] is None:
            raise ConfigError(f"--{key} says something of --{other}: leave it out, or pass --{other}")
    if args.image is not None:
        paths = _image_files(args.image)
        stems = [path.stem for path in paths]
        names = [path.stem if stems.count(path.stem) == 1 else path.name for path in paths]
        return [(name, partial(read_picture, path, args.mpp)) for name, path in zip(names, paths, strict=True)]
    tiles = open_tiles(args)
    chosen = range(len(tiles)) if args.name is None else [find_tile(tiles, name) for name in args.name]
    return [(tiles.files[i].image.stem, partial(tile_shown, tiles, i)) for i in chosen]


def _image_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file())
    if not found:
        raise DatasetError(f"{path} has no {', '.join(sorted(IMAGE_SUFFIXES))}: name a folder of images, or --data")
    return found


def _write(folder: Path, inspection: Inspection, colours: tuple[float, float] | None) -> None:
    """Arrays and heatmaps of one picture; what an earlier call has left in the folder is replaced."""
    import numpy as np

    from lpd.evaluation.files import check_writable, written
    from lpd.explain.heatmap import heatmap_png

    check_writable(folder)
    with written(folder / ARRAYS) as temporary, temporary.open("wb") as file:
        arrays: dict[str, Any] = {**inspection.arrays()}
        np.savez_compressed(file, **arrays)
    low, high = colours or (float(np.nanmin(inspection.maps)), float(np.nanmax(inspection.maps)))
    for c, code in enumerate(inspection.scheme.codes):
        for k in range(inspection.per_class):
            name = re.sub(r"[^\w.-]", "_", code)
            with written(folder / f"{name}-{k + 1}.png") as temporary:
                temporary.write_bytes(heatmap_png(inspection, c, k, low, high))
