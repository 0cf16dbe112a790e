"""The gate opens for what is there, stays shut for what is not, and pixel logits stay as trained."""

import numpy as np
import pytest
import torch

from lpd.config import Calibration, InputSpec, ModelConfig
from lpd.data.tiles import TileSet
from lpd.model.network import LPDNet
from lpd.training.calibrating import MISSED, OPEN_LOGIT, calibrate, opened_bias

PLAIN = Calibration((1.0,), (1.0, 1.0), (0.0, 0.0), (2.0, 1.0), (0.5, 0.0))


def test_all_but_few_tiles_that_show_a_class_pass_its_gate():
    rng = np.random.default_rng(0)
    labels = rng.random((400, 2)) < 0.4
    gates = (rng.normal(size=(400, 2)) + 2 * labels).astype(np.float32)
    biases = opened_bias(gates, labels, PLAIN)
    for c in range(2):
        calibrated = gates[:, c] * PLAIN.gate_gain[c] + biases[c]
        passing = (calibrated[labels[:, c]] >= OPEN_LOGIT - 1e-6).mean()
        assert abs(passing - (1 - MISSED)) < 0.01
        assert (calibrated[~labels[:, c]] < OPEN_LOGIT).mean() > 0.3


@pytest.mark.parametrize("shown", [1, 2, 5, 11, 15, 30])
def test_a_rare_class_passes_as_often(shown):
    rng = np.random.default_rng(shown)
    gates, labels = rng.normal(size=(60, 2)).astype(np.float32), np.zeros((60, 2), dtype=bool)
    labels[:shown, 1] = True
    bias = opened_bias(gates, labels, PLAIN)[1]
    assert (gates[:shown, 1] * PLAIN.gate_gain[1] + bias < OPEN_LOGIT - 1e-6).sum() <= MISSED * shown


def test_a_gate_that_is_open_enough_is_left_alone():
    labels = np.array([[True, False]] * 3)
    assert opened_bias(np.full((3, 2), 50, np.float32), labels, PLAIN) == PLAIN.gate_bias


def test_calibration_is_finite_and_leaves_pixels_as_trained(few_tiles):
    torch.manual_seed(0)
    network = LPDNet(ModelConfig("test_convnext", class_count=3, prototype_dim=16)).eval()
    spec = InputSpec(mpp=1.0, tile_px=128)
    calibration = calibrate(network, TileSet.open(few_tiles, "train"), spec, (0.5, 0.5, 0.0))
    assert calibration.fusion_weights == (0.5, 0.5, 0.0)
    assert calibration.pixel_gain == (1.0,) * 3
    assert calibration.pixel_bias == (0.0,) * 3
    assert np.isfinite([*calibration.gate_gain, *calibration.gate_bias]).all()
    assert min(calibration.gate_gain) > 0
