"""``python -m benchmarks.speed``: time this package against the authors' algorithm and print tables of ratios."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.speed.depthwise import depthwise
from benchmarks.speed.epoch import epoch
from benchmarks.speed.evaluation import evaluation
from benchmarks.speed.loader import loader
from benchmarks.speed.losses import losses
from benchmarks.speed.reporting import tables, write_json
from benchmarks.speed.scene import Scene, phantom_folder
from benchmarks.speed.steps import steps
from benchmarks.speed.timing import Row

PARTS: Mapping[str, Callable[[Scene], list[Row]]] = {
    "losses": losses,
    "step": steps,
    "depthwise": depthwise,
    "loader": loader,
    "evaluation": evaluation,
    "epoch": epoch,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    args = _arguments(arguments)
    torch.set_num_threads(args.threads)
    train, valid = (8, 4) if args.quick else (args.tiles, max(40, args.tiles // 10))
    place = nullcontext(args.data) if args.data else phantom_folder(train, valid)
    with place as folder:
        scene = Scene(
            folder, torch.device(args.device), threads=args.threads, rounds=args.rounds, compiled=args.compile
        )
        if args.quick:
            scene = replace(scene, rounds=1, encoder="mit_b0", batch_size=4, per_class=(3,))
        rows = []
        for part in args.parts:
            measured = PARTS[part](scene)
            print(f"{tables(measured)}\n", flush=True)
            rows += measured
    if args.json:
        write_json(args.json, scene, rows)


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--quick", action="store_true", help="a small network, to see that everything runs")
    parser.add_argument("--parts", nargs="+", choices=tuple(PARTS), default=[p for p in PARTS if p != "epoch"])
    parser.add_argument("--rounds", type=int, default=15, help="turns of every contestant (default: 15)")
    parser.add_argument("--threads", type=int, default=1, help="of torch, on a CPU (default: 1)")
    parser.add_argument("--tiles", type=int, default=60, help="phantom tiles to train on (default: 60; epoch: 1200)")
    parser.add_argument("--data", type=Path, help="a tile set with train and valid, instead of phantom tiles")
    parser.add_argument("--compile", action="store_true", help="also time networks that torch.compile translated")
    parser.add_argument("--json", type=Path, help="file to write everything to")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
