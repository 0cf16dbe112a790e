"""``lpd evaluate``: score a checkpoint on tiles with masks, under every gate, background protocol and refinement."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpd.cli.progress import progress_bar
from lpd.inference.settings import DEVICES

if TYPE_CHECKING:
    from lpd.data.tiles import TileSet
    from lpd.evaluation.report import Measured
    from lpd.model.header import CheckpointInfo
    from lpd.model.network import LPDNet

REPORT, MARKDOWN, TILES, SHEET, ERRORS = "report.json", "report.md", "tiles.json", "worst.png", "errors"
#: Without --refine, a CRF is left out for more tiles than this: it takes a core one to three seconds each.
MOST_CRF_TILES = 100

_EPILOG = f"""\
OUT receives {REPORT} (everything), {MARKDOWN} (for people), {TILES} (each tile's score) and {SHEET} (the worst
tiles). Two models are compared tile by tile with --against OTHER/{TILES}: the difference of their mean IoU, and the
interval in which it lies when the patients, slides or pictures that the tiles come from are drawn anew."""


def add_parser(commands: Any) -> None:
    """Add the command's flags."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "evaluate",
        help="score a checkpoint on tiles with masks",
        description="Score a checkpoint by gate (predicted, oracle, none), background protocol and refinement.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--checkpoint", type=Path, required=True, help="a .safetensors file saved by lpd")
    parser.add_argument(
        "--data", type=Path, required=True, help="tile set: dataset.yaml and the split's img/ and mask/"
    )
    parser.add_argument("--split", choices=("valid", "test"), default="valid")
    parser.add_argument("--out", type=Path, required=True, help="folder for the report")
    parser.add_argument("--flip", action="store_true", help="average each tile with its mirror image")
    parser.add_argument(
        "--refine",
        nargs="+",
        choices=("adapt", "pamr", "crf", "tta", "turned", "none"),
        help="also score maps bettered in these ways; tta averages up to six views a tile (mirror image, sizes), "
        "turned the eight of segment --tta, crf takes seconds a tile "
        f"(default: adapt, pamr, tta and, for up to {MOST_CRF_TILES} tiles, crf)",
    )
    parser.add_argument("--against", type=Path, metavar="FILE", help=f"{TILES} of another model on the same tiles")
    parser.add_argument("--error-maps", action="store_true", help=f"write OUT/{ERRORS}/NAME.png for every tile")
    parser.add_argument("--device", choices=DEVICES, default="auto", help="where the network runs (default: auto)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print tables of scores and store the report."""
    from lpd.data.tiles import TileSet
    from lpd.evaluation.files import check_writable
    from lpd.evaluation.report import check_fit, measure
    from lpd.evaluation.text import to_text
    from lpd.evaluation.tile_scores import TileScores, check_comparable, compare, read_tile_scores, write_tile_scores
    from lpd.inference.devices import choose_device
    from lpd.model.checkpoint import load_checkpoint

    network, info = load_checkpoint(args.checkpoint, choose_device(args.device))
    tiles = TileSet.open(args.data, args.split)
    check_fit(tiles, info.input, info.classes)
    other = None if args.against is None else read_tile_scores(args.against)
    if other is not None:
        check_comparable(TileScores.of(info.path.name, tiles, ()), other)
    check_writable(args.out)
    refinements = _refinements(args.refine, info, tiles)
    with progress_bar(f"evaluating on {args.split}", "tile") as progress:
        measured = measure(
            network,
            tiles,
            info.input,
            info.classes,
            info.calibration,
            flip=args.flip,
            refinements=refinements,
            paper=True,
            progress=progress,
        )
    scores = TileScores.of(info.path.name, tiles, measured.tiles)
    report = {"checkpoint": info.path.name, "model": _model(info), **measured.report}
    if other is not None:
        report["against"] = compare(scores, other)
    print(to_text(report))
    write_tile_scores(args.out / TILES, scores)
    _write_report(args, report, _write_pictures(args, network, info, tiles, measured))
    return 0


def _refinements(asked: list[str] | None, info: CheckpointInfo, tiles: TileSet) -> tuple[str, ...]:
    """Those asked for, or all that this network and this number of tiles allow."""
    from lpd.evaluation.tiles import tta_refusal

    if asked is not None:
        return tuple(dict.fromkeys(name for name in asked if name != "none"))
    chosen = ["adapt", "pamr", "crf", "tta"]
    if len(tiles) > MOST_CRF_TILES:
        chosen.remove("crf")
        _note(
            f"scored without a CRF, which takes seconds for each of {len(tiles)} tiles: name it with --refine for one"
        )
    if refusal := tta_refusal(info.model, tiles.tile_px):
        chosen.remove("tta")
        _note(f"scored without test-time augmentation: {refusal}")
    return tuple(chosen)


def _model(info: CheckpointInfo) -> dict[str, str]:
    prototypes = f"{info.prototype_source}, {info.model.prototypes_per_class} a class"
    return {
        "encoder": info.model.encoder,
        "prototypes": prototypes,
        "trained_on": f"tiles of {info.input.tile_px} px at {info.input.mpp:g} µm/px",
        "notice": info.notice,
        "saved_by": ", ".join(f"{name} {version}" for name, version in info.versions.items()),
    }


def _write_pictures(
    args: argparse.Namespace, network: LPDNet, info: CheckpointInfo, tiles: TileSet, measured: Measured
) -> list[tuple[str, str]]:
    """Draw the network's maps anew, a batch at a time; returns caption and path of what the report shows."""
    from lpd.data.tiles import TileSet
    from lpd.evaluation.pictures import predicted_maps, worst_tiles, write_error_maps, write_sheet

    for leftover in (args.out / ERRORS).glob("*.png"):  # of an earlier report, which this one replaces
        leftover.unlink()
    if args.error_maps:
        maps = predicted_maps(network, tiles, info.input, info.calibration, flip=args.flip)
        with progress_bar("error maps", "tile") as progress:
            write_error_maps(args.out / ERRORS, tiles, maps, progress)
    worst = worst_tiles(measured.tiles)
    if not worst:
        (args.out / SHEET).unlink(missing_ok=True)
        return []
    shown = TileSet(tiles.info, tiles.split, [tiles.files[i] for i in worst])
    maps = predicted_maps(network, shown, info.input, info.calibration, flip=args.flip)
    write_sheet(args.out / SHEET, shown, maps, [measured.tiles[i] for i in worst])
    return [(f"The {len(worst)} tiles of lowest mean IoU, predicted gate, unrefined, background ignored.", SHEET)]


def _write_report(args: argparse.Namespace, report: dict[str, Any], pictures: list[tuple[str, str]]) -> None:
    from lpd.evaluation.files import write_text
    from lpd.evaluation.markdown import to_markdown
    from lpd.runs import write_json_atomically

    write_json_atomically(args.out / REPORT, report)
    write_text(args.out / MARKDOWN, to_markdown(report, pictures))


def _note(text: str) -> None:
    print(text, file=sys.stderr)
