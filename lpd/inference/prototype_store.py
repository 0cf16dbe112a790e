"""PrototypeStore: the pyramids of prototype maps inside a result's zarr group. Needs no torch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from lpd.errors import ResultError
from lpd.inference.chunk_buffer import Mask
from lpd.inference.meta import ResultMeta
from lpd.inference.ngff import layer_attributes
from lpd.inference.prototype_layers import MapLayer, PrototypeMaps, code
from lpd.inference.pyramid import FORMAT_2, Bytes, Indices, Pyramid, create_arrays, zarr

GROUP_NAME = "prototypes"
#: Small squares of many maps together: few files, and whoever wants one map there often wants the others.
_CHUNK_CELLS, _CHUNK_MAPS = 64, 64
#: What looks like noise is packed no tighter by more effort, only four times as slowly.
_EFFORT = 1


def create_prototypes(root: Path, meta: ResultMeta, maps: PrototypeMaps) -> None:
    """Add an empty group of prototype maps to the zarr group ``root``."""
    group = zarr.open_group(str(root / GROUP_NAME), mode="w", **FORMAT_2)
    for layer in maps.layers:
        path = root / GROUP_NAME / layer.name
        zarr.open_group(str(path), mode="w", **FORMAT_2)
        shape = (layer.channels, *(-(-n // layer.stride_px) for n in reversed(meta.mask_size)))
        chunks = min(layer.channels, _CHUNK_MAPS), _CHUNK_CELLS, _CHUNK_CELLS
        levels = create_arrays(path, shape, chunks, _EFFORT)
        attributes = layer_attributes(meta, maps, layer, levels)
        zarr.open_group(str(path), mode="r+", **FORMAT_2).attrs.update(attributes)
    group.attrs.update({"lpd": maps.to_dict()})


class PrototypeStore:
    """The group ``prototypes`` of a result: one pyramid (channels, H / stride, W / stride) for each layer.

    Attributes:
        maps: what there is, and how its bytes are read.
    """

    def __init__(self, root: Path) -> None:
        """Open the group.

        Raises:
            ResultError, OSError, ValueError, KeyError: there is none, or it is not one of ours.
        """
        try:
            document = json.loads((root / GROUP_NAME / ".zattrs").read_text(encoding="utf-8"))["lpd"]
        except FileNotFoundError:
            raise ResultError("its prototype maps are gone") from None
        self.maps = PrototypeMaps.from_dict(document)
        self._pyramids = {layer.name: Pyramid(root / GROUP_NAME / layer.name) for layer in self.maps.layers}

    def shape(self, layer: MapLayer) -> tuple[int, int]:
        """(H, W) of a layer's maps in their own pixels."""
        *_, height, width = self._pyramids[layer.name].shape
        return height, width

    def write(self, layer: MapLayer, x: int, y: int, block: Bytes, where: Mask | None = None) -> None:
        """Put bytes (channels, h, w) at column ``x``, row ``y`` of a layer's maps, inside of them; see
        :meth:`lpd.inference.pyramid.Pyramid.write`."""
        self._pyramids[layer.name].write(x, y, block, where)

    def flush(self) -> None:
        """Let others see what has been written."""
        for pyramid in self._pyramids.values():
            pyramid.flush()

    def read(self, layer: MapLayer, channels: slice, ys: Indices, xs: Indices, step: float = 1.0) -> Bytes:
        """Bytes (channels, h, w) at some rising rows and columns of a layer's maps, 255 outside.

        Args:
            layer: of ``maps``.
            channels: which of them.
            ys, xs: in pixels of the maps.
            step: their distance; the coarsest level that is not coarser is read.
        """
        return self._pyramids[layer.name].sample(ys, xs, step, lead=(channels,))

    def read_prototype(self, index: int, ys: Indices, xs: Indices, step: float) -> Bytes:
        """One prototype's fused logit at some mask pixels: bytes (h, w) of ``maps.limit``, 255 where not computed."""
        layers, one = self.maps.pixel_layers, slice(index, index + 1)
        parts = [
            self.read(layer, one, ys // layer.stride_px, xs // layer.stride_px, step / layer.stride_px)[0]
            for layer in layers
        ]
        if len(layers) == 1:
            return np.asarray(parts[0])
        logits = sum(layer.weight * layer.logits(part) for layer, part in zip(layers, parts, strict=True))
        return code(np.asarray(logits, dtype=np.float32), self.maps.limit)
