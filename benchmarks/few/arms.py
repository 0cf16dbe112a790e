"""What is compared: how many tiles, from which start, for how long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from benchmarks.study.ceiling import part_of
from lpd.data.tiles import TileSet
from lpd.evaluation.tile_scores import group_of

Start = Literal["ImageNet", "preview"]


@dataclass(frozen=True)
class Arm:
    """One line of the page; everything else is preset ``cpu``.

    Attributes:
        tiles: that have labels; None for all.
        start: weights of the encoder: ImageNet's, or those of a model that was trained on another tissue.
        epochs: passes over them.
    """

    tiles: int | None
    start: Start
    epochs: int = 8


#: 200: one every three seconds, for ten minutes.
ARMS: Mapping[str, Arm] = {
    "50 tiles, ImageNet": Arm(50, "ImageNet"),
    "50 tiles, preview": Arm(50, "preview"),
    "200 tiles, ImageNet": Arm(200, "ImageNet"),
    "200 tiles, preview": Arm(200, "preview"),
    "all tiles, ImageNet": Arm(None, "ImageNet"),
}


def labelled(tiles: TileSet, count: int | None, seed: int) -> TileSet:
    """Those that somebody would have labelled who opens one slide after the other: all tiles of a patient, then the
    next patient's, in an order that the seed decides."""
    if count is None:
        return tiles
    groups = [group_of(file.image.name) for file in tiles.files]
    order = np.random.default_rng(seed).permutation(sorted(set(groups))).tolist()
    found = sorted(range(len(groups)), key=lambda i: (order.index(groups[i]), i))
    return part_of(tiles, sorted(found[:count]))


def patients(tiles: TileSet) -> int:
    """How many there are."""
    return len({group_of(file.image.name) for file in tiles.files})
