"""Prototype figures: reports by hand, loops written from the definitions, and the evaluation report's own number."""

from __future__ import annotations

import json
import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lpd.config import InputSpec, ModelConfig
from lpd.data.tiles import TileSet
from lpd.errors import ConfigError, DatasetError
from lpd.evaluation.report import evaluate
from lpd.explain.figures import SAMPLE, _Sample, prototype_figures
from lpd.explain.measures import (
    silhouette,
)
from lpd.model.cam import prototype_cosines
from lpd.model.network import LPDNet, LPDOutput
from lpd.model.scoring import default_calibration

PX = 64
CELL = 8
RED, GREEN, BLUE, DARK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (10, 10, 10)
YAML = """\
name: toy
mpp: 1.0
classes:
  - {code: AAA, name: First, color: [255, 0, 0]}
  - {code: BBB, name: Second, color: [0, 255, 0]}
  - {code: CCC, name: Third, color: [0, 0, 255]}
background: 3
licence: synthetic
"""
SPEC = InputSpec(mpp=1.0, tile_px=PX)
PAIR_FIGURES = ("jeffreys_similarity", "map_cosine", "map_iou", "prototype_cosine")
FIGURES = (*PAIR_FIGURES, "union_coverage", "effective_prototypes", "silhouette")


def write_tiles(folder: Path, images: list[np.ndarray], masks: list[np.ndarray]) -> TileSet:
    (folder / "dataset.yaml").write_text(YAML)
    for name, arrays in (("img", images), ("mask", masks)):
        (folder / "valid" / name).mkdir(parents=True)
        for index, array in enumerate(arrays):
            Image.fromarray(array).save(folder / "valid" / name / f"{index:02d}.png")
    return TileSet.open(folder, "valid")


