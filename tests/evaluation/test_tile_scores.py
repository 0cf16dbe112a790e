"""Scores of tiles: written, read back, compared, and refused where they do not fit."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lpd.errors import DatasetError, ResultError, RunError
from lpd.evaluation.files import check_writable, write_text
from lpd.evaluation.tile_scores import TileScore, TileScores, compare, group_of, read_tile_scores, write_tile_scores


def scores(*counts: list[list[int]], model: str = "a.safetensors") -> TileScores:
    tiles = tuple(TileScore(f"s_x{i}_y0.png", f"g{i}", np.array(c)) for i, c in enumerate(counts))
    return TileScores(model, "toy", "valid", "0123456789abcdef", ("AAA", "BBB"), tiles)


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("OC-040-TCGA-B1-A47O-kidney_x200_y400.png", "TCGA-B1-A47O"),
        ("LUAD-T03_x0_y81.png", "LUAD-T03"),
        ("387709-16984-60168-[1 0 0 1].png", "387709"),
        ("7.png", "7.png"),
    ],
)
def test_groups_by_name(name, group):
    assert group_of(name) == group


def test_what_is_written_is_read_back(tmp_path):
    written = scores([[3, 1], [0, 4]], [[0, 0], [0, 0]])
    path = tmp_path / "tiles.json"
    write_tile_scores(path, written)
    found = read_tile_scores(path)
    assert found.codes == ("AAA", "BBB")
    assert (found.model, found.data, found.split, found.fingerprint) == (
        "a.safetensors",
        "toy",
        "valid",
        "0123456789abcdef",
    )
    assert found.counts.tolist() == written.counts.tolist()
    assert found.groups == ["g0", "g1"]
    assert [tile.name for tile in found.tiles] == ["s_x0_y0.png", "s_x1_y0.png"]
    assert len(path.read_text().splitlines()) < 10  # a line a tile, not a line a number
    entries = json.loads(path.read_text())["tiles"]
    assert entries[0]["miou"] == pytest.approx((3 / 4 + 4 / 5) / 2)
    assert entries[1]["miou"] is None


def test_scores_of_a_tile_by_hand():
    tile = scores([[3, 1], [0, 4]]).tiles[0]
    assert tile.miou == pytest.approx((3 / 4 + 4 / 5) / 2)
    assert tile.accuracy == pytest.approx(7 / 8)
    assert math.isnan(scores([[0, 0], [0, 0]]).tiles[0].miou)


def test_two_models_are_compared_on_the_same_tiles():
    ours = scores([[9, 1], [0, 0]], [[9, 1], [0, 0]])
    other = scores([[5, 5], [0, 0]], [[5, 5], [0, 0]], model="b.safetensors")
    # Class BBB is never true and invented by both: it counts 0 for both.
    expected = pytest.approx(0.2)
    assert compare(ours, other) == {"model": "b.safetensors", "difference": expected, "low": expected, "high": expected}


@pytest.mark.parametrize("change", [{"fingerprint": "f" * 16}, {"codes": ("AAA", "CCC")}])
def test_scores_of_other_tiles_or_classes_are_refused(change):
    ours = scores([[9, 1], [0, 0]])
    with pytest.raises(DatasetError, match=r"b.safetensors was scored on valid of 'toy' .*: evaluate both on the same"):
        compare(ours, replace(ours, model="b.safetensors", **change))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format_version": 1, "model": "", "data": "", "split": "", "fingerprint": "", "classes": ["A"], "tiles": []}',
        '{"format_version": 1, "model": "", "data": "", "split": "", "fingerprint": "", "classes": ["A"], '
        '"tiles": [{"name": "", "group": "", "counts": [[1, 2], [3, 4]]}]}',
        '{"format_version": 1, "model": "", "data": "", "split": "", "fingerprint": "", "classes": ["A"], '
        '"tiles": [{"name": "", "group": "", "counts": [[-1]]}]}',
        '{"format_version": 1, "model": "", "data": "", "split": "", "fingerprint": "", "classes": ["A"], '
        '"tiles": [{"name": "", "group": "", "counts": [[1e99]]}]}',
    ],
)
def test_a_foreign_file_is_refused(tmp_path, text):
    path = tmp_path / "tiles.json"
    path.write_text(text)
    with pytest.raises(ResultError, match=r"tiles\.json holds no scores of tiles"):
        read_tile_scores(path)


def test_another_version_or_a_missing_file_is_refused(tmp_path):
    path = tmp_path / "tiles.json"
    with pytest.raises(ResultError, match="cannot be read"):
        read_tile_scores(path)
    path.write_text('{"format_version": 2}')
    with pytest.raises(ResultError, match="format 2 and this version of lpd reads 1"):
        read_tile_scores(path)


def test_a_folder_that_cannot_be_written_is_found_out_before_the_work(tmp_path: Path):
    check_writable(tmp_path / "new" / "folder")
    assert list((tmp_path / "new" / "folder").iterdir()) == []
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(RunError, match=r"cannot write .*file"):
            check_writable(folder)
        with pytest.raises(RunError, match=r"cannot write .*file"):
            write_text(folder / "report.md", "text")
