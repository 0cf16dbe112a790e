"""Calibration of a trained network on the image-level labels of its training tiles: no mask is looked at."""

from __future__ import annotations

import dataclasses

import numpy as np

from lpd.config import Calibration, InputSpec
from lpd.data.tiles import TileSet
from lpd.evaluation.tiles import tile_logits
from lpd.model.calibration import fit_platt
from lpd.model.network import LPDNet
from lpd.model.scoring import default_calibration


def calibrate(network: LPDNet, tiles: TileSet, spec: InputSpec, fusion_weights: tuple[float, ...]) -> Calibration:
    """Fit the gate, the probability that a class is in a tile, once, on unvaried tiles.

    Pixel logits keep gain 1 and bias 0, what L_cls trained: fitted to the same labels, each class would shift by how
    much of a tile it fills, and with it every border.

    Args:
        network: in evaluation mode.
        tiles: training tiles; their ``labels`` come from file names.
        spec: what the network expects to be fed.
        fusion_weights: weight of each scale in the pixel logit; they sum to 1.

    Raises:
        ConfigError: the fusion weights do not sum to 1.
        ShapeError: there is not one fusion weight for each of the network's scales.
    """
    plain = dataclasses.replace(default_calibration(network.config), fusion_weights=fusion_weights)
    gates = np.concatenate([logits.gate.cpu().numpy() for logits in tile_logits(network, tiles, spec, plain)])
    gain, bias = fit_platt(gates, tiles.labels)
    return dataclasses.replace(plain, gate_gain=gain, gate_bias=bias)
