"""Keeper: everything a training leaves in its folder: settings, metrics, checkpoints."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lpd.data.tiles import TileSet
from lpd.errors import CheckpointError, RunError
from lpd.evaluation.report import evaluate
from lpd.model.checkpoint import load_checkpoint, save_checkpoint
from lpd.model.header import CheckpointInfo
from lpd.model.network import LPDNet
from lpd.model.scoring import default_calibration
from lpd.runs import write_json_atomically
from lpd.training.calibrating import calibrate
from lpd.training.config import TrainConfig
from lpd.training.setup import Origin

LAST, BEST, METRICS, CONFIG = "last.safetensors", "best.safetensors", "metrics.jsonl", "config.json"


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
    """Writes into one run folder, in which no finished training may lie (unless it shall be replaced)."""

    def __init__(
        self, config: TrainConfig, tiles: TileSet, valid: TileSet | None, folder: Path, origin: Origin
    ) -> None:
        """Clear what an earlier run left and store the settings.

        Raises:
            RunError: the folder cannot be written.
        """
        self.spec = config.input_spec(tiles.info.mpp, tiles.tile_px)
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
        self._best: float | None = None
        self._start = time.monotonic()
        with _writing(folder):
            for leftover in (METRICS, LAST, BEST):
                (folder / leftover).unlink(missing_ok=True)
        write_json_atomically(folder / CONFIG, self._record["settings"])

    def log_losses(self, step: int, rate: float, losses: Mapping[str, float]) -> None:
        """Append one line of metrics; ``losses`` holds ``loss`` and its parts.

        Raises:
            CheckpointError: the loss is no longer a number.
            RunError: the line cannot be written.
        """
        if not np.isfinite(losses["loss"]):
            raise CheckpointError(f"training diverged at step {step} (loss {losses['loss']}): lower the learning rate")
        self._log({"step": step, "rate": rate, **losses})

    def keep(self, network: LPDNet, step: int) -> Kept:
        """Save, calibrate and score the network as it stands.

        It is saved before it is scored, so that nothing found in the valid split can lose it; calibrated and scored is
        what the file holds, in its own precision.

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
            notice=self._notice(),
            training=self._training(step),
        )
        save_checkpoint(last, network, info, dtype="float16")
        with torch.random.fork_rng():  # a network is built with random numbers; looking must not change the training
            stored, _ = load_checkpoint(last, network.prototypes.device)
        calibration = calibrate(stored, self._tiles, self.spec, self._config.fusion_weights)
        info = dataclasses.replace(info, calibration=calibration, training=self._training(step))
        save_checkpoint(last, stored, info, dtype="float16")
        if self._valid is None:
            return Kept(last, None, None)
        report = evaluate(stored, self._valid, self.spec, info.classes, calibration)
        self._log({"step": step, "valid": report["gates"], "jeffreys_similarity": report["jeffreys_similarity"]})
        info = dataclasses.replace(info, scores={"valid": report}, training=self._training(step))
        save_checkpoint(last, stored, info, dtype="float16")
        return Kept(last, self._keep_best(stored, info, report), report)

    def _training(self, step: int) -> dict[str, Any]:
        return {**self._record, "steps": step, "seconds": round(time.monotonic() - self._start, 1)}

    def _keep_best(self, network: LPDNet, info: CheckpointInfo, report: Mapping[str, Any]) -> Path | None:
        score, best = report["gates"]["predicted"]["ignored"]["miou"], self._folder / BEST
        if score is not None and (self._best is None or score > self._best):
            self._best = score
            save_checkpoint(best, network, info, dtype="float16")
        return None if self._best is None else best

    def _notice(self) -> str:
        licence = self._tiles.info.licence
        weights = self._record["encoder_weights"]["notice"]
        return f"{licence}; {weights}" if weights else licence

    def _log(self, entry: Mapping[str, Any]) -> None:
        line = {**entry, "seconds": round(time.monotonic() - self._start, 2)}
        with _writing(self._folder), (self._folder / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise RunError(f"cannot write to {folder} ({reason}): free some space or choose another folder") from error
