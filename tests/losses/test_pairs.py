"""Pairs of L_sim: evenness counted pair by pair, masks against hand-drawn ones, and maps that prefer nothing."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from lpd.errors import ShapeError
from lpd.losses.pairs import prototype_masks, select_pairs

K = 3
LABELS = torch.tensor([[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 0, 0], [0, 1, 0, 1], [0, 0, 0, 1]])


def draw(labels: torch.Tensor, cap: int, seed: int = 0, k: int = K) -> list[tuple[int, int]]:
    images, prototypes = select_pairs(labels, k, cap, torch.Generator().manual_seed(seed))
    assert images.dtype == prototypes.dtype == torch.int64
    return list(zip(images.tolist(), prototypes.tolist(), strict=True))


def everything(labels: torch.Tensor, k: int = K) -> set[tuple[int, int]]:
    batch, classes = labels.shape
    return {(b, c * k + i) for b in range(batch) for c in range(classes) if labels[b, c] > 0 for i in range(k)}


@pytest.mark.parametrize("cap", [0, 24, 1000])
def test_without_a_cap_all_pairs_of_present_classes_come_once(cap):
    pairs = draw(LABELS, cap)
    assert len(pairs) == len(set(pairs)) == 7 * K
    assert set(pairs) == everything(LABELS)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(6))
def test_any_cap_is_even_over_classes_and_within_them_over_images_and_prototypes(seed, k):
    generator = torch.Generator().manual_seed(100 + seed)
    labels = (torch.rand(7, 4, generator=generator) < 0.4).int()
    available = Counter(m // k for _, m in everything(labels, k))
    for cap in range(1, sum(available.values()) + 1):
        pairs = draw(labels, cap, seed, k)
        assert len(pairs) == len(set(pairs)) == cap
        taken = Counter(m // k for _, m in pairs)
        for c in available:
            assert taken[c] == available[c] or taken[c] >= max(taken.values()) - 1
            by_image = Counter({b: 0 for b in range(7) if labels[b, c]})
            by_image.update(b for b, m in pairs if m // k == c)
            by_prototype = Counter({c * k + i: 0 for i in range(k)})
            by_prototype.update(m for _, m in pairs if m // k == c)
            for counts in (by_image, by_prototype):
                assert max(counts.values()) - min(counts.values()) <= 1


def test_the_generator_alone_decides():
    assert draw(LABELS, 5, seed=1) == draw(LABELS, 5, seed=1)
    assert len({tuple(draw(LABELS, 5, seed=s)) for s in range(5)}) > 1


def test_every_pair_has_its_turn_as_often_as_promised():
    """With one pair a step: a class in three, then its images and prototypes alike."""
    drawn = Counter(draw(LABELS, 1, seed)[0] for seed in range(3000))
    assert set(drawn) == everything(LABELS)
    for (_, m), times in drawn.items():
        images = int(LABELS[:, m // K].sum())
        assert times == pytest.approx(3000 / 3 / images / K, rel=0.5)


def test_nothing_present_gives_no_pairs():
    assert draw(torch.zeros(3, 4), 8) == []
    assert draw(torch.zeros(0, 4), 8) == []


def test_soft_labels_count_as_present():
    assert set(draw(torch.tensor([[0.2, 0.0]]), 0)) == {(0, 0), (0, 1), (0, 2)}


def test_labels_without_classes_are_refused():
    with pytest.raises(ShapeError, match=r"\(4,\), not \(B, C\)"):
        draw(torch.ones(4), 8)


def mask_of(cam: list[list[float]], **options: float) -> list[list[int]]:
    """The mask of prototype 1 in image 1; the others' CAMs are far larger and must not matter."""
    cams = torch.full((2, 3, 2, 3), 50.0)
    cams[1, 1] = torch.tensor(cam)
    return prototype_masks(cams, torch.tensor([1]), torch.tensor([1]), **options)[0].int().tolist()


