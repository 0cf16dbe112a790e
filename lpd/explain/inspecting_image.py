"""What a network makes of one picture: an Inspection with the CAMs of all its scales."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lpd.classes import ClassScheme
from lpd.errors import CheckpointError, ConfigError
from lpd.explain.inspection import Floats, InspectedPlace, Inspection, Pixels, ScaleCam, joined, left_out
from lpd.inference.prototype_maps import planned_maps
from lpd.model.cam import pool_prototype_cams
from lpd.model.encoders import TIMM_REFUSALS, reason
from lpd.model.grouping import Groups, groups_of, regrouped
from lpd.model.header import CheckpointInfo
from lpd.model.inputs import to_network_input
from lpd.model.network import LPDNet, LPDOutput
from lpd.model.scoring import dense_logits, fused_prototype_logits, log_scores
from lpd.slide.fine_tissue import FineTissue
from lpd.slide.opening import open_pixels
from lpd.slide.region import Region
from lpd.slide.tissue import tissue_mask

#: Longest side of a picture, in the network's pixels: larger ones are for ``lpd segment``.
MOST_PX = 2048
_LEAST_PX, _STEP_PX = 32, 32
#: Logit of a class without prototypes: as good as never there.
_NEVER = -1e4


@torch.inference_mode()
def inspect_image(
    network: LPDNet,
    info: CheckpointInfo,
    picture: Pixels,
    *,
    mpp: float | None = None,
    name: str = "image",
    truth: Pixels | None = None,
    truth_scheme: ClassScheme | None = None,
    names: Sequence[str] = (),
    muted: Collection[int] = (),
    merged: Sequence[Collection[int]] = (),
) -> Inspection:
    """What a network says of one picture by itself, not adapted to its stain.

    A tile's mask is that of ``lpd evaluate`` under the predicted gate with the tissue rule's background.

    Args:
        network: in evaluation mode.
        info: of its checkpoint.
        picture: (H, W, 3) uint8 RGB; it is brought to the network's resolution first.
        mpp: µm per pixel of the picture; as the network's tiles if None.
        name: of the picture.
        truth: (h, w) mask values of the true classes, of any size.
        truth_scheme: whose values they are, if not the network's.
        names: of the prototypes, class-major.
        muted: numbers of prototypes to do without.
        merged: sets of prototypes of one class that shall count as one.

    Raises:
        ConfigError: the picture is too small, too large or of a size that the encoder refuses; names, muted or merged
            ones do not go with the prototypes.
        CheckpointError: the network answers with what is no number.
        ShapeError: the picture is not (H, W, 3) uint8.
    """
    groups = _groups(info, muted, merged)
    seen = _at_resolution(picture, info.input.mpp if mpp is None else mpp, info, name)
    height, width = seen.shape[:2]
    output = _run(network, info, seen, name)
    plan = planned_maps(network, info, adapt=False)
    stride, linear = plan.finest.stride_px, info.model.head == "linear"
    cells = _padded(height) // stride, _padded(width) // stride
    shown = -(-height // stride), -(-width // stride)
    unit = 1.0 if linear else plan.limit
    maps = _array(fused_prototype_logits(output, info.calibration, cells), shown) / unit
    left = _regrouped(output, groups, info) if groups != groups_of(info.model) else output
    silent = [c for c, own in enumerate(groups) if not own]
    fused = _array(dense_logits(left, info.calibration, cells)[0], shown) / unit
    fused[silent] = np.nan
    gates, scores, mask = _decided(left, info, seen)
    gates[silent] = 0
    return Inspection(
        checkpoint=info.name,
        place=InspectedPlace(name, mpp or info.input.mpp, Region(0, 0, picture.shape[1], picture.shape[0]), whole=True),
        picture=picture,
        scheme=info.classes,
        maps=maps.reshape(info.classes.count, -1, *shown),
        class_maps=fused,
        stride_px=stride,
        unit="logit" if linear else "cosine",
        gates=gates,
        scores=scores,
        mask=mask,
        truth=truth,
        truth_scheme=truth_scheme,
        cams=tuple(_cams(network, left, seen, silent)),
        names=tuple(names),
        muted=left_out(groups, info.model.prototype_count),
        merged=joined(groups),
        notes=("Through the network, this picture by itself; not adapted to its stain.",),
    )


def _at_resolution(picture: Pixels, mpp: float, info: CheckpointInfo, name: str) -> Pixels:
    """The picture as the network is to see it."""
    with open_pixels(picture, mpp) as slide:
        shrink = mpp / info.input.mpp
        size = max(1, round(slide.width_l0 * shrink)), max(1, round(slide.height_l0 * shrink))
        shape = f"{name} is {size[0]} × {size[1]} px at {info.input.mpp:g} µm/px"
        if min(size) < _LEAST_PX:
            raise ConfigError(f"{shape}, and {info.name} needs {_LEAST_PX} each way: choose a larger picture")
        if max(size) > MOST_PX:
            raise ConfigError(f"{shape}, more than {MOST_PX}: use lpd segment --prototype-maps, then --result")
        return picture if size == (slide.width_l0, slide.height_l0) else slide.read(slide.region, size)


def _padded(length: int) -> int:
    return -(-length // _STEP_PX) * _STEP_PX


def _run(network: LPDNet, info: CheckpointInfo, seen: Pixels, name: str) -> LPDOutput:
    height, width = seen.shape[:2]
    tile = info.input.tile_px
    cure = f"{info.name} sees tiles of {tile} × {tile} px only, and {name} has {width} × {height}: cut such a tile"
    if network.encoder.knows_positions and (height, width) != (tile, tile):
        raise ConfigError(cure)
    around = (0, _padded(height) - height), (0, _padded(width) - width), (0, 0)
    images = to_network_input(np.pad(seen, around, mode="symmetric")[None], info.input).to(network.device)
    try:
        output: LPDOutput = network(images)
    except TIMM_REFUSALS as error:
        raise ConfigError(f"{cure} ({reason(error)})") from error
    if not all(bool(torch.isfinite(cam).all()) for cam in output.class_logits.values()):
        raise CheckpointError(f"{info.name} answers {name} with values that are no numbers: train it again")
    return output


def _array(maps: Tensor, shape: tuple[int, int]) -> Floats:
    """(channels, h, w) of (1, channels, H, W), without what was added below and on the right."""
    return np.array(maps[0, :, : shape[0], : shape[1]].float().cpu().numpy())


def _groups(info: CheckpointInfo, muted: Collection[int], merged: Sequence[Collection[int]]) -> Groups:
    count = info.model.prototype_count
    for index in (*muted, *(m for members in merged for m in members)):
        if not 0 <= index < count:
            raise ConfigError(f"prototype {index} does not exist: {info.name} has {count} prototypes")
    groups = regrouped(groups_of(info.model), muted, merged)
    if not any(groups):
        raise ConfigError(f"all {count} prototypes of {info.name} are muted: leave one")
    return groups


def _regrouped(output: LPDOutput, groups: Groups, info: CheckpointInfo) -> LPDOutput:
    """The output with classes merged of the groups that are left."""
    model, merged = info.model, {}
    for scale, logits in output.prototype_logits.items():
        classes = [
            pool_prototype_cams(logits, model.prototypes_per_class, model.merge, (own,))
            if own
            else torch.full_like(logits[:, :1], _NEVER)
            for own in groups
        ]
        merged[scale] = torch.cat(classes, dim=1)
    return replace(output, class_logits=merged)


def _decided(
    output: LPDOutput, info: CheckpointInfo, seen: Pixels
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], Pixels]:
    """(C,) gates, (C,) mean scores of tissue, and the mask."""
    height, width = seen.shape[:2]
    size = _padded(height), _padded(width)
    pixel, gate = dense_logits(output, info.calibration, size)
    if size != (height, width):
        deepest = output.class_logits[output.deepest]
        rows, columns = (round(n * c / s) for n, c, s in zip((height, width), deepest.shape[2:], size, strict=True))
        gate = deepest[:, :, :rows, :columns].mean((2, 3))
    logs = log_scores(pixel, gate, info.calibration)[0, :, :height, :width]
    gain, bias = gate.new_tensor([info.calibration.gate_gain, info.calibration.gate_bias])
    gates = torch.sigmoid(gain * gate[0] + bias).double().cpu().numpy()
    classes = logs.max(0).indices.to(torch.uint8).cpu().numpy()
    tissue = _tissue(seen, info.input.mpp)
    mask = np.where(tissue, classes, info.classes.background).astype(np.uint8)
    if not tissue.any():
        return gates, np.full(len(gates), np.nan), mask
    scores = logs.exp().double().cpu().numpy()[:, tissue].mean(axis=1)
    return gates, scores, mask


def _tissue(seen: Pixels, mpp: float) -> npt.NDArray[np.bool_]:
    """Where the tissue rule finds some, if the picture is all there is of a slide."""
    with open_pixels(seen, mpp) as slide:
        return FineTissue(slide, tissue_mask(slide)).read(slide.region, (slide.width_l0, slide.height_l0))


def _cams(network: LPDNet, output: LPDOutput, seen: Pixels, silent: list[int]) -> list[ScaleCam]:
    height, width = seen.shape[:2]
    found = []
    for scale, logits in sorted(output.class_logits.items()):
        stride = _padded(height) / logits.shape[2]
        unit = 1.0 if network.config.head == "linear" else max(float(abs(network.gains[str(scale)])), 1e-6)
        shape = int(np.ceil(height / stride)), int(np.ceil(width / stride))
        values = _array(logits, shape) / np.float32(unit)
        values[silent] = np.nan
        found.append(ScaleCam(scale, stride, values))
    return found
