"""Tile sets on disk: both spellings, labels, masks, and what a user reads when a file is wrong."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lpd.data.dataset_info import read_info
from lpd.data.tiles import TileSet, parse_label, read_image
from lpd.errors import DatasetError

YAML = """\
name: toy
mpp: 1.0
classes:
  - {code: AAA, name: First, color: [255, 0, 0]}
  - {code: BBB, name: Second, color: [0, 255, 0]}
background: 9
ignore: 200
licence: synthetic
"""


def write_png(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def tile(value: int, px: int = 32) -> np.ndarray:
    return np.full((px, px, 3), value, dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "dataset.yaml").write_text(YAML)
    write_png(tmp_path / "train" / "b[01].png", tile(20))
    write_png(tmp_path / "train" / "a[11].png", tile(10))
    write_png(tmp_path / "valid" / "img" / "v0.png", tile(30))
    mask = np.zeros((32, 32), dtype=np.uint8)
    mask[0], mask[1], mask[2] = 1, 9, 200
    write_png(tmp_path / "valid" / "mask" / "v0.png", mask)
    return tmp_path


def test_train_tiles_come_sorted_with_labels_from_their_names(folder):
    tiles = TileSet.open(folder, "train")
    assert [f.image.name for f in tiles.files] == ["a[11].png", "b[01].png"]
    np.testing.assert_array_equal(tiles.labels, [[True, True], [False, True]])
    images = tiles.images([1, 0])
    assert images.shape == (2, 32, 32, 3)
    assert images.dtype == np.uint8
    assert (images[0] == 20).all()
    assert (images[1] == 10).all()


def test_masks_arrive_in_the_values_of_the_scheme_and_give_the_labels(folder):
    tiles = TileSet.open(folder, "valid")
    mask = tiles.mask(0)
    assert [int(mask[row, 0]) for row in range(4)] == [1, tiles.info.scheme.background, 255, 0]
    np.testing.assert_array_equal(tiles.labels, [[True, True]])


def test_a_pure_red_tile_arrives_as_channel_0(folder):
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 255
    write_png(folder / "train" / "a[11].png", red)
    image = TileSet.open(folder, "train").images([0])[0]
    assert image[..., 0].min() == 255
    assert image[..., 1:].max() == 0


@pytest.mark.parametrize(("split", "before", "after"), [("train", "train", "training"), ("valid", "valid", "val")])
def test_both_spellings_of_a_split(folder, split, before, after):
    (folder / before).rename(folder / after)
    assert len(TileSet.open(folder, split)) >= 1


def test_without_memory_the_same_pixels_are_decoded_anew(folder):
    tiles = TileSet.open(folder, "train", cache_bytes=0)
    np.testing.assert_array_equal(tiles.images([0, 1]), TileSet.open(folder, "train").images([0, 1]))
    write_png(folder / "train" / "a[11].png", tile(77))
    assert (tiles.images([0]) == 77).all()


def test_a_link_to_nowhere_names_the_file(folder):
    (folder / "train" / "zz[11].png").symlink_to("/nonexistent")
    with pytest.raises(DatasetError, match=r"zz\[11\]\.png is a folder, or a link to a file that is not there"):
        TileSet.open(folder, "train")


def test_a_name_that_is_no_text_is_refused(folder):
    write_png(Path(os.fsdecode(bytes(folder / "train") + b"/t\xff[11].png")), tile(0))
    with pytest.raises(DatasetError, match="name is not UTF-8"):
        TileSet.open(folder, "train")


def test_a_file_that_goes_away_is_named(folder):
    tiles = TileSet.open(folder, "train")
    tiles.files[0].image.unlink()
    with pytest.raises(DatasetError, match=r"a\[11\]\.png cannot be looked at"):
        tiles.fingerprint()


def test_transparent_tiles_are_refused_and_opaque_ones_are_not(folder):
    pixels = np.dstack([tile(90), np.full((32, 32), 255, np.uint8)])
    path = folder / "train" / "a[11].png"
    write_png(path, pixels)
    assert (TileSet.open(folder, "train").images([0]) == 90).all()
    pixels[3, 4, 3] = 254
    write_png(path, pixels)
    with pytest.raises(DatasetError, match=r"a\[11\]\.png is transparent in places, .* flatten it"):
        TileSet.open(folder, "train")


def test_tiles_and_masks_are_turned_as_their_tag_says(tmp_path):
    pixels = np.arange(16, dtype=np.uint8).reshape(4, 4)
    picture, tag = Image.fromarray(pixels), Image.Exif()
    tag[0x0112] = 6  # the top of the picture is on the right
    picture.save(tmp_path / "turned.png", exif=tag)
    np.testing.assert_array_equal(read_image(tmp_path / "turned.png", None), np.rot90(pixels, -1))


def test_fingerprint_follows_the_files_not_the_place(folder, tmp_path):
    before = TileSet.open(folder, "train").fingerprint()
    moved = tmp_path.parent / f"{tmp_path.name}-moved"
    folder.rename(moved)
    assert TileSet.open(moved, "train").fingerprint() == before
    write_png(moved / "train" / "c[10].png", tile(3))
    assert TileSet.open(moved, "train").fingerprint() != before


@pytest.mark.parametrize(
    ("name", "says"),
    [("x[1].png", "1 label digits.*rename it"), ("x[101].png", "3 label digits"), ("x.png", "no label")],
)
def test_a_wrong_digit_count_names_the_file(folder, name, says):
    write_png(folder / "train" / name, tile(0))
    with pytest.raises(DatasetError, match=says) as caught:
        TileSet.open(folder, "train")
    assert name in str(caught.value)


def test_an_all_background_tile_is_a_legal_negative():
    assert parse_label(Path("x[00].png"), 2) == (False, False)


@pytest.mark.parametrize("name", ["x[1 0 1].png", "x[1, 0, 1].png", "x[1,0,1].PNG"])
def test_digits_may_stand_apart(name):
    assert parse_label(Path(name), 3) == (True, False, True)


def test_upper_case_suffixes_count(folder):
    (folder / "train" / "a[11].png").rename(folder / "train" / "a[11].PNG")
    assert [f.image.name for f in TileSet.open(folder, "train").files] == ["a[11].PNG", "b[01].png"]


def test_sixteen_bit_tiles_and_masks_are_refused(folder):
    write_png(folder / "train" / "a[11].png", np.full((32, 32), 1000, np.uint16))
    with pytest.raises(DatasetError, match=r"a\[11\]\.png has more than 8 bits .*save it as an 8-bit PNG"):
        TileSet.open(folder, "train")
    write_png(folder / "valid" / "mask" / "v0.png", np.zeros((32, 32), np.uint16))
    with pytest.raises(DatasetError, match=r"v0\.png has more than 8 bits"):
        TileSet.open(folder, "valid").mask(0)


def test_one_bit_masks_hold_classes_0_and_1(folder):
    values = np.zeros((32, 32), dtype=bool)
    values[3] = True
    write_png(folder / "valid" / "mask" / "v0.png", values)
    np.testing.assert_array_equal(TileSet.open(folder, "valid").mask(0), values.astype(np.uint8))


def test_a_tile_too_large_to_decode_is_refused(folder):
    Image.new("1", (20_000, 20_000)).save(folder / "train" / "a[11].png")
    with pytest.raises(DatasetError, match=r"a\[11\]\.png cannot be read.*replace or remove"):
        TileSet.open(folder, "train")


def test_a_mask_of_another_size_is_refused(folder):
    write_png(folder / "valid" / "mask" / "v0.png", np.zeros((16, 16), np.uint8))
    with pytest.raises(DatasetError, match="16 × 16 px but its tile has 32 × 32: cut both alike"):
        TileSet.open(folder, "valid").mask(0)


def test_a_missing_mask_names_the_file(folder):
    write_png(folder / "valid" / "img" / "v1.png", tile(0))
    with pytest.raises(DatasetError, match=r"v1\.png has no mask"):
        TileSet.open(folder, "valid")


def test_a_corrupt_tile_names_the_file(folder):
    path = folder / "train" / "b[01].png"
    path.write_bytes(path.read_bytes()[:60])
    tiles = TileSet.open(folder, "train")
    with pytest.raises(DatasetError, match=r"b\[01\]\.png cannot be read"):
        tiles.images([1])


def test_tiles_of_another_size_are_refused(folder):
    write_png(folder / "train" / "b[01].png", tile(0, px=64))
    with pytest.raises(DatasetError, match="64 × 64 px but the first tile is 32 × 32"):
        TileSet.open(folder, "train").images([1])


def test_a_mask_value_that_is_no_class_is_refused(folder):
    write_png(folder / "valid" / "mask" / "v0.png", np.full((32, 32), 7, np.uint8))
    with pytest.raises(DatasetError, match="holds the value 7"):
        TileSet.open(folder, "valid").mask(0)


def test_a_colour_mask_is_refused(folder):
    write_png(folder / "valid" / "mask" / "v0.png", tile(0))
    with pytest.raises(DatasetError, match="colour image"):
        TileSet.open(folder, "valid").mask(0)


def test_train_tiles_have_no_masks(folder):
    with pytest.raises(DatasetError, match="image-level labels only"):
        TileSet.open(folder, "train").mask(0)


@pytest.mark.parametrize("split", ["train", "valid"])
def test_an_empty_split_is_refused(folder, split):
    for path in folder.rglob("*.png"):
        path.unlink()
    with pytest.raises(DatasetError, match="no PNG tiles"):
        TileSet.open(folder, split)


@pytest.mark.parametrize("split", ["test", "tests"])
def test_an_absent_or_unknown_split_is_refused(folder, split):
    with pytest.raises(DatasetError, match=split):
        TileSet.open(folder, split)


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("mpp: 1.0\n", "", "lacks 'mpp'"),
        ("mpp: 1.0", "mpp: 0", "between 0.01 and 100"),
        ("mpp: 1.0", f"mpp: 1{'0' * 400}", "cannot be used"),
        ("background: 9", "background: 1", "differ from each other and from the classes"),
        ("background: 9", "background: 300", "value 300 for background: give a whole number from 0 to 255"),
        ("background: 9", "background: 2.7", "value 2.7 for background"),
        ("background: 9", "background: yes", "value True for background"),
        ("ignore: 200", "ignore: -1", "value -1 for ignore: give a whole number from 0 to 255"),
        ("ignore: 200", "ignore: 256", "value 256 for ignore"),
        ("ignore: 200", "ignore: .inf", "value inf for ignore"),
        ("name: Second", "title: Second", "code, name and color"),
        ("licence: synthetic", "license: synthetic", "unknown entry 'license'"),
        ("name: toy", "[", "cannot be read as YAML"),
    ],
)
def test_a_wrong_dataset_file_says_what_is_wrong(folder, before, after, says):
    (folder / "dataset.yaml").write_text(YAML.replace(before, after))
    with pytest.raises(DatasetError, match=says):
        read_info(folder)


def test_without_dataset_file_the_cure_is_named(folder):
    (folder / "dataset.yaml").unlink()
    with pytest.raises(DatasetError, match="write one with name, mpp"):
        read_info(folder)


@pytest.mark.parametrize(("name", "train", "valid", "classes"), [("luad224", 427, 52, 3), ("ocelot224", 500, 70, 2)])
def test_real_tile_sets_open(real_data, name, train, valid, classes):
    tiles = TileSet.open(real_data / name, "train", cache_bytes=0)
    assert (len(tiles), tiles.labels.shape, tiles.tile_px) == (train, (train, classes), 224)
    masked = TileSet.open(real_data / name, "valid", cache_bytes=0)
    assert len(masked) == valid
    assert set(np.unique(masked.mask(0))) <= {*range(classes + 1), 255}
