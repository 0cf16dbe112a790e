"""Maps of prototypes: what is stored is what the network said, and the mask can be made again from it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lpd.config import ModelConfig
from lpd.data.phantom import write_phantom_slide
from lpd.errors import ConfigError, ResultError
from lpd.inference.backend import NetworkBackend, load_backend
from lpd.inference.frame import Box
from lpd.inference.pipeline import segment_slide
from lpd.inference.prototype_layers import MapLayer, PrototypeMaps
from lpd.inference.prototype_maps import check_prototypes, mean_cosines, planned_maps
from lpd.inference.recomputing import recomputed_mask
from lpd.inference.settings import SegmentSettings
from lpd.inference.store import ResultStore
from lpd.model.checkpoint import load_checkpoint
from lpd.model.editing import save_edited
from lpd.model.network import LPDNet
from lpd.runs import Run
from lpd.slide.opening import open_slide
from lpd.slide.region import Region

from .conftest import ColourBackend, Segment, whole_mask
from .test_going_on import SMALL, begin

ROOT = Path(__file__).resolve().parents[2]
PHANTOM = ROOT / "checkpoints" / "phantom-learnable-mobilenetv2_100.safetensors"
LUAD = ROOT / "checkpoints" / "luad224-learnable-mobilenetv2_100.safetensors"
LIMIT = 16.0
STRIDE = 8


class MappedBackend(ColourBackend):
    """Two prototypes for each colour, one above and one below it; the deepest are as sure of all as presence is."""

    def planned_maps(self, *, adapt: bool) -> PrototypeMaps:
        layers = MapLayer("fused", "pixel", 6, STRIDE, LIMIT), MapLayer("gate", "gate", 6, 16, 2 * LIMIT)
        return PrototypeMaps(2, "mean", self.info.calibration, 8, layers)

    def logits_and_maps(self, windows, layers) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        pixel, presence = self.logits(windows)
        return pixel, presence, tuple(self._map(windows, layer) for layer in layers)

    @staticmethod
    def _map(windows, layer: MapLayer) -> Tensor:
        colour = colour_logits(windows, layer.stride_px)
        both = np.stack([colour + 2, colour - 2], axis=2).reshape(len(windows), 6, *colour.shape[2:])
        maps = torch.from_numpy(both.astype(np.float32))
        return maps if layer.kind == "pixel" else torch.full_like(maps, 20.0)


def colour_logits(windows: np.ndarray, stride: int) -> np.ndarray:
    """(B, 3, h, w): how much a channel stands out of the mean, in cells of ``stride`` px."""
    count, side = len(windows), windows.shape[1] // stride
    cells = windows.reshape(count, side, stride, side, stride, 3).mean(axis=(2, 4)) / 16
    return (cells - cells.mean(axis=3, keepdims=True)).transpose(0, 3, 1, 2)


@pytest.fixture
def mapped(backend: ColourBackend) -> MappedBackend:
    return MappedBackend(backend.info.path)


def stored(store: ResultStore, name: str = "fused") -> np.ndarray:
    """(M, H, W) bytes of a layer's finest level."""
    assert store.prototypes is not None
    layer = next(layer for layer in store.prototypes.maps.layers if layer.name == name)
    height, width = store.layer_shape(layer)
    return store.prototypes.read(layer, slice(None), np.arange(height), np.arange(width))


def all_levels(store: ResultStore) -> Iterator[np.ndarray]:
    from lpd.inference.pyramid import zarr

    for name in ("fused", "gate"):
        group = zarr.open_group(str(store.folder / "result.zarr" / "prototypes" / name), mode="r")
        yield from (np.asarray(group[level][...]) for level in sorted(group.array_keys()))


# What is stored


def test_each_byte_is_the_logit_of_its_cell(segment: Segment, mapped: MappedBackend, slide_path: Path):
    store, _ = segment(using=mapped, mpp=1.0, tissue="all", prototype_maps=True)
    from PIL import Image

    pixels = np.asarray(Image.open(slide_path))[:704, :928]
    cells = pixels.reshape(88, 8, 116, 8, 3).mean(axis=(1, 3)) / 16
    colour = cells - cells.mean(axis=2, keepdims=True)
    found = stored(store)[:, :88, :116].astype(float)
    for channel in range(3):
        for k, shift in enumerate((2, -2)):
            expected = 127 * (1 + (colour[..., channel] + shift) / LIMIT)
            assert np.abs(found[2 * channel + k] - expected).max() <= 0.51
    assert stored(store).shape == (6, 89, 117)  # 710 × 930 px


