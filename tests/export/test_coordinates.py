"""Tile coordinates: counted by hand, in both tools' forms, read back."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from lpd.errors import ConfigError, ResultError
from lpd.export import source
from lpd.export.coordinates import TileWish, tile_coordinates, write_coordinates

from .conftest import HandMade, HandMadeMeta, blobs


def corner() -> HandMade:
    """100 × 60 mask pixels of 1 µm, level 0 of 0.5 µm: tumour in the upper left 30 × 20, stroma right of it to 50."""
    mask = np.full((60, 100), 4, np.uint8)
    mask[:20, :30], mask[:20, 30:50], mask[40:] = 0, 1, 255
    return HandMade(mask, HandMadeMeta(200, 120))


def test_tiles_with_enough_tissue() -> None:
    """Tiles of 20 px at 1 µm are 40 px at level 0."""
    places = tile_coordinates(corner(), TileWish(20, 1.0, min_tissue=0.5))
    assert places.tolist() == [[0, 0], [40, 0], [80, 0]]
    assert places.dtype == np.int64
    # Of the third only half is tissue.
    assert tile_coordinates(corner(), TileWish(20, 1.0, min_tissue=0.51)).tolist() == [[0, 0], [40, 0]]


def test_only_the_named_classes_count() -> None:
    wish = TileWish(20, 1.0, min_tissue=0.5, codes=("STR",))
    assert tile_coordinates(corner(), wish).tolist() == [[40, 0], [80, 0]]
    with pytest.raises(ConfigError, match="'XYZ' is none of this result's: TUM, STR, LYM, NEC"):
        tile_coordinates(corner(), replace(wish, codes=("XYZ",)))


def test_overlap_and_other_scales() -> None:
    """30 px at 0.5 µm are 30 at level 0, half of it in common: columns at 0, 15, … up to the tissue's end at 100."""
    places = tile_coordinates(corner(), TileWish(30, 0.5, 15, 1.0))
    assert places.tolist() == [[x, 0] for x in range(0, 71, 15)]


def test_share_nought_means_any_tissue() -> None:
    places = tile_coordinates(corner(), TileWish(50, 1.0, min_tissue=0))
    assert places.tolist() == [[0, 0]]


@pytest.mark.parametrize("block_px", [17, 2048])
@pytest.mark.parametrize(("tile_px", "mpp", "overlap"), [(7, 1.0, 0), (10, 0.8, 3), (33, 0.5, 11), (90, 1.3, 20)])
def test_shares_are_exact_areas(
    monkeypatch: pytest.MonkeyPatch, block_px: int, tile_px: int, mpp: float, overlap: int
) -> None:
    monkeypatch.setattr(source, "BLOCK_PX", block_px)
    mask = blobs(70, 90, 3, 5)
    # Four level-0 pixels to a mask pixel: counted one by one.
    store = HandMade(mask, HandMadeMeta(360, 280, scale=4.0, slide_mpp=0.25))
    fine = np.kron(mask < 4, np.ones((4, 4), bool))
    side = round(tile_px * mpp / 0.25)
    step = side - round(overlap * mpp / 0.25)
    expected = [
        [x, y]
        for x in range(0, 360, step)
        for y in range(0, 280, step)
        if fine[y : y + side, x : x + side].sum() >= 0.6 * side**2
    ]
    assert tile_coordinates(store, TileWish(tile_px, mpp, overlap, 0.6)).tolist() == expected


