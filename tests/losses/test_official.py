"""The official diversity loss, against loops written from what the authors' code does."""

from __future__ import annotations

import pytest
import torch

from lpd.losses.diversity import diversity_loss, pseudo_masks
from lpd.losses.official import official_diversity_loss, official_masks


def by_loops(cosines: torch.Tensor, class_logits: torch.Tensor) -> float:
    batch, classes, per_class = cosines.shape[:3]
    total = 0.0
    for b in range(batch):
        similarities = []
        for c in range(classes):
            pixels = []
            for y in range(cosines.shape[3]):
                for x in range(cosines.shape[4]):
                    scores = [0.2, *class_logits[b, :, y, x].tolist()]  # background comes first
                    if scores.index(max(scores)) == c:
                        pixels.append((y, x))
            if not pixels:
                continue
            twice = []
            for k in range(per_class):
                once = torch.tensor([float(cosines[b, c, k, y, x]) for y, x in pixels]).double().softmax(0)
                twice.append(once.softmax(0))
            pairs = [torch.exp(-(((u - v) * (u / v).log()).sum())) for i, u in enumerate(twice) for v in twice[i + 1 :]]
            similarities.append(float(torch.stack(pairs).mean()))
        total += sum(similarities) / len(similarities)
    return total / batch


def test_it_agrees_with_the_loops():
    torch.manual_seed(1)
    cosines, logits = torch.rand(2, 3, 4, 5, 6) * 2 - 1, torch.randn(2, 3, 5, 6) * 3
    assert official_diversity_loss(cosines, logits).item() == pytest.approx(by_loops(cosines, logits), abs=1e-5)


def test_the_first_class_gets_the_background_and_the_last_one_nothing():
    logits = torch.full((1, 3, 1, 4), -1.0)
    for pixel, winner in enumerate((0, 1, 2)):
        logits[0, winner, 0, pixel] = 5.0  # and nobody wins at the fourth pixel
    masks = official_masks(logits)[0, :, 0].tolist()
    assert masks == [[False] * 3 + [True], [True] + [False] * 3, [False, True, False, False]]


def test_disjoint_prototypes_look_alike_to_it():
    cosines = torch.full((1, 2, 2, 8, 8), -1.0)
    cosines[:, :, 0, :, :4] = cosines[:, :, 1, :, 4:] = 1.0
    logits = torch.full((1, 2, 8, 8), -5.0)
    logits[:, 0] = 5.0  # read as the second class by the official loss, as the first by ours
    assert official_diversity_loss(cosines, logits).item() > 0.99
    assert diversity_loss(cosines, pseudo_masks(logits, torch.ones(1, 2))).item() < 0.01
