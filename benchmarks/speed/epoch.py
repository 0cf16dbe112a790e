"""A training of BCSS's size, projected from the rate of a real training on as many tiles as there are."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks.speed.ours import default_settings
from benchmarks.speed.scene import Scene
from benchmarks.speed.timing import Row
from lpd.errors import DatasetError
from lpd.runs import Progress, Run
from lpd.training.loop import train

#: BCSS-WSSS.
TILES, EPOCHS = 23_422, 8
_SKIPPED = 5  # first steps of an epoch: they find kernels, or wait for the first tiles


class _ClockedRun(Run):
    """A run that remembers when each step was reported."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "train")
        self.times: list[float] = []

    def advance(self, done: int, total: int, unit: str = "tiles") -> Progress:
        """Note the time and report as usual."""
        self.times.append(time.perf_counter())
        return super().advance(done, total, unit)


def epoch(scene: Scene) -> list[Row]:
    """Train for two epochs, the first with tiles from files, without a tower, L_div in every step; project minutes."""
    tiles = scene.tiles("train")
    if len(tiles) < 2 * scene.batch_size:
        raise DatasetError(f"{scene.folder} has {len(tiles)} train tiles: an epoch needs {2 * scene.batch_size}")
    precision = "bf16" if scene.half is not None else "fp32"
    settings = (f"loop.precision={precision}", "optimizer.epochs=2", f"optimizer.batch_size={scene.batch_size}")
    config = default_settings(scene.encoder, scene.per_class[0], *settings, *_compiled(scene))
    with tempfile.TemporaryDirectory(prefix="lpd-speed-") as temporary:
        run = _ClockedRun(Path(temporary))
        with run:
            train(config, tiles, None, run, device=scene.device)
            end = time.perf_counter()
    steps = len(run.times) // 2
    first, second = _pace(run.times[:steps]), _pace(run.times[steps:])
    saving = run.times[steps] - run.times[steps - 1]
    calibrating = (end - run.times[-1]) / len(tiles) * TILES
    per_epoch = -(-TILES // scene.batch_size)
    seconds = per_epoch * (first + (EPOCHS - 1) * second) + EPOCHS * saving + calibrating
    case = f"{scene.encoder}, {precision}, {steps} steps an epoch"
    note = f"{TILES} tiles × {EPOCHS} epochs: {seconds / 60:.1f} minutes, {calibrating:.0f} s of it calibrating"
    names = ("first epoch, from files", "second epoch, from memory")
    return [
        Row("epoch", case, name, 1000 * pace, scene.batch_size, first / pace, first / pace, first / pace, text)
        for name, pace, text in zip(names, (first, second), ("", note), strict=True)
    ]


def _pace(times: list[float]) -> float:
    """Seconds a step, on average: on a GPU single steps are only queued, and many of them wait together."""
    counted = times[min(_SKIPPED, len(times) - 2) :]
    return (counted[-1] - counted[0]) / (len(counted) - 1)


def _compiled(scene: Scene) -> tuple[str, ...]:
    return ("loop.compile=true",) if scene.compiled else ()
