"""A probe: a few real steps of a training on its real data, to say beforehand how long it takes and what it needs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lpd.data.tiles import TileSet
from lpd.evaluation.report import evaluate
from lpd.evaluation.tiles import tile_logits
from lpd.model.scoring import default_calibration
from lpd.recipe.config import TrainConfig
from lpd.training.banking import BankConfig, clustered_tiles, embed, load_bank_encoder
from lpd.training.distribution import Team
from lpd.training.feeding import feeding
from lpd.training.fitting_memory import enough_memory, training_cure
from lpd.training.loop import Trainer, set_up, with_precision
from lpd.training.schedule import batches
from lpd.training.usage import peak_memory

#: Steps that are measured of each kind, after one that is not; fewer if they take long.
_STEPS = 4
_LONGEST_S = 20.0
_TILES = 8


@dataclass(frozen=True)
class Probe:
    """What a training will take, as measured.

    Attributes:
        device: where.
        steps: of the whole training.
        step_s: seconds of a step before L_sim and L_div join in, and ``joined_step_s`` after that; None without such.
        looks: how often it is saved, calibrated and scored, each in ``look_s`` seconds.
        bank_s: seconds in which tiles are clustered first; None where they are not.
        total_s: of the whole training.
        memory_bytes: most that was needed at once: of the device's memory, or of the machine's on a CPU; None where
            nobody knows.
    """

    device: str
    steps: int
    step_s: float | None
    joined_step_s: float | None
    looks: int
    look_s: float
    bank_s: float | None
    total_s: float
    memory_bytes: int | None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form."""
        return asdict(self)


def probe(
    config: TrainConfig, tiles: TileSet, valid: TileSet | None, device: torch.device, *, clustering: bool = False
) -> Probe:
    """Measure; nothing is written anywhere.

    Args:
        config: all settings; without a bank, whose prototypes cost what learnable ones do.
        tiles: training tiles.
        valid: tiles with masks, or None.
        device: where it will be trained.
        clustering: the tiles are clustered into a bank before.

    Raises:
        LpdError: the training could not begin, or does not fit into memory.
    """
    team = Team()
    config = with_precision(config, device, team)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with torch.random.fork_rng(team.borrowed(device)), enough_memory("this training", training_cure(config)):
        trainer = set_up(config, tiles, valid, Path(), device, team)
        order = list(batches(len(tiles), config.optimizer.batch_size, config.optimizer.epochs, config.loop.seed))
        total, first = len(order), config.losses.first_step(len(order))
        step_s = _seconds_per_step(trainer, tiles, order, 0) if first else None
        joined_s = _seconds_per_step(trainer, tiles, order, first) if first < total else None
        look_s = _seconds_per_look(trainer, tiles, valid)
        bank_s = _seconds_of_bank(config, tiles, device) if clustering else None
    every = config.loop.validate_every
    looks = 1 + ((config.optimizer.epochs - 1) // every if every else 0)
    seconds = (
        (step_s or 0) * min(first, total) + (joined_s or 0) * max(0, total - first) + look_s * looks + (bank_s or 0)
    )
    return Probe(str(device), total, step_s, joined_s, looks, look_s, bank_s, seconds, peak_memory(device))


def _seconds_per_step(trainer: Trainer, tiles: TileSet, order: list[list[int]], first: int) -> float:
    """Of steps as they are from ``first`` on, with reading and varying their tiles."""
    config, device = trainer.config, trainer.network.device
    labels, total = torch.from_numpy(tiles.labels).float(), len(order)
    trainer.network.train()
    trainer.step = first
    taken: list[float] = []
    last = min(first + 1 + _STEPS, total)
    with feeding(tiles, order[:last], first, config.augment, config.loop.seed, trainer.team.part, device) as varied:
        start = time.monotonic()
        for own in varied:
            trainer.advance(own, labels[order[trainer.step]], 1.0, total)
            _finish(device)
            taken.append(time.monotonic() - start)
            start = time.monotonic()
            if sum(taken) > _LONGEST_S:
                break
    measured = taken[1:] or taken  # the first one pays for what all others find ready
    return sum(measured) / len(measured)


def _seconds_per_look(trainer: Trainer, tiles: TileSet, valid: TileSet | None) -> float:
    """Of calibrating on all training tiles and scoring on all valid ones, measured on a few of each."""
    network, spec = trainer.network.eval(), trainer.keeper.spec
    calibration = default_calibration(network.config)
    few = TileSet(tiles.info, tiles.split, tiles.files[:_TILES])
    seconds = len(tiles) / len(few) * _timed(lambda: list(tile_logits(network, few, spec, calibration)))
    if valid is not None:
        few = TileSet(valid.info, valid.split, valid.files[:_TILES])
        scoring = _timed(lambda: evaluate(network, few, spec, valid.info.scheme, calibration))
        seconds += len(valid) / len(few) * scoring
    return seconds


def _seconds_of_bank(config: TrainConfig, tiles: TileSet, device: torch.device) -> float:
    """Of embedding the tiles that are clustered, measured on a few; grouping them takes no time beside that.

    Raises:
        LpdError: there is nothing to cluster, or too little.
    """
    start = time.monotonic()
    encoder, _ = load_bank_encoder(config.encoder)
    encoder.to(device).eval()
    loaded = time.monotonic() - start
    wish = BankConfig(per_class=config.prototypes.per_class, seed=config.loop.seed)
    spec, chosen = config.input_spec(tiles.info.mpp, tiles.tile_px), np.concatenate(clustered_tiles(tiles, wish))
    few = chosen[:_TILES].tolist()
    embed(encoder, tiles, few[:1], spec, wish, device=device)  # the first one pays for what all others find ready
    return loaded + len(chosen) / len(few) * _timed(lambda: embed(encoder, tiles, few, spec, wish, device=device))


def _timed(work: Callable[[], object]) -> float:
    start = time.monotonic()
    work()
    return time.monotonic() - start


def _finish(device: torch.device) -> None:
    """A GPU answers before it is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
