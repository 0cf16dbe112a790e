"""OME-NGFF 0.4 attributes of a result, so that napari and other readers open it in µm and in the classes' colours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lpd.classes import ClassScheme
from lpd.inference.meta import CELL_PX, ResultMeta
from lpd.inference.prototype_layers import MapLayer, PrototypeMaps

_VERSION = "0.4"


def score_attributes(meta: ResultMeta, level_count: int) -> dict[str, Any]:
    """Attributes of the root group: the class scores as an image with axes class, y, x."""
    return {
        "multiscales": [_maps(f"{meta.slide_name} class scores", meta.mask_mpp, CELL_PX, level_count)],
        "omero": {"name": meta.slide_name, "version": _VERSION, "channels": _channels(meta.classes)},
    }


def mask_attributes(meta: ResultMeta, level_count: int) -> dict[str, Any]:
    """Attributes of ``labels/mask``: the label image with its colours, background and 255 transparent."""
    datasets = [[_moved("scale", 2 * [meta.mask_mpp * 2**k])] for k in range(level_count)]
    classes = meta.classes.classes
    return {
        "multiscales": [_multiscales(f"{meta.slide_name} mask", _space(), datasets)],
        "image-label": {
            "version": _VERSION,
            "source": {"image": "../../"},
            "colors": [{"label-value": i, "rgba": [*c.color, 255]} for i, c in enumerate(classes)],
            "properties": [{"label-value": i, "code": c.code, "name": c.name} for i, c in enumerate(classes)],
        },
    }


def layer_attributes(meta: ResultMeta, maps: PrototypeMaps, layer: MapLayer, level_count: int) -> dict[str, Any]:
    """Attributes of ``prototypes/<layer>``: an image with axes prototype (or class), y, x, in the classes' colours."""
    per_class = layer.channels // meta.classes.count
    names = [f" {k + 1}" for k in range(per_class)] if layer.kind != "correction" else [""]
    name = f"{meta.slide_name} prototypes, {layer.name}"
    return {
        "multiscales": [_maps(name, meta.mask_mpp, layer.stride_px, level_count)],
        "omero": {"name": name, "version": _VERSION, "channels": _channels(meta.classes, names)},
        "lpd": layer.to_dict(),
    }


def _maps(name: str, mask_mpp: float, cell_px: int, level_count: int) -> dict[str, Any]:
    """Maps with one pixel for ``cell_px`` mask pixels each way.

    Readers put the middle of pixel (0, 0) at the origin; that of the maps belongs into the middle of its mask pixels.
    """
    middle_um = mask_mpp * (cell_px - 1) / 2
    datasets = []
    for level in range(level_count):
        pixel_um = mask_mpp * cell_px * 2**level
        scale, translation = [1.0, pixel_um, pixel_um], [0.0, middle_um, middle_um]
        datasets.append([_moved("scale", scale), _moved("translation", translation)])
    return _multiscales(name, [{"name": "c", "type": "channel"}, *_space()], datasets)


def _moved(kind: str, values: list[float]) -> dict[str, Any]:
    return {"type": kind, kind: values}


def _multiscales(name: str, axes: list[dict[str, Any]], levels: list[list[dict[str, Any]]]) -> dict[str, Any]:
    datasets = [{"path": str(level), "coordinateTransformations": moved} for level, moved in enumerate(levels)]
    return {"version": _VERSION, "name": name, "type": "nearest", "axes": axes, "datasets": datasets}


def _space() -> list[dict[str, Any]]:
    return [{"name": axis, "type": "space", "unit": "micrometer"} for axis in ("y", "x")]


def _channels(classes: ClassScheme, names: Sequence[str] = ("",)) -> list[dict[str, Any]]:
    window = {"start": 0, "end": 254, "min": 0, "max": 255}
    return [
        {"label": c.name + name, "color": "{:02X}{:02X}{:02X}".format(*c.color), "active": True, "window": window}
        for c in classes.classes
        for name in names
    ]