@pytest.mark.parametrize(
    ("cam", "mask"),
    [
        ([[0, 1, 2], [3, 4, 5]], [[0, 0, 0], [1, 1, 1]]),  # 2.5 lies half-way
        ([[0, 1, 2], [2, 4, 4]], [[0, 0, 1], [1, 1, 1]]),  # half-way itself is in
        ([[-9, -8, -7], [-6, -5, -4]], [[0, 0, 0], [1, 1, 1]]),  # below zero everywhere: the same shape
        ([[-1, 0, 1], [-1, 0.1, -1]], [[0, 1, 1], [0, 1, 0]]),  # of both signs
        ([[1e-7, 0, 0], [0, 0, 0]], [[1, 0, 0], [0, 0, 0]]),
        ([[0.3, 0.3, 0.3], [0.3, 0.3, 0.3]], [[1, 1, 1], [1, 1, 1]]),  # prefers nothing: all of it
        ([[-2, -2, -2], [-2, -2, -2]], [[1, 1, 1], [1, 1, 1]]),
        ([[0, 0, 0], [0, 0, 0]], [[1, 1, 1], [1, 1, 1]]),
    ],
)
def test_masks_by_hand(cam, mask):
    assert mask_of(cam) == mask


def test_threshold_is_a_share_of_the_range():
    assert mask_of([[0, 1, 2], [3, 4, 5]], threshold=0.8) == [[0, 0, 0], [0, 1, 1]]
    assert mask_of([[0, 1, 2], [3, 4, 5]], threshold=1.0) == [[0, 0, 0], [0, 0, 1]]
    assert mask_of([[0, 1, 2], [3, 4, 5]], threshold=0.0) == [[1, 1, 1], [1, 1, 1]]


def test_joint_threshold_empties_weak_prototypes_and_all_where_logits_are_negative():
    cams = torch.tensor([[[[14.0, 2.0]], [[6.0, 1.0]]], [[[-4.0, -8.0]], [[-5.0, -6.0]]]])
    images, prototypes = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    joint = prototype_masks(cams, images, prototypes, joint=True)
    assert joint.int().tolist() == [[[1, 0]], [[0, 0]], [[0, 0]], [[0, 0]]]
    own = prototype_masks(cams, images, prototypes)
    assert own.int().tolist() == [[[1, 0]]] * 4


@pytest.mark.parametrize("joint", [False, True])
def test_a_positive_gain_changes_no_mask(joint):
    """So cosines and logits may both be given."""
    cams = torch.rand(2, 3, 5, 5, generator=torch.Generator().manual_seed(0)) - 0.4
    pairs = torch.tensor([0, 1, 1]), torch.tensor([2, 0, 1])
    assert torch.equal(prototype_masks(cams, *pairs, joint=joint), prototype_masks(cams * 16, *pairs, joint=joint))


@pytest.mark.parametrize("joint", [False, True])
def test_half_precision_maps_give_the_masks_of_their_exact_values(joint):
    cams = torch.rand(2, 3, 40, 40, generator=torch.Generator().manual_seed(0)).bfloat16()
    pairs = torch.tensor([0, 1, 1]), torch.tensor([2, 0, 1])
    assert torch.equal(prototype_masks(cams, *pairs, joint=joint), prototype_masks(cams.double(), *pairs, joint=joint))


def test_no_pairs_give_no_masks():
    none = torch.zeros(0, dtype=torch.long)
    assert prototype_masks(torch.rand(2, 3, 5, 4), none, none).shape == (0, 5, 4)


@pytest.mark.parametrize(
    ("cams", "images", "prototypes"),
    [((3, 5, 5), (2,), (2,)), ((2, 3, 5, 5), (2,), (3,)), ((2, 3, 5, 5), (1, 2), (1, 2))],
)
def test_wrong_shapes_are_refused(cams, images, prototypes):
    with pytest.raises(ShapeError, match=r"are not \(B, M, h, w\), \(N,\) and \(N,\)"):
        prototype_masks(
            torch.zeros(cams), torch.zeros(images, dtype=torch.long), torch.zeros(prototypes, dtype=torch.long)
        )