@pytest.fixture(scope="module")
def tiles(tmp_path_factory) -> TileSet:
    """18 tiles, more than a batch: noise in blocks; two classes with ragged edges, background, unlabelled; no third."""
    rng = np.random.default_rng(0)
    images, masks = [], []
    for index in range(18):
        blocks = rng.integers(0, 256, (PX // CELL, PX // CELL, 3), dtype=np.uint8)
        images.append(blocks.repeat(CELL, 0).repeat(CELL, 1))
        mask = np.full((PX, PX), 3, np.uint8)
        if index != 5:  # one tile has no region at all
            mask[:, : 20 + 2 * index] = index % 2
        if index % 3 == 0:
            mask[: 30 + index] = 1
        mask[50 + index // 2 :] = 255
        masks.append(mask if index != 5 else np.full_like(mask, 3))
    return write_tiles(tmp_path_factory.mktemp("tiles"), images, masks)


def new_network(seed: int = 0, **options) -> LPDNet:
    torch.manual_seed(seed)
    return LPDNet(ModelConfig("test_convnext", class_count=3, prototype_dim=16, **options)).eval()


@pytest.fixture(scope="module")
def network() -> LPDNet:
    """K = 3; the prototypes are strewn widely, so that the figures are."""
    network = new_network()
    with torch.no_grad():
        network.prototypes.mul_(100)
    return network


class Painted(LPDNet):
    """Its features are the mean colours of 8 px cells, its prototypes the colours given, whatever the scale."""

    def __init__(self, colours: list[tuple[int, int, int]]) -> None:
        per_class = len(colours) // 3
        super().__init__(ModelConfig("test_convnext", class_count=3, prototypes_per_class=per_class, prototype_dim=4))
        self.colours = torch.tensor(colours).float()
        self.eval()

    def forward(self, images: torch.Tensor) -> LPDOutput:
        features = torch.nn.functional.avg_pool2d(images, CELL)
        return LPDOutput({3: prototype_cosines(features, self.colours)}, {}, {3: features[:, :1]}, {3: features})

    def adapted_prototypes(self) -> dict[int, torch.Tensor]:
        return {3: self.colours}


COLOURS = InputSpec(mpp=1.0, tile_px=PX, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def halves(left: tuple[int, int, int], right: tuple[int, int, int]) -> np.ndarray:
    image = np.empty((PX, PX, 3), np.uint8)
    image[:, : PX // 2], image[:, PX // 2 :] = left, right
    return image


# Whole reports by hand


def test_disjoint_prototypes(tmp_path):
    """Red and green halves, a red and a green prototype; background and the other classes' pixels say nothing."""
    mask = np.zeros((PX, PX), np.uint8)
    mask[PX // 2 :] = 3
    tiles = write_tiles(tmp_path, [halves(RED, GREEN)], [mask])
    found = prototype_figures(Painted([RED, GREEN] * 3), tiles, COLOURS)
    p = 1 / (1 + math.exp(-1 / 0.07))  # mass of a map's own half
    expected = {
        "jeffreys_similarity": math.exp(-2 * (2 * p - 1) / 0.07),
        "map_cosine": -1,
        "map_iou": 0,
        "union_coverage": 1,
        "effective_prototypes": 2,
        "prototype_cosine": 0,
        "silhouette": 1,
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-6), name
        assert found["classes"]["AAA"][name] == pytest.approx(value, abs=1e-6), name
    assert found["classes"]["AAA"]["usage"] == [0.5, 0.5]
    assert (found["classes"]["AAA"]["tiles"], found["classes"]["AAA"]["map_pixels"]) == (1, 32)


def test_equal_prototypes_count_as_one(tiles):
    network = new_network()
    with torch.no_grad():
        network.prototypes.copy_(network.prototypes[::3].repeat_interleave(3, 0))
    for scale in network.config.scales:
        found = prototype_figures(network, tiles, SPEC, scale=scale)
        for name in (*PAIR_FIGURES, "effective_prototypes"):
            assert found[name] == pytest.approx(1, abs=1e-4), name
        assert found["silhouette"] is None
        assert found["classes"]["AAA"]["usage"] == [1, 0, 0]


def test_usage_is_of_the_split_and_not_of_each_tile(tmp_path):
    """Each tile is won by one prototype; together they use two of three."""
    masks = [np.zeros((PX, PX), np.uint8)] * 2
    tiles = write_tiles(tmp_path, [halves(RED, RED), halves(GREEN, GREEN)], masks)
    found = prototype_figures(Painted([RED, GREEN, BLUE] * 3), tiles, COLOURS)
    assert found["classes"]["AAA"]["usage"] == [0.5, 0.5, 0]
    assert found["effective_prototypes"] == pytest.approx(2)


def test_a_region_needs_two_pixels_that_are_more_than_half_of_the_class(tmp_path):
    """Of each 8 px cell that the mask touches: one whole (no region) for AAA; one whole, one of 5 columns, one of 4 for
    BBB; three of 3 columns beside unlabelled ones for CCC."""
    mask = np.full((PX, PX), 3, np.uint8)
    mask[:8, :8] = 0
    mask[16:24, :8] = mask[16:24, 8:13] = mask[16:24, 16:20] = 1
    mask[32:40, :24] = 255
    mask[32:40, [0, 1, 2, 8, 9, 10, 16, 17, 18]] = 2
    tiles = write_tiles(tmp_path, [halves(RED, GREEN)], [mask])
    found = prototype_figures(Painted([RED, GREEN] * 3), tiles, COLOURS)["classes"]
    assert {code: (row["tiles"], row["map_pixels"]) for code, row in found.items()} == {
        "AAA": (0, 0),
        "BBB": (1, 2),
        "CCC": (0, 0),
    }
    assert found["AAA"]["usage"] is None
    assert found["AAA"]["prototype_cosine"] == pytest.approx(0)  # needs no region
    assert {name for name in FIGURES if found["AAA"][name] is None} == set(FIGURES) - {"prototype_cosine"}


def test_nothing_is_said_of_a_split_of_background(tmp_path):
    masks = [np.full((PX, PX), 3, np.uint8), np.full((PX, PX), 255, np.uint8)]
    tiles = write_tiles(tmp_path, [halves(RED, GREEN)] * 2, masks)
    found = prototype_figures(Painted([RED, GREEN] * 3), tiles, COLOURS)
    assert {name for name in FIGURES if found[name] is not None} == {"prototype_cosine"}


# Against loops


def silhouette_by_loop(points: np.ndarray, clusters: np.ndarray) -> float:
    unit = [p / np.linalg.norm(p) for p in points.astype(np.float64)]
    scores = []
    for i, own in enumerate(clusters):
        by_cluster: dict[int, list[float]] = {}
        for j, other in enumerate(clusters):
            if i != j:
                by_cluster.setdefault(int(other), []).append(1 - float(unit[i] @ unit[j]))
        if int(own) not in by_cluster:
            scores.append(0.0)
            continue
        a = np.mean(by_cluster.pop(int(own)))
        b = min(np.mean(distances) for distances in by_cluster.values())
        scores.append((b - a) / max(a, b))
    return float(np.mean(scores))


def test_silhouette_equals_a_loop():
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(40, 5, generator=generator)
    clusters = torch.randint(0, 4, (40,), generator=generator)
    clusters[7] = 9  # alone
    assert silhouette(points, clusters) == pytest.approx(silhouette_by_loop(points.numpy(), clusters.numpy()))


def tile_by_loop(values: list[np.ndarray]) -> dict[str, float]:
    """Figures of one class in one tile from K lists of cosines at its region's pixels."""
    spread = [np.exp(v / 0.07) / np.exp(v / 0.07).sum() for v in values]
    centred = [v - v.mean() for v in values]
    sets = [set(np.flatnonzero((v - v.min()) / (v.max() - v.min()) >= 0.5)) for v in values]
    pairs = list(combinations(range(len(values)), 2))
    divergences = [((spread[i] - spread[j]) * np.log(spread[i] / spread[j])).sum() for i, j in pairs]
    cosines = [centred[i] @ centred[j] / np.linalg.norm(centred[i]) / np.linalg.norm(centred[j]) for i, j in pairs]
    return {
        "jeffreys_similarity": float(np.mean([math.exp(-d) for d in divergences])),
        "map_cosine": float(np.mean(cosines)),
        "map_iou": float(np.mean([len(sets[i] & sets[j]) / len(sets[i] | sets[j]) for i, j in pairs])),
        "union_coverage": len(set.union(*sets)) / len(values[0]),
    }


def class_by_loop(network: LPDNet, tiles: TileSet, scale: int, c: int) -> dict[str, float]:
    in_tiles, features, won = [], [], []
    for index in range(len(tiles)):
        image = torch.from_numpy((tiles.images([index]) / 255 - SPEC.mean) / SPEC.std).permute(0, 3, 1, 2).float()
        with torch.no_grad():
            output = network(image)
        cosines = output.prototype_cosines[scale][0, 3 * c : 3 * c + 3].double().numpy()
        side = cosines.shape[1]
        inside = (tiles.mask(index) == c).reshape(side, PX // side, side, PX // side).mean((1, 3)) > 0.5
        if inside.sum() < 2:
            continue
        in_tiles.append(tile_by_loop([m[inside] for m in cosines]))
        features += list(output.features[scale][0].numpy()[:, inside].T)
        won += [int(np.argmax(cosines[:, y, x])) for y, x in np.argwhere(inside)]
    shares = [won.count(k) / len(won) for k in range(3)]
    adapted = network.adapted_prototypes()[scale][3 * c : 3 * c + 3].detach().double().numpy()
    directions = [p / np.linalg.norm(p) for p in adapted]
    return {
        **{name: float(np.mean([tile[name] for tile in in_tiles])) for name in in_tiles[0]},
        "effective_prototypes": math.exp(-sum(s * math.log(s) for s in shares if s)),
        "prototype_cosine": float(np.mean([directions[i] @ directions[j] for i, j in combinations(range(3), 2)])),
        "silhouette": silhouette_by_loop(np.array(features), np.array(won)),
        "tiles": len(in_tiles),
        "map_pixels": len(won),
    }


@pytest.mark.parametrize("scale", [2, 3])  # whose regions have fewer pixels than are sampled
def test_figures_equal_loops(network, tiles, scale):
    found = prototype_figures(network, tiles, SPEC, scale=scale)
    rows = {code: class_by_loop(network, tiles, scale, c) for c, code in enumerate(("AAA", "BBB"))}
    for code, row in rows.items():
        assert row["map_pixels"] <= SAMPLE
        for name, value in row.items():
            assert found["classes"][code][name] == pytest.approx(value, rel=1e-3, abs=1e-6), (code, name)
    assert {name for name in FIGURES if found["classes"]["CCC"][name] is None} == set(FIGURES) - {"prototype_cosine"}
    for name in ("map_cosine", "map_iou", "union_coverage", "effective_prototypes", "silhouette"):
        assert found[name] == pytest.approx(np.mean([row[name] for row in rows.values()]), rel=1e-3, abs=1e-6), name
    alike = [found["classes"][code]["prototype_cosine"] for code in ("AAA", "BBB", "CCC")]
    assert found["prototype_cosine"] == pytest.approx(np.mean(alike))


def test_similarity_is_the_evaluation_reports(network, tiles):
    report = evaluate(network, tiles, SPEC, tiles.info.scheme, default_calibration(network.config))
    for scale, value in report["jeffreys_similarity"].items():
        found = prototype_figures(network, tiles, SPEC, scale=int(scale))
        assert found["jeffreys_similarity"] == pytest.approx(value, rel=1e-5)
    by_class = [found["classes"][code]["jeffreys_similarity"] for code in ("AAA", "BBB")]
    assert np.mean(by_class) != pytest.approx(value, rel=1e-3)  # classes weigh as often as they occur


def test_batches_leave_no_trace(network, tiles, monkeypatch):
    monkeypatch.setattr("lpd.explain.figures.SAMPLE", 100)
    whole = prototype_figures(network, tiles, SPEC, scale=1)
    assert whole["classes"]["AAA"]["map_pixels"] > 100
    monkeypatch.setattr("lpd.explain.figures._BATCH", 5)
    parts = prototype_figures(network, tiles, SPEC, scale=1)
    for name in FIGURES:
        assert parts[name] == pytest.approx(whole[name], rel=1e-4), name


def test_a_sample_is_drawn_evenly_from_all_that_passes_by():
    """4000 pixels in 8 batches, each pixel's feature its number: a sample of 500 takes some 62 ± 7 of each batch."""
    sample = _Sample()
    for batch in torch.arange(4000.0).reshape(8, 1, 1, 20, 25):
        sample.add(batch, batch[:, 0].long() % 3, torch.ones(1, 20, 25, dtype=torch.bool))
    numbers = sample.features[:, 0].long()
    assert len(numbers) == len(set(numbers.tolist())) == SAMPLE
    assert torch.equal(sample.won, numbers % 3)
    drawn = torch.bincount(numbers // 500, minlength=8)
    assert drawn.min() > 40
    assert drawn.max() < 85


@pytest.mark.parametrize("head", ["prototypes", "linear"])
def test_one_prototype_per_class_has_no_pairs(tiles, head):
    found = prototype_figures(new_network(prototypes_per_class=1, head=head), tiles, SPEC)
    for row in (found, found["classes"]["AAA"]):
        assert {name for name in FIGURES if row[name] is None} == {*PAIR_FIGURES, "silhouette"}
        assert row["effective_prototypes"] == 1
        assert 0 < row["union_coverage"] < 1
    assert found["classes"]["AAA"]["usage"] == [1]


def test_the_report_is_plain_json_of_the_deepest_scale_unless_told(network, tiles):
    told: list[tuple[int, int]] = []
    found = prototype_figures(network, tiles, SPEC, progress=lambda *done: told.append(done))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert {key: found[key] for key in ("scale", "prototypes_per_class", "tiles")} == {
        "scale": 3,
        "prototypes_per_class": 3,
        "tiles": 18,
    }
    assert set(found) == {"scale", "prototypes_per_class", "tiles", "classes", *FIGURES}
    assert told == [(16, 18), (18, 18)]
    assert found == prototype_figures(network, tiles, SPEC, scale=3)


def test_what_does_not_fit_is_refused(network, tiles, tmp_path):
    with pytest.raises(ConfigError, match="no maps at scale 0: choose one of 1, 2, 3"):
        prototype_figures(network, tiles, SPEC, scale=0)
    fewer = LPDNet(ModelConfig("test_convnext", class_count=2, prototype_dim=16)).eval()
    with pytest.raises(DatasetError, match="'toy' has 3 classes but the network knows 2"):
        prototype_figures(fewer, tiles, SPEC)
    fixed = LPDNet(ModelConfig("mixer_s32_224", class_count=3, prototype_dim=16)).eval()
    with pytest.raises(ConfigError, match="mixer_s32_224 cannot take tiles of 64 px"):
        prototype_figures(fixed, tiles, SPEC)
    (tmp_path / "dataset.yaml").write_text(YAML)
    (tmp_path / "train").mkdir()
    Image.fromarray(halves(RED, DARK)).save(tmp_path / "train" / "a[100].png")
    with pytest.raises(DatasetError, match="has no mask: split 'train' carries image-level labels only"):
        prototype_figures(network, TileSet.open(tmp_path, "train"), SPEC)
