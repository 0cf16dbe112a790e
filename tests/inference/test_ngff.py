"""The store against what OME-NGFF 0.4 requires, read by plain json and zarr; by ome-zarr where it is installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from lpd.classes import BCSS
from lpd.inference.meta import ResultMeta
from lpd.inference.store import ResultStore


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mask of 1,200 × 700 px of 0.5 µm; the scores of its 4 × 4 px cells."""
    meta = ResultMeta("a", "0", 2400, 1400, 0.25, 0.5, BCSS, "none", "sha256:0")
    store = ResultStore.create(tmp_path_factory.mktemp("ngff") / "a", meta)
    store.write_mask(0, 0, np.tile(np.arange(5, dtype=np.uint8), (700, 240)))
    store.write_scores(0, 0, np.full((4, 175, 300), 100, np.uint8))
    store.finish()
    return store.folder / "result.zarr"


def attributes(path: Path) -> dict[str, Any]:
    assert json.loads((path / ".zgroup").read_text()) == {"zarr_format": 2}
    found: dict[str, Any] = json.loads((path / ".zattrs").read_text())
    return found


def first_and_last(dataset: dict[str, Any], shape: tuple[int, ...], axis: int) -> tuple[float, float]:
    """Where the middles of the first and the last pixel are, in µm, by the specification's order: scale, then move."""
    first, *others = dataset["coordinateTransformations"]
    assert first["type"] == "scale"
    assert [other["type"] for other in others] in ([], ["translation"])
    moved = others[0]["translation"][axis] if others else 0.0
    return moved, (shape[axis] - 1) * first["scale"][axis] + moved


@pytest.mark.parametrize(("name", "axes", "cell_px"), [("", "cyx", 4), ("labels/mask", "yx", 1)])
def test_multiscales_have_what_the_specification_requires(root: Path, name: str, axes: str, cell_px: int) -> None:
    (multiscale,) = attributes(root / name)["multiscales"]
    assert multiscale["version"] == "0.4"
    assert [axis["name"] for axis in multiscale["axes"]] == list(axes)
    kinds = {"c": ("channel", None), "y": ("space", "micrometer"), "x": ("space", "micrometer")}
    assert [(axis["type"], axis.get("unit")) for axis in multiscale["axes"]] == [kinds[axis] for axis in axes]
    sizes = []
    for level, dataset in enumerate(multiscale["datasets"]):
        array = zarr.open_array(str(root / name / dataset["path"]), mode="r")
        assert array.ndim == len(axes)
        sizes.append(array.shape)
        for transform in dataset["coordinateTransformations"]:
            assert len(transform[transform["type"]]) == len(axes)
        # A mask pixel's middle is at 0.5 µm times its number; a cell's in the middle of its pixels.
        first, last = first_and_last(dataset, array.shape, len(axes) - 1)
        assert first == pytest.approx(0.5 * (cell_px - 1) / 2)
        assert last == pytest.approx(first + 0.5 * cell_px * 2**level * (array.shape[-1] - 1))
    assert sizes == sorted(sizes, reverse=True), "from the finest to the coarsest"


def test_labels_are_listed_and_name_their_image(root: Path) -> None:
    assert attributes(root / "labels")["labels"] == ["mask"]
    label = attributes(root / "labels" / "mask")["image-label"]
    assert (root / "labels" / "mask" / label["source"]["image"]).resolve() == root.resolve()
    colors = {color["label-value"]: color["rgba"] for color in label["colors"]}
    assert len(colors) == len(label["colors"]), "label values are unique"
    assert colors == {i: [*c.color, 255] for i, c in enumerate(BCSS.classes)}
    assert [p["label-value"] for p in label["properties"]] == [0, 1, 2, 3]
    assert zarr.open_array(str(root / "labels" / "mask" / "0"), mode="r").dtype.kind in "ui"


def test_channels_are_the_classes(root: Path) -> None:
    channels = attributes(root)["omero"]["channels"]
    assert [c["label"] for c in channels] == [c.name for c in BCSS.classes]
    for channel in channels:
        assert len(channel["color"]) == 6
        assert {"start", "end", "min", "max"} <= set(channel["window"])


def test_ome_zarr_reads_it(root: Path) -> None:
    pytest.importorskip("ome_zarr")
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    image, *_, mask = Reader(parse_url(str(root)))()
    assert image.metadata["channel_names"] == [c.name for c in BCSS.classes]
    assert mask.data[0].shape == (700, 1200)
    assert np.asarray(mask.data[1][0, :3]).tolist() == [0, 2, 4]
    assert mask.metadata["color"][0] == [1.0, 0.0, 0.0, 1.0]
