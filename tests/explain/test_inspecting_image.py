"""Pictures through a network: what is shown is what the network said, and what a slide's result says of the place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from lpd.classes import BCSS
from lpd.config import Calibration, InputSpec, ModelConfig
from lpd.errors import CheckpointError, ConfigError, ShapeError
from lpd.explain.inspecting_image import inspect_image
from lpd.explain.inspecting_store import inspect_slide, tile_box
from lpd.inference.backend import load_backend
from lpd.inference.frame import Box
from lpd.inference.pipeline import segment_slide
from lpd.inference.settings import SegmentSettings
from lpd.inference.store import ResultStore
from lpd.model.checkpoint import load_checkpoint
from lpd.model.header import CheckpointInfo
from lpd.model.inputs import to_network_input
from lpd.model.network import LPDNet
from lpd.runs import Run
from lpd.slide.opening import open_slide

ROOT = Path(__file__).resolve().parents[2]
PHANTOM = ROOT / "checkpoints" / "phantom-learnable-mobilenetv2_100.safetensors"
SPEC = InputSpec(mpp=1.0, tile_px=64)
CALIBRATION = Calibration((0.2, 0.3, 0.5), (1.5,) * 4, (0.1,) * 4, (0.8,) * 4, (-0.2,) * 4)


def small(**changes) -> tuple[LPDNet, CheckpointInfo]:
    """A random network of four classes with two prototypes each."""
    torch.manual_seed(3)
    config = ModelConfig("mobilenetv2_050", 4, **{"prototypes_per_class": 2, "prototype_dim": 16, **changes})
    source = "linear" if config.head == "linear" else "learnable"
    info = CheckpointInfo(Path("small.safetensors"), BCSS, SPEC, config, CALIBRATION, source)
    network = LPDNet(config).eval()
    for number, gain in enumerate(getattr(network, "gains", {}).values()):
        gain.data.fill_(10.0 + number)
    return network, info


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    rng = np.random.default_rng(1)
    return rng.integers(60, 200, (8, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)


@pytest.fixture(scope="module")
def tile() -> np.ndarray:
    """Coloured blocks with glass on the right."""
    blocks = np.random.default_rng(1).integers(60, 200, (8, 8, 3), np.uint8)
    blocks[:, 6:] = 245
    return blocks.repeat(8, 0).repeat(8, 1)


@torch.inference_mode()
def test_maps_gates_and_cams_are_the_networks_own(tile: np.ndarray):
    network, info = small()
    found = inspect_image(network, info, tile, name="tile.png")
    output = network(to_network_input(tile[None], SPEC))
    gains = {1: 10.0, 2: 11.0, 3: 12.0}
    # Strides are 8, 16 and 16: enlarged to cells of 8 px by torch, fused by the definition of a fused cosine.
    enlarged = [
        gains[s] * w * torch.nn.functional.interpolate(output.prototype_cosines[s], (8, 8), mode="bilinear")[0]
        for s, w in zip((1, 2, 3), (0.2, 0.3, 0.5), strict=True)
    ]
    fused = sum(enlarged) / sum(gains[s] * w for s, w in zip((1, 2, 3), (0.2, 0.3, 0.5), strict=True))
    np.testing.assert_allclose(found.maps.reshape(8, 8, 8), fused, atol=1e-5)
    np.testing.assert_allclose(found.class_maps, found.maps.mean(1), atol=1e-5)
    gate = 12 * output.prototype_cosines[3].reshape(4, 2, -1).mean((1, 2))
    np.testing.assert_allclose(found.gates, torch.sigmoid(0.8 * gate - 0.2), atol=1e-5)
    assert [(cam.scale, cam.stride_px, cam.values.shape) for cam in found.cams] == [
        (1, 8, (4, 8, 8)),
        (2, 16, (4, 4, 4)),
        (3, 16, (4, 4, 4)),
    ]
    for cam in found.cams:
        expected = output.prototype_cosines[cam.scale][0].unflatten(0, (4, 2)).mean(1)
        np.testing.assert_allclose(cam.values, expected, atol=1e-5)
    assert (found.checkpoint, found.place.name, found.unit) == ("small", "tile.png", "cosine")


def test_the_mask_is_that_of_the_evaluation(tile: np.ndarray, tmp_path: Path):
    from lpd.data.tiles import TileSet
    from lpd.evaluation.protocols import glass_mask
    from lpd.evaluation.tiles import class_map, gated_scores, tile_logits

    for name in ("img", "mask"):
        (tmp_path / "valid" / name).mkdir(parents=True)
    Image.fromarray(tile).save(tmp_path / "valid" / "img" / "a.png")
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(tmp_path / "valid" / "mask" / "a.png")
    classes = "\n".join(f"  - {{code: {c.code}, name: {c.name}, color: [1, 2, 3]}}" for c in BCSS.classes)
    text = f"name: t\nmpp: 1.0\nclasses:\n{classes}\nbackground: 4\nlicence: none\n"
    (tmp_path / "dataset.yaml").write_text(text)
    tiles = TileSet.open(tmp_path, "valid")
    network, info = small()
    (logits,) = tile_logits(network, tiles, SPEC, CALIBRATION)
    scores = gated_scores(logits, tiles.labels, CALIBRATION, "predicted")
    glass = glass_mask(tiles, 0)
    assert 0 < glass.mean() < 1
    found = inspect_image(network, info, tile)
    np.testing.assert_array_equal(found.mask, np.where(glass, 4, class_map(scores)[0]))
    np.testing.assert_allclose(found.scores, scores.exp()[0].numpy()[:, ~glass].mean(1), rtol=1e-5)


def test_a_linear_head_has_logits_and_muting_a_class_takes_it_away(tile: np.ndarray):
    network, info = small(head="linear", prototypes_per_class=1)
    found = inspect_image(network, info, tile, muted={2})
    assert found.unit == "logit"
    assert np.isnan(found.class_maps[2]).all()
    assert all(np.isnan(cam.values[2]).all() for cam in found.cams)
    assert found.gates[2] == 0
    assert not (found.mask == 2).any()
    np.testing.assert_allclose(found.maps[:2, 0], found.class_maps[:2], atol=1e-6)
    with torch.inference_mode():
        output = network(to_network_input(tile[None], SPEC))
    np.testing.assert_allclose(found.cams[1].values[3], output.class_logits[2][0, 3].numpy(), atol=1e-6)


@pytest.mark.parametrize("merge", ["mean", "union"])
def test_what_is_left_of_a_muted_class_is_its_other_prototype(tile: np.ndarray, merge: str):
    network, info = small(merge=merge)
    found = inspect_image(network, info, tile, muted={1})
    np.testing.assert_allclose(found.class_maps[0], found.maps[0, 0], atol=1e-5)
    everything = inspect_image(network, info, tile)
    np.testing.assert_array_equal(found.maps, everything.maps)
    np.testing.assert_array_equal(found.class_maps[1:], everything.class_maps[1:])


def test_an_edited_network_shows_which_of_its_prototypes_count(tile: np.ndarray):
    groups = ((0, 1),), ((2,),), ((4,), (5,)), ((7,),)
    network, info = small(merge="union", groups=groups)
    plain = inspect_image(*small(merge="union"), tile, muted={3, 6}, merged=[{0, 1}])
    edited = inspect_image(network, info, tile)
    assert (edited.muted, edited.merged) == (plain.muted, plain.merged) == ({3, 6}, ((0, 1),))
    for name in ("maps", "class_maps", "gates", "mask"):
        np.testing.assert_allclose(getattr(edited, name), getattr(plain, name), atol=1e-5)


def test_pictures_come_to_the_networks_resolution_and_any_size(picture: np.ndarray):
    network, info = small()
    found = inspect_image(network, info, picture[:, :48].repeat(2, 0).repeat(2, 1), mpp=0.5)
    assert found.mask.shape == (64, 48)
    assert found.maps.shape == (4, 2, 8, 6)
    assert found.place.width_um == 48
    assert found.picture.shape == (128, 96, 3)
    # Of 48 columns two deepest cells of 32 px were padded to: the gate is the mean of those whose middles are inside.
    wide = inspect_image(network, info, picture)
    assert np.abs(found.maps[..., :4] - wide.maps[..., :4]).max() < 0.5


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"mpp": 0.2}, ConfigError, r"image is 13 × 13 px at 1 µm/px, and small needs 32 each way"),
        ({"mpp": 50.0}, ConfigError, r"3200 × 3200 px at 1 µm/px, more than 2048: use lpd segment --prototype-maps"),
        ({"muted": range(8)}, ConfigError, "all 8 prototypes of small are muted"),
        ({"names": ["a"]}, ConfigError, "1 names for 8 prototypes"),
        ({"picture": np.zeros((64, 64), np.uint8)}, ShapeError, "uint8"),
    ],
)
def test_what_cannot_be_shown_is_said(picture: np.ndarray, change: dict, error: type, words: str):
    network, info = small()
    with pytest.raises(error, match=words):
        inspect_image(network, info, **{"picture": picture, **change})


def test_an_encoder_with_positions_takes_its_tiles_only(picture: np.ndarray):
    network, info = small()
    network.encoder.knows_positions = True
    assert inspect_image(network, info, picture).maps.shape == (4, 2, 8, 8)
    with pytest.raises(ConfigError, match=r"small sees tiles of 64 × 64 px only, and image has 64 × 48"):
        inspect_image(network, info, picture[:48])


def test_a_broken_network_is_not_drawn(picture: np.ndarray):
    network, info = small()
    network.gains["3"].data.fill_(torch.nan)
    with pytest.raises(CheckpointError, match="small answers image with values that are no numbers"):
        inspect_image(network, info, picture)


def test_a_result_says_of_a_tile_what_the_network_says(tmp_path: Path):
    """Within the 8-bit code if the network sees what lies around the tile; by itself a tile's edges look otherwise."""
    path, noise = tmp_path / "clouds.png", np.random.default_rng(0).normal(size=(512, 512, 3))
    clouds = sum(gaussian_filter(noise, (sigma, sigma, 0)) * sigma for sigma in (2, 8, 40))
    Image.fromarray(np.clip((190, 120, 170) + 60 * clouds, 0, 255).astype(np.uint8)).save(path)
    choices = {"prototype_maps": True, "backend": "torch", "adapt": False, "tissue": "all", "threads": 1}
    settings = SegmentSettings.from_dict(choices)
    with open_slide(path, mpp=1.0) as slide, Run(tmp_path / "out", "segment") as run:
        segment_slide(slide, load_backend(PHANTOM, "cpu"), tmp_path / "out", settings, run)
        store = ResultStore.open(tmp_path / "out")
        box = tile_box(store, 256, 256)
        kept = inspect_slide(store, slide, box, picture_px=box.width)
        everything = slide.read(slide.region, store.meta.mask_size)
    network, info = load_checkpoint(PHANTOM, torch.device("cpu"))
    alone, around = inspect_image(network, info, kept.picture), inspect_image(network, info, everything)
    assert box == Box(144, 144, 368, 368)
    assert (kept.maps.shape, kept.unit, kept.stride_px) == (alone.maps.shape, alone.unit, alone.stride_px)
    assert np.ptp(kept.maps, axis=(2, 3)).min() > 0.1
    step = 1 / 127
    there = np.abs(kept.maps - around.maps[..., 18:46, 18:46])
    assert np.percentile(there, 99) < 0.51 * step
    by_itself = np.abs(kept.maps - alone.maps)
    assert np.percentile(by_itself, 50) < 3 * step
    assert np.percentile(by_itself[..., 8:20, 8:20], 95) < 4 * step
    np.testing.assert_allclose(kept.scores, alone.scores, atol=0.1)
