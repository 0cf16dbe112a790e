"""Coarse copies of a slide that has none: means of its pixels, the same slide otherwise, and whole or not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lpd.errors import SlideError
from lpd.slide.opening import open_slide
from lpd.slide.region import Region

from .conftest import write_pyramid
from .jpeg_slide import texture


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A flat slide of 2,100 × 1,003 px, in pieces of 512 px."""
    monkeypatch.setattr("lpd.slide.slide._OVERVIEW_PX", 100_000)
    monkeypatch.setattr("lpd.slide.overview._PIECE_PX", 512)
    monkeypatch.setattr("lpd.slide.overview._LONGEST_PX", 40)
    smooth = Image.fromarray(texture(100, 50)).resize((2100, 1003), Image.Resampling.BICUBIC)
    return write_pyramid(tmp_path / "flat.tif", [np.asarray(smooth)])


def test_copies_are_means_and_the_slide_is_the_same(path: Path, tmp_path: Path) -> None:
    told: list[float] = []
    with open_slide(path) as plain, open_slide(path) as slide:
        assert slide.needs_overview
        slide.write_overview(tmp_path / "o.rgb", told.append)
        slide.add_overview(tmp_path / "o.rgb")
        assert not slide.needs_overview
        assert slide.downsamples == (1, 8, 64)
        pixels = plain.read(plain.region, (2100, 1003)).astype(float)
        means = pixels[:1000, :2096].reshape(125, 8, 262, 8, 3).mean((1, 3))
        found = slide.read(Region(0, 0, 2096, 1000), (262, 125))
        assert np.abs(found - means).max() <= 0.51
        assert slide.read(slide.region, (263, 126)).shape == (126, 263, 3)
        for region, size in ((Region(0, 0, 2100, 1003), (40, 20)), (Region(100, 50, 1601, 777), (99, 50))):
            one, other = (s.read(region, size).astype(int) for s in (slide, plain))
            assert np.abs(one - other)[1:-1, 1:-1].max() <= 5, "something has moved"
        assert (slide.read(Region(5, 6, 300, 200), (300, 200)) == pixels[6:206, 5:305]).all()
    assert told == sorted(told)
    assert told[-1] == 1


def test_a_file_of_another_slide_is_refused_and_half_a_file_never_seen(path: Path, tmp_path: Path) -> None:
    (tmp_path / "other.rgb").write_bytes(bytes(1000))

    def stop(_done: float) -> None:
        raise InterruptedError

    with open_slide(path) as slide:
        with pytest.raises(SlideError, match="no overview of this slide"):
            slide.add_overview(tmp_path / "other.rgb")
        with pytest.raises(InterruptedError):
            slide.write_overview(tmp_path / "new.rgb", stop)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["flat.tif", "other.rgb"]
