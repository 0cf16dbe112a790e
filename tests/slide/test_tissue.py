"""Tissue: pale and dark tissue found, glass, dust, fill and noise not; nothing split that is all one or the other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from skimage.filters import threshold_otsu

from lpd.errors import ConfigError
from lpd.slide.opening import open_slide
from lpd.slide.region import Region
from lpd.slide.tissue import TissueMask, _otsu, find_tissue, tissue_mask

GLASS = np.array([243, 240, 244])
STROMA, PALE, NUCLEI = np.array([226, 170, 205]), np.array([238, 214, 230]), np.array([110, 70, 140])


def scene(*disks: tuple[int, int, int, np.ndarray], size: int = 200, noise: float = 1.5) -> np.ndarray:
    """Noisy glass with disks of (x, y, radius, colour)."""
    y, x = np.mgrid[:size, :size]
    pixels = np.broadcast_to(GLASS, (size, size, 3)).astype(float).copy()
    for cx, cy, radius, color in disks:
        pixels[(x - cx) ** 2 + (y - cy) ** 2 <= radius**2] = color
    pixels += np.random.default_rng(0).normal(0, noise, pixels.shape)
    return pixels.round().clip(0, 255).astype(np.uint8)


def disk(cx: int, cy: int, radius: int, size: int = 200) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    return (x - cx) ** 2 + (y - cy) ** 2 <= radius**2


def test_dark_and_pale_tissue_are_both_found() -> None:
    pixels = scene((60, 60, 40, STROMA), (60, 60, 15, NUCLEI), (150, 140, 30, PALE))
    truth = disk(60, 60, 40) | disk(150, 140, 30)
    mask = find_tissue(pixels, 8.0)
    assert (mask & truth).sum() >= 0.995 * truth.sum()
    assert not mask[~ndimage.binary_dilation(truth, iterations=6)].any()


def test_dust_goes_and_holes_close() -> None:
    pixels = scene((100, 100, 50, STROMA), (100, 100, 3, GLASS), (20, 20, 2, NUCLEI))
    mask = find_tissue(pixels, 8.0)
    assert not mask[:40, :40].any()
    assert mask[90:110, 90:110].all()


def test_a_large_hole_stays() -> None:
    assert not find_tissue(scene((100, 100, 80, STROMA), (100, 100, 30, GLASS)), 8.0)[90:110, 90:110].any()


def test_glass_alone_is_no_tissue() -> None:
    assert not find_tissue(scene(), 8.0).any()
    assert not find_tissue(np.full((50, 50, 3), 255, np.uint8), None).any()


def test_a_faint_tint_counts_and_a_shadow_as_dark_does_not() -> None:
    tint, shadow = np.array([241, 229, 240]), np.array([232, 229, 233])
    pixels = scene((50, 100, 30, tint), (150, 100, 30, shadow), noise=0.4)
    mask = find_tissue(pixels, 8.0)
    assert mask[100, 50]
    assert not mask[:, 110:].any()


def test_glass_is_told_by_its_own_colour_not_by_the_white_around_the_scan() -> None:
    pixels = scene((150, 150, 20, STROMA))
    pixels -= 12  # a grey lamp
    pixels[:, :120] = 255
    mask = find_tissue(pixels, 8.0)
    assert mask[150, 150]
    assert not mask[:110].any()


def test_unscanned_fill_is_no_tissue() -> None:
    pixels = scene((130, 130, 30, STROMA))
    pixels[:, :60] = 255
    pixels[:60, :60] = 0
    assert not find_tissue(pixels, 8.0)[:, :58].any()


@pytest.mark.parametrize("colors", [(STROMA, NUCLEI), (STROMA, STROMA), (NUCLEI, NUCLEI)])
def test_tissue_alone_is_not_split(colors: tuple[np.ndarray, np.ndarray]) -> None:
    pixels = scene((100, 100, 300, colors[0]), (100, 100, 40, colors[1]))
    assert find_tissue(pixels, 8.0).mean() > 0.99


def test_a_scrap_in_a_small_picture_is_no_speck() -> None:
    assert find_tissue(scene((0, 0, 6, STROMA), size=28), 8.0)[:4, :4].all()


def test_one_pixel() -> None:
    assert find_tissue(np.full((1, 1, 3), 255, np.uint8), 8.0).tolist() == [[False]]


def test_mask_frame() -> None:
    cells = np.zeros((4, 8), dtype=bool)
    cells[1, 2] = True  # level-0 x 200 to 300, y 100 to 200 of 800 × 400
    mask = TissueMask(cells, 800, 400, 0.5)
    assert mask.covers(Region(0, 0, 800, 400))
    assert mask.covers(Region(299, 199, 50, 50))
    assert not mask.covers(Region(300, 100, 50, 50))
    assert not mask.covers(Region(100, 100, 100, 100))
    assert not mask.covers(Region(-50, -50, 50, 50))
    assert mask.fraction == 1 / 32
    assert mask.area_mm2 == pytest.approx(100 * 100 * (0.5e-3) ** 2)
    seen = mask.read(Region(150, 50, 200, 200), (4, 4))
    assert seen.dtype == np.bool_
    assert np.argwhere(seen).tolist() == [[1, 1], [1, 2], [2, 1], [2, 2]]
    assert not mask.read(Region(-400, 0, 400, 400), (4, 4)).any()
    assert TissueMask(cells, 800, 400, None).area_mm2 is None


def test_everything(tmp_path: Path) -> None:
    Image.fromarray(scene()).save(tmp_path / "s.png")
    with open_slide(tmp_path / "s.png", mpp=2.0) as slide:
        mask = tissue_mask(slide, everything=True)
        assert mask.fraction == 1
        assert mask.area_mm2 == pytest.approx(0.16)
        assert mask.read(Region(-10, 0, 20, 10), (2, 1)).tolist() == [[False, True]]
        assert tissue_mask(slide).fraction == 0


def test_the_look_is_as_coarse_as_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Image.fromarray(scene((100, 100, 60, STROMA))).save(tmp_path / "s.png")
    with open_slide(tmp_path / "s.png", mpp=2.0) as slide:
        assert tissue_mask(slide).mask.shape == (50, 50)
        assert tissue_mask(slide, mpp=1.0).mask.shape == (200, 200)  # never magnified
        monkeypatch.setattr("lpd.slide.tissue._LONGEST_PX", 40)
        assert tissue_mask(slide).mask.shape == (40, 40)
        assert tissue_mask(slide).covers(Region(100, 100, 1, 1))
    with open_slide(tmp_path / "s.png") as slide:
        assert tissue_mask(slide).mask.shape == (200, 200)


def test_nonsense_resolution_is_refused(tmp_path: Path) -> None:
    Image.fromarray(scene()).save(tmp_path / "s.png")
    with open_slide(tmp_path / "s.png") as slide, pytest.raises(ConfigError, match="0 µm/px"):
        tissue_mask(slide, mpp=0)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("CMU-1-Small-Region.svs", 0.40, 0.50),
        ("tcga-cr-7395-01a-01-ts1.svs", 0.60, 0.70),
        ("not-a-slide-flat.tif", 0.002, 0.01),
    ],
)
def test_real_slides(real_data: Path, name: str, low: float, high: float) -> None:
    """Shares checked by eye against the pictures."""
    with open_slide(real_data / "slides" / name) as slide:
        assert low <= tissue_mask(slide).fraction <= high


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (256, 40), (700, 300)])
def test_the_threshold_is_that_of_scikit_image_to_the_last_bit(shape):
    random = np.random.default_rng(7)
    for scale in (0.05, 0.2, 1.0):
        picture = np.log(random.gamma(0.7, scale, shape).clip(0.005, 3)).astype(np.float32)
        found, expected = _otsu(picture), threshold_otsu(picture)
        assert found == expected
        assert found.dtype == expected.dtype
    assert _otsu(np.full(shape, -1.25, np.float32)) == -1.25
