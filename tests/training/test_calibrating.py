"""The gate is fitted to image labels, and pixel logits stay as trained."""

import numpy as np
import torch

from lpd.config import InputSpec, ModelConfig
from lpd.data.tiles import TileSet
from lpd.evaluation.tiles import tile_logits
from lpd.model.calibration import fit_platt
from lpd.model.network import LPDNet
from lpd.model.scoring import default_calibration
from lpd.training.calibrating import calibrate


def test_the_gate_is_fitted_and_pixels_stay_as_trained(few_tiles):
    torch.manual_seed(0)
    network = LPDNet(ModelConfig("test_convnext", class_count=3, prototype_dim=16)).eval()
    spec = InputSpec(mpp=1.0, tile_px=128)
    calibration = calibrate(network, TileSet.open(few_tiles, "train"), spec, (0.5, 0.5, 0.0))
    assert calibration.fusion_weights == (0.5, 0.5, 0.0)
    assert calibration.pixel_gain == (1.0,) * 3
    assert calibration.pixel_bias == (0.0,) * 3
    tiles = TileSet.open(few_tiles, "train")
    plain = default_calibration(network.config)
    gates = np.concatenate([logits.gate for logits in tile_logits(network, tiles, spec, plain)])
    assert (calibration.gate_gain, calibration.gate_bias) == fit_platt(gates, tiles.labels)
