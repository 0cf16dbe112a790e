"""Which model the page preselects for a slide."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from lpd.model.header import BadCheckpoint, CheckpointInfo, list_checkpoints
from viewers.checkpoints import suggest

SHIPPED = Path(__file__).resolve().parents[2] / "checkpoints"


@pytest.mark.parametrize(("slide", "model"), [("a.svs", "luad224"), ("phantom-demo.tif", "phantom")])
def test_of_those_shipped_the_learnable_one_is_suggested(slide: str, model: str):
    assert suggest(list_checkpoints(SHIPPED), slide) == f"{model}-learnable-mobilenetv2_100"


def test_clustered_and_edited_ones_are_suggested_only_where_there_is_nothing_else():
    info = next(i for i in list_checkpoints(SHIPPED) if isinstance(i, CheckpointInfo) and "luad" in i.name)
    clustered = dataclasses.replace(info, path=Path("a.safetensors"), prototype_source="kmeans")
    edited = dataclasses.replace(
        info, path=Path("b.safetensors"), prototype_source="learnable", edited={"muted": ["TUM:1"]}
    )
    learnt = dataclasses.replace(info, path=Path("c.safetensors"), prototype_source="learnable")
    assert suggest([clustered, edited, learnt], "a.svs") == "c"
    assert suggest([clustered, edited], "a.svs") == "a"
    assert suggest([BadCheckpoint(Path("bad.safetensors"), "")], "a.svs") is None
