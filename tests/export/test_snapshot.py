"""The snapshot picture: overlay where the mask says, nothing where it does not, and bad requests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lpd.errors import ConfigError, ResultError
from lpd.export.scale_bar import round_length
from lpd.export.snapshot import write_snapshot
from lpd.slide.region import Region

from .conftest import HandMade


class GreySlide:
    """A slide of one grey that remembers what was asked of it."""

    region: Region | None = None

    def read(self, region: Region, size: tuple[int, int]) -> np.ndarray:
        self.region = region
        return np.full((size[1], size[0], 3), 100, np.uint8)


@pytest.fixture
def store() -> HandMade:
    mask = np.full((300, 400), 4, np.uint8)
    mask[:150, :200] = 0
    mask[:150, 200:] = 255
    return HandMade(mask)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def test_overlay_lies_where_the_mask_says(store: HandMade, tmp_path: Path) -> None:
    slide = GreySlide()
    write_snapshot(slide, store, tmp_path / "s.png", max_px=800, opacity=0.4)
    assert slide.region == Region(0, 0, 800, 600)
    picture = pixels(tmp_path / "s.png")
    assert picture.shape[0] > 600
    assert picture.shape[1] > 800
    np.testing.assert_allclose(picture[150, 200], [162, 60, 60], atol=2)  # 100 + 0.4 (255 - 100), 100 - 0.4 100
    np.testing.assert_allclose(picture[150, 600], [100, 100, 100], atol=2)  # not computed
    np.testing.assert_allclose(picture[400, 600], [100, 100, 100], atol=2)  # background
    legend = picture[:300, 810:]
    assert (np.abs(legend - [255, 0, 0]).sum(-1) < 20).any(), "the legend shows the tumour colour"
    assert (legend.sum(-1) < 300).any(), "the legend bears writing"
    foot = picture[605:]
    assert (foot.sum(-1) < 300).any(), "the foot bears writing"


def test_only_the_region_that_was_segmented(store: HandMade, tmp_path: Path) -> None:
    slide = GreySlide()
    region = Region(100, 200, 300, 150)
    write_snapshot(slide, HandMade(store.mask, replace(store.meta, region=region)), tmp_path / "s.png", max_px=300)
    assert slide.region == region


def test_same_result_same_picture(store: HandMade, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        write_snapshot(GreySlide(), store, tmp_path / name, max_px=200)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize(
    ("longest", "length"), [(1, 1), (1.9, 1), (2, 2), (4.99, 2), (99, 50), (100, 100), (731, 500), (0.3, 0.2)]
)
def test_scale_bar_is_round(longest: float, length: float) -> None:
    assert round_length(longest) == pytest.approx(length)


def test_bad_requests_are_named(store: HandMade, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="opacity"):
        write_snapshot(GreySlide(), store, tmp_path / "s.png", opacity=1.5)
    with pytest.raises(ConfigError, match="7"):
        write_snapshot(GreySlide(), store, tmp_path / "s.png", max_px=7)
    (tmp_path / "file").touch()
    with pytest.raises(ResultError, match=r"s\.png"):
        write_snapshot(GreySlide(), store, tmp_path / "file" / "s.png")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
