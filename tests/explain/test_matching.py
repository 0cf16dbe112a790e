"""Matching: banks that were permuted by hand are recovered, whatever else differs."""

from __future__ import annotations

import json
from itertools import permutations

import numpy as np
import pytest

from lpd.errors import ResultError
from lpd.explain.matching import match

from .conftest import Made, waves

H, W = 40, 52


def halves() -> np.ndarray:
    """Class 0 on the left, 1 on the right, glass (2) below."""
    classes = np.zeros((H, W), np.uint8)
    classes[:, W // 2 :] = 1
    classes[-6:] = 2
    return classes


def test_a_permuted_bank_is_recovered_exactly(made: Made):
    maps = waves(8, H, W)
    order = [2, 0, 3, 1, 5, 7, 4, 6]  # place m on the right holds map order[m]; classes stay
    found = match(made(maps, halves()), made(maps[order], halves()))
    assert [(pair.left, pair.right) for pair in found.pairs] == [(m, order.index(m)) for m in range(8)]
    assert all(pair.similarity == pytest.approx(1, abs=1e-12) for pair in found.pairs)
    assert [own.similarity for own in found.classes] == [pytest.approx(1), pytest.approx(1)]
    assert (found.unmatched_left, found.unmatched_right, found.only_left, found.only_right) == ((), (), (), ())
    assert [found.counterpart(m) for m in range(8)] == [order.index(m) for m in range(8)]


def test_similarity_is_numpys_correlation_over_the_tissue_of_both(made: Made):
    left, right = waves(4, H, W), waves(4, H, W, seed=1)
    left[:, :5] = 255
    right[:, :, :3] = 255
    found = match(made(left, halves()), made(right, halves()))
    both = np.s_[:, 5 : H - 6, 3:]
    expected = np.corrcoef(left[both].reshape(4, -1), right[both].reshape(4, -1))[:4, 4:]
    np.testing.assert_allclose(found.similarity, expected, atol=1e-12)
    assert found.cells == (H - 11) * (W - 3)
    assert found.step_um == pytest.approx(8)


def test_the_sum_is_highest_and_not_each_choice(made: Made):
    left, right = waves(8, H, W), waves(8, H, W, seed=5)
    found = match(made(left, halves()), made(right, halves()))
    for c in range(2):
        table = found.similarity[4 * c : 4 * c + 4, 4 * c : 4 * c + 4]
        best = max(sum(table[i, p[i]] for i in range(4)) for p in permutations(range(4)))
        assert sum(pair.similarity or 0 for pair in found.classes[c].pairs) == pytest.approx(best)


def test_other_numbers_of_classes_and_prototypes(made: Made):
    """Two of AAA, BBB against three of BBB, CCC, AAA: by code, and what is left over is named."""
    maps = waves(9, H, W)
    left = made(maps[:4], halves())
    right = made(maps[[2, 4, 3, 5, 6, 7, 8, 1, 0]], halves(), ("BBB", "CCC", "AAA"))
    found = match(left, right)
    assert [own.code for own in found.classes] == ["AAA", "BBB"]
    assert [(pair.left, pair.right) for pair in found.pairs] == [(0, 8), (1, 7), (2, 0), (3, 2)]
    assert [own.unmatched_right for own in found.classes] == [(6,), (1,)]
    assert (found.only_left, found.only_right) == ((), ("CCC",))
    assert (found.unmatched_left, found.unmatched_right) == ((), (1, 3, 4, 5, 6))
    turned = match(right, left)
    assert [(pair.right, pair.left) for pair in turned.pairs] == [(2, 0), (3, 2), (1, 7), (0, 8)]
    assert (turned.only_left, turned.unmatched_left) == (("CCC",), (1, 3, 4, 5, 6))
    np.testing.assert_allclose(turned.similarity, found.similarity.T)
    assert turned.counterpart(6) is None


def test_maps_that_are_the_same_all_over_go_to_whoever_is_left(made: Made):
    maps = waves(4, H, W)
    flat = maps.copy()
    flat[0] = 90
    found = match(made(flat, halves()), made(maps, halves()))
    assert [(p.left, p.right) for p in found.pairs] == [(0, 0), (1, 1), (2, 2), (3, 3)]
    assert found.pairs[0].similarity is None
    assert np.isnan(found.similarity[0]).all()
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["classes"][0]["pairs"][0]["similarity"] is None


@pytest.mark.parametrize(("stride", "mpp"), [(16, 1.0), (8, 2.0), (4, 2.0), (4, 0.5)])
def test_other_resolutions_are_compared_at_the_same_places(made: Made, stride: int, mpp: float):
    """The right one has every second place, twice as many or as many; maps are smooth, so neighbours agree."""
    y, x = np.mgrid[:H, :W] + 0.5
    cell_um = stride * mpp
    yy, xx = (np.mgrid[: round(8 * H / cell_um), : round(8 * W / cell_um)] + 0.5) * cell_um / 8
    smooth = [lambda x, y: np.sin(x / 9), lambda x, y: np.cos(y / 7), lambda x, y: np.sin((x + y) / 8)]
    left = np.stack([np.rint(127 + 99 * f(x, y)) for f in [*smooth, smooth[0]]])
    right = np.stack([np.rint(127 + 99 * f(xx, yy)) for f in [smooth[1], smooth[0], smooth[0], smooth[2]]])
    one = made(left, np.zeros((H, W)))
    other = made(right, np.zeros(right.shape[1:]), stride=stride, mask_mpp=mpp, width_l0=16 * W, height_l0=16 * H)
    for found in (match(one, other), match(other, one)):
        assert found.step_um == pytest.approx(max(8, cell_um))
        assert found.cells == one.meta.width_l0 * one.meta.height_l0 / (2 * found.step_um) ** 2
    pairs = {(pair.left, pair.right): pair.similarity for pair in match(one, other).pairs}
    assert set(pairs) == {(0, 1), (1, 0), (2, 3), (3, 2)}
    assert all(value is not None and value > 0.98 for value in pairs.values())


def test_fewer_values_are_every_second_cell(made: Made):
    maps = waves(4, H, W)
    store, other = made(maps, halves()), made(maps[::-1], halves())
    found = match(store, other, most_values=4 * H * W // 3)
    every = maps[:, : H - 6 : 2, ::2].reshape(4, -1)
    np.testing.assert_allclose(found.similarity, np.corrcoef(every)[:, ::-1], atol=1e-12)
    assert found.step_um == pytest.approx(16)


def test_what_cannot_be_matched_is_refused(made: Made):
    maps = waves(4, H, W)
    one = made(maps, halves())
    with pytest.raises(
        ResultError, match=r"is of slide slide and .*result-2 of other: choose two results of one slide"
    ):
        match(one, made(maps, halves(), slide_name="other", slide_fingerprint="g"))
    with pytest.raises(ResultError, match=r"of slide \(files of one name that hold different bytes\): choose"):
        match(one, made(maps, halves(), slide_fingerprint="g"))
    with pytest.raises(ResultError, match=r"model \(AAA, BBB\) and model \(CCC\) have no class in common"):
        match(one, made(maps, np.zeros((H, W)), ("CCC",)))
    with pytest.raises(ResultError, match="no tissue in common"):
        match(one, made(np.full((4, H, W), 255), halves()))
    plain = made(maps, halves())
    plain.prototypes = None
    with pytest.raises(ResultError, match="no maps of prototypes: segment the slide with --prototype-maps"):
        match(one, plain)


def test_what_an_edited_checkpoint_does_not_count_has_no_counterpart(made: Made):
    """The second of AAA is muted on the left; the third and the fourth of BBB are one there, which is on the right."""
    maps = waves(8, H, W) // 2 * 2
    one = np.concatenate([maps[:6], [(maps[6].astype(int) + maps[7]) // 2], maps[7:]])
    left = made(maps, halves(), edited=(((0,), (2,), (3,)), ((4,), (5,), (6, 7))))
    found = match(left, made(one[[1, 3, 2, 0, 6, 5, 4, 7]], halves()))
    assert [(pair.left, pair.right) for pair in found.pairs] == [(0, 3), (2, 2), (3, 1), (4, 6), (5, 5), (6, 4)]
    assert all(pair.similarity == pytest.approx(1) for pair in found.pairs)
    assert (found.unmatched_left, found.unmatched_right) == ((1, 7), (0, 7))
    assert [own.unmatched_left for own in found.classes] == [(1,), (7,)]
