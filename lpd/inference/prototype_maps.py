"""What a network shows of its prototypes: which maps are worth keeping, and the maps of windows, safe to blend."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from lpd.config import Calibration
from lpd.errors import ConfigError
from lpd.inference.meta import CELL_PX
from lpd.inference.prototype_layers import LINEAR_LIMIT, MapLayer, PrototypeMaps
from lpd.inference.windows import LATTICE_PX
from lpd.model.adaptation import AdaptationSettings, PicturePrototypes
from lpd.model.grouping import groups_of
from lpd.model.header import CheckpointInfo
from lpd.model.network import LPDNet, LPDOutput
from lpd.model.scoring import fused_prototype_logits, resized

#: Memory goes with the number of maps: 1024 take about 25 times as much as 40.
MOST_PROTOTYPES = 1024
_SMALLEST_LIMIT = 1e-6


def check_prototypes(info: CheckpointInfo) -> None:
    """Refuse a checkpoint whose prototypes are too many for keeping their maps.

    Raises:
        ConfigError: see above.
    """
    if info.model.prototype_count > MOST_PROTOTYPES:
        raise ConfigError(
            f"{info.name} has {info.model.prototype_count} prototypes, and maps are kept of at most "
            f"{MOST_PROTOTYPES}: segment without --prototype-maps"
        )


def planned_maps(network: LPDNet, info: CheckpointInfo, *, adapt: bool) -> PrototypeMaps:
    """The maps that a segmentation keeps of a checkpoint's prototypes."""
    config, calibration = info.model, info.calibration
    strides = {s: _stride(network.encoder.strides[s - 4]) for s in config.scales}
    limits = {s: _limit(network, s) for s in config.scales}
    weights = dict(zip(config.scales, calibration.fusion_weights, strict=True))
    used = [s for s in config.scales if weights[s]]
    count = config.prototype_count
    if config.merge == "union" and config.prototypes_per_class > 1 and len(used) > 1:  # unions do not add up
        layers = [MapLayer(f"scale{s}", "pixel", count, strides[s], limits[s], s, weights[s]) for s in used]
    else:
        limit = LINEAR_LIMIT if config.head == "linear" else sum(weights[s] * limits[s] for s in used)
        layers = [MapLayer("fused", "pixel", count, min(strides[s] for s in used), limit)]
    deepest = max(config.scales)
    layers.append(MapLayer("gate", "gate", count, strides[deepest], limits[deepest], deepest))
    if adapt:
        stride = min(strides[s] for s in sorted(config.scales)[:-1] or [deepest])
        # The difference of a cosine and the mean of some cosines.
        layers.append(MapLayer("correction", "correction", config.class_count, stride, 2 * AdaptationSettings().gain))
    reach = info.input.tile_px // (2 * CELL_PX)
    kept = tuple(layers), config.groups, mean_cosines(network)
    return PrototypeMaps(config.prototypes_per_class, config.merge, calibration, reach, *kept)


@torch.no_grad()
def mean_cosines(network: LPDNet) -> tuple[float | None, ...]:
    """How alike a class's prototypes are as the network compares them with pixels of the deepest scale.

    Merged prototypes count as one that points where the mean of their directions does; muted ones do not count.

    Returns:
        For each class the mean over its pairs, −1 to 1; None where there are none.
    """
    directions = functional.normalize(network.adapted_prototypes()[max(network.config.scales)].double(), dim=1)
    found: list[float | None] = []
    for groups in groups_of(network.config):
        if len(groups) < 2:
            found.append(None)
            continue
        own = functional.normalize(torch.stack([directions[list(group)].mean(0) for group in groups]), dim=1)
        table = own @ own.T
        found.append(float((table.sum() - table.diagonal().sum()) / (len(own) * (len(own) - 1))))
    return tuple(found)


def layer_logits(
    layer: MapLayer,
    output: LPDOutput,
    calibration: Calibration,
    side_px: int,
    picture: PicturePrototypes | None,
) -> Tensor:
    """A layer's values in windows; linear in cosines, so windows' may be blended.

    Args:
        layer: of :func:`planned_maps`.
        output: of the network, for B windows of ``side_px``.
        calibration: of the checkpoint.
        picture: the slide's own prototypes, which a correction is made by.

    Returns:
        (B, channels, side_px / stride, side_px / stride) raw logits.

    Raises:
        ValueError: a correction is asked for where there are no prototypes of the slide's own.
    """
    size = (side_px // layer.stride_px,) * 2
    if layer.kind == "correction":
        if picture is None:
            raise ValueError("the network is not adapted to the slide, so there is no correction")
        return picture.correction(output, size)
    if layer.scale is None:
        return fused_prototype_logits(output, calibration, size)
    return resized(output.prototype_logits[layer.scale], size)


def _stride(nominal: int) -> int:
    """A stride that windows, which begin at multiples of 32 px, hold whole numbers of: not above the network's own."""
    stride = CELL_PX
    while 2 * stride <= min(nominal, LATTICE_PX):
        stride *= 2
    return stride


def _limit(network: LPDNet, scale: int) -> float:
    if network.config.head == "linear":
        return LINEAR_LIMIT
    return max(float(abs(network.gains[str(scale)].item())), _SMALLEST_LIMIT)
