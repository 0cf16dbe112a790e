"""L_cls against a loop over the equation, gradients, and its neutral cases."""

from __future__ import annotations

import math

import pytest
import torch

from lpd.errors import ShapeError
from lpd.losses.classification import classification_loss


def by_loop(scores: list[torch.Tensor], labels: torch.Tensor, weights: list[float]) -> float:
    total = 0.0
    for weight, score in zip(weights, scores, strict=True):
        for row, truth in zip(score.tolist(), labels.tolist(), strict=True):
            for logit, y in zip(row, truth, strict=True):
                p = 1 / (1 + math.exp(-logit))
                total -= weight * (y * math.log(p) + (1 - y) * math.log(1 - p)) / score.numel()
    return total


def make(seed: int = 0) -> tuple[list[torch.Tensor], torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    scores = [torch.randn(3, 4, generator=generator, dtype=torch.float64) * 3 for _ in range(3)]
    return scores, (torch.rand(3, 4, generator=generator) > 0.5).to(torch.float64)


def test_value_follows_the_equation():
    scores, labels = make()
    found = classification_loss(scores, labels, (0.1, 1.0, 0.7))
    assert found.item() == pytest.approx(by_loop(scores, labels, [0.1, 1.0, 0.7]), rel=1e-12)


def test_value_by_hand():
    scores = [torch.tensor([[0.0, 0.0]])]
    assert classification_loss(scores, torch.tensor([[1, 0]]), (2.0,)).item() == pytest.approx(2 * math.log(2))


def test_gradients():
    scores, labels = make()
    inputs = [s.requires_grad_() for s in scores]
    assert torch.autograd.gradcheck(lambda *s: classification_loss(s, labels, (0.1, 1.0, 0.7)), inputs)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float32])
def test_labels_of_any_kind(dtype):
    scores, labels = make()
    expected = classification_loss(scores, labels, (0.0, 1.0, 1.0))
    assert classification_loss(scores, labels.to(dtype), (0.0, 1.0, 1.0)).item() == pytest.approx(expected.item())


def test_a_scale_of_weight_zero_gets_no_gradient():
    scores, labels = make()
    for score in scores:
        score.requires_grad_()
    classification_loss(scores, labels, (0.0, 1.0, 1.0)).backward()
    assert scores[0].grad.abs().max() == 0
    assert scores[1].grad.abs().min() > 0


def test_half_precision_and_huge_logits_stay_finite():
    scores = [torch.tensor([[6e4, -6e4]], dtype=torch.float16)]
    right = classification_loss(scores, torch.tensor([[1, 0]]), (1.0,))
    wrong = classification_loss(scores, torch.tensor([[0, 1]]), (1.0,))
    assert right.dtype == torch.float32
    assert right.item() == pytest.approx(0, abs=1e-6)
    assert wrong.item() == pytest.approx(6e4, rel=1e-3)


def test_every_class_counts_alike():
    scores, labels = make()
    order = [3, 1, 0, 2]
    permuted = classification_loss([s[:, order] for s in scores], labels[:, order], (0.1, 1.0, 1.0))
    torch.testing.assert_close(permuted, classification_loss(scores, labels, (0.1, 1.0, 1.0)))


@pytest.mark.parametrize(
    ("scores", "weights"),
    [([], ()), ([torch.zeros(2, 3)], (1.0, 1.0)), ([torch.zeros(2, 4)], (1.0,)), ([torch.zeros(2, 3, 1)], (1.0,))],
)
def test_wrong_shapes_are_refused(scores, weights):
    with pytest.raises(ShapeError):
        classification_loss(scores, torch.zeros(2, 3), weights)
