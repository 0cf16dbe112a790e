"""The data set check: a sound set has no findings, each fault exactly its own, and no file ends the check."""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lpd.data.check import DatasetCheck, check_dataset
from lpd.data.check.findings import RULES
from lpd.data.tiles import TileSet
from lpd.errors import ConfigError, DatasetError

PX = 32
YAML = """\
name: toy
mpp: 1.0
classes:
  - {code: AAA, name: First, color: [255, 0, 0]}
  - {code: BBB, name: Second, color: [0, 255, 0]}
background: 9
ignore: 200
"""


def noise(seed: int, px: int = PX) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 200, (px, px, 3), dtype=np.uint8)


def save(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def mask(*rows: int) -> np.ndarray:
    """Values of the first rows; the rest is class 0."""
    values = np.zeros((PX, PX), np.uint8)
    for row, value in enumerate(rows):
        values[row] = value
    return values


@pytest.fixture(scope="module")
def sound_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound") / "toy"
    for index in range(30):
        save(folder / "train" / f"T{index // 3}_x{index}_y0[{('10', '01', '11')[index % 3]}].png", noise(index))
    for index in range(12):
        save(folder / "valid" / "img" / f"V0_x{index}_y0.png", noise(100 + index))
        save(folder / "valid" / "mask" / f"V0_x{index}_y0.png", mask(1, 1, 9, 200))
    (folder / "dataset.yaml").write_text(YAML)
    return folder


@pytest.fixture
def folder(sound_set: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound_set, tmp_path / "toy"))


A_TILE = "train/T0_x0_y0[10].png"
A_VALID, A_MASK = "valid/img/V0_x0_y0.png", "valid/mask/V0_x0_y0.png"


def found(check: DatasetCheck) -> dict[tuple[str, str], list[str]]:
    return {(f.rule, f.split): [item.name for item in f.items] for f in check.findings}


def details(check: DatasetCheck) -> list[str]:
    return [item.detail for finding in check.findings for item in finding.items]


def test_a_sound_set_has_no_findings_and_is_counted(sound_set):
    seen: list[tuple[int, int]] = []
    check = check_dataset(sound_set, lambda done, total: seen.append((done, total)))
    assert found(check) == {}
    assert (check.name, check.mpp, check.classes) == ("toy", 1.0, ("AAA", "BBB"))
    train, valid = check.splits
    assert (train.tiles, train.size, train.cases, train.labelled) == (30, (PX, PX), 10, 30)
    assert (train.class_tiles, train.no_class, train.several_classes, train.pixels) == ((20, 20), 0, 10, None)
    assert (valid.tiles, valid.cases, valid.class_tiles, valid.from_masks) == (12, 1, (12, 12), 12)
    assert valid.pixels == tuple(12 * PX * rows for rows in (PX - 4, 2, 1, 1))
    assert seen == [(30, 42), (42, 42)]


def rename(before: str, after: str) -> Callable[[Path], object]:
    return lambda folder: (folder / before).rename(folder / after)


def tile(path: str, array: np.ndarray) -> Callable[[Path], object]:
    return lambda folder: save(folder / path, array)


def labelled_valid(digits: str, values: np.ndarray) -> Callable[[Path], object]:
    """The first valid tile with a label in its name, and this mask."""

    def change(folder: Path) -> None:
        for part in ("img", "mask"):
            path = folder / "valid" / part / "V0_x0_y0.png"
            path.rename(path.with_name(f"V0_x0_y0[{digits}].png"))
        save(folder / "valid" / "mask" / f"V0_x0_y0[{digits}].png", values)

    return change


def _name_in_latin_1(folder: Path) -> None:
    path = bytes(folder / A_TILE)
    Path(os.fsdecode(path)).rename(os.fsdecode(path.replace(b"[", b"\xff[")))


NAMED = "valid/img/V0_x0_y0[{}].png"


