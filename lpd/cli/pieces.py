"""``lpd pieces``: the separate pieces of tissue on a slide, with the numbers that ``lpd segment --pieces`` takes."""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path
from typing import Any


def add_parser(commands: Any) -> None:
    """Add this command to the ``lpd`` command line."""
    parser = commands.add_parser(
        "pieces",
        help="list the pieces of tissue on a slide",
        description="List the separate pieces of tissue on a slide as CSV: number, area with its margin and small "
        "holes, the rectangle around it and its centre of gravity, both in level-0 pixels. lpd segment --pieces takes "
        "these numbers; they are the same with the same --mpp.",
    )
    parser.add_argument("slide", metavar="SLIDE", type=Path, help="slide or image file")
    parser.add_argument("--mpp", type=float, metavar="V", help="µm per level-0 pixel, where the slide does not say")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the table to stdout.

    Raises:
        LpdError: the slide cannot be read, or nobody knows its resolution.
    """
    from lpd.slide.opening import open_slide
    from lpd.slide.pieces import find_pieces
    from lpd.slide.tissue import tissue_mask

    with open_slide(args.slide, mpp=args.mpp) as slide:
        slide.require_mpp()
        found = find_pieces(tissue_mask(slide))
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(("piece", "area_mm2", "x_l0", "y_l0", "width_l0", "height_l0", "center_x_l0", "center_y_l0"))
    for piece in found.pieces:
        box, center = piece.region, [round(value) for value in piece.center_l0]
        area = f"{piece.area_mm2:.3f}" if piece.area_mm2 is not None else ""
        table.writerow((piece.number, area, box.x_l0, box.y_l0, box.width_l0, box.height_l0, *center))
    return 0
