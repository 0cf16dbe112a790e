"""The training loop: image-level labels in, a calibrated checkpoint in a run folder out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from lpd.training.keeping import LAST, Keeper, Kept
from lpd.training.resuming import RESUME, Snapshot, load_snapshot, save_snapshot
from lpd.training.schedule import AveragedWeights, batches, rate_factor, step_seed
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
    resume: bool = False,
) -> TrainSummary:
    """Train one network and leave ``last.safetensors``, ``best.safetensors`` and ``metrics.jsonl`` in the run's folder.

    A stop request ends the training after the step in hand; what was learned until then is calibrated and saved. An
    unfinished training, stopped or killed, goes on with ``resume`` where it last saved itself (after each epoch and
    when stopped), and on a CPU ends with the very weights that it would have had without the interruption.

    Args:
        config: all settings.
        tiles: training tiles with image-level labels.
        valid: tiles with masks, to score and to choose ``best`` by, or None. Training never sees the masks.
        run: an entered run.
        device: where to train.
        replace: delete the model of an earlier training in the folder.
        resume: go on with the unfinished training in the folder.

    Raises:
        RunError: the folder holds a model already, cannot be written, or (``resume``) holds no unfinished training, or
            one with other settings or data.
        ConfigError: the settings do not fit the encoder or its weights file.
        DatasetError: a tile or mask cannot be read, or the valid split is of other classes or another resolution.
        CheckpointError: the weights file does not fit, the training diverged, or the disk refuses.
    """
    if not replace and not resume:
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
        trainer = _Trainer(config, network, keeper)
        if resume:
            trainer.go_on(run.folder)
        else:
            keeper.begin()
        return _loop(trainer, tiles, run)


def check_untrained(folder: Path) -> None:
    """Make sure that a training in ``folder`` would not cost anybody a model.

    Raises:
        RunError: the folder holds one, finished or not.
    """
    if (folder / RESUME).exists():
        raise RunError(f"{folder} holds an unfinished training: pass --resume to go on or --force to start anew")
    if (folder / LAST).exists():
        raise RunError(f"{folder} already holds a trained model: pass --force to replace it or another --out")


class _Trainer:
    """Network, optimiser and average of one training, and where it is.

    Attributes:
        step: optimiser steps done.
    """

    def __init__(self, config: TrainConfig, network: LPDNet, keeper: Keeper) -> None:
        self.config, self.network, self.keeper = config, network, keeper
        self.optimizer = build_optimizer(network, config)
        self.average = AveragedWeights(network, config.ema_decay)
        self.step = 0
        self._augmentation = AugmentConfig(config.symmetries, config.stain, config.brightness)

    def advance(self, tiles: Tensor, labels: Tensor, total: int) -> Losses:
        """Do the next of ``total`` steps on (B, H, H, 3) uint8 tiles and their (B, C) labels."""
        config, device = self.config, self.network.prototypes.device
        seed = step_seed(config.seed, self.step)
        torch.manual_seed(seed)  # of the network's own random numbers, such as drop path
        varied = augment(tiles, self._augmentation, torch.Generator().manual_seed(seed))
        output = self.network(to_network_input(varied, self.keeper.spec).to(device))
        with_diversity = self.step + 1 > config.diversity_from * total
        losses = losses_of(output, labels.to(device), config, with_diversity=with_diversity)

        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * self.rate(total)
        self.optimizer.zero_grad(set_to_none=True)
        losses.total.backward()  # type: ignore[no-untyped-call]  # untyped in torch
        nn.utils.clip_grad_norm_(self.network.parameters(), config.gradient_clip or float("inf"))
        self.optimizer.step()
        self.average.update(self.network)
        self.step += 1
        return losses

    def rate(self, total: int) -> float:
        """Share of the full learning rate in the next step."""
        return rate_factor(self.step, total, self.config.warmup_steps)

    def keep(self, *, scheduled: bool = True) -> Kept:
        """Save, calibrate and score the averaged weights."""
        with self.average.applied(self.network):
            return self.keeper.keep(self.network, self.step, scheduled=scheduled)

    def save(self, folder: Path) -> None:
        """Make it possible to go on from here."""
        states = (x.state_dict() for x in (self.network, self.optimizer, self.average))
        save_snapshot(folder, Snapshot(self.step, self.keeper.seconds, self.keeper.best, self.keeper.record, *states))

    def go_on(self, folder: Path) -> None:
        """Become what was saved last."""
        snapshot = load_snapshot(folder, self.keeper.record)
        for part in ("network", "optimizer", "average"):
            getattr(self, part).load_state_dict(getattr(snapshot, part))
        self.step = snapshot.step
        self.keeper.go_on(snapshot)


def _loop(trainer: _Trainer, tiles: TileSet, run: Run) -> TrainSummary:
    config, keeper = trainer.config, trainer.keeper
    order = list(batches(len(tiles), config.batch_size, config.epochs, config.seed))
    total, per_epoch = len(order), len(order) // config.epochs
    labels = torch.from_numpy(tiles.labels).float()
    stopping = False

    trainer.network.train()
    while trainer.step < total and not stopping:
        batch, rate = order[trainer.step], trainer.rate(total)
        losses = trainer.advance(torch.from_numpy(tiles.images(batch)), labels[batch], total)
        step = trainer.step
        stopping = run.stop_requested()
        run.advance(step, total, "steps")
        if step % _LOG_EVERY == 0 or step == total or stopping:
            keeper.log_losses(step, rate, losses.numbers())
        epochs, rest = divmod(step, per_epoch)
        if rest == 0 and config.validate_every and epochs % config.validate_every == 0 and step < total:
            trainer.keep()
        if stopping or rest == 0:
            trainer.save(run.folder)

    run.say("calibrating")
    kept = trainer.keep(scheduled=trainer.step == total)
    if trainer.step == total:
        keeper.end()
    return TrainSummary(kept.last, kept.best, trainer.step, total, kept.report)


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