@pytest.mark.parametrize(
    ("change", "rule", "split", "names"),
    [
        (tile(A_TILE, noise(0, 64)), "tile size", "train", [A_TILE]),
        (rename(A_TILE, "train/T0_x0_y0.png"), "no label", "train", ["train/T0_x0_y0.png"]),
        (rename(A_TILE, "train/T0_x0_y0[2].png"), "no label", "train", ["train/T0_x0_y0[2].png"]),
        (rename(A_TILE, "train/T0_x0_y0[101].png"), "label digits", "train", ["train/T0_x0_y0[101].png"]),
        (rename(A_TILE, "train/T0_x0_y0[00].png"), "no class", "train", ["train/T0_x0_y0[00].png"]),
        (rename(A_TILE, "train/some[10].png"), "case unknown", "train", ["train/some[10].png"]),
        (rename(A_TILE, "train/V0_x99_y9[10].png"), "leaked case", "", ["V0"]),
        (tile(A_TILE, noise(5)), "contradicting duplicate", "train", ["train/T1_x5_y0[11].png"]),
        (tile(A_TILE, noise(3)), "duplicate", "train", ["train/T1_x3_y0[10].png"]),
        (tile(A_TILE, noise(100)), "leaked tile", "", [A_VALID]),
        (tile(A_TILE, np.full((PX, PX, 3), 90, np.uint8)), "one colour", "train", [A_TILE]),
        (tile(A_TILE, np.full((PX, PX, 3), 230, np.uint8)), "nearly white", "train", [A_TILE]),
        (lambda f: (f / "train" / "notes.txt").touch(), "unread file", "train", ["train/notes.txt"]),
        (_name_in_latin_1, "file name", "train", [r"train/T0_x0_y0\udcff[10].png"]),
        (lambda f: (f / "training").mkdir(), "two spellings", "train", ["train", "training"]),
        (lambda f: (f / A_MASK).unlink(), "mask missing", "valid", [A_VALID]),
        (tile("valid/mask/more.png", mask()), "orphan mask", "valid", ["valid/mask/more.png"]),
        (tile(A_MASK, np.ones((16, 16), np.uint8)), "mask size", "valid", [A_MASK]),
        (tile(A_MASK, mask(7, 1)), "mask values", "valid", [A_MASK]),
        (tile(A_MASK, noise(1)), "unreadable", "valid", [A_MASK]),
        (tile(A_MASK, np.zeros((PX, PX), np.uint16)), "unreadable", "valid", [A_MASK]),
        (tile(A_TILE, np.zeros((PX, PX), np.uint16)), "unreadable", "train", [A_TILE]),
        (labelled_valid("11", mask(9, 9)), "label not in mask", "valid", [NAMED.format("11")]),
        (labelled_valid("10", mask(1, 1)), "mask not in label", "valid", [NAMED.format("10")]),
        (lambda f: shutil.rmtree(f / "valid"), "no split", "", ["valid"]),
    ],
)  # fmt: skip
def test_each_fault_is_found_and_nothing_else(folder, change, rule, split, names):
    change(folder)
    check = check_dataset(folder)
    assert found(check) == {(rule, split): names}
    (finding,) = (f for f in check.findings if f.rule == rule)
    assert finding.count == len(names)
    assert finding.severity == RULES[rule][0]
    assert "{" not in finding.says


@pytest.mark.parametrize(
    ("digits", "values"),
    [
        ("10", mask(1)),  # 1/32 of the mask: too little to contradict the label
        ("11", mask(200, 200)),  # 2/32 are ignored: the second class may lie there
        ("11", mask(1)),
    ],
)
def test_what_labelling_rules_allow_is_no_contradiction(folder, digits, values):
    labelled_valid(digits, values)(folder)
    assert not check_dataset(folder).errors


def test_the_share_that_contradicts_can_be_set(folder):
    labelled_valid("10", mask(1, 1))(folder)
    assert found(check_dataset(folder, smallest_share=2 / 32))[("mask not in label", "valid")]
    assert not check_dataset(folder, smallest_share=2.1 / 32).errors


@pytest.mark.parametrize("share", [0, -1, 1.5, float("nan")])
def test_a_share_out_of_range_is_refused(folder, share):
    with pytest.raises(ConfigError, match="smallest share"):
        check_dataset(folder, smallest_share=share)


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("10", {("class always", "train"): ["AAA"], ("class never", "train"): ["BBB"]}),
        ("11", {("class always", "train"): ["AAA", "BBB"]}),
    ],
)
def test_classes_that_cannot_be_learnt(folder, label, expected):
    for index, path in enumerate(sorted((folder / "train").iterdir())):
        path.rename(path.with_name(f"T{index}_x0_y0[{label}].png"))
    assert found(check_dataset(folder)) == expected


