"""Probabilities over all labels that a tile may have: against plain enumeration, at the limits, with many classes."""

import itertools
import math

import pytest
import torch
from torch.nn import functional as F

from lpd.model.label_sets import MOST_CLASSES, log_class_probabilities


def by_enumeration(pixel: list[float], presence: list[float]) -> list[float]:
    """The sum as it is written down, over one pixel's classes."""
    there = [1 / (1 + math.exp(-g)) for g in presence]
    total = [0.0] * len(pixel)
    for flags in itertools.product((False, True), repeat=len(pixel)):
        chance = math.prod(p if flag else 1 - p for p, flag in zip(there, flags, strict=True))
        mass = sum(math.exp(p) for p, flag in zip(pixel, flags, strict=True) if flag)
        for c, flag in enumerate(flags):
            total[c] += chance * math.exp(pixel[c]) / mass if flag else 0.0
    return total


@pytest.mark.parametrize("classes", [1, 2, 3, 4, 6])
def test_it_is_the_sum_over_all_labels(classes):
    torch.manual_seed(classes)
    pixel, presence = torch.randn(2, classes, 3, 2) * 3, torch.randn(2, classes, 3, 2) * 2
    found = log_class_probabilities(pixel, presence).exp()
    for b, y, x in itertools.product(range(2), range(3), range(2)):
        expected = by_enumeration(pixel[b, :, y, x].tolist(), presence[b, :, y, x].tolist())
        assert found[b, :, y, x].tolist() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("classes", [2, 5])
def test_probabilities_sum_to_that_of_any_class(classes):
    torch.manual_seed(0)
    pixel, presence = torch.randn(1, classes, 8, 8).double() * 4, torch.randn(1, classes, 1, 1).double()
    total = log_class_probabilities(pixel, presence).exp().sum(1)
    torch.testing.assert_close(total, (1 - torch.sigmoid(-presence).prod(1)).expand_as(total))


@pytest.mark.parametrize("classes", [3, MOST_CLASSES + 2])
def test_certain_labels_leave_a_softmax_among_them(classes):
    torch.manual_seed(1)
    pixel = torch.randn(2, classes, 4, 4) * 30
    shown = torch.tensor([True, False] * classes)[:classes]
    if classes > MOST_CLASSES:
        shown[0] = False
    presence = torch.where(shown, 1e9, -1e9)[None, :, None, None].expand(2, classes, 1, 1)
    found = log_class_probabilities(pixel, presence)
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found[:, shown], F.log_softmax(pixel[:, shown], 1))
    assert (found[:, ~shown] < -1e8).all()


def test_a_class_that_is_certainly_alone_needs_no_pixel_logit():
    pixel = torch.tensor([-50.0, 50.0])[None, :, None, None]
    found = log_class_probabilities(pixel, torch.tensor([9.0, -9.0])[None, :, None, None]).exp().flatten()
    assert found[0] > 0.999
    assert found[1] < 0.001


def test_a_sure_pixel_wins_where_its_class_may_be():
    """What fills only a small part of a tile has a low gate, and is not lost for that."""
    pixel = torch.tensor([4.0, -4.0])[None, :, None, None]
    found = log_class_probabilities(pixel, torch.tensor([0.3, 6.0])[None, :, None, None]).exp().flatten()
    assert found[0] > found[1]


@pytest.mark.parametrize("spread", [0.0, 1.0, 3.0])
def test_of_many_classes_the_likeliest_wins(spread):
    """Against the whole sum, which is written down here once more, of nine classes."""
    torch.manual_seed(2)
    pixel, presence = torch.randn(1, 9, 6, 6) * 4, torch.randn(1, 9, 6, 6) * spread + 1
    found = log_class_probabilities(pixel, presence).exp()
    wrong, error = 0, 0.0
    for y, x in itertools.product(range(6), range(6)):
        expected = torch.tensor(by_enumeration(pixel[0, :, y, x].tolist(), presence[0, :, y, x].tolist()))
        wrong += int(found[0, :, y, x].argmax() != expected.argmax())
        error += float((found[0, :, y, x] - expected).abs().max()) / 36
    assert wrong <= 1
    assert error < 0.05


def test_many_open_gates_leave_a_softmax():
    pixel = torch.randn(2, MOST_CLASSES + 5, 4, 4) * 5
    found = log_class_probabilities(pixel, torch.full((2, MOST_CLASSES + 5, 1, 1), 1e9).expand_as(pixel))
    torch.testing.assert_close(found, pixel.log_softmax(1), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("classes", [2, 5, 9])
@pytest.mark.parametrize("size", [1e2, 1e4, 1e6])
def test_huge_logits_stay_probabilities(classes, size):
    torch.manual_seed(0)
    found = log_class_probabilities(torch.randn(1, classes, 8, 8) * size, torch.randn(1, classes, 8, 8) * size)
    assert torch.isfinite(found).all()
    assert (found <= 0).all()
