"""Prototypes of pictures: each from its own tiles alone, for its own tiles alone, and what the report makes of them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lpd.config import InputSpec
from lpd.data.tiles import TileSet
from lpd.evaluation import adapting
from lpd.evaluation.adapting import adapt_to_pictures, adapted
from lpd.evaluation.confusion import confusion_matrix, scores_from
from lpd.evaluation.protocols import glass_mask
from lpd.evaluation.report import evaluate
from lpd.evaluation.tiles import tile_logits
from lpd.model.adaptation import PictureSample
from lpd.model.inputs import to_network_input
from lpd.model.network import LPDNet
from lpd.model.scoring import default_calibration, log_scores

SPEC = InputSpec(mpp=1.0, tile_px=64)


@pytest.fixture(scope="module")
def two_pictures(write_tiles: Callable[..., TileSet], tmp_path_factory: pytest.TempPathFactory) -> TileSet:
    """Five tiles of picture s1 and five others of picture s2."""
    folders: list[Path] = [tmp_path_factory.mktemp(name) for name in ("s1", "s2")]
    first, second = (write_tiles(folder, 10, name=f"{folder.name[:2]}_{{}}_0") for folder in folders)
    return TileSet(first.info, first.split, [*first.files[:5], *second.files[5:]])


@pytest.fixture(scope="module")
def sure(network: LPDNet) -> LPDNet:
    """A network that is sure of something."""
    network = copy.deepcopy(network)
    for gain in network.gains.values():
        gain.data.fill_(300.0)
    return network


def sample_of(network: LPDNet, tiles: TileSet, indices: range) -> PictureSample:
    sample = PictureSample(default_calibration(network.config))
    with torch.inference_mode():
        for index in indices:
            tissue = torch.from_numpy(~glass_mask(tiles, index))[None]
            sample.add(network(to_network_input(tiles.images([index]), SPEC)), inside=tissue)
    return sample


def test_each_picture_has_the_prototypes_of_its_own_tissue(sure, two_pictures):
    found = adapt_to_pictures(sure, two_pictures, SPEC, default_calibration(sure.config))
    assert list(found) == ["s1", "s2"]
    for name, indices in (("s1", range(5)), ("s2", range(5, 10))):
        expected = sample_of(sure, two_pictures, indices).prototypes()
        assert expected is not None
        for scale, prototypes in expected.by_scale.items():
            torch.testing.assert_close(found[name].by_scale[scale], prototypes, atol=1e-4, rtol=0)
    (scale, *_) = found["s1"].by_scale
    assert (found["s1"].by_scale[scale] - found["s2"].by_scale[scale]).abs().max() > 1e-3


def test_a_tile_is_corrected_by_its_own_picture_and_scored_so(sure, two_pictures):
    calibration = default_calibration(sure.config)
    pictures = {
        name: sample_of(sure, two_pictures, r).prototypes()
        for name, r in zip("ab", (range(5), range(5, 10)), strict=True)
    }
    by_name = {"s1": pictures["a"], "s2": None}
    (logits,) = tile_logits(sure, two_pictures, SPEC, calibration)
    pixel = adapted(logits, two_pictures, by_name).pixel
    assert torch.equal(pixel[5:], logits.pixel[5:])
    change = pictures["a"].correction(logits.output, (64, 64))
    torch.testing.assert_close(pixel[:5], logits.pixel[:5] + change[:5])

    total = np.zeros((4, 4), np.int64)
    for index in range(10):
        own = pictures["a" if index < 5 else "b"].correction(logits.output.part(index), (64, 64))
        scores = log_scores(logits.pixel[index][None] + own, logits.gate[index][None], calibration)
        total += confusion_matrix(two_pictures.mask(index)[None], scores.argmax(1).numpy().astype(np.uint8), 4)
    total[3] = 0
    report = evaluate(sure, two_pictures, SPEC, two_pictures.info.scheme, calibration, refinements=["adapt"])
    found = report["refined"]["adapt"]["predicted"]["ignored"]["miou"]
    assert found == pytest.approx(scores_from(total, 3).miou, abs=1e-3)
    assert found != report["gates"]["predicted"]["ignored"]["miou"]


def test_of_a_picture_with_many_tiles_some_are_looked_at(monkeypatch):
    monkeypatch.setattr(adapting, "MOST_TILES", 3)
    assert adapting._sampled([*"aaaaaaaaa", "b", *"ccc"]) == [0, 4, 8, 9, 10, 11, 12]


def test_the_look_beforehand_is_told_of(monkeypatch, sure, two_pictures):
    monkeypatch.setattr(adapting, "MOST_TILES", 2)
    told = []
    adapt_to_pictures(
        sure,
        two_pictures,
        SPEC,
        default_calibration(sure.config),
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(4, 4)]
