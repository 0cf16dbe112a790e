"""Windows that prototypes are taken from: spread, bounded, the same for any region and grid; and their way through."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from lpd.classes import ClassScheme
from lpd.config import InputSpec, ModelConfig
from lpd.errors import CheckpointError, SlideError
from lpd.inference.adapting import read_windows, sample_windows
from lpd.inference.backend import NetworkBackend
from lpd.inference.blocks import BlockReader
from lpd.inference.frame import Box, MaskFrame
from lpd.inference.windows import WindowGrid
from lpd.model.adaptation import PictureSample
from lpd.model.header import CheckpointInfo
from lpd.model.inputs import to_network_input
from lpd.model.network import LPDNet
from lpd.model.scoring import default_calibration
from lpd.slide.region import Region
from tests.inference.conftest import SCHEME, ColourBackend, Segment, whole_mask

GRID = WindowGrid(4000, 3000, 128, 96)


def everywhere(_box: Box) -> bool:
    return True


def test_at_most_a_quarter_of_the_windows_and_a_fixed_area():
    few = sample_windows(dataclasses.replace(GRID, width=500, height=400), everywhere)
    assert len(few) == 5  # of 5 columns and 4 rows
    many = sample_windows(dataclasses.replace(GRID, window_px=768, stride_px=96, margin_px=64), everywhere)
    assert len(many) == 144 * 224**2 // 896**2
    assert sample_windows(GRID, lambda _box: False) == []
    assert len(sample_windows(dataclasses.replace(GRID, width=9, height=9), everywhere)) == 1
    assert len(sample_windows(WindowGrid(4000, 3000, 8192, 4096), everywhere)) == 1


def test_they_show_tissue_and_lie_all_over_it():
    tissue = Box(1000, 800, 3000, 2000)
    windows = sample_windows(GRID, lambda box: bool(box.intersection(tissue)))
    assert len(set(windows)) == len(windows) > 50
    assert all(window.intersection(tissue) for window in windows)
    assert {(w.x0 + w.x1 > 4000, w.y0 + w.y1 > 2800) for w in windows} == {(a, b) for a in (0, 1) for b in (0, 1)}


def test_a_huge_slide_is_looked_at_in_a_bounded_number_of_places():
    asked = []
    grid = dataclasses.replace(GRID, width=400_000, height=300_000)
    windows = sample_windows(grid, lambda box: (asked.append(box), True)[1])
    assert len(asked) <= 4200
    assert len(windows) == 144 * 224**2 // 128**2
    assert max(window.x0 for window in windows) > 390_000


def test_windows_are_read_a_few_ahead_and_a_damaged_one_is_left_out():
    pictures, begun = MaskFrame(4000, 3000, 1.0), []

    def read(region: Region, size: tuple[int, int]) -> np.ndarray:
        begun.append(region)
        if region.x_l0 >= 512:
            raise SlideError("damaged")
        return np.zeros((*size[::-1], 3), np.uint8)

    pixels = BlockReader(read, pictures, np.zeros(3, np.uint8), 99)
    tissue = BlockReader(lambda _region, size: np.ones(size[::-1], bool), pictures, np.array(False), 99)
    boxes = [Box(x, y, x + 64, y + 64) for y in range(100, 2900, 512) for x in (100, 600)]
    windows = read_windows(boxes, 32, pixels, tissue, threads=2)
    first = next(windows)
    assert len(begun) <= 4
    assert first[0].shape == (128, 128, 3)
    assert first[1].all()
    assert len(list(windows)) == len(boxes) // 2 - 1


def test_the_map_is_the_adapted_backends_in_a_region_too(segment: Segment, backend: ColourBackend):
    plain, _ = segment()
    backend.swaps = True
    adapted, summary = segment()
    assert summary.adapted_windows > 0
    expected = np.array([1, 0, 2, 3], np.uint8)[whole_mask(plain)]
    assert (whole_mask(plain) != expected).mean() > 0.1
    # Ties between red and green fall to the first of them both times.
    assert (whole_mask(adapted) == expected).mean() > 0.999
    part, _ = segment(region=Region(300, 200, 100, 80))
    found = whole_mask(part)
    inside = found != 255
    assert inside.any()
    assert (found == whole_mask(adapted))[inside].all()


def test_a_grid_elsewhere_and_a_region_change_nothing(segment: Segment, backend: ColourBackend):
    seen = []
    for choices in ({}, {"grid_offset_px": 32}, {"region": Region(300, 200, 64, 64)}):
        _, summary = segment(window_px=64, stride_px=64, **choices)
        assert len(backend.sampled) > 3
        assert summary.adapted_windows == 0  # nothing to adapt to
        seen.append(np.stack([pixels for pixels, _ in backend.sampled]))
        assert any(not tissue.all() for _, tissue in backend.sampled)
    assert all(np.array_equal(seen[0], other) for other in seen[1:])


def test_without_adaptation_no_window_is_seen_twice(segment: Segment, backend: ColourBackend):
    _, summary = segment(adapt=False)
    assert backend.sampled == []
    assert summary.adapted_windows == 0


@pytest.fixture(scope="module")
def network() -> tuple[LPDNet, CheckpointInfo]:
    torch.manual_seed(0)
    config = ModelConfig("test_convnext", class_count=3, prototype_dim=16)
    network = LPDNet(config).eval()
    for gain in network.gains.values():
        gain.data.fill_(100.0)  # so that a random network is sure of something
    spec = InputSpec(mpp=1.0, tile_px=64)
    return network, CheckpointInfo(None, ClassScheme(SCHEME.classes), spec, config, default_calibration(config))  # type: ignore[arg-type]


def test_a_backend_adds_the_slides_correction_and_the_first_one_stays_as_it_was(network):
    first = NetworkBackend(*network, torch.device("cpu"))
    rng = np.random.default_rng(0)
    windows = rng.integers(0, 255, (2, 128, 128, 3), dtype=np.uint8)
    tissue = np.ones((128, 128), dtype=bool)
    plain, presence = first.logits(windows)
    adapted = first.adapted((window, tissue) for window in windows)
    assert adapted.prototypes is not None
    pixel, same = adapted.logits(windows)
    assert torch.equal(presence, same)
    with torch.inference_mode():
        output = network[0](to_network_input(windows, network[1].input))
        torch.testing.assert_close(pixel - plain, adapted.prototypes.correction(output, (32, 32)), atol=1e-5, rtol=0)
    assert not torch.equal(pixel, plain)
    assert torch.equal(first.logits(windows)[0], plain)
    assert first.adapted((window, ~tissue) for window in windows) is None


def test_the_gate_of_a_window_is_that_of_the_tiles_in_it(network):
    """Two halves as one window get the prototypes that they get with each place's own gate, not with one for both."""
    backend = NetworkBackend(*network, torch.device("cpu"))
    window = np.zeros((256, 256, 3), np.uint8)
    window[:, :128] = np.random.default_rng(1).integers(0, 255, (256, 128, 3))
    window[:, 128:] = np.random.default_rng(2).integers(100, 130, (256, 128, 3))
    found = backend.adapted([(window, np.ones((256, 256), bool))])
    with torch.inference_mode():
        output = network[0](to_network_input(window[None], network[1].input))
        deepest = output.class_logits[output.deepest]
        map_64 = torch.nn.functional.interpolate(deepest, (64, 64), mode="bilinear")
        padded, ones = (torch.nn.functional.pad(m, (8,) * 4) for m in (map_64, torch.ones(1, 1, 64, 64)))
        gate = torch.nn.functional.avg_pool2d(padded, 17, 1) / torch.nn.functional.avg_pool2d(ones, 17, 1)
        sample = PictureSample(network[1].calibration)
        sample.add(output, gate)
        expected = sample.prototypes()
    assert found is not None
    assert expected is not None
    for scale, prototypes in expected.by_scale.items():
        torch.testing.assert_close(found.prototypes.by_scale[scale], prototypes, atol=1e-4, rtol=0)


def test_an_answer_that_is_no_number_ends_the_look_around(network):
    broken = copy.deepcopy(network[0])
    broken.prototypes.data[0] = torch.nan
    backend = NetworkBackend(broken, dataclasses.replace(network[1], path=Path("a.safetensors")), torch.device("cpu"))
    with pytest.raises(CheckpointError, match=r"a\.safetensors answers with values that are no numbers"):
        backend.adapted([(np.zeros((128, 128, 3), np.uint8), np.ones((128, 128), bool))])


def test_a_stop_while_looking_around_leaves_a_result_that_says_so(segment: Segment, backend, monkeypatch):
    monkeypatch.setattr("lpd.runs.Run.stop_requested", lambda _run: True)
    store, summary = segment()
    assert backend.sampled == []
    assert summary.cancelled
    assert (whole_mask(store) == 255).all()