def test_as_trident_writes_them(tmp_path: Path) -> None:
    store = corner()
    assert write_coordinates(store, tmp_path / "x" / "s_patches.h5", TileWish(20, 1.0)) == 3
    with h5py.File(tmp_path / "x" / "s_patches.h5") as file:
        data = file["coords"]
        assert data.dtype == np.int64
        assert data[:].tolist() == [[0, 0], [40, 0], [80, 0]]
        attributes = dict(data.attrs)
    assert attributes == {
        "patch_size": 20,
        "patch_size_level0": 40,
        "level0_magnification": 20,
        "target_magnification": 10,
        "overlap": 0,
        "name": "hand-made",
        "savetodir": str(tmp_path / "x"),
        "level0_width": 200,
        "level0_height": 120,
    }
    # TRIDENT's own sum of the side at level 0.
    ratio = attributes["level0_magnification"] / attributes["target_magnification"]
    assert round(attributes["patch_size"] * ratio) == 40


def test_uneven_magnifications_give_tiles_of_this_size(tmp_path: Path) -> None:
    store = HandMade(np.zeros((50, 50), np.uint8), HandMadeMeta(198, 198, scale=1 / 0.2527, slide_mpp=0.2527))
    write_coordinates(store, tmp_path / "t.h5", TileWish(20, 0.5))
    with h5py.File(tmp_path / "t.h5") as file:
        attributes = dict(file["coords"].attrs)
    assert attributes["patch_size_level0"] == 40  # 20 · 0.5 / 0.2527 = 39.57
    assert round(20 * attributes["level0_magnification"] / attributes["target_magnification"]) == 40
    assert attributes["target_magnification"] == 20


def test_as_clam_writes_them(tmp_path: Path) -> None:
    write_coordinates(corner(), tmp_path / "s.h5", TileWish(20, 1.0), "clam")
    with h5py.File(tmp_path / "s.h5") as file:
        attributes = dict(file["coords"].attrs)
        assert len(file["coords"]) == 3
    assert (attributes["patch_level"], attributes["patch_size"], attributes["name"]) == (0, 40, "hand-made")
    assert attributes["level_dim"].tolist() == attributes["downsampled_level_dim"].tolist() == [200, 120]
    assert attributes["downsample"].tolist() == [1, 1]
    assert attributes["save_path"] == str(tmp_path)


def test_places_are_those_of_the_slide_file_itself(tmp_path: Path) -> None:
    store = corner()
    store.meta = replace(store.meta, origin_l0=(1000, 300))
    write_coordinates(store, tmp_path / "s.h5", TileWish(20, 1.0))
    with h5py.File(tmp_path / "s.h5") as file:
        assert file["coords"][:].tolist() == [[1000, 300], [1040, 300], [1080, 300]]
        assert file["coords"].attrs["level0_width"] == 1200


def test_no_tissue_gives_an_empty_file(tmp_path: Path) -> None:
    assert write_coordinates(HandMade(np.full((20, 20), 4, np.uint8)), tmp_path / "s.h5", TileWish(8, 1.0)) == 0
    with h5py.File(tmp_path / "s.h5") as file:
        assert file["coords"].shape == (0, 2)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"tile_px": 0}, "0 px"),
        ({"mpp": 0.0}, "above 0"),
        ({"overlap_px": 256}, "0 to 255"),
        ({"overlap_px": -1}, "0 to 255"),
        ({"min_tissue": 1.5}, "1.5"),
        ({"min_tissue": float("nan")}, "nan"),
    ],
)
def test_bad_wishes_are_named(values: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        TileWish(**values)  # type: ignore[arg-type]


def test_impossible_wishes_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="less than a pixel apart"):
        tile_coordinates(corner(), TileWish(1, 0.1))
    huge = HandMade(np.zeros((2, 2), np.uint8), HandMadeMeta(100_000, 100_000))
    with pytest.raises(ConfigError, match="100000 x 100000 tiles"):
        tile_coordinates(huge, TileWish(1, 0.5))
    (tmp_path / "file").touch()
    with pytest.raises(ResultError, match=r"s\.h5"):
        write_coordinates(corner(), tmp_path / "file" / "s.h5", TileWish(20, 1.0))


def test_without_h5py_the_cure_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ConfigError, match="pip install h5py"):
        write_coordinates(corner(), tmp_path / "s.h5", TileWish(20, 1.0))
