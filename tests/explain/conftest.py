"""Results made by hand: a mask and bytes of maps, as a segmentation with --prototype-maps would leave them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lpd.classes import ClassScheme, TissueClass
from lpd.config import Calibration
from lpd.inference.meta import ResultMeta
from lpd.inference.prototype_layers import MapLayer, PrototypeMaps
from lpd.inference.store import ResultStore
from lpd.model.grouping import Groups

COLOURS = {"AAA": (255, 0, 0), "BBB": (0, 255, 0), "CCC": (0, 0, 255)}
STRIDE = 8
#: Cells along a tile's side: the model's tiles are of 64 px.
TILE = 8
Made = Callable[..., ResultStore]


def scheme(codes: tuple[str, ...]) -> ClassScheme:
    return ClassScheme(tuple(TissueClass(code, code.title(), COLOURS[code]) for code in codes))


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """A result of a slide, each in a folder of its own.

    ``maps`` are (M, h, w) bytes of the first layer, ``classes`` (h, w) mask values by cell; level-0 pixels are half a
    mask pixel wide.
    """
    count = 0

    def make(
        maps: np.ndarray,
        classes: np.ndarray,
        codes: tuple[str, ...] = ("AAA", "BBB"),
        stride: int = STRIDE,
        layers: tuple[MapLayer, ...] = (),
        edited: Groups = (),
        cosines: tuple[float | None, ...] = (),
        **changes: object,
    ) -> ResultStore:
        nonlocal count
        count += 1
        height, width = (stride * n for n in classes.shape)
        meta = ResultMeta("slide", "f", 2 * width, 2 * height, 0.5, 1.0, scheme(codes), "model", "sha256:1")
        meta = replace(meta, settings={"prototype_maps": True}, **changes)
        ones, zeros = (1.0,) * len(codes), (0.0,) * len(codes)
        layers = layers or (
            MapLayer("fused", "pixel", len(maps), stride, 14.0),
            MapLayer("gate", "gate", len(maps), 16, 14.0),
        )
        calibration = Calibration((1.0,), ones, zeros, ones, zeros)
        kept = PrototypeMaps(len(maps) // len(codes), "mean", calibration, TILE, layers, edited, cosines)
        store = ResultStore.create(tmp_path / f"result-{count}", meta, kept)
        rows, columns = (min(n, m) for n, m in zip(maps.shape[1:], store.layer_shape(layers[0]), strict=True))
        store.write_layer(layers[0], 0, 0, maps[:, :rows, :columns].astype(np.uint8))
        pixels = classes.repeat(stride, 0).repeat(stride, 1).astype(np.uint8)
        store.write_mask(0, 0, pixels[: meta.mask_size[1], : meta.mask_size[0]])
        store.finish()
        return store

    return make


def waves(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """(count, height, width) bytes 0–254 that differ from one another and from place to place."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    turns = rng.uniform(-1, 1, (count, 3))
    maps = [np.sin(a * x / 3 + b * y / 3 + 6 * c) for a, b, c in turns]
    return np.rint(127 + 100 * np.stack(maps) + rng.uniform(-5, 5, (count, height, width))).astype(np.uint8)
