"""The evaluation report against a slow, separate computation, and the three gates on logits made by hand."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lpd.config import Calibration, InputSpec, ModelConfig
from lpd.data.tiles import TileSet
from lpd.errors import ConfigError, DatasetError
from lpd.evaluation.protocols import glass_mask
from lpd.evaluation.report import REFINEMENTS, evaluate, measure
from lpd.evaluation.tiles import GATES, TileLogits, class_map, gated_scores, tile_logits, tta_sides
from lpd.model.network import LPDNet
from lpd.model.scoring import default_calibration

PX = 64
SPEC = InputSpec(mpp=1.0, tile_px=PX)


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def test_each_gate_by_hand():
    calibration = Calibration((1.0,), (1.0, 2.0), (0.0, -1.0), (1.0, 1.0), (0.0, 0.5))
    pixel = torch.tensor([[[[1.0, 3.0, -2.0]], [[0.9, 1.0, 0.1]]]])
    gate = torch.tensor([[-1.0, 0.5]])
    logits = TileLogits(range(1), pixel, gate, output=None)
    labels = np.array([[True, False]])
    open_gate, soft_gate = [], []
    for first, second in zip(pixel[0, 0, 0].tolist(), pixel[0, 1, 0].tolist(), strict=True):
        share = sigmoid(first - (2 * second - 1))  # of the first class where both are there
        there = sigmoid(-1), sigmoid(0.5 + 0.5)
        open_gate.append(int(share < 0.5))
        alone = there[0] * (1 - there[1]), there[1] * (1 - there[0])
        soft_gate.append(int(alone[0] + there[0] * there[1] * share < alone[1] + there[0] * there[1] * (1 - share)))
    assert open_gate != soft_gate
    assert class_map(gated_scores(logits, labels, calibration, "none"))[0, 0].tolist() == open_gate
    assert class_map(gated_scores(logits, labels, calibration, "predicted"))[0, 0].tolist() == soft_gate
    assert class_map(gated_scores(logits, labels, calibration, "oracle"))[0, 0].tolist() == [0, 0, 0]
    assert class_map(gated_scores(logits, ~labels, calibration, "oracle"))[0, 0].tolist() == [1, 1, 1]


def test_only_the_oracle_gate_reads_the_labels(network, tiles):
    calibration = default_calibration(network.config)
    logits = next(tile_logits(network, tiles, SPEC, calibration))
    labels = tiles.labels[list(logits.indices)]
    for gate in GATES:
        same = np.array_equal(
            class_map(gated_scores(logits, labels, calibration, gate)),
            class_map(gated_scores(logits, ~labels, calibration, gate)),
        )
        assert same == (gate != "oracle")


def test_scores_equal_a_loop_over_tiles_and_classes(network, tiles):
    calibration = default_calibration(network.config)
    report = evaluate(network, tiles, SPEC, tiles.info.scheme, calibration)
    hit, union = np.zeros(3), np.zeros(3)
    for logits in tile_logits(network, tiles, SPEC, calibration):
        maps = class_map(gated_scores(logits, tiles.labels[list(logits.indices)], calibration, "predicted"))
        for index, predicted in zip(logits.indices, maps, strict=True):
            truth = tiles.mask(index)
            for c in range(3):
                tissue = truth < 3
                hit[c] += ((truth == c) & (predicted == c))[tissue].sum()
                union[c] += ((truth == c) | (predicted == c))[tissue].sum()
    expected = [h / u if u else None for h, u in zip(hit, union, strict=True)]
    found = report["gates"]["predicted"]["ignored"]
    assert list(found["iou"].values()) == [None if e is None else pytest.approx(e) for e in expected]
    assert found["miou"] == pytest.approx(np.mean([e for e in expected if e is not None]))


def test_glass_is_looked_for_in_what_the_network_sees(write_tiles, tmp_path):
    tiles = write_tiles(tmp_path, 1)
    path = tiles.files[0].image
    turned = Image.Exif()
    turned[0x0112] = 6  # what is stored on the left belongs on top
    Image.open(path).save(path, exif=turned)
    seen = TileSet.open(tmp_path, "valid")
    glass = glass_mask(seen, 0)
    assert (seen.images([0])[0][: PX // 4] < 200).all()
    assert glass[: PX // 4].mean() < 0.3  # the rule rounds the corners of tissue
    assert glass[-PX // 4 :].all()


def test_glass_is_found_by_the_tissue_rule_and_never_without_it(network, tiles):
    report = evaluate(network, tiles, SPEC, tiles.info.scheme, default_calibration(network.config))
    assert "background" not in report["gates"]["none"]["ignored"]["iou"]
    assert report["gates"]["none"]["tissue rule"]["iou"]["background"] > 0.85  # half of each tile is glass
    scores = report["gates"]["predicted"]["tissue rule"]
    assert scores["fwiou_with_background"] > scores["fwiou"]  # background is half of the pixels, and well found
    accuracy = {g: report["gates"][g]["tissue rule"]["iou"]["background"] for g in GATES}
    assert len(set(accuracy.values())) == 1  # no gate has a say in it


def test_flipping_averages_both_views(network, tiles):
    calibration = default_calibration(network.config)
    both = next(tile_logits(network, tiles, SPEC, calibration, flip=True))
    plain = next(tile_logits(network, tiles, SPEC, calibration))
    mirrored = TileSet(tiles.info, "valid", tiles.files)
    mirrored._cache = {i: np.ascontiguousarray(tiles.images([i])[0][:, ::-1]) for i in range(len(tiles))}
    other = next(tile_logits(network, mirrored, SPEC, calibration))
    torch.testing.assert_close(both.pixel, (plain.pixel + other.pixel.flip(3)) / 2, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(both.gate, (plain.gate + other.gate) / 2, rtol=1e-4, atol=1e-4)


def test_label_accuracy_follows_the_calibrated_gate(network, tiles):
    calibration = dataclasses.replace(
        default_calibration(network.config), gate_gain=(1e-9, 1e-9, 1e-9), gate_bias=(1.0, 1.0, -1.0)
    )
    accuracy = evaluate(network, tiles, SPEC, tiles.info.scheme, calibration)["label_accuracy"]
    assert accuracy == {"AAA": pytest.approx(10 / 19), "BBB": pytest.approx(9 / 19), "CCC": 1.0}


def test_the_report_is_plain_json_and_knows_no_paths(network, tiles):
    report = evaluate(network, tiles, SPEC, tiles.info.scheme, default_calibration(network.config))
    text = json.dumps(report, allow_nan=False)
    assert json.loads(text) == report
    assert str(Path(tiles.files[0].image).parent) not in text


def similarity_by_loop(network: LPDNet, tiles: TileSet, scale: int) -> list[float]:
    """Mean exp(-J) over the pairs of a class's prototypes and the classes of a tile, for each tile that shows any."""
    found = []
    for logits in tile_logits(network, tiles, SPEC, default_calibration(network.config)):
        cosines = logits.output.prototype_cosines[scale].double().numpy()
        side = cosines.shape[2]
        for index, maps in zip(logits.indices, cosines, strict=True):
            classes = []
            for c in range(3):
                area = (tiles.mask(index) == c).reshape(side, PX // side, side, PX // side).mean((1, 3))
                if (area > 0.5).sum() < 2:
                    continue
                values = [np.exp(maps[3 * c + k][area > 0.5] / 0.07) for k in range(3)]
                p, q, r = (v / v.sum() for v in values)
                pairs = [((a - b) * np.log(a / b)).sum() for a, b in ((p, q), (p, r), (q, r))]
                classes.append(np.mean(np.exp(-np.array(pairs))))
            found += [float(np.mean(classes))] if classes else []
    return found


def test_similarity_is_the_mean_over_tiles_that_show_a_class(network, write_tiles, tmp_path):
    some = write_tiles(tmp_path, 5, empty=(1, 2, 4))
    report = evaluate(network, some, SPEC, some.info.scheme, default_calibration(network.config))
    assert set(report["jeffreys_similarity"]) == {"1", "2", "3"}
    for scale, value in report["jeffreys_similarity"].items():
        expected = similarity_by_loop(network, some, int(scale))
        assert len(expected) == 2
        assert value == pytest.approx(np.mean(expected), rel=1e-4)


def test_similarity_is_unknown_without_regions_or_pairs(network, tiles, write_tiles, tmp_path):
    blank = write_tiles(tmp_path, 2, empty=(0, 1))
    report = evaluate(network, blank, SPEC, blank.info.scheme, default_calibration(network.config))
    assert report["jeffreys_similarity"] == {"1": None, "2": None, "3": None}
    single = LPDNet(ModelConfig("test_convnext", class_count=3, prototypes_per_class=1, prototype_dim=16)).eval()
    report = evaluate(single, tiles, SPEC, tiles.info.scheme, default_calibration(single.config))
    assert set(report["jeffreys_similarity"].values()) == {None}


def test_identical_prototypes_are_fully_alike(tiles):
    torch.manual_seed(0)
    network = LPDNet(ModelConfig("test_convnext", class_count=3, prototype_dim=16)).eval()
    with torch.no_grad():
        network.prototypes.copy_(network.prototypes[::3].repeat_interleave(3, 0))
    report = evaluate(network, tiles, SPEC, tiles.info.scheme, default_calibration(network.config))
    assert report["jeffreys_similarity"]["1"] == pytest.approx(1.0)


def test_tiles_of_other_classes_or_scale_are_refused(network, tiles):
    calibration = default_calibration(network.config)
    with pytest.raises(DatasetError, match=r"1\.0 µm/px but the checkpoint expects 0\.5"):
        evaluate(network, tiles, dataclasses.replace(SPEC, mpp=0.5), tiles.info.scheme, calibration)
    fewer = dataclasses.replace(tiles.info.scheme, classes=tiles.info.scheme.classes[:2])
    with pytest.raises(DatasetError, match="AAA, BBB, CCC but the checkpoint knows AAA, BBB"):
        evaluate(network, tiles, SPEC, fewer, calibration)


@pytest.mark.parametrize("px", [8, 80])
def test_tiles_of_an_odd_size_are_refused(network, write_tiles, tmp_path, px):
    tiles = write_tiles(tmp_path, 1, px)
    with pytest.raises(DatasetError, match=f"tiles of {px} px, which is not a multiple of 32: cut them to 64 px"):
        evaluate(network, tiles, SPEC, tiles.info.scheme, default_calibration(network.config))


def test_tiles_of_another_size_are_scored_where_the_network_takes_them(network, write_tiles, tmp_path):
    tiles = write_tiles(tmp_path, 1, 96)
    report = evaluate(network, tiles, SPEC, tiles.info.scheme, default_calibration(network.config))
    assert report["data"]["tiles"] == 1
    fixed = LPDNet(ModelConfig("mixer_s32_224", class_count=3, prototype_dim=16)).eval()
    with pytest.raises(ConfigError, match="mixer_s32_224 cannot take tiles of 96 px"):
        evaluate(fixed, tiles, SPEC, tiles.info.scheme, default_calibration(fixed.config))


@pytest.mark.parametrize("name", sorted(REFINEMENTS))
def test_refined_maps_are_scored_beside_the_plain_ones(network, tiles, name):
    calibration = default_calibration(network.config)
    plain = evaluate(network, tiles, SPEC, tiles.info.scheme, calibration)
    report = evaluate(network, tiles, SPEC, tiles.info.scheme, calibration, refinements=(name,))
    assert plain["refined"] == {}
    assert report["gates"] == plain["gates"]
    assert set(report["refined"]) == {name}
    counts = 0
    for logits in tile_logits(network, tiles, SPEC, calibration):
        indices = list(logits.indices)
        scores = gated_scores(logits, tiles.labels[indices], calibration, "predicted")
        images = torch.from_numpy(tiles.images(indices)).permute(0, 3, 1, 2) / 255
        found = class_map(REFINEMENTS[name](images, scores.softmax(1)))
        for index, one in zip(indices, found, strict=True):
            truth = tiles.mask(index)
            tissue = truth < tiles.info.scheme.count
            counts += int((truth[tissue] == one[tissue]).sum())
    total = sum(int((tiles.mask(i) < tiles.info.scheme.count).sum()) for i in range(len(tiles)))
    assert report["refined"][name]["predicted"]["ignored"]["accuracy"] == pytest.approx(counts / total)
    assert set(report["refined"][name]) == set(GATES)


def maps_of(network: LPDNet, tiles: TileSet) -> list[np.ndarray]:
    """The map of each tile under the predicted gate."""
    calibration = default_calibration(network.config)
    return [
        found
        for logits in tile_logits(network, tiles, SPEC, calibration)
        for found in class_map(gated_scores(logits, tiles.labels[list(logits.indices)], calibration, "predicted"))
    ]


def test_given_background_copies_it_from_the_truth(network, tiles):
    report = evaluate(network, tiles, SPEC, tiles.info.scheme, default_calibration(network.config))
    counts = np.zeros((4, 4), int)
    for index, found in enumerate(maps_of(network, tiles)):
        truth = tiles.mask(index)
        found = np.where(truth == 3, 3, found)
        for t in range(4):
            for p in range(4):
                counts[t, p] += ((truth == t) & (found == p)).sum()
    assert report["confusion"]["none"]["predicted"]["given"] == counts.tolist()
    scores = report["gates"]["predicted"]["given"]
    assert scores["iou"]["background"] == 1
    assert scores["accuracy"] == pytest.approx(np.trace(counts) / counts.sum())
    ignored = report["gates"]["predicted"]["ignored"]
    assert scores["miou"] == ignored["miou"]
    assert scores["iou"]["BBB"] == ignored["iou"]["BBB"]
    assert scores["miou_with_background"] > scores["miou"]


def test_confusion_counts_fit_every_score(network, tiles):
    report = evaluate(network, tiles, SPEC, tiles.info.scheme, default_calibration(network.config))
    shown = sum(int((tiles.mask(i) != 255).sum()) for i in range(len(tiles)))
    tissue = sum(int((tiles.mask(i) < 3).sum()) for i in range(len(tiles)))
    for gate in GATES:
        for background, table in report["gates"][gate].items():
            counts = np.array(report["confusion"]["none"][gate][background])
            assert counts.shape == ((3, 3) if background == "ignored" else (4, 4))
            assert counts.sum() == (tissue if background == "ignored" else shown)
            assert table["accuracy"] == pytest.approx(np.trace(counts) / counts.sum())
            assert table["dice"]["AAA"] == pytest.approx(2 * counts[0, 0] / (counts[0].sum() + counts[:, 0].sum()))
            known = [value for value in list(table["dice"].values())[:3] if value is not None]
            assert table["mdice"] == pytest.approx(np.mean(known))


def test_augmented_maps_are_scored_beside_the_plain_ones(network, write_tiles, tmp_path):
    tiles = write_tiles(tmp_path, 3, 224)
    calibration = default_calibration(network.config)
    report = evaluate(network, tiles, SPEC, tiles.info.scheme, calibration, refinements=("tta",))
    assert report["protocols"]["refinements"]["tta"].endswith("at 192, 224, 256 px")
    (views,) = tile_logits(network, tiles, SPEC, calibration, flip=True, sides=tta_sides(224))
    found = class_map(gated_scores(views, tiles.labels, calibration, "oracle"))
    right = sum(int(((tiles.mask(i) == one) & (tiles.mask(i) < 3)).sum()) for i, one in enumerate(found))
    total = sum(int((tiles.mask(i) < 3).sum()) for i in range(3))
    assert report["refined"]["tta"]["oracle"]["ignored"]["accuracy"] == pytest.approx(right / total)
    assert report["gates"] == evaluate(network, tiles, SPEC, tiles.info.scheme, calibration)["gates"]


def test_a_network_of_one_size_has_no_augmented_maps(write_tiles, tmp_path):
    tiles = write_tiles(tmp_path, 1, 224)
    fixed = LPDNet(ModelConfig("mixer_s32_224", class_count=3, prototype_dim=16)).eval()
    calibration = default_calibration(fixed.config)
    with pytest.raises(ConfigError, match=r"mixer_s32_224 is made for one size .* 224 px at 192 px: leave out"):
        evaluate(fixed, tiles, SPEC, tiles.info.scheme, calibration, refinements=("tta",))


def test_an_unknown_refinement_is_refused(network, tiles):
    with pytest.raises(ConfigError, match="'sharpen' is unknown: choose among adapt, pamr, crf, tta, turned"):
        evaluate(network, tiles, SPEC, tiles.info.scheme, default_calibration(network.config), refinements=("sharpen",))


def test_each_tile_is_scored_and_progress_told(network, tiles):
    told = []
    measured = measure(
        network,
        tiles,
        SPEC,
        tiles.info.scheme,
        default_calibration(network.config),
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(16, 19), (19, 19)]
    for score, found, index in zip(measured.tiles, maps_of(network, tiles), range(19), strict=True):
        truth = tiles.mask(index)
        assert score.name == f"{index:02d}.png"
        for t in range(3):
            for p in range(3):
                assert score.counts[t, p] == ((truth == t) & (found == p)).sum()
    spread = measured.report["spread"]
    assert spread["miou"] == pytest.approx(measured.report["gates"]["predicted"]["ignored"]["miou"])
    assert spread["low"] <= spread["miou"] <= spread["high"]
    assert spread["groups"] == 19  # names without coordinates: each tile for itself
    assert spread["groups_by_class"] == {"AAA": 10, "BBB": 9, "CCC": 0}


def test_tiles_of_one_picture_are_one_group(network, write_tiles, tmp_path):
    tiles = write_tiles(tmp_path, 4, name="slide_x{}_y0")
    report = evaluate(network, tiles, SPEC, tiles.info.scheme, default_calibration(network.config))
    assert report["data"]["groups"] == 1
    assert report["spread"]["low"] is None


def test_the_gate_is_compared_with_the_labels(network, tiles):
    calibration = dataclasses.replace(
        default_calibration(network.config), gate_gain=(1e-9, 1e-9, 1e-9), gate_bias=(1.0, 1.0, -1.0)
    )
    gate = evaluate(network, tiles, SPEC, tiles.info.scheme, calibration)["gate"]
    score = 1 / (1 + math.exp(-1))
    assert gate["AAA"]["present"] == 10
    assert gate["AAA"]["sensitivity"] == 1
    assert gate["AAA"]["specificity"] == 0
    assert gate["AAA"]["brier"] == pytest.approx((10 * (1 - score) ** 2 + 9 * score**2) / 19)
    assert gate["BBB"]["ece"] == pytest.approx(abs(score - 9 / 19))
    assert gate["CCC"]["sensitivity"] is None


def test_the_papers_map_is_scored_only_when_asked_for(network, tiles):
    calibration = default_calibration(network.config)
    assert "paper" not in evaluate(network, tiles, SPEC, tiles.info.scheme, calibration)
    report = measure(network, tiles, SPEC, tiles.info.scheme, calibration, paper=True).report
    assert report["paper"]["scales"] == [1, 2, 3]
    assert report["paper"]["weights"] == [0.3, 0.3, 0.4]
    for labels in ("oracle", "predicted"):
        tables = report["paper"][labels]
        assert tables["given"]["accuracy"] >= tables["power rule"]["accuracy"]
        assert set(tables["power rule"]["iou"]) == {"AAA", "BBB", "CCC", "background"}
    assert report["paper"]["oracle"]["power rule"]["iou"]["CCC"] is None  # no tile shows it, so no label lets it in
    json.dumps(report, allow_nan=False)
