"""``python -m benchmarks.previews``: train the shipped previews anew and write their files and cards."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.previews.card import card
from benchmarks.previews.previews import PREVIEWS, SEEDS, settings_of
from benchmarks.previews.slides import slide_scores
from lpd.data.tiles import TileSet
from lpd.evaluation.files import write_text
from lpd.evaluation.refining import ADAPT
from lpd.evaluation.report import evaluate
from lpd.model.checkpoint import load_checkpoint, save_checkpoint
from lpd.model.header import CheckpointInfo, read_info
from lpd.runs import Run
from lpd.training.loop import train
from lpd.training.resuming import RESUME

_SHIPPED = Path(__file__).parents[2] / "checkpoints"


def main() -> None:
    """Train what is not trained yet, ship the first seed, tell of all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.previews", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with the tile sets")
    parser.add_argument("--encoder", type=Path, required=True, help="ImageNet weights of mobilenetv2_100")
    parser.add_argument("--work", type=Path, default=Path("runs/previews"), help="folder for runs")
    parser.add_argument("--out", type=Path, default=_SHIPPED, help="where files and cards go")
    parser.add_argument("--names", nargs="+", choices=tuple(PREVIEWS), default=list(PREVIEWS))
    args = parser.parse_args()
    for data in args.names:
        folder = args.data / data
        runs = {seed: _trained(data, seed, folder, args.encoder, args.work / f"{data}-{seed}") for seed in SEEDS}
        reports = {seed: _report(path, folder, "valid") for seed, path in runs.items()}
        _ship(data, folder, runs[SEEDS[0]], reports, args.out)


def _trained(data: str, seed: int, folder: Path, encoder: Path, out: Path) -> Path:
    """The finished checkpoint of a training, of an earlier call if there is one."""
    last, resume = out / "last.safetensors", (out / RESUME).exists()
    if last.exists() and not resume:
        return last
    with Run(out, "train") as run:
        summary = train(settings_of(data, seed, encoder), TileSet.open(folder, "train"), None, run, resume=resume)
        run.complete()
    return summary.last


def _report(checkpoint: Path, folder: Path, split: str) -> dict[str, Any]:
    network, info = load_checkpoint(checkpoint)
    tiles = TileSet.open(folder, split)
    return evaluate(network, tiles, info.input, info.classes, info.calibration, refinements=[ADAPT])


def _ship(data: str, folder: Path, trained: Path, reports: Mapping[int, Mapping[str, Any]], out: Path) -> None:
    network, info = load_checkpoint(trained)
    scores = {split: _report(trained, folder, split) for split in PREVIEWS[data].scored}
    path = out / f"{data}-{info.prototype_source}-{info.model.encoder}.safetensors"
    save_checkpoint(
        path, network, dataclasses.replace(info, notice=PREVIEWS[data].notice, scores=scores), dtype="float16"
    )
    shipped = read_info(path)
    assert isinstance(shipped, CheckpointInfo)
    more = {"slides": slide_scores(path, PREVIEWS[data].slides)} if PREVIEWS[data].slides else {}
    write_text(path.with_suffix(".md"), card(data, shipped, reports, more))


if __name__ == "__main__":
    main()
