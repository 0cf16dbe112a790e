"""Adapted prototypes: a loop written from the definition, and what they can and cannot do to a map."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lpd.errors import ConfigError, ShapeError
from lpd.model.adaptation import AdaptationSettings, adapted_logits
from lpd.model.network import LPDOutput


def output_of(*features: torch.Tensor) -> LPDOutput:
    """An output with these feature maps, fine to deep."""
    maps = dict(enumerate(features))
    return LPDOutput({}, {}, {scale: value[:, :2] for scale, value in maps.items()}, maps)


def by_loop(decision: np.ndarray, features: list[np.ndarray], settings: AdaptationSettings) -> np.ndarray:
    """(C, h, w) of one picture whose maps all have the size of its logits."""
    classes, height, width = decision.shape
    places = [(y, x) for y in range(height) for x in range(width)]
    logits = decision.copy()
    for _ in range(settings.iterations):
        shares = np.exp(logits) / np.exp(logits).sum(0)
        corrected = decision.copy()
        for c in range(classes):
            for y, x in places:
                cosine = -1.0
                if shares[c].max() > settings.presence:
                    cosine = 0.0
                    for maps in features:
                        unit = maps / np.linalg.norm(maps, axis=0)
                        prototype = sum(shares[c, j, i] ** settings.sharpness * unit[:, j, i] for j, i in places)
                        cosine += unit[:, y, x] @ prototype / np.linalg.norm(prototype) / len(features)
                corrected[c, y, x] += settings.gain * cosine
        logits = corrected
    return logits


@pytest.mark.parametrize("iterations", [1, 3])
def test_equals_a_loop(iterations):
    rng = np.random.default_rng(0)
    decision = rng.normal(size=(2, 3, 4, 5)) * 2
    decision[1, 2] -= 20  # nowhere in the second picture
    fine, middle, deep = (rng.normal(size=(2, dim, 4, 5)) for dim in (6, 4, 3))
    settings = AdaptationSettings(gain=3, iterations=iterations)
    found = adapted_logits(torch.tensor(decision), output_of(*map(torch.tensor, (fine, middle, deep))), settings)
    for b in range(2):
        np.testing.assert_allclose(found[b].numpy(), by_loop(decision[b], [fine[b], middle[b]], settings), rtol=1e-6)


def test_what_looks_like_the_rest_of_a_class_joins_it():
    """Left and right have features of their own; one corner of the left is labelled wrongly, and not for sure."""
    features = torch.zeros(1, 2, 8, 8)
    features[:, 0, :, :4] = features[:, 1, :, 4:] = 1
    decision = torch.stack([features[:, 0], features[:, 1]], 1) * 4
    decision[:, :, :2, :2] = torch.tensor([0.0, 1.0])[None, :, None, None]
    found = adapted_logits(decision, output_of(features, torch.randn(1, 3, 4, 4)))
    assert (decision.argmax(1)[:, :2, :2] == 1).all()
    assert (found.argmax(1)[:, :, :4] == 0).all()
    assert (found.argmax(1)[:, :, 4:] == 1).all()


def test_an_absent_class_stays_absent():
    torch.manual_seed(0)
    decision = torch.randn(2, 3, 8, 8)
    decision[:, 2] = -30
    found = adapted_logits(decision, output_of(torch.randn(2, 5, 8, 8), torch.randn(2, 5, 4, 4)))
    assert (found.argmax(1) != 2).all()


def test_a_gain_of_0_changes_nothing_and_size_is_kept():
    decision = torch.randn(1, 2, 30, 20)
    output = output_of(torch.randn(1, 5, 8, 5), torch.randn(1, 5, 4, 3))
    torch.testing.assert_close(adapted_logits(decision, output, AdaptationSettings(gain=0)), decision)


def test_pictures_of_a_batch_do_not_see_one_another():
    torch.manual_seed(1)
    decision, fine, deep = torch.randn(3, 2, 8, 8) * 3, torch.randn(3, 5, 8, 8), torch.randn(3, 5, 4, 4)
    together = adapted_logits(decision, output_of(fine, deep))
    alone = [adapted_logits(decision[b : b + 1], output_of(fine[b : b + 1], deep[b : b + 1])) for b in range(3)]
    torch.testing.assert_close(together, torch.cat(alone))


def test_a_single_scale_is_used_and_half_precision_is_raised():
    features = torch.randn(1, 5, 8, 8).bfloat16()
    found = adapted_logits(torch.randn(1, 2, 8, 8).bfloat16(), output_of(features))
    assert found.dtype == torch.float32
    assert math.isfinite(found.sum())


def test_logits_of_other_pictures_are_refused():
    with pytest.raises(ShapeError, match=r"\(2, 2, 8, 8\) are not \(B, C, H, W\) of the 3 pictures"):
        adapted_logits(torch.zeros(2, 2, 8, 8), output_of(torch.zeros(3, 5, 8, 8)))


@pytest.mark.parametrize(("name", "value"), [("gain", -1), ("iterations", 0), ("presence", 2), ("sharpness", -1)])
def test_settings_out_of_bounds_are_named(name, value):
    with pytest.raises(ConfigError, match=name):
        AdaptationSettings(**{name: value})
