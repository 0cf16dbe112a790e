"""One training of the study: train, measure, and make a record of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import timm
import torch

import lpd
from benchmarks.study.arms import ARMS, PRESET, RECIPES
from benchmarks.study.ceiling import folds, part_of, train_with_masks
from benchmarks.study.records import Record
from lpd.config import Calibration, InputSpec
from lpd.data.tiles import TileSet
from lpd.evaluation.adapting import adapt_to_pictures, adapted
from lpd.evaluation.confusion import confusion_matrix, scores_from
from lpd.evaluation.report import Measured, measure
from lpd.evaluation.tile_scores import group_of
from lpd.evaluation.tiles import class_map, gated_scores, tile_logits
from lpd.explain.figures import prototype_figures
from lpd.model.bank import save_bank
from lpd.model.checkpoint import load_checkpoint
from lpd.model.network import LPDNet
from lpd.model.scoring import default_calibration
from lpd.recipe.config import TrainConfig
from lpd.recipe.run_files import CONFIG, LAST, RESUME
from lpd.recipe.settings_file import changed, read_config
from lpd.runs import Run
from lpd.training.banking import BankConfig, build_bank, load_bank_encoder
from lpd.training.loop import train
from lpd.training.setup import build_network

#: (C, C) counts, rows truth, of each picture or patient.
Groups: TypeAlias = dict[str, np.ndarray[Any, Any]]

#: Scales whose prototypes are looked at: the middle one, which segments best, and the deepest.
FIGURE_SCALES = (2, 3)


@dataclass(frozen=True)
class Place:
    """Where things are: folder of the tile sets, file of the encoder's weights, folder for runs, device."""

    data: Path
    encoder: Path
    work: Path
    device: str = "cpu"


def settings_of(data: str, arm: str, seed: int, place: Place) -> TrainConfig:
    """All settings of one training."""
    config = read_config(PRESET, overrides=[f"encoder.weights={place.encoder}", *RECIPES[data], f"loop.seed={seed}"])
    overrides: list[str] = [*ARMS[arm].settings, "loop.previews=0", "loop.tensorboard=false"]
    if ARMS[arm].bank:
        overrides.insert(0, f"prototypes={{source: kmeans, bank: {_bank(data, config, seed, place)}}}")
    return changed(config, *overrides)


def run_arm(data: str, arm: str, seed: int, place: Place) -> Record:
    """Train one network (or none) and measure it."""
    config = settings_of(data, arm, seed, place)
    tiles, valid = (TileSet.open(place.data / data, split) for split in ("train", "valid"))
    start = time.process_time()
    if ARMS[arm].masks:
        found = _with_masks(config, tiles, valid)
    else:
        out = place.work / data / f"{_slug(arm)}-{seed}" if ARMS[arm].trained else None
        found = _weakly(config, tiles, valid, out, place.device)
    return {
        "data": data,
        "arm": arm,
        "seed": seed,
        **found,
        "settings": list(ARMS[arm].settings),
        "recipe": [f"preset {PRESET}", *RECIPES[data]],
        "encoder": place.encoder.name,
        "fingerprints": [tiles.fingerprint(), valid.fingerprint()],
        "cpu_seconds": round(time.process_time() - start),
        "versions": {"lpd": lpd.__version__, "torch": str(torch.__version__), "timm": str(timm.__version__)},
        "device": place.device,
    }


def _weakly(config: TrainConfig, tiles: TileSet, valid: TileSet, out: Path | None, device: str) -> dict[str, Any]:
    """A network trained in the folder ``out``; as it starts, if that is None."""
    if out is not None:
        network, info = load_checkpoint(_trained(config, tiles, out, device), device)
        calibration = info.calibration
    else:
        torch.manual_seed(config.loop.seed)
        network = build_network(config, tiles.info.scheme)[0].to(device).eval()
        calibration = default_calibration(network.config)
    spec = config.input_spec(tiles.info.mpp, tiles.tile_px)
    measured = measure(network, valid, spec, tiles.info.scheme, calibration)
    report = measured.report
    return {
        "gates": {gate: tables["ignored"] for gate, tables in report["gates"].items()},
        "label_accuracy": report["label_accuracy"],
        "groups": _plain(_by_group(measured)),
        "adapted": _plain(_adapted(network, valid, spec, calibration)),
        "figures": _figures(network, valid, spec),
    }


