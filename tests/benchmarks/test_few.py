"""Few tiles: whole patients one after the other, and a page that tells what was run and what was not."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from benchmarks.few.arms import ARMS, labelled, patients
from benchmarks.few.page import page
from lpd.classes import BCSS
from lpd.data.dataset_info import DatasetInfo
from lpd.data.tiles import TileFile, TileSet


@pytest.fixture
def tiles(tmp_path: Path) -> TileSet:
    """Of five patients four tiles each, so named that files of a patient do not stand together."""
    files = []
    for place in range(4):
        for patient in "ABCDE":
            path = tmp_path / f"s{place}-TCGA-{patient}0-0001_x0_y{place}[1000].png"
            Image.new("RGB", (8, 8)).save(path)
            files.append(TileFile(path, None, (True, False, False, False)))
    return TileSet(DatasetInfo("five", 1.0, BCSS, 4), "train", files)


def test_all_tiles_of_a_patient_come_before_those_of_the_next(tiles: TileSet) -> None:
    for seed in range(5):
        for count, people in ((3, 1), (4, 1), (5, 2), (12, 3), (20, 5)):
            found = labelled(tiles, count, seed)
            assert (len(found.files), patients(found)) == (count, people)
    assert labelled(tiles, None, 0) is tiles
    chosen = {tuple(file.image.name for file in labelled(tiles, 8, seed).files) for seed in range(6)}
    assert len(chosen) > 1  # the seed decides whose


def test_the_page_says_what_is_missing() -> None:
    assert "Not measured yet" in page([])
    gate = {"miou": 0.5, "iou": {"TUM": 0.25, "OTH": 0.75}}
    first, *others = ARMS
    record = {
        "data": "x", "arm": first, "seed": 0, "tiles": 50, "patients": 7, "valid": [70, 13], "epochs": 8,
        "gates": {"predicted": gate, "oracle": gate}, "starts": ["a", "b"], "cpu_seconds": 90,
    }  # fmt: skip
    text = page([record])
    assert f"| {first} | 1 | 7 | 8 | **50.0** | 25.0 | 75.0 | 50.0 | 1.5 |" in text
    assert f"Not or not fully run: {'; '.join(others)}." in text
