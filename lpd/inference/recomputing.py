"""The mask again from the stored maps of prototypes, some muted or merged: no slide, no network, no inference.

A class's pixel logit is the merge of its prototypes', plus what the slide's own prototypes add; its gate is the mean of
its deepest maps over a tile. What is left of both without some prototypes is scored and decided as the mask was; merged
ones count as one, whose map is the mean of theirs (:mod:`lpd.model.grouping`). Maps have 8 bits and the network's own
stride, so pixels on a border may fall to the other side; and what the slide's own prototypes add is what they added
with all prototypes at work.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np

from lpd.errors import ConfigError, ResultError
from lpd.inference.array_scores import Flags, Floats, decided, enlarged, log_scores, mean_around, pooled
from lpd.inference.frame import Box
from lpd.inference.meta import CELL_PX
from lpd.inference.prototype_layers import MapLayer
from lpd.inference.prototype_store import PrototypeStore
from lpd.inference.pyramid import Bytes
from lpd.inference.store import ResultStore
from lpd.model.grouping import Groups, regrouped

#: Logit of a class without prototypes: as good as never there.
NEVER = -1e4
#: Cells that are computed at once; bounds memory.
_BLOCK_CELLS = 256


def recomputed_mask(
    store: ResultStore, box: Box, muted: Collection[int] = (), merged: Sequence[Collection[int]] = ()
) -> Bytes:
    """The mask of some mask pixels as it would be without some prototypes, or with some of them as one.

    Glass stays glass. The mask is not refined, even if the stored one is.

    Args:
        store: of a result with maps of prototypes.
        box: mask pixels; may reach outside.
        muted: numbers of prototypes, class-major; a class with none left is nowhere.
        merged: sets of prototypes of one class that count as one, see :mod:`lpd.model.grouping`.

    Returns:
        (h, w) uint8: 0 … C−1 classes, C background, 255 where the stored mask is not computed.

    Raises:
        ResultError: there are no maps, no such prototype, all prototypes of all classes are muted, or those merged are
            of different classes, muted, or merged twice.
    """
    maps, groups = maps_and_groups(store, muted, merged)
    mask = store.read_mask_px(box.x0, box.y0, (box.width, box.height))
    background = store.meta.classes.background
    side = _BLOCK_CELLS * CELL_PX
    for y in range(box.y0, box.y1, side):
        for x in range(box.x0, box.x1, side):
            part = Box(x, y, min(x + side, box.x1), min(y + side, box.y1))
            own = mask[y - box.y0 : part.y1 - box.y0, x - box.x0 : part.x1 - box.x0]
            tissue = own < background
            if tissue.any():
                own[tissue] = _decided_again(store, maps, part, groups)[tissue]
    return mask


def recomputed_scores(
    store: ResultStore, box: Box, muted: Collection[int] = (), merged: Sequence[Collection[int]] = ()
) -> Floats:
    """Log scores of cells of 4 mask pixels as they would be without some prototypes.

    Args:
        store: of a result with maps of prototypes.
        box: in cells; may reach outside.
        muted, merged: as for :func:`recomputed_mask`.

    Returns:
        (C, h, w) float32, at most 0; NaN where no window looked.

    Raises:
        ResultError: see :func:`recomputed_mask`.
    """
    maps, groups = maps_and_groups(store, muted, merged)
    scores, known = _scores(store, maps, box, groups)
    return np.where(known, scores, np.float32(np.nan))


def maps_and_groups(
    store: ResultStore, muted: Collection[int], merged: Sequence[Collection[int]]
) -> tuple[PrototypeStore, Groups]:
    """A result's maps, and which prototypes are left of it, by class.

    Raises:
        ResultError: see :func:`recomputed_mask`.
    """
    if store.prototypes is None:
        raise ResultError(f"{store.folder} has no maps of prototypes: segment the slide with --prototype-maps")
    count = store.prototypes.maps.count
    for index in (*muted, *(m for members in merged for m in members)):
        if not 0 <= index < count:
            raise ResultError(f"prototype {index} does not exist: this result has {count} prototypes")
    try:
        groups = regrouped(store.prototypes.maps.groups, muted, merged)
    except ConfigError as error:
        raise ResultError(str(error)) from error
    if not any(groups):
        raise ResultError(f"all {count} prototypes are muted: leave one")
    return store.prototypes, groups


def _decided_again(store: ResultStore, maps: PrototypeStore, box: Box, groups: Groups) -> Bytes:
    """Classes of mask pixels, each between the middles of four cells."""
    cells = Box(
        (box.x0 + 2) // CELL_PX - 1,
        (box.y0 + 2) // CELL_PX - 1,
        (box.x1 + 1) // CELL_PX + 1,
        (box.y1 + 1) // CELL_PX + 1,
    )
    scores, known = _scores(store, maps, cells, groups)
    found = decided(scores * known, known)
    x, y = box.x0 - (CELL_PX * cells.x0 + CELL_PX // 2), box.y0 - (CELL_PX * cells.y0 + CELL_PX // 2)
    return found[y : y + box.height, x : x + box.width]


def _scores(store: ResultStore, maps: PrototypeStore, cells: Box, groups: Groups) -> tuple[Floats, Flags]:
    """(C, h, w) log scores of cells, and (h, w) bool where windows looked."""
    kept = maps.maps
    gate_layer, correction = kept.layer("gate"), kept.layer("correction")
    assert gate_layer is not None
    pixel = np.sum([layer.weight * _merged(maps, layer, cells, groups)[0] for layer in kept.pixel_layers], axis=0)
    if correction is not None:
        pixel = pixel + _enlarged(*_stored(maps, correction, cells), correction, cells)[0]
    reach = kept.gate_reach
    around = cells.grown(reach)
    presence, known = _merged(maps, gate_layer, around, groups)
    known &= _inside(store, around)
    gate = mean_around(presence, known, reach)
    own = known[reach : known.shape[0] - reach, reach : known.shape[1] - reach]
    return log_scores(pixel, gate, kept.calibration), own


def _merged(maps: PrototypeStore, layer: MapLayer, cells: Box, groups: Groups) -> tuple[Floats, Flags]:
    """(C, h, w) logits of classes by the prototypes left, in cells of 4 px; (h, w) bool where windows looked."""
    stored, where = _stored(maps, layer, cells)
    kept = maps.maps
    logits = np.full((kept.count // kept.per_class, *stored.shape[1:]), NEVER, dtype=np.float32)
    for c, own in enumerate(groups):
        if own:
            logits[c] = pooled(np.stack([stored[list(group)].mean(0) for group in own]), kept.merge)
    return _enlarged(logits, where, layer, cells)


def _stored(maps: PrototypeStore, layer: MapLayer, cells: Box) -> tuple[Floats, Flags]:
    """(channels, h, w) logits of a layer's own cells that some cells of 4 px lie among, 0 where there are none; (h, w)
    bool where there are some."""
    box = _own(layer, cells)
    ys, xs = np.arange(box.y0, box.y1), np.arange(box.x0, box.x1)
    logits = layer.logits(maps.read(layer, slice(None), ys, xs))
    known = ~np.isnan(logits[0])
    return np.nan_to_num(logits, copy=False), known


def _own(layer: MapLayer, cells: Box) -> Box:
    """The layer's cells with one around those that hold some cells of 4 px."""
    side = layer.stride_px // CELL_PX
    return Box(cells.x0 // side, cells.y0 // side, -(-cells.x1 // side), -(-cells.y1 // side)).grown(1)


def _enlarged(logits: Floats, known: Flags, layer: MapLayer, cells: Box) -> tuple[Floats, Flags]:
    """A layer's maps as cells of 4 px, each from the known ones around it, and which lie in a known one."""
    box, side = _own(layer, cells), layer.stride_px // CELL_PX
    rows = slice(cells.y0 - side * box.y0, cells.y1 - side * box.y0)
    columns = slice(cells.x0 - side * box.x0, cells.x1 - side * box.x0)
    there = known.repeat(side, 0).repeat(side, 1)[rows, columns]
    if side == 1:
        return logits[:, rows, columns], there
    planes = np.concatenate([logits * known, known[None].astype(np.float32)])
    large = enlarged(planes, side)[:, rows, columns]
    return large[:-1] / np.maximum(large[-1], 1e-6), there


def _inside(store: ResultStore, cells: Box) -> Flags:
    """(h, w) bool, which cells share a pixel with the mask."""
    width, height = (math.ceil(n / CELL_PX) for n in store.meta.mask_size)
    y, x = np.arange(cells.y0, cells.y1), np.arange(cells.x0, cells.x1)
    return np.asarray(((y >= 0) & (y < height))[:, None] & (x >= 0) & (x < width))
