"""Calibration of a trained network on the image-level labels of its training tiles: no mask is looked at."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from lpd.config import Calibration, InputSpec
from lpd.data.tiles import TileSet
from lpd.evaluation.tiles import tile_logits
from lpd.model.calibration import fit_platt
from lpd.model.network import LPDNet
from lpd.model.scoring import default_calibration

#: The gate must let a class through in all but this share of the training tiles that show it,
MISSED = 0.05
#: with at least this logit (a probability of 0.95), so that it does not weaken pixels that are sure of themselves.
OPEN_LOGIT = 3.0


def calibrate(network: LPDNet, tiles: TileSet, spec: InputSpec, fusion_weights: tuple[float, ...]) -> Calibration:
    """Fit the gate, once, on unvaried tiles, and leave pixel logits as L_cls trained them.

    A gate that is right about whole tiles is too strict about pixels: a class that fills a twentieth of a tile has a
    low mean, and a strict gate would take that twentieth away. So the fitted gate is opened until the training tiles
    that show a class pass it (``MISSED``, ``OPEN_LOGIT``); it then removes only what is clearly absent. Fitting pixel
    logits to the same labels would shift each class by how much of a tile it fills, and with it every border; they keep
    gain 1 and bias 0, the log-odds that L_cls claims.

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
    fitted = dataclasses.replace(plain, gate_gain=gain, gate_bias=bias)
    return dataclasses.replace(fitted, gate_bias=opened_bias(gates, tiles.labels, fitted))


def opened_bias(
    gates: npt.NDArray[np.float32], labels: npt.NDArray[np.bool_], fitted: Calibration
) -> tuple[float, ...]:
    """Gate biases raised, where needed, until all but ``MISSED`` of the tiles that show a class reach ``OPEN_LOGIT``.

    Args:
        gates: (N, C) raw gate logits.
        labels: (N, C) which classes the tiles show.
        fitted: its gate gains and biases are the starting point; they are never lowered.
    """
    biases = []
    for c, (gain, bias) in enumerate(zip(fitted.gate_gain, fitted.gate_bias, strict=True)):
        shown = gates[labels[:, c], c] * gain + bias
        # Not interpolated: of a few tiles the lowest would always stay below.
        missing = OPEN_LOGIT - float(np.quantile(shown, MISSED, method="lower")) if shown.size else 0.0
        biases.append(bias + max(0.0, missing))
    return tuple(biases)