def test_glass_and_what_was_not_asked_for_is_not_computed(segment: Segment, mapped: MappedBackend):
    region = Region(400, 200, 240, 160)
    whole, _ = segment(using=mapped, prototype_maps=True)
    part, _ = segment(using=mapped, prototype_maps=True, region=region)
    cells = whole_mask(whole)[:352, :464].reshape(44, 8, 58, 8).min(axis=(1, 3)) < 3
    near = np.pad(cells, 1)
    near = np.max([near[y : y + 44, x : x + 58] for y in range(3) for x in range(3)], axis=0)
    found = stored(whole)[:, :44, :58] != 255
    assert (found == near).all()
    assert (stored(whole, "gate") != 255).sum() * 4 > found.sum()  # gates are means over what windows see, glass too
    there = stored(part) != 255
    np.testing.assert_array_equal(stored(part)[there], stored(whole)[there])
    ys, xs = np.nonzero(there[0])  # mask columns 200 to 319, rows 100 to 179, and a cell or two around
    assert (xs.min(), xs.max() + 1, ys.min(), ys.max() + 1) == (23, 42, 11, 24)


def test_panels_batches_and_threads_change_no_byte(segment: Segment, mapped: MappedBackend):
    first, _ = segment(using=mapped, prototype_maps=True)
    for choices in ({"panel_px": 64}, {"panel_px": 2000, "batch_size": 1}, {"reader_threads": 5, "batch_size": 13}):
        store, _ = segment(using=mapped, prototype_maps=True, **choices)
        for found, expected in zip(all_levels(store), all_levels(first), strict=True):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_killed_run_goes_on_to_the_same_maps(segment, mapped: MappedBackend, tmp_path: Path, share: float):
    expected, straight = segment(using=mapped, prototype_maps=True, **SMALL)

    begin(segment, mapped, tmp_path / "killed", round(share * straight.windows), prototype_maps=True)
    store, summary = segment(using=mapped, into=tmp_path / "killed", resume=True, prototype_maps=True, **SMALL)
    assert summary.kept > 0 or share < 0.5
    for found, level in zip(all_levels(store), all_levels(expected), strict=True):
        np.testing.assert_array_equal(found, level)


def test_maps_are_other_work_and_old_results_open_without(segment, mapped: MappedBackend, tmp_path: Path):
    plain, _ = segment(using=mapped, into=tmp_path / "one")
    assert plain.prototypes is None
    with pytest.raises(ResultError, match="has no maps of prototypes: segment the slide with --prototype-maps"):
        plain.read_prototype(0, Region(0, 0, 10, 10), (5, 5))
    with pytest.raises(ResultError, match="--prototype-maps"):
        recomputed_mask(plain, Box(0, 0, 10, 10))
    old = dataclasses.replace(
        plain.meta, settings={k: v for k, v in plain.meta.settings.items() if k != "prototype_maps"}
    )
    assert old.same_work(plain.meta)
    kept, summary = segment(using=mapped, into=tmp_path / "one", resume=True, prototype_maps=True)
    assert summary.kept == 0
    assert kept.prototypes is not None
    assert not kept.meta.same_work(plain.meta)
    (tmp_path / "one" / "result.zarr" / "prototypes" / ".zattrs").unlink()
    with pytest.raises(ResultError, match="prototype maps are gone"):
        ResultStore.open(tmp_path / "one")


def test_reading_takes_the_nearest_cell_at_any_size(segment: Segment, mapped: MappedBackend):
    store, _ = segment(using=mapped, prototype_maps=True, tissue="all")
    cells = stored(store)[3]
    mask_px = store.read_prototype_px(3, 40, 64, (80, 48))
    np.testing.assert_array_equal(mask_px, cells[8:14, 5:15].repeat(8, 0).repeat(8, 1))
    np.testing.assert_array_equal(store.read_prototype_px(3, 0, 0, (14, 11), 32), cells[:44:4, :56:4])
    region = Region(160, 96, 320, 160)  # two level-0 pixels are one of the mask
    np.testing.assert_array_equal(store.read_prototype(3, region, (20, 10)), cells[6:16, 10:30])
    assert (store.read_prototype(3, Region(-200, -200, 100, 100), (4, 4)) == 255).all()
    with pytest.raises(ResultError, match="prototype 6 does not exist: this result has 6 prototypes"):
        store.read_prototype(6, region, (4, 4))


def test_too_many_prototypes_are_refused(backend: ColourBackend):
    model = dataclasses.replace(backend.info.model, prototypes_per_class=100)
    info = dataclasses.replace(backend.info, model=model)
    check_prototypes(info)
    object.__setattr__(info, "model", dataclasses.replace(model, class_count=11))
    with pytest.raises(ConfigError, match="colours has 1100 prototypes, and maps are kept of at most 1024"):
        check_prototypes(info)


