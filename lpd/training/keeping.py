"""Keeper: everything a training leaves in its folder: settings, metrics, previews, checkpoints."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lpd.config import Calibration
from lpd.data.dataset_info import NOT_STATED
from lpd.data.tiles import TileSet
from lpd.errors import CheckpointError
from lpd.evaluation.report import Measured, measure
from lpd.model.checkpoint import load_checkpoint, save_checkpoint
from lpd.model.header import CheckpointInfo
from lpd.model.network import LPDNet
from lpd.model.scoring import default_calibration
from lpd.recipe.config import TrainConfig
from lpd.recipe.run_files import BEST, CONFIG, LAST, RESUME
from lpd.recipe.settings_file import to_yaml
from lpd.runs import replacing
from lpd.training.calibrating import calibrate
from lpd.training.metrics import MetricsLog, writing
from lpd.training.objective import LOSS_NAMES
from lpd.training.previews import forget_previews, preview_tiles, save_preview, validation_preview
from lpd.training.resuming import Snapshot
from lpd.training.setup import Origin


@dataclass(frozen=True)
class Kept:
    """What :meth:`Keeper.keep` wrote.

    Attributes:
        last: checkpoint of the weights it was given.
        best: the checkpoint that scored best so far, None without scores.
        report: evaluation of ``last`` on the valid split, see :func:`lpd.evaluation.report.evaluate`; None without one.
    """

    last: Path
    best: Path | None
    report: Mapping[str, Any] | None


class Keeper:
    """Writes into one run folder, in which no finished training may lie (unless it shall be replaced).

    Attributes:
        spec: what the network expects to be fed.
        record: settings, encoder weights and data, as every checkpoint says them.
        best: highest score on the valid split so far, None without one.
    """

    def __init__(
        self,
        config: TrainConfig,
        tiles: TileSet,
        valid: TileSet | None,
        folder: Path,
        origins: Mapping[str, Origin],
        *,
        leads: bool = True,
    ) -> None:
        """Touch nothing yet; :meth:`begin` or :meth:`go_on` comes next.

        Args:
            config: all settings.
            tiles: what is learnt from.
            valid: what is scored on, if anything is.
            folder: of the run.
            origins: where weights came from.
            leads: whether this process writes; another knows nothing of ``valid``, and compares none with a snapshot's.
        """
        self.spec = config.input_spec(tiles.info.mpp, tiles.tile_px)
        self._config, self._tiles, self._valid, self._folder = config, tiles, valid, folder
        self.metrics = MetricsLog(folder, LOSS_NAMES, tensorboard=config.loop.tensorboard)
        self.record: dict[str, Any] = {
            "settings": _nameless(config.to_dict()),
            **{part: asdict(file) for part, file in origins.items()},
            "data": {
                "name": tiles.info.name,
                "tiles": len(tiles),
                "fingerprint": tiles.fingerprint(),
                "tile_px": tiles.tile_px,
                "mpp": tiles.info.mpp,
                "classes": list(tiles.info.scheme.codes),
                "licence": tiles.info.licence,
            },
        }
        if leads:
            self.record["valid"] = None if valid is None else _split_record(valid)
        self.best: float | None = None
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        """Of work so far, what was done before an interruption included."""
        return time.monotonic() - self._start

    def begin(self) -> None:
        """Clear what an earlier run left and store the settings.

        Raises:
            RunError: the folder cannot be written.
        """
        with writing(self._folder):
            for leftover in (LAST, BEST, RESUME):
                (self._folder / leftover).unlink(missing_ok=True)
            with replacing(self._folder / CONFIG) as temporary:
                temporary.write_text(to_yaml(self._config), encoding="utf-8")
        forget_previews(self._folder)
        self.metrics.begin()

    def go_on(self, snapshot: Snapshot) -> None:
        """Continue an interrupted run: forget what was logged after the snapshot, which will come again.

        Raises:
            RunError: the metrics cannot be read or written.
        """
        self.best = snapshot.best
        self._start = time.monotonic() - snapshot.seconds
        forget_previews(self._folder, after=snapshot.step)
        self.metrics.go_on(snapshot.step)

    def end(self) -> None:
        """The training is finished: nobody needs to go on with it."""
        with writing(self._folder):
            (self._folder / RESUME).unlink(missing_ok=True)

    def log_losses(
        self, step: int, rate: float, losses: Mapping[str, float], usage: Mapping[str, float | None]
    ) -> None:
        """Log the losses of a step, those of ``LOSS_NAMES``, and the use of the device, see :class:`Usage`.

        Raises:
            CheckpointError: the loss is no longer a number.
            RunError: they cannot be written.
        """
        if not np.isfinite(losses["loss"]):
            raise CheckpointError(f"training diverged at step {step} (loss {losses['loss']}): lower the learning rate")
        self.metrics.losses(step, rate, losses, self.seconds, usage)

    def keep(self, network: LPDNet, step: int, *, scheduled: bool = True) -> Kept:
        """Save, calibrate and score the network as it stands.

        Where somebody stopped the training (not ``scheduled``) the score is neither logged nor compared with the best:
        a training that goes on must not know that it was looked at. The network is saved before it is scored, so that
        nothing found in the valid split can lose it; calibrated and scored is what the file holds, in its own
        precision.

        Raises:
            CheckpointError: a weight is no number, or the file cannot be written.
            DatasetError: a tile cannot be read.
        """
        last = self._folder / LAST
        if not all(bool(torch.isfinite(p).all()) for p in network.parameters()):
            raise CheckpointError(f"training diverged before step {step}: lower the learning rate")
        info = CheckpointInfo(
            path=last,
            classes=self._tiles.info.scheme,
            input=self.spec,
            model=network.config,
            calibration=default_calibration(network.config),
            prototype_source=self._config.prototypes.source,
            notice=self._notice(),
            training=self._training(step),
        )
        save_checkpoint(last, network, info, dtype="float16")
        stored, _ = load_checkpoint(last, network.device)
        calibration = calibrate(stored, self._tiles, self.spec, self._config.cam.fusion_weights)
        info = dataclasses.replace(info, calibration=calibration, training=self._training(step))
        save_checkpoint(last, stored, info, dtype="float16")
        if self._valid is None:
            return Kept(last, None, None)
        measured = measure(stored, self._valid, self.spec, info.classes, calibration)
        report = measured.report
        if scheduled:
            self.metrics.validation(step, report, self.seconds)
            self._draw(stored, calibration, step, measured)
        info = dataclasses.replace(info, scores={"valid": report}, training=self._training(step))
        save_checkpoint(last, stored, info, dtype="float16")
        if scheduled:
            self._keep_best(stored, info, report)
        return Kept(last, None if self.best is None else self._folder / BEST, report)

    def _training(self, step: int) -> dict[str, Any]:
        return {**self.record, "steps": step, "seconds": round(self.seconds, 1)}

    def _keep_best(self, network: LPDNet, info: CheckpointInfo, report: Mapping[str, Any]) -> None:
        score, best = report["gates"]["predicted"]["ignored"]["miou"], self._folder / BEST
        if score is not None and (self.best is None or score > self.best):
            self.best = score
            save_checkpoint(best, network, info, dtype="float16")

    def _notice(self) -> str:
        licence = self._tiles.info.licence
        if licence == NOT_STATED:
            licence = "licence of its training data not stated"
        weights = self.record["encoder_weights"]["notice"]
        return f"{licence}; {weights}" if weights else licence

    def _draw(self, network: LPDNet, calibration: Calibration, step: int, measured: Measured) -> None:
        assert self._valid is not None
        if not self._config.loop.previews:
            return
        shown = preview_tiles([score.miou for score in measured.tiles], self._config.loop.previews)
        picture = validation_preview(
            network,
            self._valid,
            self.spec,
            self._valid.info.scheme,
            calibration,
            list(shown),
            step=step,
            miou=measured.report["gates"]["predicted"]["ignored"]["miou"],
            notes=list(shown.values()),
        )
        save_preview(self._folder, step, picture)
        self.metrics.pictures(step, {"valid": picture})


def _split_record(valid: TileSet) -> dict[str, Any]:
    """What scores depend on: two networks scored on other masks cannot be compared."""
    info = valid.info
    return {"background": info.background, "ignore": info.ignore, "fingerprint": valid.fingerprint()}


def _nameless(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings that travel with a checkpoint: files by their bare names, for where they lay is nobody's business."""
    for part, name in (("encoder", "weights"), ("prototypes", "bank")):
        settings[part][name] = Path(settings[part][name]).name
    similarity = settings["losses"]["similarity"]
    similarity["weights"] = Path(similarity["weights"]).name
    return settings
