"""The training loop: image-level labels in, a calibrated checkpoint in a run folder out."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lpd.config import InputSpec
from lpd.data.tiles import TileSet
from lpd.data.transforms import AugmentConfig, augment
from lpd.errors import CheckpointError
from lpd.evaluation.report import evaluate
from lpd.losses.classification import classification_loss
from lpd.losses.diversity import diversity_loss, pseudo_masks
from lpd.model.checkpoint import save_checkpoint
from lpd.model.header import CheckpointInfo
from lpd.model.inputs import to_network_input
from lpd.model.network import LPDNet, LPDOutput
from lpd.runs import Run, write_json_atomically
from lpd.training.calibrating import calibrate
from lpd.training.config import TrainConfig
from lpd.training.schedule import AveragedWeights, batches, rate_factor
from lpd.training.setup import Origin, build_network, build_optimizer

LAST, BEST, METRICS, CONFIG = "last.safetensors", "best.safetensors", "metrics.jsonl", "config.json"
_LOG_EVERY = 10


@dataclass(frozen=True)
class TrainSummary:
    """What a training left behind.

    Attributes:
        last: checkpoint of the averaged weights at the end of the schedule, or where it was stopped.
        best: the checkpoint that scored best on the valid split, None without one.
        steps: optimiser steps done.
        report: evaluation of ``last`` on the valid split, see :func:`lpd.evaluation.report.evaluate`; None without one.
    """

    last: Path
    best: Path | None
    steps: int
    report: Mapping[str, Any] | None


@dataclass(frozen=True, eq=False)
class Losses:
    """The parts of one step's loss, each a scalar tensor; ``total`` is what the gradient is taken of."""

    total: Tensor
    classification: Tensor
    diversity: Tensor


def train(
    config: TrainConfig, tiles: TileSet, valid: TileSet | None, run: Run, *, device: torch.device | str = "cpu"
) -> TrainSummary:
    """Train one network and leave ``last.safetensors``, ``best.safetensors`` and ``metrics.jsonl`` in the run's folder.

    A stop request ends the training after the step in hand; what was learned until then is calibrated and saved.

    Args:
        config: all settings.
        tiles: training tiles with image-level labels.
        valid: tiles with masks, to score and to choose ``best`` by, or None. Training never sees the masks.
        run: an entered run.
        device: where to train.

    Raises:
        ConfigError: the settings do not fit the encoder or its weights file.
        DatasetError: a tile cannot be read.
        CheckpointError: the weights file does not fit, the training diverged, or the disk refuses.
    """
    # Random numbers of layers (initial weights, drop path) come from torch's global state, borrowed for the while.
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        network, origin = build_network(config, tiles.info.scheme)
        network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
        keeper = _Keeper(config, tiles, valid, run.folder, origin)
        return _loop(config, network, tiles, run, keeper)


def _loop(config: TrainConfig, network: LPDNet, tiles: TileSet, run: Run, keeper: _Keeper) -> TrainSummary:
    spec, augmentation = keeper.spec, AugmentConfig(config.symmetries, config.stain, config.brightness)
    optimizer = build_optimizer(network, config)
    average = AveragedWeights(network, config.ema_decay)
    order = list(batches(len(tiles), config.batch_size, config.epochs, np.random.default_rng(config.seed)))
    per_epoch = len(order) // config.epochs
    generator = torch.Generator().manual_seed(config.seed)
    labels = torch.from_numpy(tiles.labels).float()
    device = network.prototypes.device

    network.train()
    step = 0
    for step, batch in enumerate(order, start=1):
        factor = rate_factor(step - 1, len(order), config.warmup_steps)
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor

        varied = augment(torch.from_numpy(tiles.images(batch)), augmentation, generator)
        output = network(to_network_input(varied, spec).to(device))
        with_diversity = step > config.diversity_from * len(order)
        losses = losses_of(output, labels[batch].to(device), config, with_diversity=with_diversity)

        optimizer.zero_grad(set_to_none=True)
        losses.total.backward()  # type: ignore[no-untyped-call]  # untyped in torch
        nn.utils.clip_grad_norm_(network.parameters(), config.gradient_clip or float("inf"))
        optimizer.step()
        average.update(network)

        stopping = run.stop_requested()
        run.advance(step, len(order), "steps")
        if step % _LOG_EVERY == 0 or step == len(order) or stopping:
            keeper.log_losses(step, factor, losses)
        if stopping:
            break
        looks = config.validate_every * per_epoch
        if looks and step % looks == 0 and step < len(order):
            with average.applied(network):
                keeper.keep(network, step)
            network.train()

    run.say("calibrating")
    with average.applied(network):
        return keeper.keep(network, step)


