"""An interrupted training goes on as if nothing had happened, and never by mistake with something else."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from lpd.data.tiles import TileSet
from lpd.errors import RunError
from lpd.evaluation.report import measure
from lpd.model.header import read_info
from lpd.recipe.config import TrainConfig
from lpd.recipe.run_files import METRICS, RESUME
from lpd.recipe.settings_file import changed, read_config
from lpd.runs import Run, read_state, request_stop
from lpd.training import keeping
from lpd.training.loop import train
from lpd.training.schedule import step_seed
from lpd.training.unfinished import check_untrained

# Drop path, batch norms, augmentation, averaging and looks at the valid split: everything that has a memory.
CONFIG = read_config(
    overrides=[
        "encoder.name=test_resnet",
        "encoder.weights=none",
        "encoder.options={drop_path_rate: 0.5, zero_init_last: false}",  # else the dropped paths are 0 anyway
        "prototypes.dim=16",
        "losses.similarity={tower: ema, pair_cap: 2, masking: features}",
        "optimizer.epochs=3",
        "optimizer.batch_size=2",
        "optimizer.warmup_steps=2",
        "loop.validate_every=1",
        "loop.seed=5",
        "loop.precision=fp32",
    ]
)


class Killed(BaseException):
    """Stands for kill -9: nothing of ours may catch it."""


class DyingRun(Run):
    """A run that dies, or is asked to stop, during a step."""

    last_step = 0
    dies = True

    def advance(self, done, total, unit="tiles"):
        if done == self.last_step:
            if self.dies:
                raise Killed
            request_stop(self.folder)
        return super().advance(done, total, unit)


def run_training(data: Path, out: Path, config: TrainConfig = CONFIG, kind=Run, **choices):
    torch.set_num_threads(1)
    with kind(out, "train") as run:
        return train(config, TileSet.open(data, "train"), TileSet.open(data, "valid"), run, **choices)


def metrics(out: Path) -> list[dict]:
    entries = [json.loads(line) for line in (out / METRICS).read_text().splitlines()]
    return [{k: v for k, v in entry.items() if k not in ("seconds", "busy", "memory_mb")} for entry in entries]


def interrupt(data: Path, out: Path, step: int, *, dies: bool) -> None:
    kind = type("Interrupted", (DyingRun,), {"last_step": step, "dies": dies})
    if dies:
        with pytest.raises(Killed):
            run_training(data, out, kind=kind)
    else:
        run_training(data, out, kind=kind)


def _rewrite(folder: Path, before: str, after: str) -> None:
    path = folder / "dataset.yaml"
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))


def _swap_classes(folder: Path) -> None:
    path = folder / "dataset.yaml"
    swap = {"DOT": "FOG", "FOG": "DOT"}
    path.write_text(re.sub("DOT|FOG", lambda match: swap[match[0]], path.read_text()))


def _other_masks(folder: Path) -> None:
    for path in (folder / "valid" / "mask").iterdir():
        mask = np.asarray(Image.open(path))
        Image.fromarray(np.where(mask == 3, mask, (mask + 1) % 3).astype(np.uint8)).save(path, compress_level=0)


@pytest.fixture(scope="module")
def straight(few_tiles, tmp_path_factory):
    out = tmp_path_factory.mktemp("straight")
    return out, run_training(few_tiles, out)


@pytest.mark.parametrize("dies", [True, False], ids=["killed", "stopped"])
@pytest.mark.parametrize("step", [4, 5, 7])  # of 9, three an epoch
def test_an_interrupted_training_ends_with_the_same_bytes(straight, few_tiles, tmp_path, step, dies):
    interrupt(few_tiles, tmp_path, step, dies=dies)
    assert (tmp_path / RESUME).exists()
    summary = run_training(few_tiles, tmp_path, resume=True)
    out, expected = straight
    assert summary.steps == 9
    assert not summary.stopped
    for name in ("last.safetensors", "best.safetensors"):
        one, other = load_file(tmp_path / name), load_file(out / name)
        assert all(torch.equal(one[key], other[key]) for key in other), name
    assert summary.report == expected.report
    planned = [entry for entry in metrics(tmp_path) if "valid" in entry or entry["step"] == 9]
    assert planned == metrics(out)
    assert not (tmp_path / RESUME).exists()
    assert read_state(tmp_path).state == "done"


def test_the_best_so_far_is_remembered(few_tiles, tmp_path, monkeypatch):
    scores = iter([0.4, 0.3, 0.2])  # at steps 3, 6 and 9

    def falling(*args):
        measured = measure(*args)
        measured.report["gates"]["predicted"]["ignored"]["miou"] = next(scores)
        return measured

    monkeypatch.setattr(keeping, "measure", falling)
    interrupt(few_tiles, tmp_path, 5, dies=True)
    summary = run_training(few_tiles, tmp_path, resume=True)
    assert [read_info(path).training["steps"] for path in (summary.best, summary.last)] == [3, 9]


def test_an_interruption_before_the_first_epoch_leaves_nothing_to_go_on_with(few_tiles, tmp_path):
    interrupt(few_tiles, tmp_path, 2, dies=True)
    with pytest.raises(RunError, match="no unfinished training: start it without --resume"):
        run_training(few_tiles, tmp_path, resume=True)
    assert run_training(few_tiles, tmp_path).steps == 9


def test_an_unfinished_training_is_neither_lost_nor_mixed_with_another(few_tiles, toy_tiles, tmp_path):
    interrupt(few_tiles, tmp_path, 5, dies=True)
    before = (tmp_path / RESUME).read_bytes()
    with pytest.raises(RunError, match="unfinished training: pass --resume to go on or --force"):
        check_untrained(tmp_path)
    with pytest.raises(RunError, match=r"another settings\.optimizer\.learning_rate \(0\.0001, now 0\.001\)"):
        run_training(few_tiles, tmp_path, changed(CONFIG, "optimizer.learning_rate=1e-3"), resume=True)
    with pytest.raises(RunError, match=r"another data\.tiles \(6, now 120\)"):
        run_training(toy_tiles, tmp_path, resume=True)
    assert (tmp_path / RESUME).read_bytes() == before
    assert run_training(few_tiles, tmp_path, resume=True).steps == 9


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda folder: _rewrite(folder, "mpp: 1.0", "mpp: 0.25"), r"another data\.mpp \(1\.0, now 0\.25\)"),
        (_swap_classes, r"another data\.classes \(\['DOT', 'BAR', 'FOG'\], now \['FOG', 'BAR', 'DOT'\]\)"),
        (lambda folder: _rewrite(folder, "background: 3", "background: 9"), r"another valid\.background \(3, now 9\)"),
        (_other_masks, r"another valid\.fingerprint"),
    ],
    ids=["resolution", "class order", "mask values", "masks"],
)
def test_a_training_does_not_go_on_with_other_data(few_tiles, tmp_path, change, says):
    interrupt(few_tiles, tmp_path / "run", 5, dies=True)
    other = shutil.copytree(few_tiles, tmp_path / "tiles")
    if "background" in says:
        for path in (other / "valid" / "mask").iterdir():
            mask = np.asarray(Image.open(path)).copy()
            mask[mask == 3] = 9
            Image.fromarray(mask).save(path, compress_level=0)
    change(other)
    with pytest.raises(RunError, match=says):
        run_training(other, tmp_path / "run", resume=True)


def test_a_failure_in_the_last_look_logs_it_once(few_tiles, tmp_path, monkeypatch):
    real = keeping.save_preview

    def full(folder, step, picture):
        if step == 9:
            raise RunError("no space")
        real(folder, step, picture)

    monkeypatch.setattr(keeping, "save_preview", full)
    with pytest.raises(RunError, match="no space"):
        run_training(few_tiles, tmp_path)
    monkeypatch.setattr(keeping, "save_preview", real)
    run_training(few_tiles, tmp_path, resume=True)
    assert [entry["step"] for entry in metrics(tmp_path) if "valid" in entry] == [3, 6, 9]
    rows = (tmp_path / "valid.csv").read_text().splitlines()[1:]
    assert len(rows) == len(set(rows)) == 27  # three looks, three gates, three background protocols


def test_a_damaged_snapshot_is_named(few_tiles, tmp_path):
    interrupt(few_tiles, tmp_path, 5, dies=True)
    whole = (tmp_path / RESUME).read_bytes()
    for content in (b"", b"nonsense", whole[: len(whole) // 2]):
        (tmp_path / RESUME).write_bytes(content)
        with pytest.raises(RunError, match=r"resume\.pt is damaged .* --force"):
            run_training(few_tiles, tmp_path, resume=True)


def test_a_snapshot_of_another_network_is_named(few_tiles, tmp_path):
    """As an update of lpd or timm that renames a layer would leave it."""
    interrupt(few_tiles, tmp_path, 5, dies=True)
    whole = torch.load(tmp_path / RESUME, weights_only=True)
    weights = whole["states"]["network"]
    fewer = {name: weights[name] for name in list(weights)[1:]}
    torch.save({**whole, "states": {**whole["states"], "network": fewer}}, tmp_path / RESUME)
    with pytest.raises(RunError, match=r"resume\.pt does not fit this network; .* --force"):
        run_training(few_tiles, tmp_path, resume=True)
    torch.save({**whole, "record": None}, tmp_path / RESUME)
    with pytest.raises(RunError, match=r"resume\.pt is damaged"):
        run_training(few_tiles, tmp_path, resume=True)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device"), "No space left"),
        (RuntimeError("[enforce fail at inline_container.cc:671]"), "(the disk is full or failing): free some space"),
    ],
)
def test_a_full_disk_keeps_the_snapshot_before(few_tiles, tmp_path, monkeypatch, error, said):
    interrupt(few_tiles, tmp_path, 4, dies=True)
    before, files = (tmp_path / RESUME).read_bytes(), []

    def full(_content, file):
        file.write(b"half")
        files.append(file)
        raise error

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(RunError, match=re.escape(said)):
        run_training(few_tiles, tmp_path, resume=True)
    assert [file.closed for file in files] == [True]  # or the disk stays full, and the run's last words are lost
    assert (tmp_path / RESUME).read_bytes() == before
    assert list(tmp_path.glob(".unfinished-*")) == []


def test_steps_have_seeds_of_their_own():
    seeds = {step_seed(seed, step) for seed in range(4) for step in range(100)}
    assert len(seeds) == 400
    assert all(0 <= seed < 2**63 for seed in seeds)
