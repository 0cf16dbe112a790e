"""``lpd train``: train a network on image-level labels; the run folder gets checkpoints, metrics and state."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpd.cli.arguments import positive
from lpd.cli.progress import ReportingRun
from lpd.errors import ConfigError
from lpd.inference.settings import DEVICES

if TYPE_CHECKING:
    from lpd.training.config import TrainConfig

_EPILOG = """\
--encoder-weights is required: name a local file (nothing is downloaded), or say "none" to start from random
weights on purpose. The finished model is OUT/last.safetensors: averaged weights at the end of a fixed schedule.
OUT/best.safetensors is the one that scored highest on the valid split, which flatters small splits."""


def add_parser(commands: Any) -> None:
    """Add the command's flags."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "train",
        help="train on tiles with image-level labels",
        description="Train a network on a tile set in BCSS-WSSS layout.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="tile set: dataset.yaml, train/ and maybe valid/")
    parser.add_argument("--out", type=Path, required=True, help="run folder")
    parser.add_argument("--encoder", required=True, help="mit_b0 to mit_b5, or a timm model name")
    parser.add_argument("--encoder-weights", required=True, metavar="FILE|none", help="weights file, or none")
    parser.add_argument(
        "--encoder-option",
        type=_option,
        action="append",
        default=[],
        dest="timm_options",
        metavar="NAME=VALUE",
        help="extra argument of the encoder, such as pad_type=same; may be repeated",
    )
    parser.add_argument(
        "--mean", type=float, nargs=3, metavar=("R", "G", "B"), help="channel means of the encoder, 0 to 1"
    )
    parser.add_argument("--std", type=float, nargs=3, metavar=("R", "G", "B"), help="channel deviations, 0 to 1")
    parser.add_argument("--prototypes", type=int, dest="prototypes_per_class", metavar="K", help="prototypes per class")
    parser.add_argument("--prototype-dim", type=int, help="length of a prototype")
    parser.add_argument(
        "--scale-weights", type=float, nargs="+", metavar="W", help="weight of each scale in the loss, fine to deep"
    )
    parser.add_argument(
        "--fusion-weights", type=float, nargs="+", metavar="W", help="weight of each scale, fine to deep"
    )
    parser.add_argument("--epochs", type=int, help="passes over the training tiles")
    parser.add_argument("--batch-size", type=int, help="tiles per step")
    parser.add_argument("--learning-rate", type=float, help="AdamW's highest rate")
    parser.add_argument("--encoder-lr-factor", type=float, help="the encoder's share of that rate")
    parser.add_argument("--warmup-steps", type=int, help="steps over which the rate rises")
    parser.add_argument(
        "--freeze", nargs="+", dest="frozen", metavar="PREFIX", help="encoder parameters to leave as loaded"
    )
    parser.add_argument("--diversity-weight", type=float, help="weight of the diversity loss; 0 is off")
    parser.add_argument("--ema-decay", type=float, help="averaging of weights per step; 0 is off")
    parser.add_argument(
        "--validate-every", type=int, help="epochs between looks at the valid split; 0: at the end only"
    )
    parser.add_argument("--seed", type=int, help="of weights, order and augmentation")
    parser.add_argument("--device", choices=DEVICES, default="auto", help="where to train (default: auto)")
    parser.add_argument("--threads", type=positive, metavar="N", help="CPU threads (default: all cores)")
    parser.add_argument("--resume", action="store_true", help="go on with the unfinished training in OUT")
    parser.add_argument("--force", action="store_true", help="replace a finished training in OUT")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Train, and print where the checkpoint lies and what it scored.

    Returns:
        0, or 130 if the run was stopped (its checkpoint is saved all the same).
    """
    from lpd.data.tiles import TileSet, has_split
    from lpd.inference.backend import choose_device, cpu_threads
    from lpd.training.loop import check_untrained, train
    from lpd.training.resuming import check_unfinished

    config = _config(args)
    if args.force and args.resume:
        raise ConfigError("--force starts anew and --resume goes on: pass one of them")
    if args.resume:
        check_unfinished(args.out)
    elif not args.force:
        check_untrained(args.out)
    device = choose_device(args.device)
    tiles = TileSet.open(args.data, "train")
    valid = TileSet.open(args.data, "valid") if has_split(args.data, "valid") else None
    if valid is None:
        print(f"training without scores: {args.data} has no valid split", file=sys.stderr)
    run_ = ReportingRun(args.out, "train")
    with run_, run_.bar(args.out.name, "step"), cpu_threads(args.threads):
        summary = train(config, tiles, valid, run_, device=device, replace=args.force, resume=args.resume)
        if not summary.stopped:
            run_.complete()
    print(f"{'stopped' if summary.stopped else 'finished'} after {summary.steps} steps: {summary.last}")
    if summary.report:
        _print_scores(summary.report)
    return 130 if summary.stopped else 0


def _config(args: argparse.Namespace) -> TrainConfig:
    import dataclasses

    from lpd.training.config import TrainConfig

    names = {field.name for field in dataclasses.fields(TrainConfig)}
    given = {name: value for name, value in vars(args).items() if name in names and value is not None}
    return TrainConfig.from_dict(given)


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _print_scores(report: Any) -> None:
    for gate, scores in report["gates"].items():
        tissue = scores["ignored"]
        classes = "  ".join(f"{code} {_percent(value)}" for code, value in tissue["iou"].items())
        print(f"valid mIoU {_percent(tissue['miou'])}  ({classes})  gate {gate}, background ignored")


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"