def losses_of(output: LPDOutput, labels: Tensor, config: TrainConfig, *, with_diversity: bool) -> Losses:
    """``L_cls``, and ``L_cls + λ_div · L_div`` once diversity has joined in; L_div averages over scales as L_cls does.

    Args:
        output: of the network, for B images.
        labels: (B, C) image labels, 0 or 1.
        config: weights of scales and losses.
        with_diversity: whether L_div counts in this step.
    """
    classification = classification_loss([output.image_scores(s) for s in config.scales], labels, config.scale_weights)
    diversity = classification.new_zeros(())
    if with_diversity and config.diversity_weight and config.prototypes_per_class > 1:
        weights = dict(zip(config.scales, config.scale_weights, strict=True))
        for scale, weight in weights.items():
            masks = pseudo_masks(output.class_logits[scale], labels)
            cosines = output.prototype_cosines[scale]
            grouped = cosines.reshape(*masks.shape[:2], config.prototypes_per_class, *cosines.shape[2:])
            diversity = diversity + weight / sum(weights.values()) * diversity_loss(grouped, masks)
    return Losses(classification + config.diversity_weight * diversity, classification, diversity)


class _Keeper:
    """Writes everything a training leaves behind: settings, metrics, checkpoints."""

    def __init__(
        self, config: TrainConfig, tiles: TileSet, valid: TileSet | None, folder: Path, origin: Origin
    ) -> None:
        self.spec = InputSpec(mpp=tiles.info.mpp, tile_px=tiles.tile_px, mean=config.mean, std=config.std)
        self._config, self._tiles, self._valid, self._folder = config, tiles, valid, folder
        self._record: dict[str, Any] = {
            "settings": {**config.to_dict(), "encoder_weights": origin.file},
            "encoder_weights": asdict(origin),
            "data": {
                "name": tiles.info.name,
                "tiles": len(tiles),
                "fingerprint": tiles.fingerprint(),
                "licence": tiles.info.licence,
            },
        }
        self._best = -1.0
        self._start = time.monotonic()
        write_json_atomically(folder / CONFIG, self._record["settings"])
        for leftover in (METRICS, LAST, BEST):
            (folder / leftover).unlink(missing_ok=True)

    def log_losses(self, step: int, rate: float, losses: Losses) -> None:
        """Append one line of metrics.

        Raises:
            CheckpointError: the loss is no longer a number.
        """
        total = losses.total.item()
        if not np.isfinite(total):
            raise CheckpointError(f"training diverged at step {step} (loss {total}): lower the learning rate")
        parts = {"classification": losses.classification.item(), "diversity": losses.diversity.item()}
        self._log({"step": step, "rate": rate, "loss": total, **parts})

    def keep(self, network: LPDNet, step: int) -> TrainSummary:
        """Calibrate, score and save the network as it stands; leaves it in evaluation mode."""
        network.eval()
        calibration = calibrate(network, self._tiles, self.spec, self._config.fusion_weights)
        scheme, report = self._tiles.info.scheme, None
        if self._valid is not None:
            report = evaluate(network, self._valid, self.spec, scheme, calibration)
            self._log({"step": step, "valid": report["gates"], "jeffreys_similarity": report["jeffreys_similarity"]})
        info = CheckpointInfo(
            path=self._folder / LAST,
            classes=scheme,
            input=self.spec,
            model=network.config,
            calibration=calibration,
            notice=self._notice(),
            scores={"valid": report} if report else {},
            training={**self._record, "steps": step, "seconds": round(time.monotonic() - self._start, 1)},
        )
        save_checkpoint(self._folder / LAST, network, info, dtype="float16")
        best = self._keep_best(network, info, report)
        return TrainSummary(self._folder / LAST, best, step, report)

    def _keep_best(self, network: LPDNet, info: CheckpointInfo, report: Mapping[str, Any] | None) -> Path | None:
        if report is None:
            return None
        score = report["gates"]["predicted"]["ignored"]["miou"]
        if score is not None and score > self._best:
            self._best = score
            save_checkpoint(self._folder / BEST, network, info, dtype="float16")
        return self._folder / BEST

    def _notice(self) -> str:
        licence = self._tiles.info.licence
        weights = self._record["encoder_weights"]["notice"]
        return f"{licence}; {weights}" if weights else licence

    def _log(self, entry: Mapping[str, Any]) -> None:
        line = {**entry, "seconds": round(time.monotonic() - self._start, 2)}
        with (self._folder / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
