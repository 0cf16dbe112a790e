"""The probe before a training: its numbers are those of the training, and it leaves nothing behind."""

from __future__ import annotations

import json

import torch

from lpd.cli import main
from lpd.data.tiles import TileSet
from lpd.recipe.config import LoopConfig, LossConfig, OptimizerConfig, TrainConfig
from lpd.recipe.settings_file import read_config
from lpd.training.probing import probe

QUICK = ("encoder.name=test_convnext", "encoder.weights=none", "prototypes.dim=16", "optimizer.batch_size=2")


def test_the_sum_is_that_of_its_parts(few_tiles):
    # Six tiles in threes of two: 3 steps an epoch, 15 in all, of which the last 10 have all losses.
    config = read_config("default", None, (*QUICK, "optimizer.epochs=5", "losses.start=5", "loop.validate_every=2"))
    tiles, valid = TileSet.open(few_tiles, "train"), TileSet.open(few_tiles, "valid")
    state = torch.get_rng_state()
    found = probe(config, tiles, valid, torch.device("cpu"))
    assert (found.steps, found.looks, found.device) == (15, 3, "cpu")  # after epochs 2, 4 and 5
    assert found.step_s > 0
    assert found.joined_step_s > 0
    assert abs(found.total_s - (5 * found.step_s + 10 * found.joined_step_s + 3 * found.look_s)) < 1e-9
    assert found.memory_bytes > 50e6  # torch alone takes more
    assert torch.equal(torch.get_rng_state(), state)


def test_kinds_of_steps_that_do_not_come_are_not_measured(few_tiles):
    tiles = TileSet.open(few_tiles, "train")
    base = read_config("default", None, QUICK)
    losses, loop = LossConfig(start=99), LoopConfig(tensorboard=False)
    config = TrainConfig(base.encoder, base.prototypes, losses=losses, optimizer=OptimizerConfig(1, 3), loop=loop)
    found = probe(config, tiles, None, torch.device("cpu"))
    assert (found.joined_step_s, found.looks) == (None, 1)


def test_as_a_command_it_prints_json_and_writes_nothing(few_tiles, tmp_path, capsys):
    words = ["train", "--data", few_tiles, "--out", tmp_path / "run", "--probe", "--device", "cpu", "--set", *QUICK]
    assert main([str(word) for word in words]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 24
    assert not (tmp_path / "run").exists()
