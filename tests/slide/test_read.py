"""Reading: every pixel comes from where the level-0 frame says, at every scale, level, edge and back end."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import openslide
import pytest
from PIL import Image

from lpd.errors import ConfigError, SlideError
from lpd.slide.opening import open_slide
from lpd.slide.openslide_source import OpenSlideSource
from lpd.slide.region import Region

from .conftest import HEIGHT, WIDTH, ramp, write_pyramid


def expected(region: Region, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Red per column and green per row that the position code asks for, unrounded."""
    x = region.x_l0 + (np.arange(size[0]) + 0.5) * region.width_l0 / size[0]
    y = region.y_l0 + (np.arange(size[1]) + 0.5) * region.height_l0 / size[1]
    return x / 2, y / 2


REGIONS = [
    (Region(0, 0, WIDTH, HEIGHT), (WIDTH, HEIGHT)),
    (Region(0, 0, WIDTH, HEIGHT), (255, 192)),
    (Region(0, 0, WIDTH, HEIGHT), (64, 48)),
    (Region(0, 0, WIDTH, HEIGHT), (17, 13)),
    (Region(65, 129, 256, 128), (128, 64)),
    (Region(64, 128, 256, 128), (64, 32)),
    (Region(3, 5, 300, 300), (97, 97)),
    (Region(101, 77, 331, 203), (123, 75)),
    (Region(WIDTH - 61, HEIGHT - 45, 61, 45), (61, 45)),
    (Region(WIDTH - 61, HEIGHT - 45, 61, 45), (31, 23)),
    (Region(WIDTH - 61, HEIGHT - 45, 61, 45), (8, 6)),
    (Region(WIDTH - 1, HEIGHT - 1, 1, 1), (1, 1)),
    (Region(40, 40, 50, 30), (175, 105)),
]


@pytest.mark.parametrize(("region", "size"), REGIONS)
def test_pixel_centres_map_to_their_place(position_slide: Path, region: Region, size: tuple[int, int]) -> None:
    red, green = expected(region, size)
    with open_slide(position_slide) as slide:
        pixels = slide.read(region, size)
    assert pixels.shape == (size[1], size[0], 3)
    assert pixels.dtype == np.uint8
    step = region.width_l0 / size[0]
    for error in (pixels[..., 0] - red[None, :], pixels[..., 1] - green[:, None]):
        # One grey level is two pixels. Half of one is lost in rounding the level, half in rounding the result;
        # OpenSlide darkens a pixel by up to two where file tiles meet at a fractional place.
        assert np.percentile(np.abs(error), 97) <= 1.5
        # The last pixel may lie on columns that a halved level lost.
        inner = error[:-1, :-1] if min(size) > 1 else error
        assert np.abs(inner).max() <= 3
        assert np.abs(error).max() <= 3 + step / 4
        if min(size) > 8:  # rounding cancels over many pixels: what is left is a shift, in level-0 pixels
            assert abs(error.mean()) * 2 <= 0.52 + 0.02 * step
    assert pixels[..., 2].max() <= 1  # where four file tiles meet, OpenSlide leaves a trace of the white below


def test_what_lies_outside_altogether_is_white(position_slide: Path) -> None:
    region = Region(-6, HEIGHT - 5, 16, 16)
    with open_slide(position_slide) as slide:
        pixels = slide.read(region, (4, 4))
        assert (slide.read(Region(WIDTH, 0, 9, 9), (3, 3)) == 255).all()
        assert (slide.read(Region(-9, -9, 9, 9), (3, 3)) == 255).all()
    # Columns begin at -6, -2, 2, 6; rows at 378, 382, 386, 390 of 383.
    inside = np.zeros((4, 4), dtype=bool)
    inside[:2, 1:] = True
    assert (pixels[~inside] == 255).all()
    assert (pixels[inside][:, 2] == 0).all()


