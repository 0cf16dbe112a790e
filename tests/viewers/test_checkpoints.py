"""Which model the page preselects for a slide."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from lpd.model.header import BadCheckpoint, CheckpointInfo, list_checkpoints
from viewers.checkpoints import suggest

SHIPPED = Path(__file__).resolve().parents[2] / "checkpoints"


@pytest.mark.parametrize(("synthetic", "model"), [(False, "luad224"), (True, "phantom")])
def test_of_those_shipped_the_learnable_one_is_suggested(synthetic: bool, model: str):
    assert suggest(list_checkpoints(SHIPPED), synthetic=synthetic) == f"{model}-learnable-mobilenetv2_100"


def test_clustered_and_edited_ones_are_suggested_only_where_there_is_nothing_else():
    info = next(i for i in list_checkpoints(SHIPPED) if isinstance(i, CheckpointInfo) and "luad" in i.name)
    clustered = dataclasses.replace(info, path=Path("a.safetensors"), prototype_source="kmeans")
    edited = dataclasses.replace(
        info, path=Path("b.safetensors"), prototype_source="learnable", edited={"muted": ["TUM:1"]}
    )
    learnt = dataclasses.replace(info, path=Path("c.safetensors"), prototype_source="learnable")
    assert suggest([clustered, edited, learnt], synthetic=False) == "c"
    assert suggest([clustered, edited], synthetic=False) == "a"
    assert suggest([BadCheckpoint(Path("bad.safetensors"), "")], synthetic=False) is None


def test_a_model_counts_as_synthetic_by_its_data_whatever_it_is_called():
    drawn = next(i for i in list_checkpoints(SHIPPED) if isinstance(i, CheckpointInfo) and "phantom-learn" in i.name)
    mine = dataclasses.replace(drawn, path=Path("mine.safetensors"), notice="")
    real = dataclasses.replace(
        drawn, path=Path("phantom-limb.safetensors"), notice="", training={"data": {"name": "x"}}
    )
    assert suggest([mine, real], synthetic=False) == "phantom-limb"
    assert suggest([mine, real], synthetic=True) == "mine"
