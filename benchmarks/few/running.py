"""One training on few tiles, and its scores on all of the valid split."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import lpd
from benchmarks.few.arms import ARMS, labelled, patients
from benchmarks.study.records import Record
from lpd.data.tiles import TileSet
from lpd.evaluation.report import measure
from lpd.model.checkpoint import load_checkpoint
from lpd.recipe.config import TrainConfig
from lpd.recipe.settings_file import read_config
from lpd.runs import Run
from lpd.training.loop import train

PRESET = "cpu"


@dataclass(frozen=True)
class Place:
    """Where things are: the tile set, ImageNet's weights, a model of another tissue, folder for runs."""

    data: Path
    encoder: Path
    preview: Path
    work: Path


def run_arm(arm: str, seed: int, place: Place) -> Record:
    """Train and measure; the seed decides which patients' tiles have labels, too."""
    tiles = labelled(TileSet.open(place.data, "train"), ARMS[arm].tiles, seed)
    valid = TileSet.open(place.data, "valid")
    start = time.process_time()
    config = _settings(arm, seed, place)
    with Run(place.work / f"{list(ARMS).index(arm)}-{seed}", "train") as run:
        summary = train(config, tiles, None, run, device="cpu", replace=True, resume=False)
        if summary.stopped:
            raise SystemExit("stopped: what half a training scored is nobody's business")
        run.complete()
    seconds = time.process_time() - start
    network, info = load_checkpoint(summary.last)
    spec = config.input_spec(tiles.info.mpp, tiles.tile_px)
    report = measure(network, valid, spec, tiles.info.scheme, info.calibration).report
    return {
        "data": place.data.name,
        "arm": arm,
        "seed": seed,
        "tiles": len(tiles.files),
        "patients": patients(tiles),
        "valid": [len(valid.files), patients(valid)],
        "epochs": config.optimizer.epochs,
        "gates": {gate: _scores(tables["ignored"]) for gate, tables in report["gates"].items()},
        "starts": [place.encoder.name, place.preview.name],
        "fingerprints": [tiles.fingerprint(), valid.fingerprint()],
        "cpu_seconds": round(seconds),
        "versions": {"lpd": lpd.__version__, "torch": str(torch.__version__)},
    }


def _settings(arm: str, seed: int, place: Place) -> TrainConfig:
    weights = place.encoder if ARMS[arm].start == "ImageNet" else place.preview
    own = [f"encoder.weights={weights}", f"optimizer.epochs={ARMS[arm].epochs}", f"loop.seed={seed}"]
    return read_config(PRESET, overrides=[*own, "loop.precision=fp32", "loop.previews=0", "loop.tensorboard=false"])


def _scores(table: Any) -> dict[str, Any]:
    return {"miou": table["miou"], "iou": table["iou"]}