def _trained(config: TrainConfig, tiles: TileSet, out: Path, device: str) -> Path:
    """The finished checkpoint; that of an earlier call, if it had the same settings."""
    last, resume = out / LAST, (out / RESUME).exists()
    if last.exists() and not resume and read_config(file=out / CONFIG) == config:
        return last
    with Run(out, "train") as run:
        summary = train(config, tiles, None, run, device=device, replace=not resume, resume=resume)
        if summary.stopped:  # what half a training scored is nobody's business
            raise SystemExit(f"stopped in {out}: the same command goes on from there")
        run.complete()
    return summary.last


@torch.inference_mode()
def _adapted(network: LPDNet, valid: TileSet, spec: InputSpec, calibration: Calibration) -> Groups:
    """Counts of each picture under the predicted gate, with prototypes adapted to each picture or patient."""
    groups: Groups = {}
    classes, prototypes = valid.info.scheme.count, adapt_to_pictures(network, valid, spec, calibration)
    for logits in tile_logits(network, valid, spec, calibration):
        labels = valid.labels[list(logits.indices)]  # which the predicted gate does not look at
        scores = gated_scores(adapted(logits, valid, prototypes), labels, calibration, "predicted")
        for index, found in zip(logits.indices, class_map(scores), strict=True):
            name = group_of(valid.files[index].image.name)
            counts = confusion_matrix(valid.mask(index), found, classes + 1)[:classes, :classes]
            groups[name] = groups.get(name, 0) + counts
    return groups


def _with_masks(config: TrainConfig, tiles: TileSet, valid: TileSet) -> dict[str, Any]:
    """Each part of the valid split by a network that saw the masks of the others; the predicted gate alone."""
    spec = config.input_spec(tiles.info.mpp, tiles.tile_px)
    groups: Groups = {}
    adapted: Groups = {}
    for shown, scored in folds(valid, config.loop.seed):
        network, calibration = train_with_masks(config, tiles, part_of(valid, shown))
        left = part_of(valid, scored)
        groups |= _by_group(measure(network, left, spec, tiles.info.scheme, calibration))
        adapted |= _adapted(network, left, spec, calibration)
    counts, codes = sum(groups.values()), tiles.info.scheme.codes
    scores = scores_from(np.asarray(counts), len(codes))
    return {
        "gates": {"predicted": {"miou": scores.miou, "iou": dict(zip(codes, scores.iou, strict=False))}},
        "groups": _plain(groups),
        "adapted": _plain(adapted),
        "figures": {},
    }


def _plain(groups: Groups) -> dict[str, Any]:
    return {name: counts.tolist() for name, counts in groups.items()}


def _by_group(measured: Measured) -> Groups:
    groups: Groups = {}
    for tile in measured.tiles:
        groups[tile.group] = groups.get(tile.group, 0) + tile.counts
    return groups


def _figures(network: LPDNet, valid: TileSet, spec: Any) -> dict[str, Any]:
    if network.config.head == "linear" or network.config.prototypes_per_class == 1:
        return {}
    return {str(scale): prototype_figures(network, valid, spec, scale=scale) for scale in FIGURE_SCALES}


def _bank(data: str, config: TrainConfig, seed: int, place: Place) -> Path:
    """The bank of a data set and seed, made when it is first needed."""
    path = place.work / data / f"bank-{seed}.safetensors"
    if not path.exists():
        encoder, record = load_bank_encoder(config.encoder)
        tiles = TileSet.open(place.data / data, "train")
        spec = config.input_spec(tiles.info.mpp, tiles.tile_px)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_bank(path, build_bank(encoder, record, tiles, spec, BankConfig(seed=seed), device=place.device))
    return path


def _slug(arm: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in arm)


def wanted(arms: Sequence[str], data: Sequence[str], seeds: Sequence[int]) -> list[tuple[str, str, int]]:
    """(data, arm, seed), a whole comparison per seed before the next seed."""
    return [(d, a, s) for s in seeds for a in arms for d in data]
