"""The phantom's pixels: deterministic, cut up at will, whole nuclei, and not to be told apart by colour."""

from __future__ import annotations

import numpy as np
import pytest

from lpd.classes import BCSS
from lpd.data.phantom.layout import GLASS, MORPHOLOGIES, Layout, kinds_to_mask
from lpd.data.phantom.noise import Noise
from lpd.data.phantom.textures import PERIOD, REACH, Texture
from lpd.data.phantom.tissue import Case, case_seed


@pytest.fixture(scope="module")
def case() -> Case:
    return Case.make(5, (6144, 4608))


def flattened(texture: Texture) -> np.ndarray:
    share = texture.cover[None] / 255
    return texture.base * (1 - share) + texture.nuclei * share


def test_noise_has_unit_deviation_and_depends_on_seed_and_place_alone() -> None:
    points = np.random.default_rng(0).uniform(-1e6, 1e6, (2, 200_000))
    noise = Noise(7, 300.0, 3)
    values = noise(*points)
    assert abs(values.mean()) < 0.02
    assert values.std() == pytest.approx(1, abs=0.05)
    np.testing.assert_array_equal(noise(points[0, 50:60], points[1, 50:60]), values[50:60])
    assert abs(np.corrcoef(values, Noise(8, 300.0, 3)(*points))[0, 1]) < 0.02
    assert abs(np.corrcoef(values, Noise(7 + 2**32, 300.0, 3)(*points))[0, 1]) < 0.02


def test_noise_is_smooth() -> None:
    x = np.arange(-500, 500, 0.5)
    values = Noise(3, 300.0, 1)(x, np.full_like(x, 77.0))
    assert np.abs(np.diff(values)).max() < 0.05


def test_layout_is_the_same_however_it_is_cut() -> None:
    layout = Layout(5, (6144, 4608))
    whole = layout.kinds(1000, 800, 900, 700)
    for x, y, width, height in ((0, 0, 1, 1), (3, 5, 200, 130), (517, 333, 383, 367), (899, 0, 1, 700)):
        part = layout.kinds(1000 + x, 800 + y, width, height)
        np.testing.assert_array_equal(part, whole[y : y + height, x : x + width])


def test_layout_goes_on_beyond_the_slide_as_glass() -> None:
    kinds = Layout(5, (6144, 4608)).kinds(-300, -300, 200, 200)
    assert (kinds == GLASS).all()


def test_layout_has_every_kind_in_fair_amounts() -> None:
    kinds = Layout(5, None).survey(250, 60)
    shares = np.bincount(kinds.ravel(), minlength=GLASS + 1) / kinds.size
    assert len(shares) == BCSS.count * MORPHOLOGIES + 1
    assert shares.min() > 0.01


def test_necrosis_lies_in_tumour() -> None:
    mask = kinds_to_mask(Layout(5, None).survey(600, 8))
    necrosis = mask == BCSS.codes.index("NEC")
    beside = np.zeros_like(necrosis)
    for axis in (0, 1):
        for step in (-1, 1):
            beside |= np.roll(necrosis, step, axis)
    border = (beside & ~necrosis)[1:-1, 1:-1]
    around = np.bincount(mask[1:-1, 1:-1][border], minlength=5)
    assert around[BCSS.codes.index("STR")] == 0
    assert around[BCSS.codes.index("TUM")] > 0.5 * around.sum()


def test_textures_wrap_around_and_stay_within_reach(case: Case) -> None:
    for kind, texture in enumerate(case.textures):
        stains = flattened(texture)
        seam = np.abs(stains[:, :, 0] - stains[:, :, -1]).mean()
        inside = np.abs(np.diff(stains, axis=2)).mean()
        assert seam < 1.5 * inside + 1, f"kind {kind} has a seam"
        covered = texture.to_centre[:, texture.cover > 0].astype(int)
        assert np.abs(covered).max(initial=0) <= REACH
        assert stains.shape == (2, PERIOD, PERIOD)
        assert (stains == 255).mean() < 1e-3, "a stain that is clipped loses its structure"


def test_case_is_deterministic(case: Case) -> None:
    again = Case.make(5, (6144, 4608))
    image, kinds = case.draw(2100, 1900, 300, 260)
    np.testing.assert_array_equal(image, again.draw(2100, 1900, 300, 260)[0])
    assert image.shape == (260, 300, 3)
    assert kinds.shape == (260, 300)


def test_pixels_are_the_same_however_they_are_cut(case: Case) -> None:
    image, kinds = case.draw(2000, 1800, 640, 512)
    part, part_kinds = case.draw(2111, 1900, 300, 280)
    np.testing.assert_array_equal(part, image[100:380, 111:411])
    np.testing.assert_array_equal(part_kinds, kinds[100:380, 111:411])


def test_nuclei_at_a_border_are_whole(case: Case) -> None:
    """A lone nucleus whose centre lies in the upper half is drawn whole, one pixel lower it is gone whole."""
    blank = np.zeros((2, PERIOD, PERIOD), np.uint8)
    row, column = np.mgrid[0:PERIOD, 0:PERIOD]
    near = np.hypot(row - 100, column - 100) < 9
    to_centre = np.where(near, np.stack([100 - column, 100 - row]), 0).astype(np.int8)
    texture = Texture(blank, np.full_like(blank, 150), near.astype(np.uint8) * 255, to_centre)
    empty = Texture(blank, blank, blank[0], np.zeros_like(to_centre))
    made = Case(case.layout, (texture, *[empty] * GLASS), case.stain)
    for border_row, expected in ((101, near.sum()), (100, 0)):
        around = np.full((200 + 2 * REACH, 200 + 2 * REACH), GLASS, np.uint8)
        around[: REACH + border_row] = 0
        image, _ = made.paint(around, 0, 0)
        assert (image != case.stain[0, 0]).any(-1).sum() == expected


def test_no_case_is_shared_between_purposes() -> None:
    seeds = {
        case_seed(purpose, seed, number)
        for purpose in ("slide", "tiles train", "tiles valid", "tiles test")
        for seed in range(20)
        for number in range(12)
    }
    assert len(seeds) == 4 * 20 * 12
