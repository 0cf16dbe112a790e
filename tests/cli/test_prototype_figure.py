"""``lpd prototypes figure`` and ``maps``: the whole way from files to files, and what a person reads when it fails."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lpd.classes import ClassScheme, TissueClass
from lpd.cli import main
from lpd.config import Calibration, InputSpec, ModelConfig
from lpd.inference.manifest_file import MANIFEST_NAME
from lpd.inference.meta import ResultMeta
from lpd.inference.prototype_layers import MapLayer, PrototypeMaps
from lpd.inference.store import ResultStore
from lpd.model.checkpoint import save_checkpoint
from lpd.model.header import CheckpointInfo, file_digest
from lpd.model.names import write_names
from lpd.model.network import LPDNet
from lpd.runs import write_json_atomically
from lpd.slide.opening import open_slide
from lpd.slide.region import Region

COLOURS = ((200, 0, 0), (0, 0, 200), (0, 160, 0))


def scheme(count: int) -> ClassScheme:
    return ClassScheme(tuple(TissueClass(f"C{c}", f"Class {c}", COLOURS[c]) for c in range(count)))


def calibration(count: int) -> Calibration:
    ones, zeros = (1.0,) * count, (0.0,) * count
    return Calibration((0.2, 0.3, 0.5), ones, zeros, ones, zeros)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two random networks: of two classes with two prototypes, and of three classes with one."""
    folder, paths = tmp_path_factory.mktemp("checkpoints"), []
    for name, classes, per_class in (("one", 2, 2), ("two", 3, 1)):
        torch.manual_seed(classes)
        config = ModelConfig("mobilenetv2_050", classes, prototypes_per_class=per_class, prototype_dim=16)
        path = folder / f"{name}.safetensors"
        spec = InputSpec(mpp=1.0, tile_px=64)
        save_checkpoint(path, LPDNet(config), CheckpointInfo(path, scheme(classes), spec, config, calibration(classes)))
        paths.append(path)
    return paths


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("tiles"), np.random.default_rng(0)
    for part in ("img", "mask"):
        (folder / "valid" / part).mkdir(parents=True)
    for name in ("a", "b"):
        Image.fromarray(rng.integers(0, 200, (64, 64, 3), np.uint8)).save(folder / "valid" / "img" / f"{name}.png")
        Image.fromarray(rng.integers(0, 3, (64, 64), np.uint8)).save(folder / "valid" / "mask" / f"{name}.png")
    classes = "\n".join(f"  - {{code: C{c}, name: Class {c}, color: {list(COLOURS[c])}}}" for c in (0, 1))
    (folder / "dataset.yaml").write_text(f"name: toy\nmpp: 1.0\nclasses:\n{classes}\nbackground: 2\nlicence: none\n")
    return folder


def result(
    folder: Path, slide_path: Path, checkpoint: str = "model", slide: str = "", model: Path | None = None
) -> Path:
    """Of a picture of 256 × 192 px at 0.5: maps of two classes with two prototypes."""
    with open_slide(slide_path, mpp=0.5) as opened:
        fingerprint = slide or opened.fingerprint
    settings = {"prototype_maps": True}
    digest = "sha256:1" if model is None else file_digest(model)
    meta = ResultMeta("slide", fingerprint, 256, 192, 0.5, 1.0, scheme(2), checkpoint, digest, settings=settings)
    layers = MapLayer("fused", "pixel", 4, 8, 12.0), MapLayer("gate", "gate", 4, 16, 12.0, 3)
    store = ResultStore.create(folder, meta, PrototypeMaps(2, "mean", calibration(2), 4, layers))
    rng = np.random.default_rng(0)
    store.write_mask(0, 0, np.zeros((96, 128), np.uint8))
    store.write_scores(0, 0, np.full((2, 24, 32), 100, np.uint8))
    store.write_layer(layers[0], 0, 0, rng.integers(0, 255, (4, 12, 16), np.uint8))
    store.write_layer(layers[1], 0, 0, rng.integers(0, 255, (4, 6, 8), np.uint8))
    store.commit(Region(0, 0, 256, 192))
    store.finish()
    document = {"slide": {"path": str(slide_path)}, "arguments": {"checkpoint": str(model or "")}}
    write_json_atomically(folder / MANIFEST_NAME, document)
    return folder


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    path = tmp_path / "slide.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (192, 256, 3), np.uint8)).save(path)
    return path


