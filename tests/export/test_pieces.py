"""Areas by piece of tissue: counted by hand, and the same whatever the blocks."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from lpd.errors import ResultError
from lpd.export import source
from lpd.export.pieces import piece_counts, write_pieces_csv
from lpd.slide.pieces import find_pieces
from lpd.slide.tissue import TissueMask

from .conftest import HandMade, HandMadeMeta, blobs

CELL = 16  # level-0 pixels, 8 mask pixels, 8 µm


def two_pieces() -> tuple[HandMade, TissueMask]:
    """Pieces of 40 x 40 cells at (10, 20) and (70, 10), a speck at (5, 90); 100 rows and 120 columns of cells."""
    cells = np.zeros((100, 120), bool)
    cells[20:60, 10:50] = cells[10:50, 70:110] = cells[90:92, 5:7] = True
    mask = np.full((800, 960), 4, np.uint8)
    mask[160:480, 80:400], mask[160:240, 80:400] = 1, 0  # the first: a quarter tumour, the rest stroma
    mask[80:400, 560:880] = 255
    mask[100:200, 600:700] = 3  # of the second only so much
    mask[720:736, 40:56] = 2
    return HandMade(mask, HandMadeMeta(1920, 1600)), TissueMask(cells, 1920, 1600, 0.5)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_line_for_each_piece_and_class(tmp_path: Path) -> None:
    store, tissue = two_pieces()
    write_pieces_csv(store, find_pieces(tissue), tmp_path / "pieces.csv")
    lines = rows(tmp_path / "pieces.csv")
    assert [(r["piece"], r["code"]) for r in lines] == [(p, c) for p in "12" for c in ("TUM", "STR", "LYM", "NEC")]
    assert lines[0] == {
        "slide": "hand-made",
        "piece": "1",
        "x_l0": "160",
        "y_l0": "320",
        "width_l0": "640",
        "height_l0": "640",
        "centroid_x_mm": "0.2400",
        "centroid_y_mm": "0.3200",
        "code": "TUM",
        "name": "Tumour",
        "area_mm2": "0.025600",
        "percent_of_piece_tissue": "25.0000",
    }
    assert (lines[1]["area_mm2"], lines[1]["percent_of_piece_tissue"]) == ("0.076800", "75.0000")
    assert (lines[7]["area_mm2"], lines[7]["percent_of_piece_tissue"]) == ("0.010000", "100.0000")
    assert {r["area_mm2"] for r in (*lines[2:4], *lines[4:7])} == {"0.000000"}


def test_a_piece_that_nobody_segmented_is_left_out(tmp_path: Path) -> None:
    store, tissue = two_pieces()
    store.mask[80:400, 560:880] = 255
    write_pieces_csv(store, find_pieces(tissue), tmp_path / "pieces.csv")
    assert {r["piece"] for r in rows(tmp_path / "pieces.csv")} == {"1"}


@pytest.mark.parametrize("block_px", [100, 333, 2048])
def test_pixels_are_counted_once_each(monkeypatch: pytest.MonkeyPatch, block_px: int) -> None:
    """At 0.499 µm/px nothing divides evenly, and the mask reaches past the slide."""
    monkeypatch.setattr(source, "BLOCK_PX", block_px)
    cells = np.zeros((70, 90), bool)
    cells[5:40, 5:40] = cells[30:70, 50:90] = True
    tissue = TissueMask(cells, 1443, 1121, 0.499)
    mask = blobs(560, 721, 2, 7)
    store = HandMade(mask, HandMadeMeta(1443, 1121, scale=1 / 0.499, slide_mpp=0.499))
    counts = piece_counts(store, find_pieces(tissue))
    expected = np.zeros_like(counts)
    for y in range(560):
        cell_y = min(int((y + 0.5) / 0.499 * 70 / 1121), 69)
        for x in range(721):
            cell_x = min(int((x + 0.5) / 0.499 * 90 / 1443), 89)
            piece = 0 if not cells[cell_y, cell_x] else 1 if cell_x < 40 else 2
            expected[piece, mask[y, x]] += 1
    np.testing.assert_array_equal(counts, expected)
    assert counts.sum() == mask.size


def test_no_more_than_a_block_is_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "BLOCK_PX", 128)
    store, tissue = two_pieces()
    piece_counts(store, find_pieces(tissue))
    assert store.largest == 128 * 128


def test_cannot_be_written(tmp_path: Path) -> None:
    store, tissue = two_pieces()
    (tmp_path / "file").touch()
    with pytest.raises(ResultError, match=r"pieces\.csv"):
        write_pieces_csv(store, find_pieces(tissue), tmp_path / "file" / "pieces.csv")
