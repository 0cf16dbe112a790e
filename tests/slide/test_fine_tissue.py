"""Fine tissue: its border lies where the glass begins, the same for any way of asking."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lpd.slide.fine_tissue import FineTissue
from lpd.slide.opening import open_slide
from lpd.slide.region import Region
from lpd.slide.slide import Slide
from lpd.slide.tissue import TissueMask, tissue_mask

SIDE = 800
GLASS, STROMA = np.array([243, 240, 244]), np.array([226, 170, 205])


def _distance(x: float, y: float) -> np.ndarray:
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return np.hypot(columns + 0.5 - x, rows + 0.5 - y)


TRUTH = (_distance(400, 400) < 250) & ~(_distance(430, 380) < 60)  # a disk with a lumen off its centre


@pytest.fixture
def slide(tmp_path: Path) -> Iterator[Slide]:
    pixels = np.where(TRUTH[..., None], STROMA, GLASS) + np.random.default_rng(0).normal(0, 2, (SIDE, SIDE, 3))
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(tmp_path / "disk.png")
    with open_slide(tmp_path / "disk.png", mpp=1.0) as opened:
        yield opened


def _whole(slide: Slide) -> Region:
    return Region(0, 0, slide.width_l0, slide.height_l0)


def test_the_border_is_within_a_few_pixels_where_the_coarse_one_is_generous(slide: Slide) -> None:
    coarse = tissue_mask(slide)
    fine = FineTissue(slide, coarse).read(_whole(slide), (SIDE, SIDE))
    off = fine != TRUTH
    near = (abs(_distance(400, 400) - 250) < 5) | (abs(_distance(430, 380) - 60) < 5)
    assert not (off & ~near).any()
    assert fine.sum() == pytest.approx(TRUTH.sum(), rel=0.03)
    assert coarse.read(_whole(slide), (SIDE, SIDE)).sum() > 1.1 * TRUTH.sum()


def test_what_the_coarse_mask_calls_dust_stays_glass(slide: Slide) -> None:
    nothing = TissueMask(np.zeros((1, 1), np.bool_), SIDE, SIDE, 1.0, tissue_mask(slide).glass)
    assert not FineTissue(slide, nothing).read(_whole(slide), (SIDE, SIDE)).any()


def test_everything_stays_everything(slide: Slide) -> None:
    everything = tissue_mask(slide, everything=True)
    assert FineTissue(slide, everything).read(_whole(slide), (SIDE, SIDE)).all()


def test_parts_continue_one_another(slide: Slide) -> None:
    fine = FineTissue(slide, tissue_mask(slide))
    whole = fine.read(_whole(slide), (SIDE, SIDE))
    parts = [[fine.read(Region(x, y, 400, 400), (400, 400)) for x in (0, 400)] for y in (0, 400)]
    np.testing.assert_array_equal(np.block(parts), whole)


def test_sizes_that_no_step_divides_are_kept(slide: Slide) -> None:
    fine = FineTissue(slide, tissue_mask(slide)).read(Region(150, 150, 501, 333), (167, 111))
    assert fine.shape == (111, 167)
    clear = (abs(_distance(400, 400) - 250) > 15) & (abs(_distance(430, 380) - 60) > 15)
    seen = np.s_[151 : 150 + 333 : 3, 151 : 150 + 501 : 3]  # the centre of each answer pixel
    np.testing.assert_array_equal(fine[clear[seen]], TRUTH[seen][clear[seen]])


def test_tissue_goes_on_to_the_edge_of_the_slide(tmp_path: Path) -> None:
    # The left half is tissue, cut off on three sides; what lies beyond the slide is not glass.
    pixels = np.broadcast_to(GLASS, (SIDE, SIDE, 3)).copy()
    pixels[:, : SIDE // 2] = STROMA
    noisy = pixels + np.random.default_rng(0).normal(0, 2, pixels.shape)
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(tmp_path / "half.png")
    with open_slide(tmp_path / "half.png", mpp=1.0) as slide:
        fine = FineTissue(slide, tissue_mask(slide)).read(_whole(slide), (SIDE, SIDE))
    assert fine[:, : SIDE // 2 - 5].all()
    assert not fine[:, SIDE // 2 + 5 :].any()