def prototypes(*arguments: object) -> int:
    return main(["prototypes", *map(str, arguments)])


def test_two_results_of_one_slide_stand_side_by_side(tmp_path: Path, slide: Path, capsys):
    folders = [result(tmp_path / name, slide, name) for name in ("first", "second")]
    out = tmp_path / "new" / "figure.svg"
    out.parent.mkdir()
    both = [word for folder in folders for word in ("--result", folder)]
    assert prototypes("figure", *both, "--at", "128,96", "--size", 96, "--out", out) == 0
    text = out.read_text()
    for words in ("A   first", "B   second", "mask B", "C1 2", "slide   x 80, y 48, 96 × 96 px at 0.5 µm/px"):
        assert words in text
    assert str(out) in capsys.readouterr().out


def test_models_of_other_classes_each_have_their_own_grid(tmp_path: Path, tiles: Path, checkpoints: list[Path]):
    out = tmp_path / "figure.svg"
    write_names(checkpoints[0], {2: "glands"})
    models = [word for path in checkpoints for word in ("--checkpoint", path)]
    assert prototypes("figure", *models, "--data", tiles, "--name", "b", "--out", out) == 0
    text = out.read_text()
    for words in ("truth", "A   one", "B   two", "C0 2", "glands", "C2 1", "CAM, scale 2", "b.png   64 × 64 px"):
        assert words in text


def test_an_image_with_its_mask_as_png_of_so_many_pixels(tmp_path: Path, tiles: Path, checkpoints: list[Path]):
    image, mask, out = tiles / "valid" / "img" / "a.png", tiles / "valid" / "mask" / "a.png", tmp_path / "figure.png"
    asked = ("figure", "--checkpoint", checkpoints[0], "--image", image, "--mask", mask, "--out", out)
    assert prototypes(*asked, "--dpi", 50, "--opacity", 0.6) == 0
    with Image.open(out) as picture:
        assert picture.width == int(50 * 6.02)


def test_a_projection(tmp_path: Path, checkpoints: list[Path]):
    out = tmp_path / "plane.pdf"
    assert prototypes("figure", "--projection", "--checkpoint", checkpoints[0], "--out", out) == 0
    assert out.read_bytes().startswith(b"%PDF")


def test_a_projection_with_the_best_places_of_a_slide(tmp_path: Path, slide: Path, checkpoints: list[Path], capsys):
    one, out = result(tmp_path / "one", slide, model=checkpoints[0]), tmp_path / "plane.svg"
    asked = ("figure", "--projection", "--checkpoint", checkpoints[1], "--out", out, "--examples", one)
    assert prototypes(*asked) == 1
    assert capsys.readouterr().err.endswith("one is a result of model: pass that --checkpoint as well\n")
    assert prototypes(*asked, "--checkpoint", checkpoints[0]) == 0
    assert out.read_text().count("<image") == 4  # two classes of two prototypes; the other model has no result
    slide.rename(tmp_path / "away.png")
    assert prototypes(*asked, "--checkpoint", checkpoints[0]) == 0
    assert out.read_text().count("<image") == 0
    assert "no examples of" in capsys.readouterr().err


def test_metrics_say_what_prototypes_are_called(tmp_path: Path, slide: Path, checkpoints: list[Path], capsys):
    write_names(checkpoints[0], {2: "glands"})
    table, document = tmp_path / "f.csv", tmp_path / "f.json"
    one = result(tmp_path / "one", slide, model=checkpoints[0])
    assert prototypes("metrics", one, result(tmp_path / "two", slide), "--csv", table, "--json", document) == 0
    said = capsys.readouterr().out
    assert said.count("C1 1 is called glands\n") == 1  # the other is of another model
    with table.open(newline="") as file:
        assert [row["names"] for row in csv.DictReader(file)] == ["", "1 glands", "", "", "", ""]
    classes = json.loads(document.read_text())["figures"][0]["classes"]
    assert (classes["C1"]["names"], "names" in classes["C0"]) == (["glands", ""], False)


