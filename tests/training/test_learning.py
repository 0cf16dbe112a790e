"""A network learns to segment from image labels alone, and the diversity loss sets its prototypes apart."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lpd.data.tiles import TileSet
from lpd.recipe.settings_file import read_config
from lpd.runs import Run
from lpd.training.loop import TrainSummary, train

ARMS = {
    "ours": (),
    "none": ("losses.diversity.weight=0",),
    "official": ("losses.diversity.variant=official",),
}


def _train(folder: Path, out: Path, *overrides: str) -> TrainSummary:
    config = read_config(
        overrides=[
            "encoder.name=test_convnext",
            "encoder.weights=none",
            "prototypes.dim=64",
            "optimizer.learning_rate=2e-3",
            "optimizer.epochs=5",
            "optimizer.batch_size=8",
            "optimizer.ema_decay=0.95",
            "loop.precision=fp32",
            *overrides,
        ]
    )
    torch.set_num_threads(1)
    with Run(out, "train") as run:
        return train(config, TileSet.open(folder, "train"), TileSet.open(folder, "valid"), run)


@pytest.fixture(scope="module")
def reports(toy_tiles, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    return {arm: _train(toy_tiles, out / arm, *overrides).report for arm, overrides in ARMS.items()}


def test_image_labels_alone_teach_segmentation(reports):
    # Always naming one class scores at most a third; an untrained network is near 0.2.
    for report in reports.values():
        assert report["gates"]["predicted"]["ignored"]["miou"] > 0.6
        assert min(report["gates"]["predicted"]["ignored"]["iou"].values()) > 0.5
        assert min(report["label_accuracy"].values()) > 0.7


@pytest.mark.parametrize("scale", ["1", "2", "3"])
def test_only_a_working_diversity_loss_sets_prototypes_apart(reports, scale):
    assert reports["ours"]["jeffreys_similarity"][scale] < 0.2
    assert reports["none"]["jeffreys_similarity"][scale] > 0.5
    assert reports["official"]["jeffreys_similarity"][scale] > 0.5
