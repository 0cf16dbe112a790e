"""``lpd export``: files from a store alone, what a person reads when something is missing, and exit codes."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image

from lpd.classes import BCSS
from lpd.cli import main
from lpd.errors import ConfigError
from lpd.inference.meta import ResultMeta
from lpd.inference.store import ResultStore
from lpd.runs import Run
from lpd.slide.annotations import read_regions
from lpd.slide.opening import open_slide
from lpd.slide.region import Region


def write_result(folder: Path, *, finished: bool = True) -> Path:
    """400 × 300 mask pixels: tumour left of 200, stroma to 300, glass; level 0 twice as fine."""
    store = ResultStore.create(folder, ResultMeta("slide", "f", 800, 600, 0.5, 1.0, BCSS, "c", "sha256:1"))
    mask = np.full((300, 400), 4, np.uint8)
    mask[:, :200], mask[:, 200:300] = 0, 1
    scores = np.full((4, 75, 100), 127, np.uint8)
    store.write_mask(0, 0, mask)
    store.write_scores(0, 0, scores)
    store.commit(Region(0, 0, 800, 600))
    if finished:
        store.finish()
    return folder


@pytest.fixture
def result(tmp_path: Path) -> Path:
    return write_result(tmp_path / "results" / "slide")


def export(*arguments: object) -> int:
    return main(["export", *map(str, arguments)])


def names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def test_everything_goes_where_segment_puts_it(result: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = names(result)
    assert export(result, "--geojson", "--ome-tiff", "--areas", "--coords") == 0
    assert names(result) - before == {"annotations.geojson", "mask.ome.tif", "areas.csv", "slide_patches.h5"}
    features = json.loads((result / "annotations.geojson").read_text())["features"]
    assert [f["properties"]["classification"]["name"] for f in features] == ["Tumor", "Stroma"]
    assert [f["properties"]["measurements"]["Mean score"] for f in features] == [0.5, 0.5]
    assert tifffile.imread(result / "mask.ome.tif").shape == (300, 400)
    with (result / "areas.csv").open() as file:
        assert next(csv.DictReader(file))["area_mm2"] == "0.060000"
    with h5py.File(result / "slide_patches.h5") as file:
        # 256 px at 0.5 µm on 800 × 600 of them; the last row and column hold less than half a tile of tissue.
        assert file["coords"][:].tolist() == [[0, 0], [0, 256], [256, 0], [256, 256]]
    said = capsys.readouterr()
    assert "slide: 4 tiles -> " in said.out
    assert len(said.out.splitlines()) == 4
    assert said.err == ""


def test_files_and_manners_of_ones_own(result: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "mine.geojson"
    assert export(result, "--geojson", out, "--simplify", 8, "--smooth", "--min-area", 31_000) == 0
    document = json.loads(out.read_text())
    assert (document["lpd"]["resolution_um"], document["lpd"]["smooth"], len(document["features"])) == (8, True, 1)
    arguments = ("--tile", 100, "--mpp", 1, "--overlap", 50, "--min-tissue", 1, "--classes", "STR")
    assert export(result, "--coords", tmp_path / "c.h5", "--coords-format", "clam", *arguments) == 0
    with h5py.File(tmp_path / "c.h5") as file:
        assert file["coords"].attrs["patch_size"] == 200
        assert file["coords"][:].tolist() == [[400, y] for y in range(0, 401, 100)]
    assert export(result, "--coords", "--coords-format", "clam") == 0
    assert (result / "slide.h5").exists()


def test_neither_torch_nor_openslide_is_needed(result: Path) -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'timm', 'openslide', 'matplotlib'): sys.modules[name] = None\n"
        "from lpd.cli import main\n"
        f"sys.exit(main(['export', {str(result)!r}, '--geojson', '--smooth', '--ome-tiff', '--areas', '--coords', "
        "'--report']))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=root)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            (),
            "nothing is asked for: pass one or more of --geojson, --ome-tiff, --areas, --areas-in, --report, --coords",
        ),
        (("--areas", "--smooth"), "--smooth says how to write --geojson: pass --geojson, too"),
        (("--geojson", "--tile", "3"), "--tile says how to write --coords: pass --coords, too"),
        (("--geojson", "--simplify", "-1"), "must be numbers of at least 0"),
        (("--coords", "--min-tissue", "2"), "a share of tissue of 2.0 must be 0 to 1"),
        (("--coords", "--classes", "TUM", "ABC"), "class 'ABC' is none of this result's"),
    ],
)
def test_what_makes_no_sense_is_said(
    result: Path, arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = names(result)
    assert export(result, *arguments) == 1
    assert words in capsys.readouterr().err
    assert names(result) == before


def test_one_file_cannot_take_two_results(result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = write_result(tmp_path / "results" / "other")
    assert export(result, other, "--areas", tmp_path / "a.csv") == 1
    assert "--areas names one file for 2 results" in capsys.readouterr().err
    assert not (tmp_path / "a.csv").exists()
    assert export(result, other, "--areas") == 0
    assert (result / "areas.csv").read_text() == (other / "areas.csv").read_text()


def test_a_bad_result_is_reported_and_the_others_go_on(
    result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    shutil.copytree(result, tmp_path / "torn")
    (tmp_path / "torn" / "result.zarr" / ".zattrs").write_text('{"lpd": {')
    shutil.copytree(result, tmp_path / "broken")
    chunk = tmp_path / "broken" / "result.zarr" / "labels" / "mask" / "0" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:20])
    shutil.copytree(result, tmp_path / "bare")
    shutil.rmtree(tmp_path / "bare" / "result.zarr" / "labels")
    bad = [tmp_path / name for name in ("empty", "torn", "broken", "bare", "missing")]
    assert export(*bad, result, "--geojson") == 1
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 5
    assert errors[0].endswith("empty holds no result: segment a slide into it first")
    assert all(name in line for name, line in zip(("empty", "torn", "broken", "bare", "missing"), errors, strict=True))
    assert (result / "annotations.geojson").exists()
    assert not any((folder / "annotations.geojson").exists() for folder in bad)
    assert not (tmp_path / "missing").exists()


def test_a_part_of_a_result_is_written_with_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_result(tmp_path / "slide", finished=False)
    assert export(folder, "--areas") == 0
    assert capsys.readouterr().err == f"lpd export: {folder} was not finished: what is written is a part of it only\n"
    with Run(folder, "segment"):
        assert export(folder, "--areas") == 0
    assert "slide is still being computed: " in capsys.readouterr().err
    (folder / "state.json").write_text("{")
    assert export(folder, "--areas") == 0
    assert "was not finished" in capsys.readouterr().err
    assert (folder / "areas.csv").exists()


def test_what_cannot_be_written_is_said(result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    for flag in ("--geojson", "--ome-tiff", "--areas", "--coords"):
        assert export(result, flag, tmp_path / "file" / "x") == 1
        assert f"cannot write {tmp_path / 'file' / 'x'}" in capsys.readouterr().err
        assert export(result, flag, tmp_path) == 1
        assert f"cannot write {tmp_path}" in capsys.readouterr().err


def write_regions(path: Path) -> Path:
    """A rectangle over 100 columns of tumour and 50 of stroma, 10 rows high, and a point."""
    ring = [[200, 0], [500, 0], [500, 20], [200, 20], [200, 0]]
    shapes = (("Polygon", [ring]), ("Point", [1, 1]))
    features = [
        {"type": "Feature", "properties": {"name": "core"}, "geometry": {"type": kind, "coordinates": coordinates}}
        for kind, coordinates in shapes
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def test_drawn_regions_and_report(result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    regions = write_regions(tmp_path / "drawn.geojson")
    before = names(result)
    assert export(result, "--areas-in", regions, "--report") == 0
    assert names(result) - before == {"region_areas.csv", "report.html"}
    with (result / "region_areas.csv").open() as file:
        rows = {row["code"]: row for row in csv.DictReader(file)}
    assert (rows["TUM"]["area_mm2"], rows["STR"]["percent_of_tissue"]) == ("0.001000", "33.3333")
    assert {row["region"] for row in rows.values()} == {"core"}
    page = (result / "report.html").read_text(encoding="utf-8")
    assert "Tumour to Stroma 2.00 : 1" in page  # 200 and 100 columns of the slide
    assert "core" in page
    assert "The slide file was not at hand" in page
    assert "Not reviewed by anybody." in page
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_report_finds_the_slide_or_is_told(result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "moved" / "slide.png"
    picture.parent.mkdir()
    Image.new("RGB", (800, 600), (200, 100, 150)).save(picture)
    (result / "manifest.json").write_text(json.dumps({"slide": {"path": str(tmp_path / "gone.png")}}))
    assert export(result, "--report") == 0
    assert f"without the slide, which is not at {tmp_path / 'gone.png'}; --slide says where it is" in (
        capsys.readouterr().out
    )
    assert export(result, "--report", "--slide", picture) == 1
    assert "slide.png is not the slide that" in capsys.readouterr().err
    with open_slide(picture) as slide:
        meta = ResultMeta("slide", slide.fingerprint, 800, 600, 0.5, 1.0, BCSS, "c", "sha256:1")
    own = tmp_path / "own"
    ResultStore.create(own, meta).finish()
    assert export(own, "--report", tmp_path / "r.html", "--slide", picture) == 0
    assert (tmp_path / "r.html").read_text(encoding="utf-8").count("data:image/jpeg") == 2


def test_regions_that_cannot_be_read(result: Path, tmp_path: Path) -> None:
    (tmp_path / "points.geojson").write_text('{"type": "Point", "coordinates": [1, 2]}')
    with pytest.raises(ConfigError, match="holds no areas: draw a rectangle or polygon"):
        read_regions(tmp_path / "points.geojson")
    assert export(result, "--areas-in", tmp_path / "points.geojson") == 1
    assert export(result, "--areas-in", tmp_path / "missing.geojson") == 1
    assert export(result, "--slide", tmp_path) == 1
