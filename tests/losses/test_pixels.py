"""L_pix by hand, against a loop, and where it has nothing to say."""

from __future__ import annotations

import math

import pytest
import torch

from lpd.errors import ShapeError
from lpd.losses.pixels import pixel_loss


def maps(*classes: float) -> torch.Tensor:
    return torch.tensor(classes)[None, :, None, None]


def test_by_hand():
    # Shares 1/6, 2/6, 3/6; the label names the first and the last class: −log 4/6.
    logits = maps(math.log(1), math.log(2), math.log(3))
    assert pixel_loss(logits, torch.tensor([[1.0, 0.0, 1.0]])).item() == pytest.approx(math.log(6 / 4))


def test_equals_a_loop():
    torch.manual_seed(0)
    logits, labels = torch.randn(5, 4, 3, 2) * 4, torch.rand(5, 4) < 0.5
    labels[:, 0] = True
    shares = logits.softmax(1)
    terms = [
        -math.log(sum(float(shares[b, c, y, x]) for c in range(4) if labels[b, c]))
        for b in range(5)
        for y in range(3)
        for x in range(2)
    ]
    assert pixel_loss(logits, labels.float()).item() == pytest.approx(sum(terms) / len(terms), rel=1e-5)


def test_all_or_no_classes_say_nothing():
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    loss = pixel_loss(logits, torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]))
    assert loss.item() == 0
    (gradient,) = torch.autograd.grad(loss, logits)
    assert (gradient == 0).all()


def test_a_pixel_that_is_wrong_for_sure_still_learns():
    logits = maps(-300.0, 300.0).requires_grad_()
    loss = pixel_loss(logits, torch.tensor([[1.0, 0.0]]))
    assert loss.item() == pytest.approx(600)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.flatten().tolist() == pytest.approx([-1, 1])


def test_it_has_no_opinion_among_the_classes_of_the_label():
    logits = maps(0.0, 0.0, -1.0).requires_grad_()
    (gradient,) = torch.autograd.grad(pixel_loss(logits, torch.tensor([[1.0, 1.0, 0.0]])), logits)
    first, second, third = gradient.flatten().tolist()
    assert first == pytest.approx(second)
    assert first < 0 < third


def test_half_precision_is_computed_in_single():
    logits = torch.randn(2, 3, 4, 4).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss = pixel_loss(logits, torch.tensor([[1, 0, 0], [0, 1, 1]]))
    assert loss.dtype == torch.float32


def test_labels_of_another_shape_are_refused():
    with pytest.raises(ShapeError, match=r"\(2, 3, 4, 4\) and labels \(2, 4\)"):
        pixel_loss(torch.zeros(2, 3, 4, 4), torch.zeros(2, 4))
