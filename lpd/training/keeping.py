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
from lpd.runs import replacing, write_json_atomically
from lpd.training.calibrating import calibrate
from lpd.training.config import TrainConfig
from lpd.training.resuming import RESUME, Snapshot
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
    """Writes into one run folder, in which no finished training may lie (unless it shall be replaced).

    Attributes:
        spec: what the network expects to be fed.
        record: settings, encoder weights and data, as every checkpoint says them.
        best: highest score on the valid split so far, None without one.
    """

    def __init__(
        self, config: TrainConfig, tiles: TileSet, valid: TileSet | None, folder: Path, origin: Origin
    ) -> None:
        """Touch nothing yet; :meth:`begin` or :meth:`go_on` comes next."""
        self.spec = config.input_spec(tiles.info.mpp, tiles.tile_px)
        self._config, self._tiles, self._valid, self._folder = config, tiles, valid, folder
        self.record: dict[str, Any] = {
            "settings": {**config.to_dict(), "encoder_weights": origin.file},
            "encoder_weights": asdict(origin),
            "data": {
                "name": tiles.info.name,
                "tiles": len(tiles),
                "fingerprint": tiles.fingerprint(),
                "licence": tiles.info.licence,
            },
        }
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
        with _writing(self._folder):
            for leftover in (METRICS, LAST, BEST, RESUME):
                (self._folder / leftover).unlink(missing_ok=True)
        write_json_atomically(self._folder / CONFIG, self.record["settings"])

    def go_on(self, snapshot: Snapshot) -> None:
        """Continue an interrupted run: forget what was logged after the snapshot, which will come again.

        Raises:
            RunError: the metrics cannot be read or written.
        """
        self.best = snapshot.best
        self._start = time.monotonic() - snapshot.seconds
        path = self._folder / METRICS
        with _writing(self._folder):
            lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
            with replacing(path) as temporary:
                temporary.write_text("".join(f"{ln}\n" for ln in lines if _step(ln) <= snapshot.step), encoding="utf-8")

    def end(self) -> None:
        """The training is finished: nobody needs to go on with it."""
        with _writing(self._folder):
            (self._folder / RESUME).unlink(missing_ok=True)

    def log_losses(self, step: int, rate: float, losses: Mapping[str, float]) -> None:
        """Append one line of metrics; ``losses`` holds ``loss`` and its parts.

        Raises:
            CheckpointError: the loss is no longer a number.
            RunError: the line cannot be written.
        """
        if not np.isfinite(losses["loss"]):
            raise CheckpointError(f"training diverged at step {step} (loss {losses['loss']}): lower the learning rate")
        self._log({"step": step, "rate": rate, **losses})

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
            notice=self._notice(),
            training=self._training(step),
        )
        save_checkpoint(last, network, info, dtype="float16")
        stored, _ = load_checkpoint(last, network.prototypes.device)
        calibration = calibrate(stored, self._tiles, self.spec, self._config.fusion_weights)
        info = dataclasses.replace(info, calibration=calibration, training=self._training(step))
        save_checkpoint(last, stored, info, dtype="float16")
        if self._valid is None:
            return Kept(last, None, None)
        report = evaluate(stored, self._valid, self.spec, info.classes, calibration)
        if scheduled:
            self._log({"step": step, "valid": report["gates"], "jeffreys_similarity": report["jeffreys_similarity"]})
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
        weights = self.record["encoder_weights"]["notice"]
        return f"{licence}; {weights}" if weights else licence

    def _log(self, entry: Mapping[str, Any]) -> None:
        line = {**entry, "seconds": round(self.seconds, 2)}
        with _writing(self._folder), (self._folder / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _step(line: str) -> float:
    """The step of a line of metrics; none that a killed process left half written is to stay."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise RunError(f"cannot write to {folder} ({reason}): free some space or choose another folder") from error