def test_maps_of_a_tile_set_and_of_a_folder(tmp_path: Path, tiles: Path, checkpoints: list[Path], capsys):
    asked = ("maps", "--checkpoint", checkpoints[0])
    assert prototypes(*asked, "--data", tiles, "--out", tmp_path / "out") == 0
    assert "2 of 2 images" in capsys.readouterr().out
    found = {path.name for path in (tmp_path / "out" / "a").iterdir()}
    assert found == {"maps.npz", "C0-1.png", "C0-2.png", "C1-1.png", "C1-2.png"}
    with np.load(tmp_path / "out" / "a" / "maps.npz", allow_pickle=False) as arrays:
        assert arrays["maps"].shape == (2, 2, 8, 8)
        assert arrays["truth"].shape == (64, 64)
    pixels = np.asarray(Image.open(tmp_path / "out" / "a" / "C1-2.png"))
    assert (pixels[8:16, 8:16] == pixels[8, 8]).all()
    (tiles / "valid" / "img" / "broken.jpg").write_bytes(b"nothing")
    try:
        folder = tiles / "valid" / "img"
        assert prototypes(*asked, "--image", folder, "--range", -1, 1, "--out", tmp_path / "out2") == 1
    finally:
        (tiles / "valid" / "img" / "broken.jpg").unlink()
    said = capsys.readouterr()
    assert "2 of 3 images" in said.out
    assert "broken.jpg cannot be read as an image" in said.err
    assert {path.name for path in (tmp_path / "out2").iterdir()} == {"a", "b"}


def test_bad_requests_are_one_sentence(tmp_path: Path, tiles: Path, checkpoints: list[Path], slide: Path, capsys):
    model, image = checkpoints[0], tiles / "valid" / "img" / "a.png"
    own, other = result(tmp_path / "own", slide), result(tmp_path / "other", slide, slide="another")
    plain = ResultStore.create(tmp_path / "plain", ResultMeta("s", "f", 64, 64, 0.5, 1.0, scheme(2), "m", "d")).folder
    Image.fromarray(np.full((64, 64), 9, np.uint8)).save(tmp_path / "nine.png")
    svs = tmp_path / "a.svs"
    svs.write_bytes(b"slide")
    png = ("--out", tmp_path / "x.png")
    cases = [
        (("figure", *png), "nothing is asked for: pass one of --result, --image, --data or --projection"),
        (("figure", "--result", own, "--image", image, *png), "--result and --image exclude one another"),
        (("figure", "--result", own, *png), "--result needs --at"),
        (("figure", "--result", own, "--at", "1,1", "--mpp", 1, *png), "--mpp does not go with --result"),
        (("figure", "--result", own, "--at", "999,1", *png), "(999, 1) lies outside of slide"),
        (("figure", "--result", own, "--result", other, "--at", "1,1", *png), "are results of different slides"),
        (("figure", "--result", plain, "--at", "1,1", *png), "segment the slide with --prototype-maps"),
        (("figure", "--result", own, "--at", "1,1", "--slide", image, *png), "is not the slide that"),
        (("figure", "--result", own, "--at", "1,1", "--out", tmp_path / "x.gif"), "does not end in .png, .svg, .pdf"),
        (("figure", "--image", image, *png), "--image needs --checkpoint"),
        (("figure", "--image", svs, "--checkpoint", model, *png), "a.svs is a slide: run lpd segment"),
        (("figure", "--data", tiles, "--name", "z", "--checkpoint", model, *png), "has no tile z: choose one of its 2"),
        (
            ("figure", "--image", image, "--mask", tmp_path / "nine.png", "--checkpoint", model, *png),
            "nine.png holds the value 9: masks may hold 0 to 1 (C0, C1), 2 (background) and 255",
        ),
        (("maps", "--checkpoint", model, "--out", tmp_path / "m"), "pass either --image or --data"),
        (("maps", "--checkpoint", model, "--image", svs, "--out", tmp_path / "m"), "a.svs is a slide"),
        (("maps", "--checkpoint", model, "--image", tmp_path / "own", "--out", tmp_path / "m"), "own has no .jpeg"),
        (("maps", "--checkpoint", model, "--data", tiles, "--mpp", 1, "--out", tmp_path / "m"), "--mpp says something"),
    ]
    for arguments, words in cases:
        assert prototypes(*arguments) == 1, arguments
        said = capsys.readouterr().err
        assert words in said
        assert said.startswith("lpd prototypes: ")
        assert said.count("\n") == 1
    assert not list(tmp_path.glob("x.*"))
    slide.unlink()
    assert prototypes("figure", "--result", own, "--at", "1,1", *png) == 1
    assert "pass --slide" in capsys.readouterr().err
