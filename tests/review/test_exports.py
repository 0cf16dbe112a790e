"""Corrections as files: the corrected mask, its areas, labels to train on, and GeoJSON that shapely reads."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import shapely
import tifffile

from lpd.cli import main
from lpd.review.review import Review

from .conftest import SCALE, MakeStore, blobs


@pytest.fixture
def reviewed(make_store: MakeStore) -> tuple[Path, np.ndarray, np.ndarray]:
    """Folder, mask, and what people say of it: two strokes that overlap, one that was erased in part, one undone."""
    mask = blobs(300, 601, 2, 20)
    review = Review(make_store(mask))
    expected = np.full(mask.shape, 255, np.uint8)
    ys, xs = np.mgrid[0:300, 0:601] + 0.5
    for author, x, y, radius, value in (
        ("anna", 80, 90, 60, 1),
        ("bén", 130, 90, 40, 0),
        ("anna", 500, 200, 50, 4),
        ("anna", 500, 200, 20, None),
    ):
        review.paint(author, [(x * SCALE, y * SCALE)], radius, value, since=99)
        where = np.hypot(xs - x, ys - y) <= radius
        expected[where & (mask != 255)] = 255 if value is None else value
    review.paint("anna", [(300 * SCALE, 200 * SCALE)], 30, 2, since=99)
    review.undo("anna")
    return review.store.folder, mask, expected


def export(*arguments: object) -> int:
    return main(["export", *map(str, arguments)])


def test_corrected_mask_and_labels(reviewed: tuple[Path, np.ndarray, np.ndarray]) -> None:
    folder, mask, said = reviewed
    assert export(folder, "--corrected", "--ome-tiff", "--areas", "--labels") == 0
    corrected = np.where(said == 255, mask, said)
    for name, expected, unknown in (
        ("corrected-mask.ome.tif", corrected, "not computed"),
        ("labels.ome.tif", said, "not reviewed"),
    ):
        with tifffile.TiffFile(folder / name) as tiff:
            for number, level in enumerate(tiff.series[0].levels):
                assert (level.asarray() == expected[:: 2**number, :: 2**number]).all()
            assert f'<M K="255">{unknown}</M>' in tiff.ome_metadata
            judged, tissue = ((mask < 4) & (said != 255)).sum(), (mask < 4).sum()
            share = np.floor(1000 * judged / tissue + 0.5) / 10
            assert f"Reviewed by anna, bén: {share:.1f} % of the tissue" in tiff.ome_metadata
    with (folder / "corrected-areas.csv").open() as file:
        rows = {row["code"]: int(row["pixels"]) for row in csv.DictReader(file)}
    assert rows["TUM"] == (corrected == 0).sum()
    assert rows["TISSUE"] == (corrected < 4).sum()
    assert not (folder / "mask.ome.tif").exists()


def test_corrections_alone_as_geojson(reviewed: tuple[Path, np.ndarray, np.ndarray], tmp_path: Path) -> None:
    folder, _, said = reviewed
    assert export(folder, "--corrections", tmp_path / "c.geojson") == 0
    features = json.loads((tmp_path / "c.geojson").read_text())["features"]
    assert [(f["properties"]["kind"], f["properties"]["author"]) for f in features] == [
        ("brush", "anna"),
        ("brush", "bén"),
        ("brush", "anna"),
    ]
    names = [f["properties"]["classification"]["name"] for f in features]
    assert names == ["Stroma", "Tumor", "Background"]
    assert all(f["properties"]["time"].endswith("+00:00") for f in features)
    shapes = [shapely.from_geojson(json.dumps(f["geometry"])) for f in features]
    assert all(shape.is_valid for shape in shapes)
    assert not shapes[0].intersection(shapes[1]).area
    ys, xs = np.mgrid[0:300, 0:601] + 0.5
    for shape, value in zip(shapes, (1, 0, 4), strict=True):
        assert (shapely.contains_xy(shape, xs * SCALE, ys * SCALE) == (said == value)).all()
        assert shape.area == (said == value).sum() * SCALE**2


def test_without_a_review_it_says_so(make_store: MakeStore, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_store(np.ones((40, 40), np.uint8)).folder
    for flags in (["--corrected", "--ome-tiff"], ["--labels"], ["--corrections"]):
        assert export(folder, *flags) == 1
        assert "has no corrections by people: review it in the app first" in capsys.readouterr().err
    assert export(folder, "--corrected") == 1
    assert "nothing is asked for" in capsys.readouterr().err
    assert export(folder, "--corrected", "--labels") == 1
    assert "--corrected says what to write: pass one of --geojson" in capsys.readouterr().err
