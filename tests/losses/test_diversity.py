"""L_div against KL divergences written out in loops, its conventions for masks, and the pseudo masks."""

from __future__ import annotations

import math

import pytest
import torch

from lpd.errors import ShapeError
from lpd.losses.diversity import diversity_loss, jeffreys_divergences, prototype_similarity, pseudo_masks

B, C, K, H, W = 2, 3, 4, 3, 5


def make(seed: int = 0, fill: float = 0.7) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    cosines = torch.rand(B, C, K, H, W, generator=generator, dtype=torch.float64) * 2 - 1
    return cosines, torch.rand(B, C, H, W, generator=generator) < fill


def divergence_by_loop(a: list[float], b: list[float], tau: float) -> float:
    def softmax(values: list[float]) -> list[float]:
        top = max(values)
        powers = [math.exp((v - top) / tau) for v in values]
        return [p / sum(powers) for p in powers]

    p, q = softmax(a), softmax(b)
    forward = sum(x * math.log(x / y) for x, y in zip(p, q, strict=True))
    backward = sum(y * math.log(y / x) for x, y in zip(p, q, strict=True))
    return forward + backward


def loss_by_loop(cosines: torch.Tensor, masks: torch.Tensor, tau: float, share: float = 1.0) -> float:
    images = []
    for image, image_masks in zip(cosines, masks, strict=True):
        classes = []
        for maps, mask in zip(image, image_masks, strict=True):
            if mask.sum() < 2:
                continue
            values = [m[mask].tolist() for m in maps]
            pairs = [(i, j) for i in range(len(values)) for j in range(i + 1, len(values))]
            terms = [math.exp(-share * divergence_by_loop(values[i], values[j], tau)) for i, j in pairs]
            classes.append(sum(terms) / len(terms))
        images.append(sum(classes) / len(classes) if classes else 0.0)
    return sum(images) / len(images)


@pytest.mark.parametrize("tau", [0.07, 0.5, 2.0])
def test_value_follows_the_equation(tau):
    cosines, masks = make()
    masks[0, 1] = False  # an absent class
    masks[1, 2] = False
    masks[1, 2, 1, 1] = True  # a class of one pixel
    cosines *= 0.1  # keeps exp(-J) away from 0 at the small temperature
    expected = loss_by_loop(cosines, masks, tau)
    assert 0.01 < expected < 0.999
    assert diversity_loss(cosines, masks, temperature=tau).item() == pytest.approx(expected, rel=1e-9)
    halved = diversity_loss(cosines, masks, temperature=tau, halved=True).item()
    assert halved == pytest.approx(loss_by_loop(cosines, masks, tau, share=0.5), rel=1e-9)
    single = diversity_loss(cosines.float(), masks, temperature=tau).item()
    assert single == pytest.approx(expected, rel=2e-5)


def test_images_that_say_nothing_are_told_apart():
    cosines, masks = make()
    cosines *= 0.1
    masks[1] = False
    masks[1, 2, 1, 1] = True  # one pixel is no distribution
    similarity, known = prototype_similarity(cosines, masks)
    assert known.tolist() == [True, False]
    assert similarity.tolist() == [pytest.approx(loss_by_loop(cosines[:1], masks[:1], 0.07), rel=1e-9), 0.0]
    assert prototype_similarity(cosines[:, :, :1], masks)[1].tolist() == [False, False]


def test_two_pixels_by_hand():
    """Logits ±1 against ∓1 over two pixels: p = σ(2), and J = 2 · (2p − 1) · 2."""
    cosines = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64).reshape(1, 1, 2, 1, 2)
    masks = torch.ones(1, 1, 1, 2, dtype=torch.bool)
    p = 1 / (1 + math.exp(-2))
    assert jeffreys_divergences(cosines, masks, 1.0)[0, 0, 0, 1].item() == pytest.approx(4 * (2 * p - 1), rel=1e-12)
    assert diversity_loss(cosines, masks, temperature=1.0).item() == pytest.approx(
        math.exp(-4 * (2 * p - 1)), rel=1e-12
    )


def test_divergences_are_symmetric_and_vanish_on_the_diagonal():
    divergences = jeffreys_divergences(*make())
    torch.testing.assert_close(divergences, divergences.transpose(2, 3))
    assert divergences.diagonal(dim1=2, dim2=3).abs().max() < 1e-9
    assert divergences.min() > -1e-9


@pytest.mark.parametrize("halved", [False, True])
def test_gradients(halved):
    cosines, masks = make()
    masks[0, 0] = False
    cosines = (cosines * 0.1).requires_grad_()
    assert torch.autograd.gradcheck(lambda c: diversity_loss(c, masks, temperature=0.2, halved=halved), cosines)


def test_gradient_reaches_prototypes_at_the_papers_temperature():
    """The official double softmax leaves 1e-7 here; a working loss must pull nearly equal prototypes apart."""
    torch.manual_seed(0)
    base = torch.rand(1, 1, 1, 14, 14) * 0.4
    cosines = (base + 0.02 * torch.randn(1, 1, 3, 14, 14)).requires_grad_()
    loss = diversity_loss(cosines, torch.ones(1, 1, 14, 14, dtype=torch.bool))
    loss.backward()
    assert 0.5 < loss.item() < 1
    assert cosines.grad.norm() > 1e-2