# The mask again


def test_the_mask_of_colours_is_made_again_and_loses_a_muted_class(segment: Segment, mapped: MappedBackend):
    store, _ = segment(using=mapped, prototype_maps=True)
    box = Box(0, 0, *store.meta.mask_size)
    mask, again = whole_mask(store), recomputed_mask(store, box)
    tissue = mask < 3
    assert (again[~tissue] == 3).all()
    assert (again == mask)[tissue].mean() > 0.97  # cells of 8 px where the rule sees 4
    part = Box(200, 101, 333, 222)
    np.testing.assert_array_equal(recomputed_mask(store, part), again[101:222, 200:333])
    without = recomputed_mask(store, box, {2, 3})  # both of green
    assert not (without == 1).any()
    assert (without == again)[tissue & (again != 1)].all()
    # Red is told by its higher prototype alone: 2 logits more, which is 32 grey values.
    redder = recomputed_mask(store, box, {1})
    assert (redder == 0).sum() > 1.1 * (again == 0).sum()
    assert (redder == again)[redder != 0].all()
    outside = recomputed_mask(store, Box(-8, -8, 8, 8))
    assert (outside[:8] == 255).all()
    assert (outside[8:, 8:] == 3).all()


@pytest.mark.parametrize(("muted", "words"), [({6}, "prototype 6 does not exist"), (set(range(6)), "all 6 prototypes")])
def test_what_cannot_be_muted_is_refused(segment, mapped, muted, words):
    store, _ = segment(using=mapped, prototype_maps=True, region=Region(400, 200, 64, 64))
    with pytest.raises(ResultError, match=words):
        recomputed_mask(store, Box(0, 0, 8, 8), muted)


# Real networks


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("phantom") / "unseen.tif"
    write_phantom_slide(path, 1536, 1280, 32)
    return path


def segmented(path: Path, backend, folder: Path, mpp: float | None = None, **choices: object) -> ResultStore:
    settings = SegmentSettings.from_dict({"prototype_maps": True, "backend": "torch", **choices})
    with open_slide(path, mpp=mpp) as slide, Run(folder, "segment") as run:
        segment_slide(slide, backend, folder, settings, run)
    return ResultStore.open(folder)


def agreement(store: ResultStore, other: np.ndarray, muted: tuple[int, ...] = ()) -> float:
    again = recomputed_mask(store, Box(0, 0, *store.meta.mask_size), muted)
    return float((again == other)[other < store.meta.classes.background].mean())


def changed(path: Path, tmp_path: Path, **model: object) -> NetworkBackend:
    """A shipped checkpoint with another head or other prototypes, by what its config says; weights as loaded."""
    network, info = load_checkpoint(path, torch.device("cpu"))
    new = LPDNet(dataclasses.replace(info.model, **model))
    weights = network.state_dict()
    if new.config.head == "linear":
        for scale, adapted in network.adapted_prototypes().items():
            mean = torch.nn.functional.normalize(adapted, dim=1).unflatten(0, (info.classes.count, -1)).mean(1)
            weights[f"classifiers.{scale}.weight"] = mean[:, :, None, None]
            weights[f"classifiers.{scale}.bias"] = torch.zeros(info.classes.count)
    wanted = new.state_dict()
    new.load_state_dict(
        {k: weights[k] if k in weights and weights[k].shape == v.shape else v for k, v in wanted.items()}
    )
    source = "linear" if new.config.head == "linear" else info.prototype_source
    info = dataclasses.replace(info, path=tmp_path / "changed.safetensors", model=new.config, prototype_source=source)
    info.path.write_bytes(b"changed")
    return NetworkBackend(new.eval(), info, torch.device("cpu"))


_TURNED = {"adapt": False, "tta": True, "region": Region(512, 512, 400, 400)}


@pytest.mark.parametrize("choices", [{}, pytest.param(_TURNED, marks=pytest.mark.slow)])
def test_with_nothing_muted_99_percent_of_tissue_pixels_stay_in_their_class(phantom, tmp_path, choices):
    store = segmented(phantom, load_backend(PHANTOM, "cpu"), tmp_path / "out", **choices)
    mask = whole_mask(store)
    assert len(np.unique(mask[mask < 4])) > 1
    assert agreement(store, mask) >= 0.99


