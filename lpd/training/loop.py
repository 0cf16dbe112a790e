"""The training loop: image-level labels in, a calibrated checkpoint in a run folder out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lpd.data.tiles import TileSet
from lpd.errors import DatasetError, RunError
from lpd.evaluation.report import check_fit
from lpd.model.inputs import to_network_input
from lpd.model.network import LPDNet, check_tile_px
from lpd.recipe.config import TrainConfig
from lpd.recipe.run_files import RESUME
from lpd.runs import Run
from lpd.training.depthwise import hasten_depthwise
from lpd.training.distribution import Distribution, SharedObjective, Team
from lpd.training.feeding import feeding
from lpd.training.fitting_memory import enough_memory, training_cure
from lpd.training.keeping import Keeper, Kept
from lpd.training.objective import Losses, Objective
from lpd.training.precision import settled
from lpd.training.resuming import Snapshot, load_snapshot, save_snapshot
from lpd.training.schedule import AveragedWeights, batches, rate_factor, step_seed
from lpd.training.setup import build_network, build_optimizer
from lpd.training.unfinished import check_untrained
from lpd.training.usage import Usage

_LOG_EVERY = 10
#: What of a trainer goes into a snapshot.
STATES = ("network", "extra", "optimizer", "average", "scaler")


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


def train(
    config: TrainConfig,
    tiles: TileSet,
    valid: TileSet | None,
    run: Run,
    *,
    device: torch.device | str = "cpu",
    replace: bool = False,
    resume: bool = False,
    distribution: Distribution | None = None,
) -> TrainSummary:
    """Train one network and leave ``last.safetensors``, ``best.safetensors`` and ``metrics.jsonl`` in the run's folder.

    A stop request ends the training after the step in hand; what was learned until then is calibrated and saved. An
    unfinished training, stopped or killed, goes on with ``resume`` where it last saved itself (after each epoch and
    when stopped), and on a CPU ends with the very weights that it would have had without the interruption.

    Several processes, each calling this with its own ``distribution`` inside
    :func:`~lpd.training.distribution.connected`, share every batch and end with the weights of a single process within
    rounding; those of drop path (each process draws its own) and L_sim (pairs of its own tiles) excepted. The first one
    writes; an error or stop request of one is one of all. Any number of processes may go on with the work of another.

    Args:
        config: all settings.
        tiles: training tiles with image-level labels.
        valid: tiles with masks, to score and to choose ``best`` by, or None. Training never sees the masks.
        run: an entered run; a :class:`~lpd.training.distribution.FollowerRun` where the process does not lead.
        device: where to train, of this process alone.
        replace: delete the model of an earlier training in the folder.
        resume: go on with the unfinished training in the folder, which every process must see.
        distribution: which of several processes this one is; None for a single one.

    Raises:
        RunError: the folder holds a model already, cannot be written, or (``resume``) holds no unfinished training, or
            one with other settings or data.
        ConfigError: the settings do not fit the encoder or its weights file.
        DatasetError: a tile or mask cannot be read, or the valid split is of other classes or another resolution.
        CheckpointError: the weights file does not fit, the training diverged, or the disk refuses.
    """
    team, device = Team(distribution), torch.device(device)
    if not replace and not resume:
        team.lead(partial(check_untrained, run.folder))
    # Random numbers of layers (initial weights, drop path) come from torch's global state, borrowed for the while.
    config = with_precision(config, device, team)
    with torch.random.fork_rng(team.borrowed(device)), enough_memory("this training", training_cure(config)):
        trainer = team.together(partial(set_up, config, tiles, valid, run.folder, device, team))
        with trainer.keeper.metrics:
            team.together(partial(trainer.begin, run, resume=resume))
            return _loop(trainer, tiles, run)


def set_up(
    config: TrainConfig, tiles: TileSet, valid: TileSet | None, folder: Path, device: torch.device, team: Team
) -> Trainer:
    """A trainer before its first step; settings and data that do not fit are found here, before anything is written."""
    check_every_class_is_shown(tiles)
    tiles.load()
    spec = config.input_spec(tiles.info.mpp, tiles.tile_px)
    if valid is not None and team.leads:
        check_fit(valid, spec, tiles.info.scheme)
        for index in range(len(valid)):  # what cannot be read is better found now than after the training
            valid.mask(index)
            valid.images([index])
    torch.manual_seed(config.loop.seed)
    network, origins = build_network(config, tiles.info.scheme)
    check_tile_px(network, tiles.tile_px)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
    if device.type == "cpu":
        hasten_depthwise(network.encoder)
    team.share_batch_norms(network)
    return Trainer(config, network, Keeper(config, tiles, valid, folder, origins, leads=team.leads), team)


def with_precision(config: TrainConfig, device: torch.device, team: Team) -> TrainConfig:
    """The settings with a precision that every process computes in, so that the record says what was done."""
    precision = settled(config.loop.precision, device)
    if team.any(lambda: precision == "fp32"):
        precision = "fp32"
    return replace(config, loop=replace(config.loop, precision=precision))


def check_every_class_is_shown(tiles: TileSet) -> None:
    """Make sure that there is something to learn of every class.

    Raises:
        DatasetError: no tile shows some class.
    """
    for code, count in zip(tiles.info.scheme.codes, tiles.labels.sum(0), strict=True):
        if not count:
            raise DatasetError(
                f"none of the {len(tiles)} {tiles.split} tiles of {tiles.info.name!r} shows class {code}: add tiles "
                "that do, or take the class out of dataset.yaml and its digit out of the file names"
            )


class Trainer:
    """Network, losses, optimiser and average of one training, and where it is.

    Attributes:
        step: optimiser steps done.
    """

    def __init__(self, config: TrainConfig, network: LPDNet, keeper: Keeper, team: Team) -> None:
        self.config, self.network, self.keeper, self.team = config, network, keeper, team
        self.objective = Objective(network, config, keeper.spec).to(network.device)
        self.shared = SharedObjective(self.objective, team)
        self.extra: nn.Module = self.objective.similarity or nn.Module()  # what learns beside the network
        self.optimizer = build_optimizer(network, config, self.extra.parameters())
        self.average = AveragedWeights(network, config.optimizer.ema_decay)
        self.scaler = torch.amp.GradScaler(network.device.type, enabled=config.loop.precision == "fp16")
        self.step = 0
        if config.loop.compile:
            network.compile()

    def advance(self, tiles: Tensor, labels: Tensor, share: float, total: int) -> Losses:
        """Do the next of ``total`` steps.

        Args:
            tiles: (B', H, H, 3) uint8, varied, on the network's device; this process's part of the batch.
            labels: (B', C).
            share: of the part in the batch.
            total: steps of the whole training.

        Returns:
            The losses of the part.
        """
        config, device = self.config, self.network.device
        # The network's own random numbers, such as drop path, and the choice of pairs for L_sim.
        torch.manual_seed(step_seed(config.loop.seed, self.step, self.team.rank))
        images = to_network_input(tiles, self.keeper.spec)
        joined = self.step >= config.losses.first_step(total)
        if joined:
            self.objective.refresh(self.average)
        loss, losses = self.shared(images, labels.to(device), joined=joined, share=share)
        self._descend(loss, total)
        self.average.update(self.network)
        self.step += 1
        return losses

    def _descend(self, loss: Tensor, total: int) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * self.rate(total)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # untyped in torch
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.objective.parameters(), self.config.optimizer.gradient_clip or float("inf"))
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def rate(self, total: int) -> float:
        """Share of the full learning rate in the next step."""
        return rate_factor(self.step, total, self.config.optimizer.warmup_steps, self.config.optimizer.power)

    def keep(self, *, scheduled: bool = True) -> Kept:
        """Save, calibrate and score the averaged weights."""
        with self.average.applied(self.network):
            return self.keeper.keep(self.network, self.step, scheduled=scheduled)

    def save(self, folder: Path) -> None:
        """Make it possible to go on from here."""
        states = {part: getattr(self, part).state_dict() for part in STATES}
        save_snapshot(folder, Snapshot(self.step, self.keeper.seconds, self.keeper.best, self.keeper.record, states))

    def begin(self, run: Run, *, resume: bool) -> None:
        """Clear the folder for a new training, or (``resume``) become what was saved last in it."""
        if resume:
            self._go_on(run.folder)
        elif self.team.leads:
            self.keeper.begin()
        if self.keeper.metrics.notice:
            run.say(self.keeper.metrics.notice)

    def _go_on(self, folder: Path) -> None:
        snapshot = load_snapshot(folder, self.keeper.record)
        try:
            for part in STATES:
                getattr(self, part).load_state_dict(snapshot.states[part])
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunError(
                f"{folder / RESUME} does not fit this network; it is damaged, or another version of lpd, torch or timm "
                "saved it: go on with that version, or start anew with --force"
            ) from error
        self.step = snapshot.step
        if self.team.leads:
            self.keeper.go_on(snapshot)


def _loop(trainer: Trainer, tiles: TileSet, run: Run) -> TrainSummary:
    config, keeper, team = trainer.config, trainer.keeper, trainer.team
    epochs_planned, every = config.optimizer.epochs, config.loop.validate_every
    order = list(batches(len(tiles), config.optimizer.batch_size, epochs_planned, config.loop.seed))
    total, per_epoch = len(order), len(order) // epochs_planned
    labels = torch.from_numpy(tiles.labels).float()
    stopping = False

    trainer.network.train()
    device = trainer.network.device
    usage = Usage(device)
    with feeding(tiles, order, trainer.step, config.augment, config.loop.seed, team.part, device) as varied:
        while trainer.step < total and not stopping:
            rate, batch = trainer.rate(total), order[trainer.step]
            part = team.part(len(batch))
            with usage.waiting():
                own = team.together(partial(next, varied))
            losses = trainer.advance(own, labels[batch[part.tiles]], part.share, total)
            step = trainer.step
            stopping = team.any(partial(_report, run, step, total))
            if step % _LOG_EVERY == 0 or step == total or stopping:
                mean = team.mean(losses.numbers(), part.share)
                team.lead(partial(keeper.log_losses, step, rate, mean, usage.take()))
            epochs, rest = divmod(step, per_epoch)
            if rest == 0 and every and epochs % every == 0 and step < total:
                team.lead(trainer.keep)
            if stopping or rest == 0:
                team.lead(partial(trainer.save, run.folder))

    team.lead(partial(run.say, "calibrating"))
    kept = team.lead(partial(trainer.keep, scheduled=trainer.step == total))
    if trainer.step == total:
        team.lead(keeper.end)
    return TrainSummary(kept.last, kept.best, trainer.step, total, kept.report)


def _report(run: Run, step: int, total: int) -> bool:
    """Say how far the training is; whether somebody asked to stop it."""
    asked = run.stop_requested()
    run.advance(step, total, "steps")
    return asked