def test_whole_steps_are_exact_means(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (256, 384, 3), dtype=np.uint8)
    path = write_pyramid(tmp_path / "noise.tif", [noise])
    with open_slide(path) as slide:
        np.testing.assert_array_equal(slide.read(slide.region, (384, 256)), noise)
        np.testing.assert_array_equal(slide.read(Region(33, 65, 70, 50), (70, 50)), noise[65:115, 33:103])
        means = noise.astype(float).reshape(64, 4, 96, 4, 3).mean(axis=(1, 3))
        assert np.abs(slide.read(slide.region, (96, 64)) - means).max() <= 0.51


def test_a_level_is_used_as_stored(tmp_path: Path) -> None:
    """The 2× level holds another picture than level 0, so it shows which level was read."""
    level = np.random.default_rng(1).integers(0, 256, (128, 192, 3), dtype=np.uint8)
    path = write_pyramid(tmp_path / "two.tif", [np.zeros((256, 384, 3), np.uint8), level])
    with open_slide(path) as slide:
        assert slide.downsamples == (1.0, 2.0)
        np.testing.assert_array_equal(slide.read(slide.region, (192, 128)), level)
        assert not slide.read(slide.region, (200, 133)).any()


def test_a_level_that_lost_odd_columns_is_read_where_it_lies(tmp_path: Path) -> None:
    """OpenSlide takes its downsample for 2.0015 and 2.0021, and of half of its pixels shows the place between two."""
    x, y = np.arange(683), np.arange(487)
    waves = 128 + 50 * np.sin(x / 2.5)[None, :, None] + 50 * np.sin(y / 2.7)[:, None, None]
    level = waves.round().astype(np.uint8).repeat(3, axis=2)
    path = write_pyramid(tmp_path / "odd.tif", [np.zeros((975, 1367, 3), np.uint8), level])
    source = OpenSlideSource(path)
    for x0, y0, width, height in (
        *((x0, 0, 60, 40) for x0 in range(0, 620, 31)),
        *((13, y0, 60, 40) for y0 in range(0, 440, 31)),
        (620, 447, 63, 40),
        (683 - 2, 0, 1, 487),
        (0, 0, 683, 487),
    ):
        seen = np.asarray(source.read(1, x0, y0, width, height)).astype(int)
        error = np.abs(seen - level[y0 : y0 + height, x0 : x0 + width])
        assert error.mean() <= 1, (x0, y0)  # a quarter of a pixel is 2.9, half of one nearly 5
    source.close()


def test_any_region_equals_that_part_of_the_slide(position_slide: Path) -> None:
    with open_slide(position_slide) as slide:
        whole = slide.read(Region(0, 0, 480, 360), (160, 120)).astype(int)
        part = slide.read(Region(120, 90, 240, 150), (80, 50)).astype(int)
    assert np.abs(whole[30:80, 40:120] - part).max() <= 1


def test_blocks_and_pieces_leave_no_seam(monkeypatch: pytest.MonkeyPatch, position_slide: Path) -> None:
    region, size = Region(7, 3, 480, 360), (191, 143)
    with open_slide(position_slide) as slide:
        at_once = slide.read(region, size)
        monkeypatch.setattr("lpd.slide.resampling.PIECE_PX", 32)
        monkeypatch.setattr("lpd.slide.resampling._BLOCK_PX", 64)
        monkeypatch.setattr("lpd.slide.resampling._OUTPUT_PX", 16)
        in_parts = slide.read(region, size)
    assert np.abs(at_once.astype(int) - in_parts).max() <= 2


def test_detail_finer_than_a_pixel_averages_out(tmp_path: Path) -> None:
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::2] = 255
    path = write_pyramid(tmp_path / "stripes.tif", [stripes])
    with open_slide(path) as slide:
        for size in (101, 60, 7):
            assert np.abs(slide.read(slide.region, (size, size)).astype(int) - 127).max() <= 14


