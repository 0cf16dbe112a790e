"""The phantom tile set: layout, labels, masks, mixture of classes, and how little colour alone tells."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from lpd.classes import BCSS
from lpd.data.phantom import TileSetSpec, write_phantom_tiles
from lpd.data.phantom.tiles import LABEL_SHARE, Tile, case_tiles
from lpd.errors import ConfigError, DatasetError

SPEC = TileSetSpec(train=6, valid=3, test=2, seed=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom") / "set"
    write_phantom_tiles(folder, SPEC, workers=2)
    return folder


@pytest.fixture(scope="module")
def tiles() -> list[Tile]:
    """Tiles of two cases."""
    return [tile for split in ("train", "valid") for tile in case_tiles(SPEC, split, 0, 40)]


def test_files_are_in_place(folder: Path) -> None:
    train = sorted((folder / "train").iterdir())
    assert len(train) == SPEC.train
    assert all(re.search(r"\[[01]{4}\]\.png$", path.name) and "[0000]" not in path.name for path in train)
    for split, count in (("valid", SPEC.valid), ("test", SPEC.test)):
        images = [path.name for path in sorted((folder / split / "img").iterdir())]
        assert images == [path.name for path in sorted((folder / split / "mask").iterdir())]
        assert len(images) == count
    with Image.open(train[0]) as image:
        assert (image.mode, image.size) == ("RGB", (224, 224))
    with Image.open(next((folder / "valid" / "mask").iterdir())) as picture:
        mask = np.asarray(picture)
    assert (mask.shape, mask.dtype) == ((224, 224), np.uint8)
    assert mask.max() <= BCSS.background


def test_description_says_what_file_names_cannot(folder: Path) -> None:
    data = yaml.safe_load((folder / "dataset.yaml").read_text(encoding="utf-8"))
    assert [c["code"] for c in data["classes"]] == list(BCSS.codes)
    assert (data["mpp"], data["background"]) == (1.0, 4)
    assert "synthetic" in data["name"]


def test_splits_share_no_case(folder: Path) -> None:
    cases = [
        {path.name.split("_")[0] for path in (folder / part).iterdir()} for part in ("train", "valid/img", "test/img")
    ]
    assert not cases[0] & cases[1]
    assert not cases[0] & cases[2]
    assert not cases[1] & cases[2]


def test_result_does_not_depend_on_workers(folder: Path, tmp_path: Path) -> None:
    write_phantom_tiles(tmp_path / "one", SPEC, workers=1)
    files = sorted(path.relative_to(folder) for path in folder.rglob("*.png"))
    assert files == sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.png"))
    for file in files:
        assert (folder / file).read_bytes() == (tmp_path / "one" / file).read_bytes()


def test_labels_say_what_the_mask_holds(tiles: list[Tile]) -> None:
    for tile in tiles:
        for value, digit in enumerate(tile.labels):
            assert (digit == "1") == ((tile.mask == value).sum() >= LABEL_SHARE * 224 * 224)


def test_label_threshold_counts_the_whole_tile() -> None:
    mask = np.full((100, 100), 4, np.uint8)
    mask[0] = 0  # 1 %
    mask[1:4] = 2  # exactly 3 %
    assert Tile("t", np.zeros((100, 100, 3), np.uint8), mask).labels == "0010"


def test_mixture_of_classes(tiles: list[Tile]) -> None:
    counts = np.bincount([tile.labels.count("1") for tile in tiles], minlength=5)
    assert counts[0] == 0
    assert (counts[1:] > 0).all()
    assert counts[1:4].sum() > 0.75 * len(tiles)
    for value in range(BCSS.count):
        assert sum(tile.labels[value] == "1" for tile in tiles) > 0.15 * len(tiles)
    glass = np.array([(tile.mask == BCSS.background).mean() for tile in tiles])
    assert 0 < (glass > 0.1).mean() < 0.4


def test_mask_fits_the_image(tiles: list[Tile]) -> None:
    """Glass is the brightest, and the image's own glass border agrees with the mask's better than when shifted."""
    for tile in sorted(tiles, key=lambda t: -(t.mask == BCSS.background).sum())[:5]:
        bright, glass = tile.image.min(-1) > 215, tile.mask == BCSS.background
        agreement = {step: (np.roll(bright, step, (0, 1)) == glass).mean() for step in (-4, 0, 4)}
        assert agreement[0] > max(agreement[-4], agreement[4])
        assert tile.image[glass].mean() > 225


def test_colour_alone_does_not_tell_the_classes_apart(tiles: list[Tile]) -> None:
    """Nearest mean colour, with the means of the very case it is tried on, stays far from the truth on tissue."""
    for case in ("train00", "valid00"):
        mine = [tile for tile in tiles if case in tile.name]
        image = np.stack([tile.image for tile in mine]).astype(np.float64)
        mask = np.stack([tile.mask for tile in mine])
        means = np.stack([image[mask == value].mean(0) for value in range(BCSS.count)])
        tissue = mask < BCSS.background
        guess = ((image[tissue][:, None] - means) ** 2).sum(-1).argmin(1)
        assert (guess == mask[tissue]).mean() < 0.65


def test_existing_folder_is_kept(folder: Path, tmp_path: Path) -> None:
    before = sorted(folder.rglob("*"))
    with pytest.raises(DatasetError, match="--force"):
        write_phantom_tiles(folder, SPEC)
    assert sorted(folder.rglob("*")) == before
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(DatasetError, match="not a phantom"):
        write_phantom_tiles(tmp_path, SPEC, force=True)
    assert (tmp_path / "precious.txt").read_text() == "mine"


def test_force_replaces_and_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "set"
    small = TileSetSpec(train=1, valid=0, test=0, seed=SPEC.seed, tile_px=64)
    write_phantom_tiles(target, small)
    stale = target / "train" / "stale.png"
    stale.touch()
    monkeypatch.setattr(Tile, "labels", property(lambda _self: 1 / 0))
    with pytest.raises(ZeroDivisionError):
        write_phantom_tiles(target, small, force=True)
    assert stale.exists()
    monkeypatch.undo()
    write_phantom_tiles(target, small, force=True)
    assert not stale.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize("name", ["file/set", "a" * 256])
@pytest.mark.parametrize("force", [False, True])
def test_a_place_that_cannot_be_written_is_a_sentence(tmp_path: Path, name: str, force: bool) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match=r"cannot write .*choose another folder"):
        write_phantom_tiles(tmp_path / name, SPEC, force=force)


def test_a_number_of_workers_out_of_range_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="0 workers: 1 to 256"):
        write_phantom_tiles(tmp_path / "set", SPEC, workers=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": -1}, "negative"),
        ({"train": 0, "valid": 0, "test": 0}, "above 0"),
        ({"seed": -1}, "seed -1"),
        ({"tile_px": 8}, "8 px"),
        ({"mpp": 0.7}, r"0\.7 µm/px"),
        ({"mpp": 0.0}, "µm/px"),
    ],
)
def test_bad_requests_are_named(change: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TileSetSpec.from_dict({**SPEC.to_dict(), **change})