def test_rare_and_absent_classes_of_a_scored_split(folder):
    for index in range(12):
        save(folder / "valid" / "mask" / f"V0_x{index}_y0.png", mask(1) if index < 9 else mask())
    assert found(check_dataset(folder)) == {("class rare", "valid"): ["BBB"]}
    for path in (folder / "valid" / "mask").iterdir():
        save(path, mask(9))
    assert found(check_dataset(folder)) == {("class unscored", "valid"): ["BBB"]}


@pytest.mark.parametrize(("px", "rule"), [(48, "tile shape"), (64, None)])
def test_the_size_of_all_tiles(folder, px, rule):
    for index, path in enumerate(sorted((folder / "train").iterdir())):
        save(path, noise(index, px))
    assert set(found(check_dataset(folder))) == {("split sizes", ""), *([(rule, "train")] if rule else [])}


def test_the_same_patient_on_two_slides_leaks(folder):
    rename(A_TILE, "train/TCGA-A1-A0SK-DX1_xmin0_ymin0[10].png")(folder)
    for part in ("img", "mask"):
        rename(f"valid/{part}/V0_x0_y0.png", f"valid/{part}/TCGA-A1-A0SK-DX2_xmin0_ymin0.png")(folder)
    assert found(check_dataset(folder)) == {("leaked case", ""): ["TCGA-A1-A0SK"]}


def test_blank_tiles_are_no_leak(folder):
    blank = np.full((PX, PX, 3), 255, np.uint8)
    save(folder / A_TILE, blank)
    save(folder / A_VALID, blank)
    assert found(check_dataset(folder)) == {("nearly white", "train"): [A_TILE], ("nearly white", "valid"): [A_VALID]}


def test_equal_pixels_are_found_under_another_compression(folder):
    Image.fromarray(noise(3)).save(folder / A_TILE, compress_level=0)
    assert ("duplicate", "train") in found(check_dataset(folder))


@pytest.mark.parametrize("train", ["train", "training"])
@pytest.mark.parametrize("valid", ["valid", "val"])
def test_both_spellings(folder, train, valid):
    (folder / "train").rename(folder / train)
    (folder / "valid").rename(folder / valid)
    check = check_dataset(folder)
    assert found(check) == {}
    assert [split.split for split in check.splits] == ["train", "valid"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"GIF89a",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"\x89PNG\r\n\x1a\n" + b"\0" * 40,
    ],
)
def test_bytes_that_are_no_image(folder, content):
    (folder / A_TILE).write_bytes(content)
    (folder / A_MASK).write_bytes(content)
    assert found(check_dataset(folder)) == {("unreadable", "train"): [A_TILE], ("unreadable", "valid"): [A_MASK]}


def test_damaged_files_never_end_the_check(folder):
    """Bytes changed at random behind correct checksums, so that they reach the decoder."""
    dice = random.Random(1)
    for path in folder.rglob("*.png"):
        path.write_bytes(damaged(path.read_bytes(), dice))
    check = check_dataset(folder)
    assert [split.tiles for split in check.splits] == [30, 12]
    assert ("unreadable", "train") in found(check)


def damaged(png: bytes, dice: random.Random) -> bytes:
    out, start = png[:8], 8
    while start < len(png):
        length = int.from_bytes(png[start : start + 4], "big")
        kind, body = png[start + 4 : start + 8], bytearray(png[start + 8 : start + 8 + length])
        for _ in range(dice.choice((0, 1, 3)) if body else 0):
            body[dice.randrange(len(body))] = dice.randrange(256)
        checksum = zlib.crc32(kind + body).to_bytes(4, "big")
        out += length.to_bytes(4, "big") + kind + body + checksum
        start += 12 + length
    return out


def test_what_is_not_a_file_is_a_finding(folder):
    (folder / "train" / "T9_x90_y0[10].png").mkdir()
    (folder / "train" / "T9_x91_y0[10].png").symlink_to(folder / "nowhere.png")
    names = ["train/T9_x90_y0[10].png", "train/T9_x91_y0[10].png"]
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "train" / "T9_x92_y0[10].png")
        names.append("train/T9_x92_y0[10].png")
    check = check_dataset(folder)
    assert found(check) == {("unreadable", "train"): names}
    assert set(details(check)) == {"not a file"}


