"""All exports of a result store as inference writes it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import tifffile
from shapely.geometry import shape

from lpd.classes import BCSS
from lpd.export.areas import areas
from lpd.export.geojson import write_geojson
from lpd.export.ome_tiff import write_ome_tiff
from lpd.inference.meta import ResultMeta
from lpd.inference.store import ResultStore

from .conftest import blobs


def test_exports_agree_with_the_store(tmp_path: Path) -> None:
    meta = ResultMeta("s", "f", 2598, 1399, 0.499, 1.0, BCSS, "c", "sha256:1")
    store = ResultStore.create(tmp_path / "result", meta)
    height, width = store.mask_shape
    mask = blobs(height, width, 4, 20)
    store.write_mask(0, 0, mask)
    store.flush()
    store = ResultStore.open(tmp_path / "result")
    rows = areas(store)
    assert [row.pixels for row in rows] == np.bincount(mask.ravel(), minlength=5)[:4].tolist()
    write_ome_tiff(store, tmp_path / "mask.ome.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "mask.ome.tif"), mask)
    write_geojson(store, tmp_path / "a.geojson", min_area_um2=0)
    features = json.loads((tmp_path / "a.geojson").read_text(encoding="utf-8"))["features"]
    for row, tissue in zip(rows, BCSS.classes, strict=True):
        mine = [f for f in features if f["properties"]["classification"]["name"] == tissue.qupath_name]
        assert abs(sum(f["properties"]["measurements"]["Area mm^2"] for f in mine) - row.area_mm2) < 1e-9
        drawn_mm2 = sum(shape(f["geometry"]).area for f in mine) * (0.499 / 1000) ** 2
        assert abs(drawn_mm2 - row.area_mm2) < 0.01 * row.area_mm2  # the slide's edge cuts the last pixels
