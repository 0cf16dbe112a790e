"""What a stored result knows of one place: an Inspection from its maps, without the network. Needs no torch."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy import special

from lpd.errors import ConfigError, ResultError
from lpd.explain.inspection import InspectedPlace, Inspection, ScaleCam, joined, left_out
from lpd.inference.array_scores import pooled
from lpd.inference.frame import Box
from lpd.inference.meta import CELL_PX
from lpd.inference.prototype_layers import MapLayer, PrototypeMaps
from lpd.inference.prototype_store import PrototypeStore
from lpd.inference.recomputing import maps_and_groups, recomputed_mask, recomputed_scores
from lpd.inference.store import SCORE_MAX, ResultStore
from lpd.model.grouping import Groups
from lpd.slide.region import Region

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]

#: Longest side of a place, mask pixels: what a figure can show, and what a page can wait for.
MOST_PX = 4096


class Readable(Protocol):
    """The part of ``lpd.slide.slide.Slide`` that a picture is taken of; see there."""

    def read(self, region: Region, size: tuple[int, int]) -> Pixels: ...


def tile_box(store: ResultStore, x_l0: float, y_l0: float, side_l0: float | None = None) -> Box:
    """The mask pixels around a point: where somebody has clicked.

    Args:
        store: of a result with maps of prototypes.
        x_l0, y_l0: the point, level-0 pixels.
        side_l0: of the square, level-0 pixels; that of the model's tiles if None. For a second model give the first
            one's ``width_l0``: it may know tiles of another size.

    Returns:
        A box on whole cells of the maps with the point in its middle, moved into the slide at its edges; smaller where
        the slide is.

    Raises:
        ResultError: there are no maps.
        ConfigError: the point lies outside of the slide, or the side is not between one cell and 4096 mask pixels.
    """
    maps, meta = _maps(store).maps, store.meta
    stride, bounds = maps.finest.stride_px, meta.frame.bounds
    wanted = 2 * CELL_PX * maps.gate_reach if side_l0 is None else side_l0 / meta.scale
    if not stride <= wanted <= MOST_PX:
        least, most = (round(px * meta.scale) for px in (stride, MOST_PX))
        raise ConfigError(f"a place {side_l0:g} px wide cannot be shown: choose {least} to {most} full-resolution px")
    if not (0 <= x_l0 < meta.width_l0 and 0 <= y_l0 < meta.height_l0):
        raise ConfigError(
            f"({x_l0:g}, {y_l0:g}) lies outside of {meta.slide_name}, which is {meta.width_l0} × {meta.height_l0} px "
            "at full resolution: choose a point on it"
        )
    side = round(wanted)
    x0, x1 = _around(x_l0 / meta.scale, side, bounds.x1, stride)
    y0, y1 = _around(y_l0 / meta.scale, side, bounds.y1, stride)
    return Box(x0, y0, x1, y1)


def _around(at: float, side: int, length: int, stride: int) -> tuple[int, int]:
    start = min(max(0.0, at - side / 2), max(0, length - side))
    first = round(start / stride) * stride
    return first, min(first + side, length)


def inspect_slide(
    store: ResultStore,
    slide: Readable,
    box: Box,
    *,
    picture_px: int = 448,
    names: Sequence[str] = (),
    muted: Collection[int] = (),
    merged: Sequence[Collection[int]] = (),
    truth: Pixels | None = None,
) -> Inspection:
    """:func:`inspect_store` with the picture read from the slide, its longer side ``picture_px`` long."""
    region = _region(store, box)
    shrink = picture_px / max(box.width, box.height)
    size = max(1, round(box.width * shrink)), max(1, round(box.height * shrink))
    return inspect_store(store, slide.read(region, size), box, names=names, muted=muted, merged=merged, truth=truth)


def inspect_store(
    store: ResultStore,
    picture: Pixels,
    box: Box,
    *,
    names: Sequence[str] = (),
    muted: Collection[int] = (),
    merged: Sequence[Collection[int]] = (),
    truth: Pixels | None = None,
) -> Inspection:
    """What a result says of a place, from its stored maps of prototypes.

    Gates are means over the place, so that those of a place of a tile's size are what its middle pixel was decided by.

    Args:
        store: of a result with maps of prototypes.
        picture: (H, W, 3) uint8 RGB of the place, ``slide.read(store.meta.frame.to_l0(box), size)``, of any size.
        box: mask pixels, see :func:`tile_box`; its corner should lie on whole cells.
        names: of the prototypes, class-major.
        muted: numbers of prototypes to do without.
        merged: sets of prototypes of one class that shall count as one.
        truth: (h, w) mask values of the true classes.

    Raises:
        ResultError: there are no maps, or none of this place; prototypes cannot be muted or merged so.
        ConfigError: the place is too large; there are not as many names as prototypes.
    """
    maps, groups = maps_and_groups(store, muted, merged)
    kept = maps.maps
    region = _region(store, box)
    with _reading(store):
        layers = [(layer, _read(maps, layer, box, kept.finest.stride_px)) for layer in kept.layers]
    pixel = [(layer, values) for layer, values in layers if layer.kind == "pixel"]
    unit = 1.0 if kept.is_linear else kept.limit
    logits = np.sum([layer.weight * values for layer, values in pixel], axis=0)
    if np.isnan(logits).all():
        meta = store.meta
        raise ResultError(
            f"{store.folder} has no maps of {meta.slide_name} at x {region.x_l0}, y {region.y_l0}: choose a place with "
            "tissue that was segmented"
        )
    fused = np.sum([layer.weight * _merged(kept, values, groups) for layer, values in pixel], axis=0)
    fused += sum(np.nan_to_num(values) for layer, values in layers if layer.kind == "correction")
    mask, scores = _decided(store, box, muted, merged)
    return Inspection(
        checkpoint=store.meta.checkpoint_name,
        place=InspectedPlace(store.meta.slide_name, store.meta.slide_mpp, region),
        picture=picture,
        scheme=store.meta.classes,
        maps=_float32(logits / unit).reshape(-1, kept.per_class, *logits.shape[1:]),
        class_maps=_float32(fused / unit),
        stride_px=kept.finest.stride_px,
        unit="logit" if kept.is_linear else "cosine",
        gates=_gates(store, maps, box, groups),
        scores=scores,
        mask=mask,
        truth=truth,
        cams=_cams(kept, layers, groups),
        names=tuple(names),
        muted=left_out(groups, kept.count),
        merged=joined(groups),
        notes=_notes(store, kept),
    )


def _maps(store: ResultStore) -> PrototypeStore:
    if store.prototypes is None:
        raise ResultError(f"{store.folder} has no maps of prototypes: segment the slide with --prototype-maps")
    return store.prototypes


def _region(store: ResultStore, box: Box) -> Region:
    region = store.meta.frame.to_l0(box.intersection(store.meta.frame.bounds))
    if region is None:
        raise ConfigError(f"mask pixels {box} lie outside of {store.meta.slide_name}: choose a place on the slide")
    if max(box.width, box.height) > MOST_PX:
        raise ConfigError(f"a place of {box.width} × {box.height} px is too large: choose at most {MOST_PX} each way")
    return region


def _read(maps: PrototypeStore, layer: MapLayer, box: Box, stride: int) -> Floats:
    """(channels, h, w) logits of a layer under the middles of cells of ``stride`` px; NaN where not computed."""
    middle = stride // 2
    ys = np.arange(box.y0 + middle, box.y0 + stride * _cells(box.height, stride), stride) // layer.stride_px
    xs = np.arange(box.x0 + middle, box.x0 + stride * _cells(box.width, stride), stride) // layer.stride_px
    return layer.logits(maps.read(layer, slice(None), ys, xs))


def _cells(length: int, stride: int) -> int:
    return -(-length // stride)


def _merged(maps: PrototypeMaps, logits: Floats, groups: Groups) -> Floats:
    """(C, h, w) logits of classes by the prototypes left; NaN of a class that has none."""
    out = np.full((maps.count // maps.per_class, *logits.shape[1:]), np.nan, dtype=np.float32)
    for c, own in enumerate(groups):
        if own:
            out[c] = pooled(np.stack([logits[list(group)].mean(0) for group in own]), maps.merge)
    return out


def _gates(store: ResultStore, maps: PrototypeStore, box: Box, groups: Groups) -> npt.NDArray[np.float64]:
    """(C,) probability of each class at the place: of the mean over what windows saw there."""
    kept, layer = maps.maps, maps.maps.layer("gate")
    assert layer is not None
    with _reading(store):
        logits = _merged(kept, _read(maps, layer, box, CELL_PX), groups)
    known = ~np.isnan(logits).all(axis=0)
    if not known.any():
        return np.full(len(logits), np.nan)
    calibration = kept.calibration
    means = logits[:, known].mean(axis=1, dtype=np.float64)
    gates = special.expit(np.array(calibration.gate_gain) * means + calibration.gate_bias)
    return np.asarray(np.nan_to_num(gates))  # a class without prototypes is nowhere


def _decided(
    store: ResultStore, box: Box, muted: Collection[int], merged: Sequence[Collection[int]]
) -> tuple[Pixels, npt.NDArray[np.float64]]:
    """Mask of the place and (C,) mean scores of its tissue, as stored or as they are without some prototypes."""
    classes, size = store.meta.classes, (box.width, box.height)
    if not muted and not merged:
        mask = store.read_mask_px(box.x0, box.y0, size)
        scores = np.stack([store.read_scores_px(c, box.x0, box.y0, size) for c in range(classes.count)]) / SCORE_MAX
    else:
        mask = recomputed_mask(store, box, muted, merged)
        first = Box(box.x0 // CELL_PX, box.y0 // CELL_PX, _cells(box.x1, CELL_PX), _cells(box.y1, CELL_PX))
        cells = np.exp(recomputed_scores(store, first, muted, merged)).repeat(CELL_PX, 1).repeat(CELL_PX, 2)
        top, left = box.y0 - CELL_PX * first.y0, box.x0 - CELL_PX * first.x0
        scores = cells[:, top : top + box.height, left : left + box.width]
    tissue = (mask < classes.background) & ~np.isnan(scores[0])
    if not tissue.any():
        return mask, np.full(classes.count, np.nan)
    return mask, scores[:, tissue].mean(axis=1, dtype=np.float64)


def _cams(maps: PrototypeMaps, layers: Sequence[tuple[MapLayer, Floats]], groups: Groups) -> tuple[ScaleCam, ...]:
    """The deepest scale's, which gates are of, and others' where they are kept apart."""
    stride = maps.finest.stride_px
    found = {}
    for layer, values in layers:
        if layer.scale is not None:
            unit = 1.0 if maps.is_linear else layer.limit
            found[layer.scale] = ScaleCam(layer.scale, stride, _float32(_merged(maps, values, groups) / unit))
    return tuple(found[scale] for scale in sorted(found))


def _notes(store: ResultStore, maps: PrototypeMaps) -> tuple[str, ...]:
    notes = ["From stored maps (8 bits a value)"]
    if len(maps.pixel_layers) == 1:
        notes.append("of single scales the result keeps the deepest's CAM only")
    if maps.layer("correction") is not None:
        notes.append("fused CAM, scores and mask are adapted to the slide's stain, prototypes' maps are not")
    return ("; ".join(notes) + ".",)


def _float32(values: npt.NDArray[np.floating]) -> Floats:
    return values.astype(np.float32)


@contextmanager
def _reading(store: ResultStore) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, RuntimeError, TypeError, KeyError) as error:
        raise ResultError(f"{store.folder} cannot be read ({error}): segment the slide again") from error
