"""``lpd prototypes metrics | compare | gallery``: tables, files, and what a person reads when something is wrong."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lpd.cli import main
from lpd.config import InputSpec, ModelConfig
from lpd.explain.data_gallery import top_places
from lpd.explain.figures import prototype_figures
from lpd.explain.matching import match
from lpd.explain.slide_figures import pooled_figures, slide_figures
from lpd.inference.store import ResultStore
from lpd.model.checkpoint import load_checkpoint, save_checkpoint
from lpd.model.header import CheckpointInfo
from lpd.model.network import LPDNet
from lpd.model.scoring import default_calibration
from lpd.slide.opening import open_slide

from .conftest import Made, waves
from .test_figures import write_tiles

CLASSES = np.tile([0] * 12 + [1] * 12, (16, 1))


def run(*words: object) -> int:
    return main(["prototypes", *map(str, words)])


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def pair(made: Made) -> tuple[ResultStore, ResultStore]:
    return made(waves(4, 16, 24), CLASSES, slide_name="one"), made(waves(4, 16, 24, seed=1), CLASSES, slide_name="two")


def test_metrics_of_results_and_of_all_of_them(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    stores = pair(made)
    files = [tmp_path / f"f.{kind}" for kind in ("csv", "json")]
    assert run("metrics", *(s.folder for s in stores), "--csv", files[0], "--json", files[1]) == 0
    expected = [*(slide_figures(store) for store in stores), pooled_figures(stores)]
    said = capsys.readouterr().out
    rows = rows_of(files[0])
    assert [(row["slide"], row["class"]) for row in rows[::3]] == [("one", "AAA"), ("two", "AAA"), ("2 slides", "AAA")]
    for index, found in enumerate(expected):
        for own, row in zip((*found.classes, found.total), rows[3 * index :], strict=False):
            assert float(row["union_coverage"]) == pytest.approx(own.union_coverage, rel=1e-5)
        assert f"{found.classes[0].jeffreys_similarity:.3f}" in said
        assert [float(u) for u in rows[3 * index]["usage"].split()] == pytest.approx(found.classes[0].usage, abs=1e-4)
    document = json.loads(files[1].read_text())
    assert [own["classes"] for own in document["figures"]] == [own.to_dict()["classes"] for own in expected]
    assert "coverage: Share of the class's region in a tile" in said


def test_what_is_dead_or_twice_there_is_named(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    maps = waves(4, 16, 24)
    maps[1] = maps[0]
    assert run("metrics", made(maps, CLASSES).folder, "--no-definitions", "--plot", tmp_path / "f.pdf") == 0
    assert (tmp_path / "f.pdf").read_bytes()[:5] == b"%PDF-"
    said = capsys.readouterr().out
    assert "AAA 2 is dead: it wins 0.000% of its class\n" in said
    assert "AAA 1 and AAA 2 are near-duplicates: their maps correlate by 1.000\n" in said
    assert "Pearson" not in said


def test_what_is_muted_has_a_dot(made: Made, capsys: pytest.CaptureFixture[str]):
    store = made(waves(6, 16, 24), CLASSES, edited=(((0,), (2,)), ((3,), (4, 5))))
    assert run("metrics", store.folder, "--no-definitions") == 0
    first, second = slide_figures(store).classes
    lines = [line.split()[-3:] for line in capsys.readouterr().out.splitlines()[2:4]]
    assert lines == [
        [f"{first.usage[0]:.0%}", "·", f"{first.usage[2]:.0%}"],
        [f"{second.usage[0]:.0%}", f"{second.usage[1]:.0%}", "·"],
    ]


def test_metrics_of_a_tile_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(2)]
    tiles = write_tiles(tmp_path, images, [np.tile(np.arange(64) // 32, (64, 1)).astype(np.uint8)] * 2)
    config = ModelConfig("test_convnext", class_count=3, prototype_dim=16)
    path = tmp_path / "tiny.safetensors"
    info = CheckpointInfo(path, tiles.info.scheme, InputSpec(1.0, 64), config, default_calibration(config))
    torch.manual_seed(0)
    save_checkpoint(path, LPDNet(config), info)
    table = tmp_path / "f.csv"
    words = ("--checkpoint", path, "--data", tmp_path, "--device", "cpu", "--csv", table, "--plot", tmp_path / "f.png")
    assert run("metrics", *words) == 0
    network, info = load_checkpoint(path, torch.device("cpu"))
    expected = prototype_figures(network.eval(), tiles, info.input)
    rows = rows_of(table)
    assert [row["class"] for row in rows] == ["AAA", "BBB", "CCC", "all"]
    for name in ("jeffreys_similarity", "prototype_cosine", "silhouette"):
        assert float(rows[3][name]) == pytest.approx(expected[name], rel=1e-4), name
    assert "toy (valid), tiny: 3 prototypes a class, maps of scale 3" in capsys.readouterr().out
    assert (tmp_path / "f.png").is_file()
    out, document = tmp_path / "gallery", tmp_path / "gallery.json"
    words = ("--checkpoint", path, "--data", tmp_path, "--device", "cpu", "--out", out, "--json", document)
    assert run("gallery", *words, "--per-prototype", 1) == 0
    found = top_places(network, tiles, info.input, 1, 1)
    rows = rows_of(out / "places.csv")
    assert [row["prototype"] for row in rows] == [f"{code} {k}" for code in ("AAA", "BBB", "CCC") for k in (1, 2, 3)]
    assert [(row["tile"], row["split"], int(row["x_px"])) for row in rows] == [
        (place.tile, "valid", place.x_px) for (place,) in found.places
    ]
    assert {p.name for p in out.iterdir()} == {"places.csv", "AAA.png", "BBB.png", "CCC.png"}
    capsys.readouterr()
    about = tmp_path / "dataset.yaml"
    for before, after, differ in (
        ("CCC", "DDD", "DDD instead of CCC"),
        ("AAA", "CCC", "them in another order, CCC, BBB, AAA"),
    ):
        text = about.read_text()
        about.write_text(
            text.replace(f"code: {before}", "code: ?").replace(after, before).replace("code: ?", f"code: {after}")
        )
        for command in ("metrics", "gallery"):
            words = ("--checkpoint", path, "--data", tmp_path, *(("--out", out) if command == "gallery" else ()))
            assert run(command, *words) == 1
            assert f"tiny knows the classes AAA, BBB, CCC, but 'toy' has {differ}: choose" in capsys.readouterr().err
        about.write_text(text)
    told = json.loads(document.read_text())
    assert [own[0]["number"] for own in told["places"]] == [own[0].number for own in found.places]
    assert told["figures"]["classes"]["AAA"]["usage"] == pytest.approx(expected["classes"]["AAA"]["usage"])


def test_names_of_the_checkpoint_are_in_tables(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    maps = waves(4, 16, 24)
    left, right = made(maps, CLASSES, slide_name="one"), made(maps, CLASSES)
    given = ["", "glands", "", ""]
    monkeypatch.setattr(
        "lpd.cli.prototypes.results.names_of_result", lambda store: given if store.folder == left.folder else []
    )
    table = tmp_path / "p.csv"
    assert run("compare", left.folder, right.folder, "--csv", table) == 0
    assert "AAA 2 (glands)  AAA 2  1.000\n" in capsys.readouterr().out
    assert [row["left_name"] for row in rows_of(table)] == given
    assert run("gallery", left.folder, "--out", tmp_path / "g") == 0
    rows = rows_of(tmp_path / "g" / "regions.csv")
    assert {row["prototype"] for row in rows if row["name"] == "glands"} == {"AAA 2"}
    assert {row["unit"] for row in rows} == {"cosine"}


def test_compare_writes_pairs_and_what_is_left_over(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    maps = waves(6, 16, 24)
    left = made(maps[:4], CLASSES)
    right = made(maps[[1, 4, 0, 5, 2, 3]], CLASSES, checkpoint_name="second", checkpoint_digest="sha256:2")
    files = [tmp_path / f"p.{kind}" for kind in ("csv", "json", "svg")]
    assert run("compare", left.folder, right.folder, "--csv", files[0], "--json", files[1], "--plot", files[2]) == 0
    rows = [(row["class"], row["left"], row["right"]) for row in rows_of(files[0])]
    assert rows == [
        ("AAA", "AAA 1", "AAA 3"),
        ("AAA", "AAA 2", "AAA 1"),
        ("AAA", "", "AAA 2"),
        ("BBB", "BBB 1", "BBB 2"),
        ("BBB", "BBB 2", "BBB 3"),
        ("BBB", "", "BBB 1"),
    ]
    said = capsys.readouterr().out
    assert "right: second, 3 prototypes a class" in said
    assert "AAA 1  AAA 3  1.000\n" in said
    document = json.loads(files[1].read_text())
    assert document["matching"] == match(left, right).to_dict()
    assert document["right"] == slide_figures(right).to_dict()
    both = [f"{s['classes']['AAA']['union_coverage']:.3f}" for s in (document["left"], document["right"])]
    assert " / ".join(both) in said
    other = made(maps, CLASSES, codes=("CCC", "BBB"))
    assert run("compare", left.folder, other.folder) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "AAA 1      –  –" in lines
    assert "–      CCC 3  –" in lines
    assert any(line.startswith("each's all") for line in lines)


def test_gallery_writes_a_table_and_sheets(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "slides" / "deep").mkdir(parents=True)
    path = tmp_path / "slides" / "deep" / "one.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (256, 384, 3), dtype=np.uint8)).save(path)
    (tmp_path / "slides" / "deep" / "one.csv").write_text("of that name, too")
    with open_slide(path) as slide:
        fingerprint = slide.fingerprint
    one = made(waves(4, 16, 24), CLASSES, slide_name="one", slide_fingerprint=fingerprint)
    two = made(waves(4, 16, 24, seed=1), CLASSES, slide_name="two")
    out = tmp_path / "gallery"
    words = ("--out", out, "--slides", tmp_path / "slides", "--per-prototype", 3, "--per-slide", 2)
    assert run("gallery", one.folder, two.folder, *words) == 0
    rows = rows_of(out / "regions.csv")
    assert [row["rank"] for row in rows] == ["1", "2", "3"] * 4
    assert {row["prototype"] for row in rows} == {"AAA 1", "AAA 2", "BBB 1", "BBB 2"}
    assert {row["width_l0"] for row in rows} <= {"128", "64"}  # half of one may lie beyond the slide
    assert {p.name for p in out.iterdir()} == {"regions.csv", "AAA.png", "BBB.png"}
    assert "no pictures of two, which is not below" in capsys.readouterr().err
    alone = tmp_path / "alone"
    assert run("gallery", two.folder, "--out", alone) == 0
    assert {p.name for p in alone.iterdir()} == {"regions.csv"}
    assert "--slides FOLDER says where slides are" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("metrics",), "pass either result folders, or --checkpoint FILE and --data TILES"),
        (("metrics", "R", "--data", "T", "--checkpoint", "C"), "pass either result folders"),
        (("gallery", "R", "--json", "F"), "--json is for tile sets: leave it out"),
        (("gallery", "--data", "T", "--checkpoint", "C"), "nothing would be written: pass --out FOLDER"),
        (("metrics", "R", "--data", "T"), "--checkpoint and --data belong together"),
        (("metrics", "R", "--split", "test"), "--split is for tile sets"),
        (("metrics", "R", "--plot", "a.gif"), "--plot a.gif must end in .png, .svg, .pdf"),
        (("metrics", "nowhere"), "nowhere holds no result"),
        (("compare", "R", "other"), "other holds no result"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(
    made: Made, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], expected: str
):
    folder = made(waves(2, 8, 8), np.zeros((8, 8))).folder
    assert run(*(folder if word == "R" else word for word in words)) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"lpd prototypes: {expected}")
    assert said.err.count("\n") == 1


def test_an_unfinished_result_is_said_to_be_one(made: Made, capsys: pytest.CaptureFixture[str]):
    store = made(waves(4, 16, 24), CLASSES)
    (store.folder / "changes.jsonl").unlink()
    assert run("metrics", store.folder) == 0
    assert "is not complete: this is of a part of it only" in capsys.readouterr().err
