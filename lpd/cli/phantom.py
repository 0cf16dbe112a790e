"""``lpd phantom``: write a synthetic slide with its true mask, or a synthetic tile set to train on."""

from __future__ import annotations

import argparse
import time
from pathlib import Path


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``phantom slide`` and ``phantom tiles``."""
    parser = subparsers.add_parser("phantom", help="make a synthetic slide or tile set, for trying things out")
    kinds = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    slide = kinds.add_parser("slide", help="a pyramidal slide of 0.5 µm/px and its true mask")
    slide.add_argument("path", type=Path, metavar="OUT.tif", help="the slide; the mask goes to OUT.mask.tif")
    slide.add_argument(
        "--size", type=int, nargs=2, default=(6144, 4608), metavar=("W", "H"), help="pixels (default: 6144 4608)"
    )
    tiles = kinds.add_parser("tiles", help="a tile set in BCSS layout")
    tiles.add_argument("path", type=Path, metavar="DIR", help="a new folder")
    for split, count in (("train", 800), ("valid", 80), ("test", 80)):
        tiles.add_argument(
            f"--{split}", type=int, default=count, metavar="N", help="number of tiles (default: %(default)s)"
        )
    tiles.add_argument("--tile-px", type=int, default=224, metavar="PX", help="width and height (default: %(default)s)")
    tiles.add_argument("--mpp", type=float, default=1.0, help="µm per pixel (default: %(default)s)")
    for command, run_it in ((slide, _slide), (tiles, _tiles)):
        command.add_argument("--seed", type=int, default=1, metavar="N", help="another number, another tissue")
        command.add_argument("--force", action="store_true", help="replace what exists")
        command.add_argument("--workers", type=int, default=None, metavar="N", help="threads (default: one per core)")
        command.set_defaults(run=run, write=run_it)


def run(args: argparse.Namespace) -> int:
    """Write what was asked for and say where it is."""
    start = time.monotonic()
    print(f"{args.write(args)} in {time.monotonic() - start:.0f} s")
    return 0


# The generator brings in SciPy and tifffile: only the command that runs waits for them.
def _slide(args: argparse.Namespace) -> str:
    from lpd.data.phantom import mask_path, write_phantom_slide

    width, height = args.size
    write_phantom_slide(args.path, width, height, args.seed, force=args.force, workers=args.workers)
    return f"wrote {args.path} ({width} x {height} px, synthetic) and {mask_path(args.path)}"


def _tiles(args: argparse.Namespace) -> str:
    from lpd.data.phantom import TileSetSpec, write_phantom_tiles

    spec = TileSetSpec(args.train, args.valid, args.test, args.seed, args.tile_px, args.mpp)
    write_phantom_tiles(args.path, spec, force=args.force, workers=args.workers)
    return f"wrote {args.path} ({args.train} train, {args.valid} valid and {args.test} test tiles, synthetic)"
