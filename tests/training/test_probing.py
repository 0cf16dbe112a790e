"""The probe before a training: its numbers are those of the training, and it leaves nothing behind."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

from lpd.cli import main
from lpd.data.tiles import TileSet
from lpd.errors import LpdError
from lpd.model.encoders import build_encoder
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


def test_clustering_the_tiles_first_is_part_of_it(few_tiles, tmp_path):
    save_file(build_encoder("test_convnext").body.state_dict(), tmp_path / "encoder.safetensors")
    words = (*QUICK, f"encoder.weights={tmp_path / 'encoder.safetensors'}", "prototypes.per_class=1")
    shutil.copytree(few_tiles, tmp_path / "tiles")
    for index, file in enumerate(sorted((tmp_path / "tiles" / "train").iterdir())):
        file.rename(file.with_name(f"t{index}[{('100', '010', '001')[index % 3]}].png"))
    config, tiles = read_config("default", None, words), TileSet.open(tmp_path / "tiles", "train")
    found = probe(config, tiles, None, torch.device("cpu"), clustering=True)
    first = config.losses.first_step(found.steps)
    steps_s = first * found.step_s + (found.steps - first) * found.joined_step_s
    assert found.bank_s > 0
    assert abs(found.total_s - (found.bank_s + steps_s + found.looks * found.look_s)) < 1e-9
    many = read_config("default", None, (*words, "prototypes.per_class=50"))
    with pytest.raises(LpdError, match="too few for 50 prototypes"):
        probe(many, tiles, None, torch.device("cpu"), clustering=True)


def test_as_a_command_it_prints_json_and_writes_nothing(few_tiles, tmp_path, capsys):
    words = ["train", "--data", few_tiles, "--out", tmp_path / "run", "--probe", "--device", "cpu", "--set", *QUICK]
    assert main([str(word) for word in words]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 24
    assert not (tmp_path / "run").exists()
