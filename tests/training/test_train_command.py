"""``lpd train`` and ``lpd evaluate`` as a person types them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading

import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file

from lpd.cli import main
from lpd.errors import RunError
from lpd.model.header import read_info
from lpd.recipe.config import EncoderConfig, OptimizerConfig, TrainConfig
from lpd.recipe.settings_file import read_config
from lpd.runs import read_state, request_stop
from lpd.training.fitting_memory import enough_memory, training_cure


def call(*words: object) -> int:
    return main([str(word) for word in words])


def refused(capsys, *words: object) -> str:
    """The one line that a person reads when the command refuses."""
    capsys.readouterr()
    assert call(*words) == 1
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    return captured.err


@pytest.fixture(scope="module")
def trained(few_tiles, tmp_path_factory):
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("run")
    words = "optimizer.epochs=1 optimizer.batch_size=3 prototypes.dim=16 prototypes.per_class=2 loop.seed=3"
    more = ["encoder.mean=[.5, .5, .5]", "encoder.options={drop_path_rate: 0.1}", "cam.fusion_weights=[0, .5, .5]"]
    named = ("encoder.name=test_convnext", "encoder.weights=none", "--device", "cpu")
    assert call("train", "--data", few_tiles, "--out", out, "--set", *words.split(), *more, *named) == 0
    return out


def test_settings_arrive_in_the_checkpoint(trained):
    info = read_info(trained / "last.safetensors")
    assert info.model.prototypes_per_class == 2
    assert info.model.timm_options == (("drop_path_rate", 0.1),)
    assert info.input.mean == (0.5, 0.5, 0.5)
    assert info.input.std == (0.229, 0.224, 0.225)  # not given: the default
    assert info.calibration.fusion_weights == (0.0, 0.5, 0.5)
    assert info.training["settings"]["loop"]["seed"] == 3
    assert read_state(trained).state == "done"


def test_evaluate_prints_and_stores_what_training_measured(trained, few_tiles, tmp_path, capsys):
    checkpoint = trained / "last.safetensors"
    assert call("evaluate", "--checkpoint", checkpoint, "--data", few_tiles, "--out", tmp_path) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    printed = capsys.readouterr().out
    for gate, protocols in report["gates"].items():
        assert f"gate {gate}" in printed
        measured = read_info(checkpoint).scores["valid"]["gates"][gate]
        for background, scores in protocols.items():
            assert scores == measured[background]
    assert report["checkpoint"] == "last.safetensors"


@pytest.mark.parametrize(("flags", "named"), [("--device abacus", "abacus"), ("--threads 0", "0")])
def test_wrong_flags_are_named(tmp_path, capsys, flags, named):
    with pytest.raises(SystemExit) as exit_:
        call("train", "--data", "x", "--out", tmp_path, *flags.split())
    assert exit_.value.code == 2
    assert named in capsys.readouterr().err


QUICK = (
    "--set encoder.name=test_convnext encoder.weights=none optimizer.epochs=1 optimizer.batch_size=3 prototypes.dim=16 "
    "--device cpu"
)


def test_a_missing_tile_set_is_named_and_leaves_nothing(tmp_path, capsys):
    message = refused(capsys, "train", "--data", tmp_path / "no", "--out", tmp_path / "run", *QUICK.split())
    assert "dataset.yaml" in message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("cam.fusion_weights=[.5, .5, .5]", "cam.fusion_weights"),
        ("loop.seed=99999999999999999999999", "seed"),
        ("loop.seed=yes", "seed"),
        ("loop.sed=1", "loop.sed: did you mean loop.seed?"),
        ("loop=1", "loop is a group"),
        ("optimizer.epochs", "optimizer.epochs=4"),
        ("encoder.weights=", "encoder.weights"),
        ("encoder.name=no_such_encoder", "no_such_encoder"),
        ("encoder.options={layer_norm_eps: 1}", "layer_norm_eps"),
        ("encoder.weights=gone.safetensors", "gone.safetensors"),
        ("encoder.mean=[1", "YAML"),
    ],
)
def test_wrong_settings_are_one_sentence(few_tiles, tmp_path, capsys, setting, named):
    words = ["train", "--data", few_tiles, "--out", tmp_path / "run", *QUICK.split(), "--set", setting]
    assert named in refused(capsys, *words)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.parametrize("content", [None, "- 1", "optimizer: {epochs: [}", "optimzer: {}"])
def test_a_bad_file_of_settings_is_one_sentence(few_tiles, tmp_path, capsys, content):
    file = tmp_path / "my.yaml"
    if content is not None:
        file.write_text(content)
    words = ("train", "--data", few_tiles, "--out", tmp_path / "run", *QUICK.split(), "--config", file)
    assert ("optimizer" if content == "optimzer: {}" else "my.yaml") in refused(capsys, *words)


def test_nothing_is_trained_without_a_word_on_weights(few_tiles, tmp_path, capsys):
    words = ("train", "--data", few_tiles, "--out", tmp_path / "run")
    assert "encoder.name is not set" in refused(capsys, *words)
    assert "encoder.weights is not set" in refused(capsys, *words, "--set", "encoder.name=mit_b0")
    assert not (tmp_path / "run").exists()


def test_the_settings_of_a_run_repeat_it(trained, few_tiles, tmp_path):
    words = ("train", "--data", few_tiles, "--out", tmp_path, "--config", trained / "config.yaml", "--device", "cpu")
    assert call(*words) == 0
    one, other = (load_file(folder / "last.safetensors") for folder in (trained, tmp_path))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_print_config_shows_everything_and_does_nothing(few_tiles, tmp_path, capsys):
    words = (
        "train",
        "--data",
        few_tiles,
        "--out",
        tmp_path / "run",
        "--preset",
        "bcss",
        "--set",
        "encoder.weights=w.pth",
    )
    assert call(*words, "--print-config") == 0
    (tmp_path / "shown.yaml").write_text(capsys.readouterr().out)
    shown = read_config(file=tmp_path / "shown.yaml")
    assert shown == read_config("bcss", overrides=["encoder.weights=w.pth"])
    assert (shown.optimizer.learning_rate, shown.encoder.name) == (5e-5, "mit_b1")
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_written_is_one_sentence(few_tiles, tmp_path, capsys):
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        assert "file" in refused(capsys, "train", "--data", few_tiles, "--out", out, *QUICK.split())


def test_a_device_that_is_not_there_is_one_sentence(few_tiles, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    words = ["train", "--data", few_tiles, "--out", tmp_path / "run", *QUICK.split(), "--device", "cuda"]
    assert "cuda" in refused(capsys, *words)
    assert not (tmp_path / "run").exists()


def test_a_trained_model_is_not_overwritten(trained, few_tiles, capsys):
    before = (trained / "last.safetensors").read_bytes()
    assert "--force" in refused(capsys, "train", "--data", few_tiles, "--out", trained, *QUICK.split())
    assert (trained / "last.safetensors").read_bytes() == before
    assert read_state(trained).state == "done"


def test_only_a_set_without_a_valid_split_goes_unscored(few_tiles, tmp_path, capsys):
    shutil.copytree(few_tiles, tmp_path / "tiles")
    (tmp_path / "tiles" / "valid" / "mask" / "v1.png").unlink()
    words = ["train", "--data", tmp_path / "tiles", *QUICK.split(), "--out"]
    assert "v1.png" in refused(capsys, *words, tmp_path / "one")
    shutil.rmtree(tmp_path / "tiles" / "valid")
    assert call(*words, tmp_path / "two") == 0
    assert "no valid split" in capsys.readouterr().err


@pytest.mark.parametrize("spoilt", ["checkpoint", "data", "out"])
def test_evaluate_refuses_in_one_sentence(trained, few_tiles, tmp_path, capsys, spoilt):
    (tmp_path / "file").write_text("nothing of ours")
    given = {"checkpoint": trained / "last.safetensors", "data": few_tiles, "out": tmp_path / "out"}
    given[spoilt] = tmp_path / "file"
    assert "file" in refused(
        capsys, "evaluate", *(word for name, path in given.items() for word in (f"--{name}", path))
    )


def test_the_command_line_loads_no_torch():
    code = "import sys, lpd.cli.train, lpd.cli.evaluate; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_training_goes_on_with_the_settings_that_it_began_with(few_tiles, tmp_path, capsys, monkeypatch):
    base = ("train", "--data", str(few_tiles), "--out", str(tmp_path), "--device", "cpu", "--threads", "1")
    settings = ("--preset", "tiny", "--set", "encoder.name=test_convnext", "encoder.weights=none", "optimizer.epochs=2")
    monkeypatch.setattr("lpd.runs.Run.stop_requested", lambda _run: True)
    assert main([*base, *settings]) == 130
    monkeypatch.undo()
    capsys.readouterr()
    assert main([*base, "--resume"]) == 0
    assert "finished after" in capsys.readouterr().out
    refused_again = refused(capsys, *base, "--resume", "--preset", "tiny", "--set", "encoder.name=mit_b0")
    assert "encoder.weights is not set" in refused_again


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--resume"], "holds no unfinished training: start it without --resume"),
        (["--resume", "--force"], "one of them"),
    ],
)
def test_what_cannot_go_on_is_refused_and_leaves_nothing(few_tiles, tmp_path, capsys, flags, named):
    base = ("train", "--data", few_tiles, "--set", "encoder.name=test_convnext", "encoder.weights=none")
    assert named in refused(capsys, *base, "--out", tmp_path / "new", *flags)
    assert not (tmp_path / "new").exists()


def test_a_training_starts_from_the_encoder_of_a_model(trained, few_tiles, tmp_path, capsys):
    model = trained / "last.safetensors"
    options = ("encoder.options={drop_path_rate: 0.1}", "loop.tensorboard=false", "optimizer.encoder_factor=0")
    words = ("train", "--data", few_tiles, "--out", tmp_path / "run", *QUICK.split(), "--set", *options)
    start = f"encoder.weights={model}"
    assert "model last has encoder.mean [0.5, 0.5, 0.5]: set it so" in refused(capsys, *words, start)
    assert call(*words, start, "encoder.mean=[.5, .5, .5]", "optimizer.weight_decay=0") == 0
    before, after = load_file(model), load_file(tmp_path / "run" / "last.safetensors")
    names = [name for name in before if name.startswith("encoder.")]
    assert names
    assert all(torch.equal(before[name], after[name]) for name in names)  # it did not learn, so it must be the same
    assert not torch.equal(before["prototypes"], after["prototypes"][:, :16])
    came_from = read_info(tmp_path / "run" / "last.safetensors").training["encoder_weights"]
    assert came_from["file"] == "last.safetensors"
    assert came_from["notice"].startswith("encoder taken from the model last: ")


def test_a_training_clusters_its_own_bank(trained, few_tiles, tmp_path, capsys):
    tiles = shutil.copytree(few_tiles, tmp_path / "tiles")
    for path, label in zip(sorted((tiles / "train").iterdir()), ("100", "010", "001"), strict=False):
        path.rename(path.with_name(f"alone{label}[{label}].png"))
    start = ("encoder.options={drop_path_rate: 0.1}", "encoder.mean=[.5, .5, .5]")
    settings = (*start, f"encoder.weights={trained / 'last.safetensors'}", "prototypes.per_class=1")
    words = ("--data", tiles, "--device", "cpu", "--preset", "tiny", "--set", *QUICK.split()[1:-2], *settings)
    assert call("train", "--out", tmp_path / "run", "--build-bank", *words) == 0
    assert call("bank", "--out", tmp_path / "same.safetensors", *words) == 0
    own, same = load_file(tmp_path / "run" / "bank.safetensors"), load_file(tmp_path / "same.safetensors")
    assert all(torch.equal(own[name], same[name]) for name in same)
    info = read_info(tmp_path / "run" / "last.safetensors")
    assert info.prototype_source == "kmeans"
    assert info.training["bank"]["file"] == "bank.safetensors"


def test_a_training_waits_for_the_device(few_tiles, tmp_path, capsys):
    with FileLock(tmp_path / "device-cpu.lock"):
        words = ("train", "--data", few_tiles, "--out", tmp_path / "run", *QUICK.split(), "--queue", tmp_path)
        thread = threading.Thread(target=call, args=words)
        thread.start()
        while read_state(tmp_path / "run").state == "new":
            assert thread.is_alive()
        assert read_state(tmp_path / "run").state == "queued"
        request_stop(tmp_path / "run")
        thread.join()
    assert read_state(tmp_path / "run").state == "cancelled"
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    ("error", "settings", "cure"),
    [
        (MemoryError(), {"batch_size": 10}, "lower optimizer.batch_size (now 10), for example to 5"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), {"batch_size": 1}, "a smaller encoder than mit_b0"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), {}, "lower optimizer.batch_size"),
    ],
)
def test_a_full_memory_says_which_setting_to_lower(error, settings, cure):
    config = TrainConfig(EncoderConfig("mit_b0", "none"), optimizer=OptimizerConfig(**settings))
    with pytest.raises(RunError, match=re.escape(cure)), enough_memory("this training", training_cure(config)):
        raise error


def test_other_errors_are_not_taken_for_a_full_memory():
    with pytest.raises(RuntimeError, match="shapes"), enough_memory("this", "cure"):
        raise RuntimeError("shapes do not fit")


def test_who_waits_for_the_device_does_so_without_torch(few_tiles, tmp_path):
    """A long line of trainings would fill the memory: torch takes hundreds of MB in each."""
    words = ["train", "--data", str(few_tiles), "--out", str(tmp_path / "run"), "--queue", str(tmp_path)]
    words += ["--device", "cpu", "--set", "encoder.name=mit_b0", "encoder.weights=none"]
    code = f"""
import sys
from lpd.cli import build_parser
from lpd.cli.train import _task
task = _task(build_parser().parse_args({words!r}), leads=True)
sys.exit("torch" in sys.modules or task.run._state.device != "cpu")
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, stdout=subprocess.DEVNULL)
