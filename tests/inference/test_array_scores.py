"""What is computed without torch is what torch computes."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from lpd.config import Calibration
from lpd.inference import array_scores, blend, decision
from lpd.model import cam, scoring


def random(*shape: int, spread: float = 4.0) -> np.ndarray:
    return (np.random.default_rng(len(shape)).normal(size=shape) * spread).astype(np.float32)


@pytest.mark.parametrize("merge", ["mean", "union"])
def test_prototypes_are_pooled_alike(merge):
    logits = random(5, 7, 6)
    expected = cam.pool_prototype_cams(torch.from_numpy(logits)[None], 5, merge)[0, 0]
    np.testing.assert_allclose(array_scores.pooled(logits, merge), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_maps_are_enlarged_alike(factor):
    planes = random(3, 5, 9)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(planes)[None], scale_factor=factor, mode="bilinear", align_corners=False
    )[0]
    np.testing.assert_allclose(array_scores.enlarged(planes, factor), expected, rtol=1e-5, atol=1e-5)


def test_means_around_are_alike():
    values, known = random(2, 15, 14), np.random.default_rng(1).random((15, 14)) > 0.3
    expected = blend.mean_around(torch.from_numpy(values), torch.from_numpy(known), 4)
    np.testing.assert_array_equal(array_scores.mean_around(values, known, 4), expected)


@pytest.mark.parametrize("classes", [1, 2, 4, 6, 9])
def test_scores_are_alike(classes):
    pixel, gate = random(classes, 8, 9), random(classes, 8, 9, spread=30)
    ones = tuple(float(n) for n in np.linspace(0.5, 1.5, classes))
    calibration = Calibration((1.0,), ones, ones[::-1], ones, ones)
    expected = scoring.log_scores(torch.from_numpy(pixel)[None], torch.from_numpy(gate)[None], calibration)[0]
    np.testing.assert_allclose(array_scores.log_scores(pixel, gate, calibration), expected, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("classes", [1, 2, 4, 6, 9])
def test_the_likeliest_class_has_the_highest_score(classes):
    pixel, gate = random(classes, 90, 200), random(classes, 90, 200, spread=12)[::-1]
    ones = tuple(float(n) for n in np.linspace(0.5, 1.5, classes))
    calibration = Calibration((1.0,), ones, ones[::-1], ones, ones)
    scores = scoring.log_scores(torch.from_numpy(pixel)[None], torch.from_numpy(gate.copy())[None], calibration)[0]
    found = array_scores.likeliest(pixel.reshape(classes, -1), gate.reshape(classes, -1), calibration)
    lost = scores.max(0).values.ravel() - scores.reshape(classes, -1).gather(0, torch.from_numpy(found)[None].long())[0]
    assert found.dtype == np.uint8
    assert lost.max() < 1e-3  # equals within rounding


def test_a_class_that_is_as_good_as_never_there_is_not_the_likeliest():
    pixel, gate = np.array([[-1e4], [0]], np.float32), np.array([[-1e4], [-50]], np.float32)
    ones = (1.0, 1.0)
    assert array_scores.likeliest(pixel, gate, Calibration((1.0,), ones, ones, ones, ones)) == [1]


def test_hopeless_classes_have_finite_scores():
    pixel, presence = np.zeros((2, 1, 1), np.float32), np.full((2, 1, 1), -1e4, np.float32)
    pixel[1] = -1e4
    assert np.isfinite(array_scores.log_class_probabilities(pixel, presence)).all()


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_pixels_are_decided_alike(share):
    scores, known = -np.abs(random(4, 12, 10)), np.random.default_rng(2).random((12, 10)) >= share
    scores *= known
    expected = decision.decide(torch.from_numpy(scores), torch.from_numpy(known))
    np.testing.assert_array_equal(array_scores.decided(scores, known), expected)


def test_torch_is_not_loaded():
    code = "import sys, lpd.inference.recomputing; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