@pytest.mark.parametrize("side", [5000, 20_000])
def test_a_huge_image_is_refused_before_it_is_decoded(folder, side):
    Image.new("1", (side, side)).save(folder / A_TILE)
    check = check_dataset(folder)
    assert found(check) == {("unreadable", "train"): [A_TILE]}
    assert str(folder) not in details(check)[0]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_name_of_any_bytes_is_spelt_out(folder):
    raw = os.fsencode(folder / "train") + b"/T\xff\n\x1b[2J_x1_y1[10].png"
    shutil.copy(folder / A_TILE, raw)
    check = check_dataset(folder)
    names = ["train/T\\udcff\\n\\x1b[2J_x1_y1[10].png"]
    assert found(check) == {("duplicate", "train"): names, ("file name", "train"): names}
    json.dumps(check.to_dict()).encode("utf-8")


def test_mpp_missing_is_an_error_and_the_classes_still_count(folder):
    (folder / "dataset.yaml").write_text(YAML.replace("mpp: 1.0\n", ""))
    check = check_dataset(folder)
    assert found(check) == {("mpp missing", ""): ["dataset.yaml"]}
    assert (check.mpp, check.classes, len(check.errors)) == (None, ("AAA", "BBB"), 1)


@pytest.mark.parametrize("text", [None, "[", "when: 2024-13-45", "[" * 3000, "name: toy", YAML.replace("9", "0"), "\0"])
def test_an_unusable_description_is_an_error_and_the_check_goes_on(folder, text):
    path = folder / "dataset.yaml"
    path.unlink() if text is None else path.write_text(text)
    for mask_path in (folder / "valid" / "mask").iterdir():
        save(mask_path, mask(1, 2, 255))
    (folder / A_TILE).write_bytes(b"")
    check = check_dataset(folder)
    assert set(found(check)) == {("description", ""), ("unreadable", "train")}
    assert check.classes == ("C1", "C2")
    assert check.splits[1].pixels == (12 * PX * 29, 12 * PX, 12 * PX, 12 * PX)


def test_without_description_four_digits_mean_bcss(folder):
    (folder / "dataset.yaml").unlink()
    for path in list((folder / "train").iterdir()):
        path.rename(path.with_name(path.name.replace("[", "[00")))
    assert check_dataset(folder).classes == ("TUM", "STR", "LYM", "NEC")


@pytest.mark.parametrize("gone", ["train", "valid/img", "valid/mask"])
def test_an_empty_folder_is_a_finding(folder, gone):
    for path in (folder / gone).iterdir():
        path.unlink()
    findings = found(check_dataset(folder))
    assert findings[("no tiles", gone.split("/")[0])] == [gone]
    (folder / gone).rmdir()
    findings = found(check_dataset(folder))
    assert gone in {name for names in findings.values() for name in names}


def test_a_folder_that_is_no_tile_set_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DatasetError, match=r"no tile set.*training"):
            check_dataset(folder)


def test_errors_come_first_and_json_holds_every_file(folder):
    for path in (folder / "train").iterdir():
        save(path, np.full((PX, PX, 3), 255, np.uint8))
    (folder / A_MASK).unlink()
    data = json.loads(json.dumps(check_dataset(folder).to_dict()))
    assert [f["severity"] for f in data["findings"]] == sorted(f["severity"] for f in data["findings"])
    (white,) = (f for f in data["findings"] if f["rule"] == "nearly white")
    assert (white["count"], len(white["items"])) == (30, 30)
    assert data["splits"][0]["class_tiles"] == [20, 20]


def test_labels_agree_with_what_training_and_scoring_read(sound_set):
    check = check_dataset(sound_set)
    for split in check.splits:
        labels = TileSet.open(sound_set, split.split).labels
        assert split.class_tiles == tuple(labels.sum(0))


@pytest.mark.parametrize(("name", "rare"), [("luad224", ["NOR"]), ("ocelot224", [])])
def test_real_tile_sets_are_sound(real_data, name, rare):
    check = check_dataset(real_data / name)
    assert found(check) == ({("class rare", "valid"): rare} if rare else {})
    for split in check.splits:
        tiles = TileSet.open(real_data / name, split.split, cache_bytes=0)
        assert (split.tiles, split.class_tiles) == (len(tiles), tuple(tiles.labels.sum(0)))
