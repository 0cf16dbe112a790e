"""``lpd evaluate``: score a checkpoint on tiles with masks, under every gate."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lpd.inference.settings import DEVICES


def add_parser(commands: Any) -> None:
    """Add the command's flags."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "evaluate",
        help="score a checkpoint on tiles with masks",
        description="Score a checkpoint under the predicted, the oracle and no gate, with and without background.",
    )
    parser.add_argument("--checkpoint", type=Path, required=True, help="a .safetensors file saved by lpd")
    parser.add_argument(
        "--data", type=Path, required=True, help="tile set: dataset.yaml and the split's img/ and mask/"
    )
    parser.add_argument("--split", choices=("valid", "test"), default="valid")
    parser.add_argument("--out", type=Path, required=True, help="folder for report.json")
    parser.add_argument("--flip", action="store_true", help="average each tile with its mirror image")
    parser.add_argument(
        "--refine",
        nargs="+",
        choices=("pamr", "crf"),
        default=[],
        help="score maps refined in this way too; a CRF takes seconds per tile",
    )
    parser.add_argument("--device", choices=DEVICES, default="auto", help="where the network runs (default: auto)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print a table of scores and store ``report.json``."""
    from lpd.data.tiles import TileSet
    from lpd.evaluation.report import evaluate
    from lpd.inference.backend import choose_device
    from lpd.model.checkpoint import load_checkpoint
    from lpd.runs import write_json_atomically

    network, info = load_checkpoint(args.checkpoint, choose_device(args.device))
    tiles = TileSet.open(args.data, args.split)
    refinements = list(dict.fromkeys(args.refine))
    report = evaluate(
        network, tiles, info.input, info.classes, info.calibration, flip=args.flip, refinements=refinements
    )
    print(f"{info.name} on {len(tiles)} {args.split} tiles of {tiles.info.name}")
    print(_table(report))
    write_json_atomically(args.out / "report.json", {"checkpoint": info.path.name, **report})
    return 0


def _table(report: dict[str, Any]) -> str:
    tables = {"none": report["gates"], **report["refined"]}
    rows = []
    for refinement, gates in tables.items():
        for gate, protocols in gates.items():
            for background, scores in protocols.items():
                classes = "  ".join(f"{code} {_percent(iou)}" for code, iou in scores["iou"].items())
                kind = f"refined {refinement:<4}  " if len(tables) > 1 else ""
                rows.append(
                    f"{kind}gate {gate:<9}  background {background:<11}  mIoU {_percent(scores['miou'])}  {classes}"
                )
    similarity = ", ".join(
        f"scale {s}: {'–' if value is None else f'{value:.3f}'}" for s, value in report["jeffreys_similarity"].items()
    )
    accuracy = "  ".join(f"{code} {_percent(value)}" for code, value in report["label_accuracy"].items())
    return "\n".join([*rows, f"label accuracy  {accuracy}", f"prototype similarity (Jeffreys)  {similarity}"])


def _percent(value: float | None) -> str:
    return "    –" if value is None else f"{100 * value:5.1f}"
