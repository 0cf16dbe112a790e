"""Windows that prototypes are taken from: spread, bounded, the same for any region and grid; and their way through."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from lpd.classes import ClassScheme
from lpd.config import InputSpec, ModelConfig
from lpd.inference.adapting import sample_windows
from lpd.inference.backend import TorchBackend
from lpd.inference.frame import Box
from lpd.inference.windows import WindowGrid
from lpd.model.header import CheckpointInfo
from lpd.model.inputs import to_network_input
from lpd.model.network import LPDNet
from lpd.model.scoring import default_calibration
from lpd.slide.region import Region
from tests.inference.conftest import SCHEME, ColourBackend, Segment, whole_mask

GRID = WindowGrid(4000, 3000, 128, 96)


def test_at_most_a_quarter_of_the_windows_and_a_fixed_number_of_tiles():
    few = sample_windows(dataclasses.replace(GRID, width=500, height=400), lambda _box: True, 1.0)
    many = sample_windows(GRID, lambda _box: True, 9.0)
    assert len(few) == 5  # of 5 columns and 4 rows
    assert len(many) == 144 / 9
    assert sample_windows(GRID, lambda _box: False, 9.0) == []
    assert len(sample_windows(dataclasses.replace(GRID, width=9, height=9), lambda _box: True, 9.0)) == 1


def test_they_show_tissue_and_lie_all_over_it():
    tissue = Box(1000, 800, 3000, 2000)
    windows = sample_windows(GRID, lambda box: bool(box.intersection(tissue)), 4.0)
    assert len(set(windows)) == len(windows) == 36
    assert all(window.intersection(tissue) for window in windows)
    assert {(w.x0 + w.x1 > 4000, w.y0 + w.y1 > 2800) for w in windows} == {(a, b) for a in (0, 1) for b in (0, 1)}


def test_a_grid_elsewhere_and_a_region_change_nothing(segment: Segment, backend: ColourBackend):
    seen = []
    for choices in ({}, {"grid_offset_px": 32}, {"region": Region(300, 200, 64, 64)}):
        _, summary = segment(window_px=64, stride_px=64, **choices)
        assert summary.adapted_windows == len(backend.sampled) > 3
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
    first = TorchBackend(*network, torch.device("cpu"))
    rng = np.random.default_rng(0)
    windows = rng.integers(0, 255, (2, 128, 128, 3), dtype=np.uint8)
    everywhere = np.ones((128, 128), dtype=bool)
    plain, presence = first.logits(windows)
    adapted = first.adapted((window, everywhere) for window in windows)
    assert adapted.prototypes is not None
    pixel, same = adapted.logits(windows)
    assert torch.equal(presence, same)
    with torch.inference_mode():
        output = network[0](to_network_input(windows, network[1].input))
        torch.testing.assert_close(pixel - plain, adapted.prototypes.correction(output, (32, 32)), atol=1e-5, rtol=0)
    assert not torch.equal(pixel, plain)
    assert torch.equal(first.logits(windows)[0], plain)
    nothing = first.adapted((window, ~everywhere) for window in windows)
    assert nothing.prototypes is None
    assert torch.equal(nothing.logits(windows)[0], plain)


def test_a_stop_while_looking_around_leaves_a_result_that_says_so(segment: Segment, backend, monkeypatch):
    monkeypatch.setattr("lpd.runs.Run.stop_requested", lambda _run: True)
    store, summary = segment()
    assert backend.sampled == []
    assert summary.cancelled
    assert (whole_mask(store) == 255).all()
