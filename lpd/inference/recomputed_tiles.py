"""The mask again, some prototypes muted or merged, for a tile at any zoom, and the areas of the whole slide.

Where a tile shows the mask's own pixels it is :func:`lpd.inference.recomputing.recomputed_mask`. Farther out a class is
decided at single mask pixels, those that the stored mask's tile shows: logits are interpolated there between the cells
of the maps, and the gate is the mean of cells over a tile of the network's. Where these pixels are two cells apart or
more the maps are read from their coarser levels, which hold every 2nd, 4th, … cell, so that the work goes with the
pixels asked for and not with the slide under them. Between cells that far apart a class is a guess; so the stored mask
is kept wherever the guess is the same with and without what is asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import sparse

from lpd.classes import NOT_COMPUTED
from lpd.inference.array_scores import Flags, Floats, likeliest, pooled
from lpd.inference.frame import Box
from lpd.inference.meta import CELL_PX
from lpd.inference.prototype_layers import MapLayer
from lpd.inference.prototype_store import PrototypeStore
from lpd.inference.pyramid import Bytes, Indices
from lpd.inference.recomputing import NEVER, maps_and_groups, recomputed_mask
from lpd.inference.store import ResultStore
from lpd.model.grouping import Groups
from lpd.slide.region import Region

Doubles = npt.NDArray[np.float64]
#: Up to so many mask pixels per pixel of a tile all of them are computed.
_FINE_STEP = 1.5
#: Distance of the cells, in mask pixels, that suffices for the mean of a gate; beyond it, that of the tile's pixels.
_GATE_STEP_PX = 32
#: Cells of a layer, up to which finer ones are read than a tile's pixels ask for: twice those of 256 × 256 px.
_MANY_CELLS = 1 << 17
#: Where areas are looked at, at most, and in blocks of so many rows and columns.
_MOST_PLACES, _BLOCK = 1 << 19, 256


@dataclass(frozen=True)
class RecomputedAreas:
    """Areas of the classes in mm², in mask order, all counted at the same places.

    Attributes:
        stored: by the stored mask, which may be refined.
        before: made again with nothing muted or merged, beyond what the checkpoint itself says.
        after: made again as asked for; only its difference to ``before`` is what muting does.
        step_px: distance of the places in mask pixels, along each axis.
        places: how many of them lie on tissue.
    """

    stored: tuple[float, ...]
    before: tuple[float, ...]
    after: tuple[float, ...]
    step_px: int
    places: int


def recomputed_tile(
    store: ResultStore,
    region: Region,
    size: tuple[int, int],
    muted: Collection[int] = (),
    merged: Sequence[Collection[int]] = (),
) -> Bytes:
    """The mask as it would be without some prototypes, as :meth:`ResultStore.read_mask` gives the stored one.

    Glass stays glass, and nothing is refined. Work and memory go with ``size``.

    Args:
        store: of a result with maps of prototypes.
        region: in level-0 pixels; may reach outside.
        size: (w, h) of the picture of it.
        muted, merged: see :func:`lpd.inference.recomputing.recomputed_mask`.

    Returns:
        uint8 (h, w): 0 … C−1 classes, C background, 255 where the stored mask is not computed.

    Raises:
        ResultError: see :func:`lpd.inference.recomputing.recomputed_mask`.
    """
    maps, groups = maps_and_groups(store, muted, merged)
    ys, xs, step = store.mask_places(region, size)
    if step <= _FINE_STEP:
        box = Box(int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1)
        return recomputed_mask(store, box, muted, merged)[np.ix_(ys - box.y0, xs - box.x0)]
    mask = store.read_mask(region, size)
    tissue = mask < store.meta.classes.background
    if not tissue.any():
        return mask
    places = _Places(maps, ys, xs, step, tissue)
    after = mask.copy()
    after[tissue] = places.decided(groups, tissue)
    other = after != mask
    if other.any() and store.meta.settings.get("refinement", "none") == "none":
        before = places.decided(maps.maps.groups, other)
        same = [own == base for own, base in zip(groups, maps.maps.groups, strict=True)]
        stays = (before == after[other]) & np.array(same)[mask[other]]
        after[other] = np.where(stays, mask[other], after[other])
    return after


def recomputed_areas(
    store: ResultStore, muted: Collection[int] = (), merged: Sequence[Collection[int]] = ()
) -> RecomputedAreas:
    """The areas of the classes as they would be without some prototypes, beside what they are.

    They are counted at every n-th mask pixel and row, half a million places at most.

    Args:
        store: of a result with maps of prototypes.
        muted, merged: see :func:`lpd.inference.recomputing.recomputed_mask`.

    Raises:
        ResultError: see :func:`lpd.inference.recomputing.recomputed_mask`.
    """
    maps, groups = maps_and_groups(store, muted, merged)
    step, counts = _area_step(store), np.zeros((3, 256), np.int64)
    for ys, xs in _blocks(store, step):
        mask = store.read_mask_px(int(xs[0]), int(ys[0]), (len(xs), len(ys)), step)
        where = mask < store.meta.classes.background
        if where.any():
            places = _Places(maps, ys, xs, float(step), where)
            found = (mask[where], *(places.decided(own, where) for own in (maps.maps.groups, groups)))
            counts += [np.bincount(one, minlength=256) for one in found]
    place_mm2 = (step * store.meta.mask_mpp / 1000) ** 2
    tissue = counts[:, : store.meta.classes.count]
    stored, before, after = (tuple(float(n * place_mm2) for n in row) for row in tissue)
    return RecomputedAreas(stored, before, after, step, int(tissue[0].sum()))


def _area_step(store: ResultStore) -> int:
    """The smallest power of two, from a cell on, at which there are few enough places."""
    height, width = store.mask_shape
    step = CELL_PX
    while (height // step + 1) * (width // step + 1) > _MOST_PLACES:
        step *= 2
    return step


def _blocks(store: ResultStore, step: int) -> Iterator[tuple[Indices, Indices]]:
    """Rows and columns of every ``step``-th mask pixel, block by block."""
    height, width = store.mask_shape
    rows, columns = np.arange(0, height, step), np.arange(0, width, step)
    for y in range(0, len(rows), _BLOCK):
        for x in range(0, len(columns), _BLOCK):
            yield rows[y : y + _BLOCK], columns[x : x + _BLOCK]


class _Places:
    """Mask pixels at some rows and columns, and the cells of all layers that tell what is there."""

    def __init__(self, maps: PrototypeStore, ys: Indices, xs: Indices, step: float, tissue: Flags) -> None:
        """Read what is around those pixels that show tissue, one at least."""
        self._rows, self._columns = _span(np.any(tissue, axis=1)), _span(np.any(tissue, axis=0))
        self._ys, self._xs = ys[self._rows], xs[self._columns]
        self._maps, layers = maps.maps, maps.maps.layers
        own = (self._ys, self._xs, step)
        self._cells = {
            layer.name: (_Cells.of_gates if layer.kind == "gate" else _Cells.around)(maps, layer, *own)
            for layer in layers
        }
        correction = self._maps.layer("correction")
        self._added: Floats | None = None
        if correction is not None:
            cells = self._cells[correction.name]
            self._added = cells.at(correction.logits(cells.stored), self._ys, self._xs)

    def decided(self, groups: Groups, where: Flags) -> Bytes:
        """Classes of the pixels (len(ys), len(xs)) that are set, in order; all of them show tissue."""
        kept, chosen = self._maps, where[self._rows, self._columns]
        parts = [layer.weight * self._merged(layer, groups) for layer in kept.pixel_layers]
        pixel = np.sum(parts, axis=0) if len(parts) > 1 else parts[0]
        if self._added is not None:
            pixel = pixel + self._added
        gate_layer = kept.layer("gate")
        assert gate_layer is not None
        return likeliest(pixel[:, chosen], self._merged(gate_layer, groups)[:, chosen], kept.calibration)

    def _merged(self, layer: MapLayer, groups: Groups) -> Floats:
        """(C, len(ys), len(xs)) logits of classes by one layer."""
        cells = self._cells[layer.name]
        values = _merged(self._maps.merge, layer, cells.stored, groups)
        if layer.kind != "gate":
            return cells.at(values, self._ys, self._xs)
        return cells.means(values, self._ys, self._xs, (self._maps.gate_reach + 0.5) * CELL_PX)


@dataclass(frozen=True, eq=False)
class _Cells:
    """Every n-th cell of a layer's maps around some mask pixels.

    Attributes:
        stored: (channels, h, w) bytes.
        known: (h, w), where anything was computed.
        y_px, x_px: middle of the first row and column, in mask pixels.
        step_px: distance of rows and of columns.
    """

    stored: Bytes
    known: Flags
    y_px: float
    x_px: float
    step_px: int

    @classmethod
    def around(cls, maps: PrototypeStore, layer: MapLayer, ys: Indices, xs: Indices, step: float) -> _Cells:
        """Cells no farther apart than the pixels, nearer where these are few, with one beyond on each side."""
        nth, area_px = _nth(layer, step), float(ys[-1] - ys[0] + step) * float(xs[-1] - xs[0] + step)
        while nth > 1 and area_px <= _MANY_CELLS * (nth // 2 * layer.stride_px) ** 2:
            nth //= 2
        return cls._read(maps, layer, ys, xs, nth, 0)

    @classmethod
    def of_gates(cls, maps: PrototypeStore, layer: MapLayer, ys: Indices, xs: Indices, step: float) -> _Cells:
        """Cells that a gate's mean is taken of: no farther apart than the pixels."""
        reach_px = (maps.maps.gate_reach + 1) * CELL_PX
        return cls._read(maps, layer, ys, xs, _nth(layer, max(_GATE_STEP_PX, step)), reach_px)

    @classmethod
    def _read(cls, maps: PrototypeStore, layer: MapLayer, ys: Indices, xs: Indices, nth: int, margin_px: int) -> _Cells:
        side = nth * layer.stride_px
        rows, columns = (
            np.arange((int(at[0]) - margin_px) // side - 1, (int(at[-1]) + margin_px) // side + 2) for at in (ys, xs)
        )
        stored = maps.read(layer, slice(None), nth * rows, nth * columns, float(nth))
        y_px, x_px = (float(side * at[0] + layer.stride_px / 2) for at in (rows, columns))
        return cls(stored, stored[0] != NOT_COMPUTED, y_px, x_px, side)

    def at(self, values: Floats, ys: Indices, xs: Indices) -> Floats:
        """(C, len(ys), len(xs)) of (C, h, w) values: between the known of the cells around each mask pixel."""
        return self._weighed(values, [_between(at, n) for at, n in self._in_cells(values, ys, xs)])

    def means(self, values: Floats, ys: Indices, xs: Indices, reach_px: float) -> Floats:
        """(C, len(ys), len(xs)) means of the known of (C, h, w) values up to so far from each mask pixel."""
        reach = reach_px / self.step_px
        return self._weighed(values, [_around(at, n, reach) for at, n in self._in_cells(values, ys, xs)])

    def _in_cells(self, values: Floats, ys: Indices, xs: Indices) -> list[tuple[Doubles, int]]:
        """Where the middles of pixels lie, 0 the middle of the first cell, and how many cells there are; by axis."""
        height, width = values.shape[1:]
        return [
            ((ys + 0.5 - self.y_px) / self.step_px, height),
            ((xs + 0.5 - self.x_px) / self.step_px, width),
        ]

    def _weighed(self, values: Floats, weights: Sequence[sparse.csr_array]) -> Floats:
        """Weighted means of the known along both axes."""
        whole = bool(self.known.all())
        planes = values if whole else np.concatenate([np.where(self.known, values, 0), self.known[None]])
        rows, columns = weights
        count, height, width = planes.shape
        flat = np.ascontiguousarray(planes.transpose(1, 0, 2), dtype=np.float32).reshape(height, count * width)
        turned = (rows @ flat).reshape(-1, count, width).transpose(2, 1, 0)
        sums = (columns @ np.ascontiguousarray(turned).reshape(width, -1)).reshape(columns.shape[0], count, -1)
        sums = np.ascontiguousarray(sums.transpose(1, 2, 0))
        return sums if whole else sums[:-1] / np.maximum(sums[-1], np.float32(1e-6))


def _between(at: Doubles, count: int) -> sparse.csr_array:
    """(n, count) weights, 1 together, of the two cells around each place; beyond the last the last counts."""
    at = np.clip(at, 0, count - 1)
    low = np.minimum(at.astype(np.int64), max(count - 2, 0))
    share = at - low
    return _rows(np.stack([low, np.minimum(low + 1, count - 1)], 1), np.stack([1 - share, share], 1), count)


def _around(at: Doubles, count: int, reach: float) -> sparse.csr_array:
    """(n, count) weights, 1 together, of the cells up to so many cells around each place, the outer ones in part."""
    span = int(2 * reach) + 3
    cells = np.floor(at - reach).astype(np.int64)[:, None] + np.arange(span)
    shares = np.minimum(cells + 0.5, at[:, None] + reach) - np.maximum(cells - 0.5, at[:, None] - reach)
    shares = np.maximum(shares, 0) / (2 * reach)
    inside = (cells >= 0) & (cells < count)
    return _rows(np.clip(cells, 0, count - 1), shares * inside, count)


def _rows(cells: Indices, weights: Doubles, count: int) -> sparse.csr_array:
    """A matrix with the same number of weights in each row."""
    ends = np.arange(len(cells) + 1) * cells.shape[1]
    data = weights.astype(np.float32).ravel()
    return sparse.csr_array((data, cells.ravel(), ends), shape=(len(cells), count))


def _nth(layer: MapLayer, step_px: float) -> int:
    """The largest power of two of cells of a layer that are no farther apart than so many mask pixels; at least 1."""
    nth = 1
    while 2 * nth * layer.stride_px <= step_px:
        nth *= 2
    return nth


def _merged(merge: Literal["mean", "union"], layer: MapLayer, stored: Bytes, groups: Groups) -> Floats:
    """(C, h, w) logits of classes by the prototypes left of (M, h, w) bytes; whatever where nothing is known."""
    values = stored.reshape(len(stored), -1).astype(np.float32)
    logits = np.full((len(groups), values.shape[1]), NEVER, dtype=np.float32)
    for c, own in enumerate(groups):
        if own:
            shares = np.stack([_shares(group, len(stored)) for group in own])
            if merge == "mean":  # the mean of means is one mean: fewer numbers to go through
                shares = shares.mean(0, keepdims=True)
            logits[c] = pooled(np.float32(layer.gain) * (shares @ values) + np.float32(layer.offset), merge)
    return logits.reshape(len(groups), *stored.shape[1:])


def _shares(group: tuple[int, ...], count: int) -> Floats:
    """(count,) by how much each prototype counts in the mean of a group."""
    shares = np.zeros(count, dtype=np.float32)
    shares[list(group)] = 1 / len(group)
    return shares


def _span(flags: npt.ArrayLike) -> slice:
    """From the first to the last that is set."""
    found = np.flatnonzero(flags)
    return slice(int(found[0]), int(found[-1]) + 1)
