"""Places of stored results: bytes put in by hand come out as the right values at the right cells."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lpd.classes import ClassScheme, TissueClass
from lpd.config import Calibration
from lpd.errors import LpdError, ResultError
from lpd.explain.inspecting_store import inspect_slide, inspect_store, tile_box
from lpd.inference.frame import Box
from lpd.inference.meta import ResultMeta
from lpd.inference.prototype_layers import LINEAR_LIMIT, MapLayer, PrototypeMaps
from lpd.inference.recomputing import recomputed_mask
from lpd.inference.store import ResultStore
from lpd.slide.region import Region

SCHEME = ClassScheme((TissueClass("AAA", "First", (200, 0, 0)), TissueClass("BBB", "Second", (0, 0, 200))))
CALIBRATION = Calibration((1.0,), (1.0, 1.0), (0.0, 0.0), (2.0, 0.5), (0.25, -0.5))
PICTURE = np.full((16, 16, 3), 200, np.uint8)
#: Rows and columns of cells of 8 px of a mask of 400 × 300.
ROWS, COLUMNS = 38, 50


def make_store(folder: Path, maps: PrototypeMaps, bytes_of: dict[str, np.ndarray]) -> ResultStore:
    """400 × 300 mask pixels, level 0 twice as fine: class 0 left of column 200, class 1 on its right, then glass."""
    settings = {"prototype_maps": True}
    meta = ResultMeta("slide", "f", 800, 600, 0.5, 1.0, SCHEME, "model", "sha256:1", settings=settings)
    store = ResultStore.create(folder, meta, maps)
    mask = np.full((300, 400), 2, np.uint8)
    mask[:, :200], mask[:, 200:360] = 0, 1
    store.write_mask(0, 0, mask)
    scores = np.zeros((2, 75, 100), np.uint8)
    scores[0], scores[1, :, :50] = 127, 254
    store.write_scores(0, 0, scores)
    for layer in maps.layers:
        store.write_layer(layer, 0, 0, bytes_of[layer.name])
    store.commit(Region(0, 0, 800, 600))
    store.finish()
    return ResultStore.open(folder)


def layers(*pixel: MapLayer, channels: int = 4, gate_limit: float = 10.0) -> tuple[MapLayer, ...]:
    return (*pixel, MapLayer("gate", "gate", channels, 16, gate_limit, 3))


@pytest.fixture
def bytes_of() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "fused": rng.integers(0, 255, (4, ROWS, COLUMNS), np.uint8),
        "gate": rng.integers(0, 255, (4, 19, 25), np.uint8),
        "correction": rng.integers(0, 255, (2, ROWS, COLUMNS), np.uint8),
        "scale1": rng.integers(0, 255, (4, ROWS, COLUMNS), np.uint8),
        "scale2": rng.integers(0, 255, (4, 19, 25), np.uint8),
    }


@pytest.fixture
def store(tmp_path: Path, bytes_of: dict[str, np.ndarray]) -> ResultStore:
    maps = PrototypeMaps(2, "mean", CALIBRATION, 8, layers(MapLayer("fused", "pixel", 4, 8, 12.0)))
    return make_store(tmp_path / "result", maps, bytes_of)


def cosine(stored: np.ndarray) -> np.ndarray:
    return stored.astype(np.float64) / 127 - 1


BOX = Box(160, 64, 224, 112)  # columns 20 to 27, rows 8 to 13; of the gate 10 to 13 and 4 to 6


def test_known_bytes_come_back_at_the_right_place(store: ResultStore, bytes_of: dict[str, np.ndarray]):
    found = inspect_store(store, PICTURE, BOX)
    own = cosine(bytes_of["fused"][:, 8:14, 20:28])
    np.testing.assert_allclose(found.maps, own.reshape(2, 2, 6, 8), atol=1e-6)
    np.testing.assert_allclose(found.class_maps, np.stack([own[:2].mean(0), own[2:].mean(0)]), atol=1e-6)
    gate = 10 * cosine(bytes_of["gate"][:, 4:7, 10:14])
    first, second = 2 * gate[:2].mean() + 0.25, 0.5 * gate[2:].mean() - 0.5
    np.testing.assert_allclose(found.gates, [1 / (1 + math.exp(-first)), 1 / (1 + math.exp(-second))], atol=1e-6)
    assert [cam.scale for cam in found.cams] == [3]
    deepest = cosine(bytes_of["gate"][:, 4:7, 10:14]).repeat(2, 1).repeat(2, 2)
    np.testing.assert_allclose(found.cams[0].values[1], deepest[2:].mean(0), atol=1e-6)
    assert (found.mask[:, :40] == 0).all()
    assert (found.mask[:, 40:] == 1).all()
    np.testing.assert_allclose(found.scores, [127 / 254, 40 / 64])  # the second is sure left of column 200
    assert (found.place.region, found.place.mpp, found.checkpoint) == (Region(320, 128, 128, 96), 0.5, "model")
    assert (found.unit, found.stride_px) == ("cosine", 8)


def test_places_may_end_within_cells_and_where_nothing_was_computed(tmp_path, bytes_of):
    bytes_of["fused"][:, :, 45:] = 255
    maps = PrototypeMaps(2, "mean", CALIBRATION, 8, layers(MapLayer("fused", "pixel", 4, 8, 12.0)))
    store = make_store(tmp_path / "result", maps, bytes_of)
    found = inspect_store(store, PICTURE, Box(336, 280, 400, 300))
    assert found.maps.shape == (2, 2, 3, 8)  # 20 px are two cells and a half
    assert np.isnan(found.maps[..., 3:]).all()
    np.testing.assert_allclose(found.maps[0, 1, :, :3], cosine(bytes_of["fused"][1, 35:38, 42:45]), atol=1e-6)
    with pytest.raises(ResultError, match=r"no maps of slide at x 736, y 0: choose a place with tissue"):
        inspect_store(store, PICTURE, Box(368, 0, 400, 32))


def test_what_the_slides_own_prototypes_add_is_in_the_class_alone(tmp_path, bytes_of):
    kept = layers(MapLayer("fused", "pixel", 4, 8, 12.0), MapLayer("correction", "correction", 2, 8, 6.0))
    store = make_store(tmp_path / "result", PrototypeMaps(2, "mean", CALIBRATION, 8, kept), bytes_of)
    found = inspect_store(store, PICTURE, BOX)
    own, added = (cosine(bytes_of[name][:, 8:14, 20:28]) for name in ("fused", "correction"))
    expected = (12 * own.reshape(2, 2, 6, 8).mean(1) + 6 * added) / 12
    np.testing.assert_allclose(found.class_maps, expected, atol=1e-6)
    np.testing.assert_allclose(found.maps.reshape(own.shape), own, atol=1e-6)
    assert "adapted to the slide's stain" in found.notes[0]


def test_unions_of_scales_and_their_own_cams(tmp_path, bytes_of):
    scales = MapLayer("scale1", "pixel", 4, 8, 8.0, 1, 0.25), MapLayer("scale2", "pixel", 4, 16, 12.0, 2, 0.75)
    store = make_store(tmp_path / "result", PrototypeMaps(2, "union", CALIBRATION, 8, layers(*scales)), bytes_of)
    found = inspect_store(store, PICTURE, BOX)
    fine = 8 * cosine(bytes_of["scale1"][:, 8:14, 20:28])
    coarse = 12 * cosine(bytes_of["scale2"][:, 4:7, 10:14]).repeat(2, 1).repeat(2, 2)
    limit = 0.25 * 8 + 0.75 * 12
    np.testing.assert_allclose(found.maps[1, 0], (0.25 * fine[2] + 0.75 * coarse[2]) / limit, atol=1e-6)

    def union(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.log((np.exp(a) + np.exp(b)) / 2)

    first = 0.25 * union(fine[0], fine[1]) + 0.75 * union(coarse[0], coarse[1])
    np.testing.assert_allclose(found.class_maps[0], first / limit, atol=1e-5)
    assert [cam.scale for cam in found.cams] == [1, 2, 3]
    np.testing.assert_allclose(found.cams[0].values[1], union(fine[2], fine[3]) / 8, atol=1e-5)
    assert "deepest" not in found.notes[0]


def test_a_linear_head_has_logits(tmp_path, bytes_of):
    maps = PrototypeMaps(
        1,
        "mean",
        CALIBRATION,
        8,
        layers(MapLayer("fused", "pixel", 2, 8, LINEAR_LIMIT), channels=2, gate_limit=LINEAR_LIMIT),
    )
    store = make_store(tmp_path / "result", maps, {name: values[:2] for name, values in bytes_of.items()})
    found = inspect_store(store, PICTURE, BOX)
    assert found.unit == "logit"
    np.testing.assert_allclose(found.maps[:, 0], 32 * cosine(bytes_of["fused"][:2, 8:14, 20:28]), atol=1e-5)
    np.testing.assert_array_equal(found.class_maps, found.maps[:, 0])


def test_muted_prototypes_are_left_out_of_everything_but_their_own_maps(store, bytes_of):
    found, all_of_them = (inspect_store(store, PICTURE, BOX, muted=muted) for muted in ({1, 2, 3}, ()))
    np.testing.assert_array_equal(found.maps, all_of_them.maps)
    own = cosine(bytes_of["fused"][:, 8:14, 20:28])
    np.testing.assert_allclose(found.class_maps[0], own[0], atol=1e-6)
    assert np.isnan(found.class_maps[1]).all()
    assert np.isnan(found.cams[0].values[1]).all()
    assert found.gates[1] == 0
    gate = 2 * 10 * cosine(bytes_of["gate"][0, 4:7, 10:14]).mean() + 0.25
    assert found.gates[0] == pytest.approx(1 / (1 + math.exp(-gate)))
    assert (found.mask == 0).all()
    np.testing.assert_array_equal(found.mask, recomputed_mask(store, BOX, {1, 2, 3}))
    assert found.scores[1] < 1e-3
    assert [found.is_muted(c, k) for c in (0, 1) for k in (0, 1)] == [False, True, True, True]


def test_merged_prototypes_count_as_one(tmp_path, bytes_of):
    maps = PrototypeMaps(2, "union", CALIBRATION, 8, layers(MapLayer("fused", "pixel", 4, 8, 12.0)))
    store = make_store(tmp_path / "result", maps, bytes_of)
    found = inspect_store(store, PICTURE, BOX, merged=[{2, 3}])
    own = cosine(bytes_of["fused"][:, 8:14, 20:28])
    np.testing.assert_allclose(found.class_maps[1], own[2:].mean(0), atol=1e-5)
    union = np.log(np.exp(12 * own[:2]).mean(0)) / 12
    np.testing.assert_allclose(found.class_maps[0], union, atol=1e-5)
    assert (found.merged, found.muted) == (((2, 3),), frozenset())
    np.testing.assert_array_equal(found.mask, recomputed_mask(store, BOX, (), [{2, 3}]))
    edited = dataclasses.replace(maps, edited=(((0,),), ((2, 3),)))
    again = inspect_store(make_store(tmp_path / "edited", edited, bytes_of), PICTURE, BOX)
    assert (again.merged, again.muted) == (((2, 3),), {1})
    np.testing.assert_allclose(again.class_maps, [own[0], own[2:].mean(0)], atol=1e-5)
    with pytest.raises(ResultError, match="of different classes"):
        inspect_store(store, PICTURE, BOX, merged=[{1, 2}])


@pytest.mark.parametrize(
    ("point", "side_l0", "expected"),
    [
        ((400, 300), None, Box(168, 120, 232, 184)),  # a tile of 64 px around (200, 150), on cells of 8
        ((0, 0), None, Box(0, 0, 64, 64)),
        ((799, 599), None, Box(336, 236 // 8 * 8 + 8, 400, 300)),
        ((400, 300), 160, Box(160, 112, 240, 192)),
        ((400, 300), 4000, Box(0, 0, 400, 300)),
    ],
)
def test_a_box_lies_around_its_point_on_whole_cells_inside_of_the_slide(store, point, side_l0, expected):
    assert tile_box(store, *point, side_l0) == expected


class Ruler:
    """A slide whose pixels say where they are."""

    def read(self, region: Region, size: tuple[int, int]) -> np.ndarray:
        self.asked = region, size
        return np.zeros((size[1], size[0], 3), np.uint8)


def test_the_picture_is_read_where_the_maps_are(store: ResultStore):
    slide = Ruler()
    found = inspect_slide(store, slide, BOX, picture_px=128, names=["a", "", "c", "d"])
    assert slide.asked == (Region(320, 128, 128, 96), (128, 96))
    assert found.picture.shape == (96, 128, 3)
    assert [found.label(0, 0), found.label(0, 1), found.label(1, 0)] == ["a", "AAA 2", "c"]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda s: tile_box(s, 800, 0), r"\(800, 0\) lies outside of slide, which is 800 × 600 px"),
        (lambda s: tile_box(s, 8, 8, 4), r"a place 4 px wide cannot be shown: choose 16 to 8192"),
        (lambda s: tile_box(s, 8, 8, math.nan), r"a place nan px wide"),
        (lambda s: inspect_store(s, PICTURE, Box(400, 0, 408, 8)), "lie outside of slide"),
        (lambda s: inspect_store(s, PICTURE, Box(0, 0, 8000, 8)), "8000 × 8 px is too large"),
        (lambda s: inspect_store(s, PICTURE, BOX, muted={4}), "prototype 4 does not exist: this result has 4"),
        (lambda s: inspect_store(s, PICTURE, BOX, muted=range(4)), "all 4 prototypes are muted"),
        (lambda s: inspect_store(s, PICTURE, BOX, names=["a"]), "1 names for 4 prototypes"),
        (lambda s: inspect_store(s, PICTURE[..., 0], BOX), r"not \(H, W, 3\) uint8 RGB"),
    ],
)
def test_what_cannot_be_shown_is_said(store: ResultStore, call, words: str):
    with pytest.raises(LpdError, match=words):
        call(store)


def test_a_result_without_maps_says_what_to_do(tmp_path: Path):
    meta = ResultMeta("slide", "f", 800, 600, 0.5, 1.0, SCHEME, "model", "sha256:1")
    store = ResultStore.create(tmp_path / "plain", meta)
    for call in (lambda: tile_box(store, 1, 1), lambda: inspect_store(store, PICTURE, BOX)):
        with pytest.raises(ResultError, match="segment the slide with --prototype-maps"):
            call()


def test_the_web_process_gets_no_torch_with_it():
    modules = "lpd.explain.inspecting_store, lpd.explain.inspection_figure, lpd.explain.projection"
    check = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_arrays_are_plain(store: ResultStore, tmp_path: Path):
    found = inspect_store(store, PICTURE, BOX, muted={1})
    np.savez(tmp_path / "maps.npz", **found.arrays())
    with np.load(tmp_path / "maps.npz", allow_pickle=False) as arrays:
        assert arrays["maps"].shape == (2, 2, 6, 8)
        assert arrays["names"].tolist() == [["AAA 1", "AAA 2"], ["BBB 1", "BBB 2"]]
        assert arrays["muted"].tolist() == [[False, True], [False, False]]
        assert arrays["cam_3"].shape == (2, 6, 8)
        assert arrays["region"].tolist() == [320, 128, 128, 96]
        assert (str(arrays["unit"]), int(arrays["stride_px"]), str(arrays["checkpoint"])) == ("cosine", 8, "model")
