"""Prototypes adapted to the pictures that a split's tiles were cut from, as a slide's are."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from lpd.config import Calibration, InputSpec
from lpd.data.tiles import TileSet
from lpd.evaluation.protocols import glass_mask
from lpd.evaluation.tile_scores import group_of
from lpd.evaluation.tiles import TileLogits, tile_logits
from lpd.model.adaptation import AdaptationSettings, PicturePrototypes, PictureSample
from lpd.model.network import LPDNet

#: Tiles of a picture that its prototypes are taken from, at most, evenly spread over its tiles.
MOST_TILES = 36


def adapt_to_pictures(
    network: LPDNet,
    tiles: TileSet,
    spec: InputSpec,
    calibration: Calibration,
    settings: AdaptationSettings | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, PicturePrototypes | None]:
    """Prototypes of each picture or patient, by :func:`lpd.evaluation.tile_scores.group_of`; no label is looked at.

    Args:
        network: in evaluation mode.
        tiles: of any split; a tile whose name tells no picture is one of its own.
        spec: what the network expects to be fed.
        calibration: of the checkpoint.
        settings: the usual ones if None.
        progress: told how many tiles of how many have been looked at.

    Raises:
        CheckpointError: an answer of the network is no number.
    """
    indices = _sampled([group_of(file.image.name) for file in tiles.files])
    part = TileSet(tiles.info, tiles.split, [tiles.files[i] for i in indices])
    names = [group_of(file.image.name) for file in part.files]
    missing = Counter(names)
    samples: dict[str, PictureSample] = {}
    found: dict[str, PicturePrototypes | None] = {}
    for logits in tile_logits(network, part, spec, calibration):
        for place, index in enumerate(logits.indices):
            name = names[index]
            sample = samples.setdefault(name, PictureSample(calibration, settings))
            tissue = torch.from_numpy(~glass_mask(part, index))[None]
            sample.add(logits.output.part(place), inside=tissue.to(logits.pixel.device))
            missing[name] -= 1
            if not missing[name]:
                found[name] = samples.pop(name).prototypes()
        if progress is not None:
            progress(logits.indices.stop, len(part))
    return found


def adapted(logits: TileLogits, tiles: TileSet, prototypes: Mapping[str, PicturePrototypes | None]) -> TileLogits:
    """The same tiles with pixel logits corrected by their pictures' prototypes."""
    pixel = logits.pixel.clone()
    size = (pixel.shape[2], pixel.shape[3])
    for place, index in enumerate(logits.indices):
        own = prototypes[group_of(tiles.files[index].image.name)]
        if own is not None:
            pixel[place] += own.correction(logits.output.part(place), size)[0]
    return dataclasses.replace(logits, pixel=pixel)


def _sampled(groups: Sequence[str]) -> list[int]:
    """Indices of at most ``MOST_TILES`` of each group."""
    members: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    chosen = [
        group[i]
        for group in members.values()
        for i in np.unique(np.linspace(0, len(group) - 1, min(len(group), MOST_TILES)).round().astype(int))
    ]
    return sorted(chosen)
