"""Settings of a segmentation: what is refused, and which windows suit which model."""

from __future__ import annotations

import pytest

from lpd.config import InputSpec
from lpd.errors import ConfigError
from lpd.inference.frame import Box
from lpd.inference.settings import SegmentSettings
from lpd.inference.windows import LATTICE_PX
from lpd.slide.region import Region


@pytest.mark.parametrize(
    "change",
    [
        {"tissue": "some"},
        {"device": "tpu"},
        {"batch_size": 0},
        {"batch_size": 4097},
        {"threads": -1},
        {"threads": 100_000_000},
        {"reader_threads": 257},
        {"panel_px": 10**6},
        {"stride_px": 10**6},
        {"window_px": 2080},
        {"refinement": "crff"},
        {"tta": "yes"},
    ],
)
def test_settings_out_of_range_are_named(change):
    with pytest.raises(ConfigError, match=next(iter(change))):
        SegmentSettings(**change)


def test_settings_survive_json():
    settings = SegmentSettings(region=Region(1, 2, 3, 4), stride_px=64, window_px=192)
    assert SegmentSettings.from_dict(settings.to_dict()) == settings
    assert SegmentSettings.from_dict({}) == SegmentSettings()


@pytest.mark.parametrize(
    ("tile", "any_size", "choices", "expected"),  # core, stride, margin
    [
        (224, True, {}, (544, 448, 64)),
        (224, False, {}, (224, 96, 0)),
        (224, True, {"window_px": 448}, (384, 288, 32)),
        (224, True, {"window_px": 224}, (224, 96, 0)),
        (224, True, {"stride_px": 544}, (544, 544, 64)),
        (64, True, {}, (128, 96, 32)),
        (32, True, {}, (96, 64, 0)),
        (32, False, {}, (32, 32, 0)),
        (1024, True, {}, (1664, 1344, 192)),
        (4096, True, {}, (4096, 1728, 0)),
    ],
)
def test_windows_suit_the_model(tile, any_size, choices, expected):
    spec = InputSpec(mpp=1.0, tile_px=tile)
    grid = SegmentSettings(**choices).grid(Box(0, 0, 5000, 4000), spec, 512, any_size=any_size)
    assert (grid.window_px, grid.stride_px, grid.margin_px) == expected
    assert grid.gate_px == tile
    assert grid.stride_px % LATTICE_PX == grid.margin_px % LATTICE_PX == 0


@pytest.mark.parametrize(
    ("any_size", "choices", "sentence"),
    [
        (
            True,
            {"window_px": 300},
            "window_px 300 must be a multiple of 32, .* and at least 224",
        ),
        (True, {"window_px": 192}, "window_px 192 .* and at least 224, the model's tile$"),
        (False, {"window_px": 672}, "window_px 672 .*; this encoder knows no larger ones"),
        (True, {"stride_px": 100}, "stride_px 100 must be a multiple of 32"),
        (
            True,
            {"stride_px": 576},
            "stride_px 576 leaves gaps: of windows of 672 px the inner 544 count; pass at most 544",
        ),
        (True, {"grid_offset_px": 12}, "grid_offset_px 12 must be a multiple of 32"),
    ],
)
def test_windows_that_do_not_suit_the_model_are_named(any_size, choices, sentence):
    with pytest.raises(ConfigError, match=sentence):
        SegmentSettings(**choices).grid(Box(0, 0, 900, 900), InputSpec(mpp=1.0), 512, any_size=any_size)
