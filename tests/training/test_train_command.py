"""``lpd train`` and ``lpd evaluate`` as a person types them."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

import pytest
import torch

from lpd.cli import evaluate, train
from lpd.errors import DatasetError
from lpd.model.header import read_info
from lpd.runs import read_state


def parse(*words: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)
    for command in (train, evaluate):
        command.add_parser(commands)
    return parser.parse_args([str(word) for word in words])


def call(*words: object) -> int:
    args = parse(*words)
    return int(args.run(args))


@pytest.fixture(scope="module")
def trained(few_tiles, tmp_path_factory):
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("run")
    flags = "--encoder test_convnext --encoder-weights none --epochs 1 --batch-size 3 --prototype-dim 16 --prototypes 2"
    extra = "--fusion-weights 0 .5 .5 --mean .5 .5 .5 --encoder-option drop_path_rate=0.1 --seed 3 --device cpu"
    assert call("train", "--data", few_tiles, "--out", out, *flags.split(), *extra.split()) == 0
    return out


def test_flags_arrive_in_the_checkpoint(trained):
    info = read_info(trained / "last.safetensors")
    assert info.model.prototypes_per_class == 2
    assert info.model.timm_options == (("drop_path_rate", 0.1),)
    assert info.input.mean == (0.5, 0.5, 0.5)
    assert info.input.std == (0.229, 0.224, 0.225)  # not given: the default
    assert info.calibration.fusion_weights == (0.0, 0.5, 0.5)
    assert info.training["settings"]["seed"] == 3
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
            # Training measured the network in full precision, the file holds it in half.
            assert scores["accuracy"] == pytest.approx(measured[background]["accuracy"], abs=0.02)
    assert report["checkpoint"] == "last.safetensors"


def test_encoder_weights_must_be_named(few_tiles, tmp_path, capsys):
    with pytest.raises(SystemExit):
        parse("train", "--data", few_tiles, "--out", tmp_path, "--encoder", "mit_b0")
    assert "--encoder-weights" in capsys.readouterr().err


def test_an_option_without_value_is_refused(capsys):
    with pytest.raises(SystemExit):
        parse(
            "train", "--data", "x", "--out", "y", "--encoder", "z", "--encoder-weights", "none", "--encoder-option", "a"
        )
    assert "NAME=VALUE" in capsys.readouterr().err


def test_a_missing_tile_set_is_named_and_leaves_nothing(tmp_path):
    with pytest.raises(DatasetError, match=r"dataset\.yaml"):
        call(
            "train",
            "--data",
            tmp_path / "no",
            "--out",
            tmp_path / "run",
            "--encoder",
            "mit_b0",
            "--encoder-weights",
            "none",
        )
    assert not (tmp_path / "run").exists()


def test_the_command_line_loads_no_torch():
    code = "import sys, lpd.cli.train, lpd.cli.evaluate; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