def test_bounds_shift_the_frame(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class WithBounds(openslide.OpenSlide):
        @property
        def properties(self) -> dict[str, str]:
            bounds = {"x": "101", "y": "51", "width": "300", "height": "200"}
            return {**super().properties, **{f"openslide.bounds-{k}": v for k, v in bounds.items()}}

    path = write_pyramid(tmp_path / "b.tif", [ramp(512, 384), ramp(256, 192, 2, 2)])
    monkeypatch.setattr("lpd.slide.openslide_source.openslide.OpenSlide", WithBounds)
    with open_slide(path) as slide:
        assert (slide.width_l0, slide.height_l0) == (300, 200)
        assert slide.origin_l0 == (101, 51)
        first = slide.read(Region(0, 0, 1, 1), (1, 1))[0, 0]
        assert first[:2].tolist() == ramp(512, 384)[51, 101, :2].tolist()
        halved = slide.read(Region(0, 0, 300, 200), (150, 100))
        red = (101 + (np.arange(150) + 0.5) * 2) / 2
        assert np.abs(halved[..., 0] - red).max() <= 1.1
        assert (slide.read(Region(-4, 0, 4, 4), (4, 4)) == 255).all()
        assert (slide.read(Region(300, 0, 4, 4), (4, 4)) == 255).all()


def test_transparent_parts_are_white(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Holey(openslide.OpenSlide):
        def read_region(self, location: tuple[int, int], level: int, size: tuple[int, int]) -> Image.Image:
            image = super().read_region(location, level, size)
            image.putalpha(0)
            return image

    path = write_pyramid(tmp_path / "holes.tif", [np.full((128, 128, 3), 90, np.uint8)])
    monkeypatch.setattr("lpd.slide.openslide_source.openslide.OpenSlide", Holey)
    with open_slide(path) as slide:
        assert (slide.read(slide.region, (64, 64)) == 255).all()


def test_thumbnail_keeps_shape_and_is_never_magnified(position_slide: Path) -> None:
    with open_slide(position_slide) as slide:
        assert slide.thumbnail(100).shape == (75, 100, 3)
        assert slide.thumbnail(5000).shape == (HEIGHT, WIDTH, 3)
        assert slide.thumbnail(1).shape == (1, 1, 3)


def test_threads_read_the_same_pixels(position_slide: Path) -> None:
    rng = np.random.default_rng(3)
    regions = [Region(int(x), int(y), 90, 60) for x, y in rng.integers(0, 300, (60, 2))]
    with open_slide(position_slide) as slide:
        one_by_one = [slide.read(r, (45, 30)) for r in regions]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda r: slide.read(r, (45, 30)), regions))
    for a, b in zip(one_by_one, together, strict=True):
        np.testing.assert_array_equal(a, b)


def test_handles_are_never_shared_and_all_closed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    opened: list[Counted] = []

    class Counted(openslide.OpenSlide):
        def __init__(self, filename: Path) -> None:
            super().__init__(filename)
            self.busy, self.closed = threading.Lock(), False
            opened.append(self)
            assert sum(not handle.closed for handle in opened) <= 12  # no more than threads

        def read_region(self, location: tuple[int, int], level: int, size: tuple[int, int]) -> Image.Image:
            assert self.busy.acquire(blocking=False), "two threads in one handle"
            time.sleep(0.002)
            image = super().read_region(location, level, size)
            self.busy.release()
            return image

        def close(self) -> None:
            self.closed = True
            super().close()

    path = write_pyramid(tmp_path / "s.tif", [ramp(256, 256)])
    monkeypatch.setattr("lpd.slide.openslide_source.openslide.OpenSlide", Counted)
    with open_slide(path) as slide, ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda x: slide.read(Region(x, x, 64, 64), (64, 64)), range(100)))
        assert len(opened) > 1
        assert sum(not handle.closed for handle in opened) <= 8
    assert all(handle.closed for handle in opened)


def test_close_ends_reading(position_slide: Path) -> None:
    slide = open_slide(position_slide)
    slide.read(slide.region, (4, 4))
    slide.close()
    slide.close()
    with pytest.raises(SlideError, match="was closed"):
        slide.read(slide.region, (4, 4))


def test_empty_size_is_refused(position_slide: Path) -> None:
    with open_slide(position_slide) as slide, pytest.raises(ConfigError, match="0 × 5"):
        slide.read(slide.region, (0, 5))
