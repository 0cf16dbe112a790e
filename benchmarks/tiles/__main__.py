"""``python -m benchmarks.tiles``: what a tile costs, and how long eight people wait for theirs; two minutes."""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.tiles.load import under_load
from benchmarks.tiles.page import page, write_page
from benchmarks.tiles.single import single
from lpd.data.phantom import write_phantom_slide

_CHECKPOINT = Path(__file__).parents[2] / "checkpoints" / "phantom-learnable-mobilenetv2_100.safetensors"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tiles", description=__doc__)
    parser.add_argument(
        "--slide", type=Path, help="with a resolution (default: a phantom of 16384 × 12288 px, drawn anew)"
    )
    parser.add_argument("--checkpoint", type=Path, default=_CHECKPOINT, help="that segments it meanwhile")
    parser.add_argument("--people", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=4.0, help="a turn over HTTP (default: 4)")
    parser.add_argument("--rounds", type=int, default=2, help="turns of every contestant over HTTP (default: 2)")
    parser.add_argument("--parts", nargs="+", choices=("single", "load"), default=["single", "load"])
    parser.add_argument("--page", type=Path, help="Markdown page to write")
    args = parser.parse_args(arguments)
    with TemporaryDirectory(prefix="lpd-tiles-") as folder:
        slide = args.slide or Path(folder) / "phantom.tif"
        if args.slide is None:
            write_phantom_slide(slide, 16384, 12288)
        busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
        rows = single(slide, 7) if "single" in args.parts else []
        checkpoint = args.checkpoint.resolve()
        loads = under_load(slide, checkpoint, args.people, args.seconds, args.rounds) if "load" in args.parts else []
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; others kept "
    machine += f"{busy:.1f} processes busy on it when this began (load average)."
    text = page(machine, rows, loads)
    print(text)
    if args.page:
        write_page(args.page, text)


if __name__ == "__main__":
    main()