def test_equal_prototypes_give_one_and_disjoint_ones_zero():
    masks = torch.ones(1, 1, 2, 2, dtype=torch.bool)
    same = torch.rand(1, 1, 1, 2, 2).expand(1, 1, 3, 2, 2)
    assert diversity_loss(same, masks).item() == pytest.approx(1, abs=1e-5)
    disjoint = torch.eye(4)[:3].reshape(1, 1, 3, 2, 2)
    assert diversity_loss(disjoint, masks).item() < 1e-8


def test_background_only_gives_zero_and_still_has_a_gradient():
    cosines, masks = make()
    cosines.requires_grad_()
    loss = diversity_loss(cosines, torch.zeros_like(masks))
    loss.backward()
    assert loss.item() == 0
    assert cosines.grad.abs().max() == 0


def test_the_last_class_contributes():
    cosines, masks = make(fill=1.0)
    only_last = torch.zeros_like(masks)
    only_last[:, -1] = True
    expected = loss_by_loop(cosines[:, -1:] * 0.1, masks[:, -1:], 0.07)
    assert diversity_loss(cosines * 0.1, only_last).item() == pytest.approx(expected, rel=1e-9)
    assert expected > 0


def test_pixels_outside_the_mask_do_not_matter():
    cosines, masks = make()
    noisy = torch.where(masks[:, :, None], cosines, torch.full_like(cosines, -0.9))
    torch.testing.assert_close(diversity_loss(noisy, masks), diversity_loss(cosines, masks))


def test_order_of_prototypes_classes_and_pixels_does_not_matter():
    cosines, masks = make()
    cosines = cosines * 0.1
    expected = diversity_loss(cosines, masks)
    torch.testing.assert_close(diversity_loss(cosines[:, :, [2, 0, 3, 1]], masks), expected)
    torch.testing.assert_close(diversity_loss(cosines[:, [2, 0, 1]], masks[:, [2, 0, 1]]), expected)
    torch.testing.assert_close(diversity_loss(cosines.flip(4), masks.flip(3)), expected)


def test_one_prototype_per_class_has_nothing_to_say():
    cosines, masks = make()
    one = cosines[:, :, :1].clone().requires_grad_()
    loss = diversity_loss(one, masks)
    loss.backward()
    assert loss.item() == 0


def test_no_images_give_zero():
    cosines, masks = make()
    assert diversity_loss(cosines[:0], masks[:0]).item() == 0


def test_autocast_and_half_precision_are_computed_in_float32():
    cosines, masks = make()
    cosines = (cosines * 0.1).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = diversity_loss(cosines, masks)
    assert found.dtype == torch.float32
    assert torch.equal(found, diversity_loss(cosines, masks))
    assert diversity_loss(cosines.bfloat16(), masks).dtype == torch.float32


def test_wrong_masks_are_refused():
    cosines, masks = make()
    for wrong in (masks.float(), masks[:, :2], masks[..., :2]):
        with pytest.raises(ShapeError, match="bool"):
            diversity_loss(cosines, wrong)


def test_pseudo_masks_by_hand():
    logits = torch.tensor(
        [
            [[10.0, 4.0, 1.0, -5.0]],  # present; its maximum is 10
            [[0.001, 0.002, 0.0, 0.0]],  # present and faint: normalised all the same
            [[99.0, 99.0, 99.0, 99.0]],  # absent, however strong
            [[-1.0, -2.0, -3.0, -4.0]],  # present without any evidence
        ]
    )[None]
    masks = pseudo_masks(logits, torch.tensor([[1, 1, 0, 1]]))
    # Class 0: 1, .4, .1; class 1: .5, 1, 0. Pixel 2 stays below the threshold of .2 everywhere.
    assert masks[0, :, 0].int().tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert masks.dtype == torch.bool


def test_the_threshold_counts():
    logits = torch.tensor([10.0, 2.5, 1.5])[None, None, None]
    labels = torch.ones(1, 1)
    assert pseudo_masks(logits, labels)[0, 0, 0].tolist() == [True, True, False]
    assert pseudo_masks(logits, labels, threshold=0.5)[0, 0, 0].tolist() == [True, False, False]
    assert pseudo_masks(logits, labels, threshold=0.0)[0, 0, 0].tolist() == [True, True, True]


def test_pseudo_masks_do_not_depend_on_scale_and_give_one_class_at_most():
    logits, _ = make()
    maps, labels = logits[:, :, 0], torch.ones(B, C)
    masks = pseudo_masks(maps, labels)
    assert torch.equal(pseudo_masks(maps * 14, labels), masks)
    assert masks.sum(1).max() == 1
    assert masks.any()
    assert not pseudo_masks(maps, torch.zeros(B, C)).any()
    assert not pseudo_masks(torch.zeros(B, C, H, W), labels).any()
    with pytest.raises(ShapeError, match=r"\(B, C\)"):
        pseudo_masks(maps, torch.ones(B, C + 1))
