"""Evaluation: tiles a second of the whole report, against what the network alone allows."""

from __future__ import annotations

import copy

import torch

from benchmarks.speed.ours import channels_last
from benchmarks.speed.scene import Batch, Scene, aimed_network
from benchmarks.speed.timing import Row, compare
from lpd.evaluation.report import measure
from lpd.model.inputs import to_network_input
from lpd.model.scoring import default_calibration

_BATCH = 16  # tiles at a time, as the evaluation takes them


def evaluation(scene: Scene) -> list[Row]:
    """Time :func:`lpd.evaluation.report.measure` on the valid split, plain and with mirror images."""
    tiles = scene.tiles("valid")
    batch = Batch.of(tiles, scene.batch_size, scene.device)
    network = channels_last(copy.deepcopy(aimed_network(scene, batch, scene.per_class[0]))).eval()
    calibration = default_calibration(network.config)
    images = to_network_input(tiles.images(range(len(tiles))), batch.spec).to(scene.device)

    @torch.inference_mode()
    def forward() -> None:
        for part in torch.split(images, _BATCH):
            network(part)

    work = {
        "network alone": forward,
        "evaluation": lambda: measure(network, tiles, batch.spec, tiles.info.scheme, calibration),
        "evaluation, flip": lambda: measure(network, tiles, batch.spec, tiles.info.scheme, calibration, flip=True),
    }
    return compare("evaluation", f"{len(tiles)} tiles", work, scene.rounds, scene.clock, tiles=len(tiles))
