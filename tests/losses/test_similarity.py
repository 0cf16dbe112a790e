"""L_sim: margins and losses against InfoNCE written out in loops, and who counts as a negative."""

from __future__ import annotations

import math

import pytest
import torch

from lpd.errors import ShapeError
from lpd.losses.similarity import similarity_loss, similarity_margins

N, M, K, D = 5, 6, 2, 4
PAIRS = torch.tensor([0, 1, 3, 5, 5])


def make(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(N, D, generator=generator, dtype=torch.float64),
        torch.randn(M, D, generator=generator, dtype=torch.float64),
    )


def info_nce_by_loop(u: torch.Tensor, prototypes: torch.Tensor, m: int, tau: float, exclude: bool) -> float:
    def cosine(a: list[float], b: list[float]) -> float:
        product = sum(x * y for x, y in zip(a, b, strict=True))
        return product / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(y * y for y in b))

    powers = [math.exp(cosine(u.tolist(), p.tolist()) / tau) for p in prototypes]
    negatives = [v for j, v in enumerate(powers) if (j // K != m // K if exclude else j != m)]
    return -math.log(powers[m] / (powers[m] + sum(negatives)))


@pytest.mark.parametrize("exclude", [True, False])
@pytest.mark.parametrize("tau", [0.07, 1.0])
def test_foreground_loss_is_info_nce(exclude, tau):
    embeddings, prototypes = make()
    margins = similarity_margins(
        embeddings, prototypes, PAIRS, prototypes_per_class=K, temperature=tau, exclude_same_class=exclude
    )
    expected = [
        info_nce_by_loop(u, prototypes, m, tau, exclude) for u, m in zip(embeddings, PAIRS.tolist(), strict=True)
    ]
    foreground, _ = similarity_loss(margins, margins)
    assert foreground.item() == pytest.approx(sum(expected) / N, rel=1e-10)


def test_background_loss_is_the_negatives_share():
    """softplus(+d) = −log(negatives / (own + negatives)): the prototype must lose on what it left out."""
    margin = torch.tensor([math.log(3.0)], dtype=torch.float64)  # own : negatives = 3 : 1
    foreground, background = similarity_loss(margin, margin)
    assert foreground.item() == pytest.approx(-math.log(3 / 4), rel=1e-12)
    assert background.item() == pytest.approx(-math.log(1 / 4), rel=1e-12)


def test_gradients():
    embeddings, prototypes = make()

    def loss(u: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        margins = similarity_margins(u, p, PAIRS, prototypes_per_class=K, temperature=0.5)
        return torch.stack(similarity_loss(margins, margins.flip(0)))

    assert torch.autograd.gradcheck(loss, (embeddings.requires_grad_(), prototypes.requires_grad_()))


def test_siblings_are_no_negatives_by_default():
    embeddings, prototypes = make()
    moved = prototypes.clone()
    moved[1] = embeddings[0]  # the sibling of pair 0's prototype now fits perfectly
    by_default, moved_default, official, moved_official = (
        similarity_margins(embeddings, p, PAIRS, prototypes_per_class=K, exclude_same_class=e)[0].item()
        for e in (True, False)
        for p in (prototypes, moved)
    )
    assert moved_default == by_default
    assert moved_official < official


def test_lengths_do_not_matter_but_directions_do():
    embeddings, prototypes = make()
    margins = similarity_margins(embeddings, prototypes, PAIRS, prototypes_per_class=K)
    scaled = similarity_margins(embeddings * 100, prototypes * 0.1, PAIRS, prototypes_per_class=K)
    torch.testing.assert_close(scaled, margins)


def test_no_pairs_give_zero_and_extremes_stay_finite():
    embeddings, prototypes = make()
    none = similarity_margins(embeddings[:0], prototypes, PAIRS[:0], prototypes_per_class=K)
    assert [loss.item() for loss in similarity_loss(none, none)] == [0, 0]
    zero = similarity_margins(torch.zeros(N, D), prototypes.float(), PAIRS, prototypes_per_class=K, temperature=1e-3)
    assert all(torch.isfinite(loss) for loss in similarity_loss(zero, zero))


def test_float32_under_autocast():
    embeddings, prototypes = (t.float() for t in make())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = similarity_margins(embeddings, prototypes, PAIRS, prototypes_per_class=K)
    assert torch.equal(found, similarity_margins(embeddings, prototypes, PAIRS, prototypes_per_class=K))


def test_one_class_has_no_negatives():
    embeddings, prototypes = make()
    with pytest.raises(ShapeError, match="no negatives"):
        similarity_margins(embeddings, prototypes, PAIRS, prototypes_per_class=M)


@pytest.mark.parametrize("shapes", [((N, D + 1), (M, D), N), ((N, D), (M, D), N - 1), ((N,), (M, D), N)])
def test_wrong_shapes_are_refused(shapes):
    embeddings, prototypes, pairs = shapes
    with pytest.raises(ShapeError, match=r"\(N, D\)"):
        similarity_margins(
            torch.zeros(embeddings),
            torch.zeros(prototypes),
            torch.zeros(pairs, dtype=torch.long),
            prototypes_per_class=K,
        )