@pytest.mark.parametrize("model", [{"merge": "union"}, {"head": "linear", "prototypes_per_class": 1}])
def test_unions_and_plain_cams_are_made_again_too(phantom: Path, tmp_path: Path, model: dict[str, object]):
    backend = changed(PHANTOM, tmp_path, **model)
    store = segmented(phantom, backend, tmp_path / "out", region=Region(512, 512, 600, 500))
    mask = whole_mask(store)
    assert len(np.unique(mask[mask < 4])) > 1
    assert agreement(store, mask) >= 0.99


@pytest.mark.parametrize("merge", ["mean", "union"])
def test_one_prototype_alone_is_inference_with_it_alone(phantom: Path, tmp_path: Path, merge: str):
    backend = changed(PHANTOM, tmp_path, merge=merge)
    region = Region(512, 512, 600, 500)
    store = segmented(phantom, backend, tmp_path / "all", adapt=False, region=region)
    alone = (0, 4, 8, 11)  # one of each class's three
    muted = tuple(sorted(set(range(12)) - set(alone)))
    single = changed(PHANTOM, tmp_path, prototypes_per_class=1)
    with torch.no_grad():
        single._network.prototypes.copy_(backend._network.prototypes[list(alone)])
    expected = whole_mask(
        segmented(phantom, single, tmp_path / "one", adapt=False, prototype_maps=False, region=region)
    )
    assert (expected != whole_mask(store)).any()
    assert agreement(store, expected, muted) >= 0.99


def test_an_edited_checkpoint_gives_what_the_maps_show(phantom: Path, tmp_path: Path):
    region, choices = Region(640, 512, 480, 400), {"adapt": False}
    store = segmented(phantom, load_backend(PHANTOM, "cpu"), tmp_path / "all", region=region, **choices)
    edit = [1, 2, 4], [(6, 8), (10, 11)]
    save_edited(PHANTOM, tmp_path / "edited.safetensors", *edit)
    backend = load_backend(tmp_path / "edited.safetensors", "cpu")
    edited = segmented(phantom, backend, tmp_path / "edited", region=region, **choices)
    expected = whole_mask(edited)
    assert (expected != whole_mask(store)).any()
    box, tissue = Box(0, 0, *store.meta.mask_size), expected < 4
    assert (recomputed_mask(store, box, *edit) == expected)[tissue].mean() >= 0.99
    assert agreement(edited, expected) >= 0.99  # its own maps know what counts
    assert edited.prototypes is not None
    assert edited.prototypes.maps.edited == (((0,),), ((3,), (5,)), ((6, 8), (7,)), ((9,), (10, 11)))
    assert agreement(edited, recomputed_mask(store, box, [*edit[0], 7, 9], edit[1]), (7, 9)) >= 0.99


@pytest.mark.slow
@pytest.mark.parametrize(("name", "mpp"), [("CMU-1-Small-Region.svs", None), ("tcga-cr-7395-01a-01-ts1.svs", 0.5)])
def test_real_tissue_is_made_again(real_data: Path, tmp_path: Path, name: str, mpp: float | None):
    region = Region(600, 600, 1400, 1000)
    store = segmented(real_data / "slides" / name, load_backend(LUAD, "cpu"), tmp_path / "out", mpp, region=region)
    assert agreement(store, whole_mask(store)) >= 0.99


def test_cosines_of_a_class_s_prototypes_by_hand():
    """AAA: at right angles; BBB: two that count as one in the middle of them, against one of both; CCC: one alone."""
    x, y = [3.0, 0.0], [0.0, 2.0]
    adapted = {1: torch.zeros(9, 2), 2: torch.zeros(9, 2), 3: torch.tensor([x, y, y, x, y, x, x, x, x])}
    groups = (((0,), (1,)), ((3, 4), (5,)), ((6,),))
    config = ModelConfig("test_convnext", class_count=3, groups=groups)
    network: Any = SimpleNamespace(config=config, adapted_prototypes=lambda: adapted)
    assert mean_cosines(network) == pytest.approx((0.0, 0.5**0.5, None))


def test_results_and_data_sets_say_the_same_of_prototypes():
    network, info = load_checkpoint(PHANTOM)
    kept = planned_maps(network, info, adapt=True)
    assert PrototypeMaps.from_dict(json.loads(json.dumps(kept.to_dict()))) == kept
    directions = network.adapted_prototypes()[max(info.model.scales)].detach().numpy().astype(float)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    for c, found in enumerate(kept.cosines):
        own = directions[3 * c : 3 * c + 3]
        assert found == pytest.approx((own[0] @ own[1] + own[0] @ own[2] + own[1] @ own[2]) / 3, abs=1e-6)
