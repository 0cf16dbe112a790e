"""The checkpoints in ``checkpoints/``: complete, small, described, and as good as their cards say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lpd.data.tiles import TileSet
from lpd.evaluation.report import evaluate
from lpd.model.checkpoint import load_checkpoint
from lpd.model.header import CheckpointInfo, list_checkpoints

FOLDER = Path(__file__).resolve().parents[2] / "checkpoints"
SHIPPED = list_checkpoints(FOLDER)
#: Tissue mIoU of a linear head on the frozen encoder, from image labels alone: what LPD must clearly beat.
FLOORS = {"luad224": 0.35, "ocelot224": 0.5625, "phantom": 0.54}


def test_there_is_a_checkpoint_for_each_tile_set():
    assert {entry.name.split("-")[0] for entry in SHIPPED} >= set(FLOORS)


@pytest.mark.parametrize("info", SHIPPED, ids=lambda entry: entry.name)
def test_a_shipped_checkpoint_is_complete_and_described(info):
    assert isinstance(info, CheckpointInfo), info.reason
    assert info.path.stat().st_size <= 8e6
    data, source, encoder = info.name.split("-")
    assert (source, encoder) == (info.prototype_source, info.model.encoder)
    assert info.notice.lower().startswith(("research use only", "synthetic"))
    assert len(info.training["data"]["fingerprint"]) == 16
    assert "/" not in info.training["encoder_weights"]["file"]
    card = info.path.with_suffix(".md").read_text(encoding="utf-8")
    assert info.training["data"]["fingerprint"] in card
    predicted = info.scores["valid"]["gates"]["predicted"]["ignored"]["miou"]
    assert f"| predicted | ignored | **{100 * predicted:.1f}** |" in card
    assert predicted > FLOORS[data] + 0.1


@pytest.mark.slow
@pytest.mark.parametrize("data", ["luad224", "ocelot224"])
def test_scores_on_real_tissue_are_those_that_the_file_states(real_data, data):
    torch.set_num_threads(1)
    network, info = load_checkpoint(FOLDER / f"{data}-learnable-mobilenetv2_100.safetensors")
    tiles = TileSet.open(real_data / data, "valid")
    report = evaluate(network, tiles, info.input, info.classes, info.calibration, refinements=["adapt"])
    stated = info.scores["valid"]
    pairs = (stated["gates"], report["gates"]), (stated["refined"]["adapt"], report["refined"]["adapt"])
    for expected, found in pairs:
        for gate, protocols in expected.items():
            for background, scores in protocols.items():
                assert found[gate][background]["miou"] == pytest.approx(scores["miou"], abs=0.002)
