"""What a training leaves in its run folder: loadable checkpoints, honest records, and the same result for one seed."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lpd.data.tiles import TileSet
from lpd.data.transforms import augment
from lpd.errors import CheckpointError, ConfigError, DatasetError, RunError
from lpd.evaluation.report import evaluate, measure
from lpd.model.checkpoint import load_checkpoint
from lpd.model.encoders import build_encoder
from lpd.model.header import read_info
from lpd.model.network import LPDNet
from lpd.recipe.config import TrainConfig
from lpd.recipe.settings_file import changed, read_config
from lpd.runs import Run, read_state, request_stop
from lpd.training import feeding, keeping, loop, metrics
from lpd.training.loop import train
from lpd.training.setup import build_network, build_optimizer

QUICK = read_config(
    overrides=[
        "encoder.name=test_convnext",
        "encoder.weights=none",
        "prototypes.dim=16",
        "optimizer.epochs=2",
        "optimizer.batch_size=3",
        "optimizer.warmup_steps=1",
        "loop.seed=5",
        "loop.precision=fp32",
    ]
)

#: Its drop path and batch norms behave in another way in training than in evaluation.
WITH_NORMS = changed(QUICK, "encoder.name=test_resnet", "encoder.options={drop_path_rate: 0.3, zero_init_last: false}")


def run_training(config: TrainConfig, tiles: Path, out: Path, *, replace: bool = False):
    torch.set_num_threads(1)
    with Run(out, "train") as run:
        return train(config, TileSet.open(tiles, "train"), TileSet.open(tiles, "valid"), run, replace=replace)


def weights(summary) -> dict[str, torch.Tensor]:
    return load_file(summary.last)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def finished(few_tiles, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    return out, run_training(changed(QUICK, "loop.validate_every=1"), few_tiles, out)


def test_the_checkpoint_carries_everything_needed_to_run_it(finished, few_tiles):
    out, summary = finished
    network, info = load_checkpoint(summary.last)
    tiles = TileSet.open(few_tiles, "train")
    assert isinstance(network, LPDNet)
    assert (info.classes, info.input.mpp, info.input.tile_px) == (tiles.info.scheme, 1.0, 128)
    assert info.calibration.fusion_weights == QUICK.cam.fusion_weights
    assert info.training["data"]["fingerprint"] == tiles.fingerprint()
    assert info.training["steps"] == summary.steps == 4
    assert info.training["encoder_weights"]["file"] == "none"
    assert info.notice == "synthetic"
    assert info.scores["valid"]["gates"] == summary.report["gates"]
    assert read_state(out).state == "done"


def test_no_path_of_this_machine_is_recorded(finished, few_tiles):
    out, summary = finished
    for path in (summary.last, summary.best, out / "metrics.jsonl", out / "config.yaml"):
        assert str(few_tiles.parent).encode() not in path.read_bytes()
        assert str(out).encode() not in path.read_bytes()


def test_metrics_are_one_json_object_a_line(finished):
    entries = [json.loads(line) for line in (finished[0] / "metrics.jsonl").read_text().splitlines()]
    assert [e["step"] for e in entries if "valid" in e] == [2, 4]
    losses = [e for e in entries if "loss" in e]
    assert losses[-1]["step"] == 4
    assert losses[-1]["loss"] == pytest.approx(losses[-1]["classification"] + 0.5 * losses[-1]["diversity"], rel=1e-5)


def test_one_seed_gives_one_result_and_another_seed_another(finished, few_tiles, tmp_path):
    again = run_training(changed(QUICK, "loop.validate_every=1"), few_tiles, tmp_path / "same")
    assert same(weights(finished[1]), weights(again))
    other = load_file(run_training(changed(QUICK, "loop.seed=6"), few_tiles, tmp_path / "other").last)
    assert not torch.equal(weights(again)["prototypes"], other["prototypes"])


def test_looking_at_the_valid_split_does_not_change_the_training(few_tiles, tmp_path):
    blind = run_training(WITH_NORMS, few_tiles, tmp_path / "blind")
    looking = run_training(changed(WITH_NORMS, "loop.validate_every=1"), few_tiles, tmp_path / "looking")
    assert same(weights(blind), weights(looking))


def test_every_step_varies_its_tiles_in_another_way(few_tiles, tmp_path, monkeypatch):
    seeds = []

    def noting(tiles, config, generator, **part):
        seeds.append(generator.initial_seed())
        return augment(tiles, config, generator, **part)

    monkeypatch.setattr(feeding, "augment", noting)
    run_training(QUICK, few_tiles, tmp_path / "one")
    run_training(changed(QUICK, "loop.seed=6"), few_tiles, tmp_path / "two")
    assert len(seeds) == len(set(seeds)) == 8


@pytest.mark.parametrize(
    "change",
    [
        "augment.symmetries=false",
        "augment.stain=0",
        "augment.brightness=0",
        "optimizer.gradient_clip=1e-3",
        "optimizer.ema_decay=0",
        "optimizer.power=2",
        "optimizer.prototype_decay=1",
        "prototypes.init_std=1",
        "losses.similarity.tower=ema",
        "losses.diversity.temperature=1",
        "cam.temperature=0.1",
        "cam.merge=union",
        "losses.pixels.weight=1",
        "loop.precision=bf16",
    ],
)
def test_every_setting_has_an_effect(finished, few_tiles, tmp_path, change):
    other = run_training(changed(QUICK, change), few_tiles, tmp_path)
    assert not same(weights(finished[1]), weights(other))


def test_the_saved_weights_are_averages(few_tiles, tmp_path):
    config = changed(QUICK, "optimizer.epochs=1", "optimizer.batch_size=6", "optimizer.warmup_steps=0")
    end = weights(run_training(changed(config, "optimizer.ema_decay=0.0"), few_tiles, tmp_path / "end"))
    mean = weights(run_training(changed(config, "optimizer.ema_decay=0.9"), few_tiles, tmp_path / "mean"))
    torch.manual_seed(config.loop.seed)
    start = build_network(config, TileSet.open(few_tiles, "train").info.scheme)[0].prototypes.detach()
    # (1 + n) / (10 + n) with n = 1: the average keeps 2/11 of the start.
    torch.testing.assert_close(
        mean["prototypes"].float(), start * 2 / 11 + end["prototypes"].float() * 9 / 11, rtol=2e-3, atol=1e-4
    )


def test_batch_norm_statistics_stay_as_loaded_only_if_asked(few_tiles, tmp_path):
    torch.manual_seed(3)
    given = build_encoder(WITH_NORMS.encoder.name).body.state_dict()
    save_file(given, tmp_path / "encoder.safetensors")
    config = changed(WITH_NORMS, f"encoder.weights={tmp_path / 'encoder.safetensors'}", "optimizer.epochs=1")
    means = [name for name in given if name.endswith("running_mean")]
    for frozen in (True, False):
        out = tmp_path / str(frozen)
        trained = weights(run_training(changed(config, f"encoder.freeze_norm={frozen}"), few_tiles, out))
        kept = [torch.equal(trained[f"encoder.body.{name}"], given[name]) for name in means]
        assert len(kept) > 3
        assert all(kept) if frozen else not any(kept)


def test_the_best_checkpoint_is_not_replaced_by_a_worse_one(few_tiles, tmp_path, monkeypatch):
    scores = iter([0.4, 0.3])

    def falling(*args):
        measured = measure(*args)
        measured.report["gates"]["predicted"]["ignored"]["miou"] = next(scores)
        return measured

    monkeypatch.setattr(keeping, "measure", falling)
    summary = run_training(changed(QUICK, "loop.validate_every=1"), few_tiles, tmp_path)
    assert [read_info(path).training["steps"] for path in (summary.best, summary.last)] == [2, 4]


def test_without_a_score_there_is_no_best(few_tiles, tmp_path, monkeypatch):
    def unknown(*args):
        measured = measure(*args)
        measured.report["gates"]["predicted"]["ignored"]["miou"] = None
        return measured

    monkeypatch.setattr(keeping, "measure", unknown)
    summary = run_training(QUICK, few_tiles, tmp_path)
    assert summary.best is None
    assert not (tmp_path / "best.safetensors").exists()


def test_diversity_joins_after_its_share_of_the_training(few_tiles, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "_LOG_EVERY", 1)
    run_training(changed(QUICK, "losses.start=0.5"), few_tiles, tmp_path)
    entries = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    diversities = [entry["diversity"] for entry in entries if "diversity" in entry]
    assert diversities[:2] == [0, 0]
    assert min(diversities[2:]) > 0


def test_what_is_scored_is_what_the_file_holds(finished, few_tiles):
    network, info = load_checkpoint(finished[1].last)
    report = evaluate(network, TileSet.open(few_tiles, "valid"), info.input, info.classes, info.calibration)
    assert report["gates"] == info.scores["valid"]["gates"]


def test_nothing_in_the_valid_split_can_lose_a_training(few_tiles, tmp_path, monkeypatch):
    def broken(*args):
        raise DatasetError("a tile went away")

    monkeypatch.setattr(keeping, "measure", broken)
    with pytest.raises(DatasetError, match="went away"):
        run_training(QUICK, few_tiles, tmp_path)
    assert load_checkpoint(tmp_path / "last.safetensors")[1].training["steps"] == 4


@pytest.mark.parametrize("damage", ["x", None])
def test_a_bad_mask_is_found_before_the_first_step(few_tiles, tmp_path, damage):
    tiles = tmp_path / "tiles"
    shutil.copytree(few_tiles, tiles)
    mask = tiles / "valid" / "mask" / "v1.png"
    if damage:
        mask.write_text(damage)
    else:
        mask.unlink()
    with pytest.raises(DatasetError, match=r"v1\.png"):
        run_training(QUICK, tiles, tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_class_that_no_tile_shows_is_named_before_the_first_step(few_tiles, tmp_path):
    shutil.copytree(few_tiles, tmp_path / "tiles")
    for path in (tmp_path / "tiles" / "train").glob("*.png"):
        if re.search(r"\[..1\]", path.name):
            path.unlink()
    with pytest.raises(DatasetError, match=r"none of the \d train tiles of 'toy textures' shows class FOG: add tiles"):
        run_training(QUICK, tmp_path / "tiles", tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_full_disk_is_one_sentence(few_tiles, tmp_path, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(metrics.MetricsLog, "_append", full)
    with pytest.raises(RunError, match="No space left"):
        run_training(QUICK, few_tiles, tmp_path)


def test_training_leaves_the_callers_random_numbers_alone(few_tiles, tmp_path):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    run_training(changed(QUICK, "optimizer.epochs=1"), few_tiles, tmp_path)
    assert torch.equal(torch.rand(3), expected)


class _StopsAfter(Run):
    """A run that a person asks to stop once it has done ``steps`` steps."""

    steps = 1

    def advance(self, done, total, unit="tiles"):
        if done == self.steps:
            request_stop(self.folder)
        return super().advance(done, total, unit)


def test_a_stop_request_saves_and_ends(few_tiles, tmp_path):
    with _StopsAfter(tmp_path, "train") as run:
        summary = train(QUICK, TileSet.open(few_tiles, "train"), None, run)
    assert summary.steps == 2  # asked during step 1, seen after step 2
    assert summary.best is None
    assert summary.report is None
    assert load_checkpoint(summary.last)[1].training["steps"] == 2
    assert read_state(tmp_path).state == "cancelled"


def test_a_trained_model_is_replaced_only_on_request(few_tiles, tmp_path):
    config = changed(QUICK, "optimizer.epochs=1")
    first = run_training(config, few_tiles, tmp_path).last.read_bytes()
    with pytest.raises(RunError, match="--force"):
        run_training(changed(config, "loop.seed=9"), few_tiles, tmp_path)
    assert (tmp_path / "last.safetensors").read_bytes() == first
    run_training(changed(config, "loop.seed=9"), few_tiles, tmp_path, replace=True)
    assert (tmp_path / "last.safetensors").read_bytes() != first
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == [2, 2]  # losses and scores of one run, not of two


def test_a_tile_that_cannot_be_read_costs_nobody_a_model(few_tiles, tmp_path):
    data, out = shutil.copytree(few_tiles, tmp_path / "tiles"), tmp_path / "run"
    config = changed(QUICK, "optimizer.epochs=1")
    first = run_training(config, data, out).last.read_bytes()
    tile = sorted((data / "train").iterdir())[-1]
    tile.write_bytes(tile.read_bytes()[:-30])
    with pytest.raises(DatasetError, match=re.escape(tile.name)):
        run_training(config, data, out, replace=True)
    assert (out / "last.safetensors").read_bytes() == first


def test_a_diverged_training_says_so_and_keeps_no_checkpoint(few_tiles, tmp_path):
    with pytest.raises(CheckpointError, match="lower the learning rate"):
        run_training(changed(QUICK, "optimizer.learning_rate=1e30", "optimizer.gradient_clip=0.0"), few_tiles, tmp_path)
    assert not (tmp_path / "last.safetensors").exists()
    assert read_state(tmp_path).state == "failed"


def _weights(path: Path) -> Path:
    torch.manual_seed(11)
    save_file(build_encoder("test_convnext").body.state_dict(), path)
    return path


def test_encoder_weights_are_loaded_and_recorded_by_name_only(few_tiles, tmp_path):
    path = _weights(tmp_path / "given.safetensors")
    config = changed(QUICK, f"encoder.weights={path}", "optimizer.encoder_factor=0.0", "optimizer.epochs=1")
    summary = run_training(config, few_tiles, tmp_path / "run")
    trained, given = load_file(summary.last), load_file(path)
    network, _ = load_checkpoint(summary.last)
    for name, value in network.encoder.body.state_dict().items():
        torch.testing.assert_close(
            value, given[name], rtol=1e-3, atol=1e-6
        )  # a rate of 0 leaves them, in half precision
    record = load_checkpoint(summary.last)[1].training
    assert record["encoder_weights"]["file"] == record["settings"]["encoder"]["weights"] == "given.safetensors"
    assert len(record["encoder_weights"]["sha256"]) == 64
    assert len(trained) > len(given)


def test_missing_weights_are_an_error_never_random(few_tiles, tmp_path):
    config = changed(QUICK, f"encoder.weights={tmp_path / 'gone.safetensors'}")
    with pytest.raises(CheckpointError, match=r"gone\.safetensors"):
        run_training(config, few_tiles, tmp_path / "run")
    with pytest.raises(ConfigError, match="name a weights file"):
        changed(QUICK, "encoder.weights=''")


def test_parameter_groups_cover_all_that_is_trained_once(few_tiles):
    config = changed(
        QUICK,
        "optimizer.learning_rate=1e-3",
        "optimizer.prototype_factor=10",
        "optimizer.encoder_factor=0.5",
        "encoder.frozen=[stem_0]",
    )
    network, _ = build_network(config, TileSet.open(few_tiles, "train").info.scheme)
    groups = build_optimizer(network, config).param_groups
    grouped = [p for group in groups for p in group["params"]]
    assert len({id(p) for p in grouped}) == len(grouped)
    assert {id(p) for p in grouped} == {id(p) for p in network.parameters() if p.requires_grad}
    assert any(not p.requires_grad for p in network.encoder.parameters())
    rates = {id(p): (group["initial_lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert rates[id(network.prototypes)] == (pytest.approx(1e-2), 0.0)
    assert {rates[id(p)][0] for p in network.encoder.parameters() if p.requires_grad} == {5e-4}
    assert all(rates[id(p)][1] == 0 for p in network.parameters() if p.requires_grad and p.ndim <= 1)


@pytest.mark.parametrize(
    "wrong",
    [
        "optimizer.epochs=0",
        "loop.seed=-1",
        f"loop.seed={2**32}",
        "loop.validate_every=-1",
        "optimizer.learning_rate=0.0",
        "optimizer.learning_rate=.nan",
        "encoder.mean=[127.0, 127.0, 127.0]",
        "encoder.std=[0.0, 0.5, 0.5]",
        "optimizer.ema_decay=1.0",
        "losses.start=-1",
        "losses.diversity.weight=-1.0",
        "losses.diversity.weight=.inf",
        "losses.diversity.variant=other",
        "losses.similarity.tower=own",  # of an untrained encoder
        "losses.similarity.tower=timm",  # without a file
        "cam.loss_weights=[0.0, 0.0, 0.0]",
        "cam.loss_weights=[-1.0, 1.0, 1.0]",
        "cam.fusion_weights=[1.0]",
        "cam.fusion_weights=[0.5, 0.5, 0.5]",
        "cam.fusion_weights=[.nan, 0.5, 0.5]",
        "prototypes.per_class=1000000000000000",
        "prototypes.source=kmeans",  # without a bank
        "prototypes.source=linear",  # with three prototypes
        "prototypes.bank=unused.safetensors",
        "encoder.frozen=[no.such.layer]",
        "encoder.options={in_chans: 4}",
    ],
)
def test_wrong_settings_are_refused_before_anything_is_trained(few_tiles, tmp_path, wrong):
    with pytest.raises(ConfigError):
        run_training(changed(QUICK, wrong), few_tiles, tmp_path)
    assert not (tmp_path / "metrics.jsonl").exists()
