"""A network learns to segment from image labels alone, and the diversity loss sets its prototypes apart."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lpd.data.tiles import TileSet
from lpd.runs import Run
from lpd.training.config import TrainConfig
from lpd.training.loop import TrainSummary, train


def _train(folder: Path, out: Path, diversity_weight: float) -> TrainSummary:
    config = TrainConfig(
        encoder="test_convnext",
        encoder_weights="none",
        prototype_dim=64,
        learning_rate=2e-3,
        epochs=5,
        batch_size=8,
        ema_decay=0.95,
        diversity_weight=diversity_weight,
    )
    torch.set_num_threads(1)
    with Run(out, "train") as run:
        return train(config, TileSet.open(folder, "train"), TileSet.open(folder, "valid"), run)


@pytest.fixture(scope="module")
def reports(toy_tiles, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    return {weight: _train(toy_tiles, out / str(weight), weight).report for weight in (0.5, 0.0)}


def test_image_labels_alone_teach_segmentation(reports):
    # Always naming one class scores at most a third; an untrained network is near 0.2.
    for report in reports.values():
        assert report["gates"]["predicted"]["ignored"]["miou"] > 0.6
        assert min(report["gates"]["predicted"]["ignored"]["iou"].values()) > 0.5
        assert min(report["label_accuracy"].values()) > 0.7


def test_the_diversity_loss_sets_prototypes_apart(reports):
    assert reports[0.5]["jeffreys_similarity"]["2"] < 0.3
    assert reports[0.0]["jeffreys_similarity"]["2"] > 0.6
    assert reports[0.5]["jeffreys_similarity"]["3"] < 0.3 < reports[0.0]["jeffreys_similarity"]["3"]
