"""A training of the page is the command that a person would type: the same losses, number for number."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from lpd.cli import main
from lpd.recipe.run_files import METRICS
from viewers.checkpoints import Checkpoints
from viewers.train.datasets import DataSets
from viewers.train.weights import Starts
from viewers.train.wishes import NewTraining, plan

from .conftest import write_set

SETTINGS = {
    "encoder.name": "test_convnext",
    "prototypes.dim": "16",
    "optimizer.epochs": "2",
    "optimizer.batch_size": "2",
    "loop.seed": "3",
}
TYPED = "--preset tiny --device cpu --set encoder.weights=none " + " ".join(f"{k}={v}" for k, v in SETTINGS.items())


def losses(folder: Path) -> list[dict[str, float]]:
    entries = [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]
    return [
        {k: v for k, v in entry.items() if k not in ("seconds", "busy", "memory_mb")}
        for entry in entries
        if "loss" in entry
    ]


def test_the_page_the_command_it_shows_and_one_typed_by_hand_train_alike(tmp_path: Path):
    write_set(tmp_path / "data" / "my set")
    data_sets, starts = DataSets(tmp_path / "data"), Starts(tmp_path / "weights", Checkpoints(tmp_path))
    (data,) = data_sets.all()
    new = NewTraining(name="by page", data=data.id, preset="tiny", device="cpu", settings=SETTINGS)
    planned = plan(new, data_sets, starts, tmp_path / "queue")
    (wish,) = planned.wishes
    (shown,) = planned.describe(("python", "-m", "lpd"), tmp_path / "as shown")["commands"]
    started = [*wish.arguments, "--out", str(tmp_path / "as shown" / "by page")]
    assert shlex.split(shown)[3:] == started
    assert main(started) == 0
    typed = ["train", "--data", str(tmp_path / "data" / "my set"), *TYPED.split(), "--out", str(tmp_path / "typed")]
    assert main(typed) == 0
    by_hand = losses(tmp_path / "typed")
    assert [entry["step"] for entry in by_hand] == [4]
    assert losses(tmp_path / "as shown" / "by page") == by_hand
