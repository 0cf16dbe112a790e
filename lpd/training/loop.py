"""The training loop: image-level labels in, a calibrated checkpoint in a run folder out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lpd.data.tiles import TileSet
from lpd.data.transforms import AugmentConfig, augment
from lpd.errors import RunError
from lpd.evaluation.report import check_fit
from lpd.losses.classification import classification_loss
from lpd.losses.diversity import diversity_loss, pseudo_masks
from lpd.model.inputs import to_network_input
from lpd.model.network import LPDNet, LPDOutput, check_tile_px
from lpd.runs import Run
from lpd.training.config import TrainConfig
from lpd.training.keeping import LAST, Keeper
from lpd.training.schedule import AveragedWeights, batches, rate_factor
from lpd.training.setup import build_network, build_optimizer

_LOG_EVERY = 10


@dataclass(frozen=True)
class TrainSummary:
    """What a training left behind.

    Attributes:
        last: checkpoint of the averaged weights at the end of the schedule, or where it was stopped.
        best: the checkpoint that scored best on the valid split, None without one.
        steps: optimiser steps done, of ``planned_steps``.
        report: evaluation of ``last`` on the valid split, see :func:`lpd.evaluation.report.evaluate`; None without one.
    """

    last: Path
    best: Path | None
    steps: int
    planned_steps: int
    report: Mapping[str, Any] | None

    @property
    def stopped(self) -> bool:
        """A person ended it before its schedule did."""
        return self.steps < self.planned_steps


@dataclass(frozen=True, eq=False)
class Losses:
    """The parts of one step's loss, each a scalar tensor; ``total`` is what the gradient is taken of."""

    total: Tensor
    classification: Tensor
    diversity: Tensor

    def numbers(self) -> dict[str, float]:
        """As plain numbers, by the names they have in the metrics."""
        return {
            "loss": self.total.item(),
            "classification": self.classification.item(),
            "diversity": self.diversity.item(),
        }


def train(
    config: TrainConfig,
    tiles: TileSet,
    valid: TileSet | None,
    run: Run,
    *,
    device: torch.device | str = "cpu",
    replace: bool = False,
) -> TrainSummary:
    """Train one network and leave ``last.safetensors``, ``best.safetensors`` and ``metrics.jsonl`` in the run's folder.

    A stop request ends the training after the step in hand; what was learned until then is calibrated and saved.

    Args:
        config: all settings.
        tiles: training tiles with image-level labels.
        valid: tiles with masks, to score and to choose ``best`` by, or None. Training never sees the masks.
        run: an entered run.
        device: where to train.
        replace: delete the model of an earlier training in the folder.

    Raises:
        RunError: the folder holds a model already, or cannot be written.
        ConfigError: the settings do not fit the encoder or its weights file.
        DatasetError: a tile or mask cannot be read, or the valid split is of other classes or another resolution.
        CheckpointError: the weights file does not fit, the training diverged, or the disk refuses.
    """
    if not replace:
        check_untrained(run.folder)
    spec = config.input_spec(tiles.info.mpp, tiles.tile_px)
    if valid is not None:
        check_fit(valid, spec, tiles.info.scheme)
        for index in range(len(valid)):  # a mask that cannot be read is better found now than after the training
            valid.mask(index)
    # Random numbers of layers (initial weights, drop path) come from torch's global state, borrowed for the while.
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        network, origin = build_network(config, tiles.info.scheme)
        check_tile_px(network, tiles.tile_px)
        network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
        keeper = Keeper(config, tiles, valid, run.folder, origin)
        return _loop(config, network, tiles, run, keeper)


def check_untrained(folder: Path) -> None:
    """Make sure that a training in ``folder`` would not cost anybody a model.

    Raises:
        RunError: the folder holds one.
    """
    if (folder / LAST).exists():
        raise RunError(f"{folder} already holds a trained model: pass --force to replace it or another --out")


def _loop(config: TrainConfig, network: LPDNet, tiles: TileSet, run: Run, keeper: Keeper) -> TrainSummary:
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
            keeper.log_losses(step, factor, losses.numbers())
        if stopping:
            break
        looks = config.validate_every * per_epoch
        if looks and step % looks == 0 and step < len(order):
            with average.applied(network):
                keeper.keep(network, step)

    run.say("calibrating")
    with average.applied(network):
        kept = keeper.keep(network, step)
    return TrainSummary(kept.last, kept.best, step, len(order), kept.report)


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
