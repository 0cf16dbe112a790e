"""Areas per class: counted, in mm² and percent, also when there is nothing to count."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from lpd.classes import BCSS
from lpd.errors import ResultError
from lpd.export import source
from lpd.export.areas import ClassArea, area_cell, area_text, areas, write_areas_csv

from .conftest import HandMade, HandMadeMeta, blobs


def quarters() -> HandMade:
    mask = np.full((100, 100), 4, np.uint8)
    mask[:50, :50] = 0  # 2500
    mask[:50, 50:80] = 3  # 1500
    mask[60:, :] = 255
    return HandMade(mask, HandMadeMeta(100, 100, scale=1.0, mask_mpp=2.0))


def test_counts_squares() -> None:
    tumour, stroma, _, necrosis = areas(quarters())
    assert tumour == ClassArea("TUM", "Tumour", (255, 0, 0), pytest.approx(0.01), pytest.approx(62.5), 2500)
    assert necrosis.area_mm2 == pytest.approx(0.006)
    assert necrosis.percent_of_tissue == pytest.approx(37.5)
    assert (stroma.pixels, stroma.area_mm2, stroma.percent_of_tissue) == (0, 0, 0)


@pytest.mark.parametrize(
    ("mm2", "cell", "text"),
    [
        (0.0, "0.00", "0 mm²"),
        (0.0000004, "0.4 µm²", "0.4 µm²"),
        (0.000834, "834 µm²", "834 µm²"),
        (0.0099994, "9,999 µm²", "9,999 µm²"),
        (0.1 * 0.1, "0.01", "0.010 mm²"),
        (12.345, "12.35", "12.35 mm²"),
    ],
)
def test_small_areas_are_told_in_square_micrometres(mm2: float, cell: str, text: str) -> None:
    assert (area_cell(mm2, 2), area_text(mm2)) == (cell, text)


@pytest.mark.parametrize("value", [4, 255])
def test_no_tissue(value: int) -> None:
    rows = areas(HandMade(np.full((5, 5), value, np.uint8)))
    assert [row.code for row in rows] == list(BCSS.codes)
    assert all(row.percent_of_tissue == 0 and row.area_mm2 == 0 for row in rows)


def test_blocks_count_every_pixel_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "BLOCK_PX", 32)
    store = HandMade(blobs(100, 130, 7))
    assert [row.pixels for row in areas(store)] == np.bincount(store.mask.ravel(), minlength=4)[:4].tolist()
    assert store.largest == 32 * 32


def test_csv(tmp_path: Path) -> None:
    write_areas_csv(quarters(), tmp_path / "areas.csv")
    with (tmp_path / "areas.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["code"] for row in rows] == ["TUM", "STR", "LYM", "NEC", "TISSUE"]
    assert rows[0] == {
        "slide": "hand-made",
        "code": "TUM",
        "name": "Tumour",
        "color": "#ff0000",
        "area_mm2": "0.010000",
        "percent_of_tissue": "62.5000",
        "pixels": "2500",
    }
    assert (rows[4]["area_mm2"], rows[4]["percent_of_tissue"], rows[4]["pixels"]) == ("0.016000", "100.0000", "4000")


def test_csv_without_tissue(tmp_path: Path) -> None:
    write_areas_csv(HandMade(np.full((5, 5), 4, np.uint8)), tmp_path / "areas.csv")
    assert (tmp_path / "areas.csv").read_text(encoding="utf-8").splitlines()[-1].endswith("0.000000,0.0000,0")


def test_csv_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ResultError, match=r"areas\.csv"):
        write_areas_csv(quarters(), tmp_path / "file" / "areas.csv")
