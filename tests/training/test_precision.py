"""What ``auto`` stands for, and that a finished training says it."""

from __future__ import annotations

import pytest
import torch

from lpd.data.tiles import TileSet
from lpd.recipe.settings_file import read_config
from lpd.runs import Run
from lpd.training.loop import train
from lpd.training.precision import autocast_type, settled

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16"), ({"avx512_f": True}, "fp32"), ({}, "fp32")],
)
def test_auto_asks_the_processor(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert settled("auto", CPU) == expected
    assert autocast_type("auto", CPU) == (torch.bfloat16 if expected == "bf16" else None)


def test_auto_is_fp32_where_torch_cannot_tell(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert settled("auto", CPU) == "fp32"


def test_what_was_asked_for_stays(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert settled("fp32", CPU) == "fp32"
    assert autocast_type("fp32", CPU) is None
    assert autocast_type("fp16", CPU) == torch.float16


def test_other_devices_compute_in_fp32():
    assert settled("auto", torch.device("mps")) == "fp32"


@pytest.mark.parametrize("fast", [True, False])
def test_the_run_folder_says_which_it_was(few_tiles, tmp_path, monkeypatch, fast):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": fast})
    settings = ["encoder.name=test_convnext", "encoder.weights=none", "prototypes.dim=16", "optimizer.epochs=1"]
    with Run(tmp_path, "train") as run:
        train(read_config(overrides=settings), TileSet.open(few_tiles, "train"), None, run)
    stored = read_config(file=tmp_path / "config.yaml")
    assert stored.loop.precision == ("bf16" if fast else "fp32")
