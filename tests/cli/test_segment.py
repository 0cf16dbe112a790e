"""``lpd segment`` end to end with a small random network: files, exit codes, and what a person reads on failure."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from lpd.classes import BCSS
from lpd.cli import main
from lpd.cli import segmenting as command
from lpd.cli.progress import ReportingRun
from lpd.config import InputSpec, ModelConfig
from lpd.errors import ResultError, SlideError
from lpd.inference.store import ResultStore
from lpd.model.checkpoint import save_checkpoint
from lpd.model.header import CheckpointInfo
from lpd.model.network import LPDNet
from lpd.model.scoring import default_calibration
from lpd.runs import read_state, request_stop

FILES = {
    "annotations.geojson",
    "areas.csv",
    "manifest.json",
    "mask.ome.tif",
    "pieces.csv",
    "result.zarr",
    "changes.jsonl",
    "state.json",
}


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    model = ModelConfig("mit_b0", class_count=4, prototype_dim=32)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = LPDNet(model)
    info = CheckpointInfo(path, BCSS, InputSpec(1.0, 64), model, default_calibration(model), notice="Random weights.")
    save_checkpoint(path, network, info)
    return path


def paint(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(60, 200, (10, 12, 3), dtype=np.uint8)
    image = np.asarray(Image.fromarray(coarse).resize((300, 260), Image.Resampling.BICUBIC)).copy()
    image[:, 230:] = 245
    Image.fromarray(image).save(path)
    return path


def segment(out: Path, checkpoint: Path, *slides: Path, more: tuple[str, ...] = ("--mpp", "0.5")) -> int:
    arguments = ["segment", *map(str, slides), "--checkpoint", str(checkpoint), "--out", str(out), "--device", "cpu"]
    return main([*arguments, "--threads", "1", *more])


def visible(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir() if p.suffix != ".lock" and not p.name.startswith(".")}


def test_a_slide_gets_a_folder_with_every_file(tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]):
    slide = paint(tmp_path / "one.png")
    out = tmp_path / "out"
    assert segment(out, checkpoint, slide) == 0
    folder = out / "one"
    assert visible(folder) == FILES
    assert read_state(folder).state == "done"
    store = ResultStore.open(folder)
    mask = store.read_mask_px(0, 0, store.meta.mask_size)
    assert mask.shape == (130, 150)
    assert set(np.unique(mask)) <= {0, 1, 2, 3, 4}
    assert (mask[:, 140:] == 4).all()
    np.testing.assert_array_equal(tifffile.imread(folder / "mask.ome.tif"), mask)
    assert json.loads((folder / "annotations.geojson").read_text())
    areas = list(csv.DictReader((folder / "areas.csv").read_text().splitlines()))
    pieces = list(csv.DictReader((folder / "pieces.csv").read_text().splitlines()))
    assert [(r["piece"], r["code"]) for r in pieces] == [("1", code) for code in BCSS.codes]  # it is all one piece
    assert [r["area_mm2"] for r in pieces] == [r["area_mm2"] for r in areas[:-1]]
    assert {"pieces.csv", "areas.csv"} <= set(json.loads((folder / "manifest.json").read_text())["files"])
    heard = capsys.readouterr()
    assert "one.png: " in heard.out
    assert "tiles/s" in heard.out
    assert "Random weights." in heard.err


def test_the_manifest_says_what_was_done(tmp_path: Path, checkpoint: Path):
    slide = paint(tmp_path / "one.png")
    assert segment(tmp_path / "out", checkpoint, slide, more=("--mpp", "0.5", "--region", "10", "20", "100", "90")) == 0
    folder = tmp_path / "out" / "one"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["state"] == "done"
    assert manifest["slide"]["mpp"] == 0.5
    assert manifest["slide"]["mpp_origin"] == "given"
    assert manifest["slide"]["fingerprint"] == ResultStore.open(folder).meta.slide_fingerprint
    assert manifest["checkpoint"]["digest"].startswith("sha256:")
    assert manifest["settings"]["region"] == {"x_l0": 10, "y_l0": 20, "width_l0": 100, "height_l0": 90}
    assert manifest["arguments"]["slides"] == [str(slide)]
    assert manifest["summary"]["windows"] == manifest["summary"]["planned_windows"] > 0
    assert {"lpd", "python", "torch", "openslide-python", "zarr"} <= set(manifest["versions"])


@pytest.mark.parametrize(("more", "adapt"), [((), True), (("--no-adapt",), False)])
def test_a_slide_is_adapted_to_unless_that_is_declined(tmp_path: Path, checkpoint: Path, more, adapt):
    assert segment(tmp_path / "out", checkpoint, paint(tmp_path / "one.png"), more=("--mpp", "0.5", *more)) == 0
    manifest = json.loads((tmp_path / "out" / "one" / "manifest.json").read_text())
    assert manifest["settings"]["adapt"] == adapt


def test_refinement_and_augmentation_are_asked_for_by_flags_and_stand_in_the_manifest(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
):
    slide, out = paint(tmp_path / "one.png"), tmp_path / "out"
    assert segment(out, checkpoint, slide) == 0
    settings = json.loads((out / "one" / "manifest.json").read_text())["settings"]
    assert (settings["refinement"], settings["tta"]) == ("none", False)
    more = ("--mpp", "0.5", "--refine", "pamr", "--tta")
    assert segment(out, checkpoint, slide, more=more) == 1
    assert "made with another model or settings" in capsys.readouterr().err
    assert segment(out, checkpoint, slide, more=(*more, "--force")) == 0
    settings = json.loads((out / "one" / "manifest.json").read_text())["settings"]
    assert (settings["refinement"], settings["tta"]) == ("pamr", True)
    with pytest.raises(SystemExit):
        segment(out, checkpoint, slide, more=("--refine", "crff"))
    assert "choose from" in capsys.readouterr().err


def test_a_bad_slide_is_reported_and_the_others_go_on(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
):
    good, bad, last = paint(tmp_path / "good.png"), tmp_path / "bad.svs", paint(tmp_path / "last.png", 1)
    bad.write_bytes(b"II*\0" + bytes(500))
    out = tmp_path / "out"
    assert segment(out, checkpoint, good, bad, tmp_path / "missing.svs", last) == 1
    assert {p.name for p in out.iterdir()} == {"good", "last"}
    errors = capsys.readouterr().err
    assert "bad.svs" in errors
    assert "missing.svs does not exist" in errors
    assert read_state(out / "last").state == "done"


def test_a_damaged_checkpoint_stops_before_anything_is_written(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
):
    slide = paint(tmp_path / "one.png")
    whole = checkpoint.read_bytes()
    for name, content in (("cut", whole[: len(whole) // 2]), ("text", b"hello"), ("missing", None)):
        path = tmp_path / f"{name}.safetensors"
        if content is not None:
            path.write_bytes(content)
        assert segment(tmp_path / "out", path, slide) == 1
        assert f"{name}.safetensors" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ((), "one.png has no resolution: pass --mpp"),
        (("--mpp", "0.5", "--region", "0", "0", "301", "10"), "region 0 0 301 10 reaches outside of one.png"),
        (("--mpp", "0.5", "--region", "0", "0", "0", "10"), "must be at least 1"),
        (("--mpp", "0"), "mpp 0.0"),
        (("--mpp", "0.5", "--threads", "100000000"), "threads 100000000"),
        (("--mpp", "0.5", "--batch-size", "0"), "batch_size 0"),
        (("--mpp", "0.5", "--stride", "7"), "stride_px 7"),
    ],
)
def test_wrong_input_is_one_sentence_and_writes_nothing(tmp_path: Path, checkpoint: Path, capsys, more, words):
    slide = paint(tmp_path / "one.png")
    assert segment(tmp_path / "out", checkpoint, slide, more=more) == 1
    heard = capsys.readouterr().err.replace("tiny: Random weights.\n", "")
    assert words in heard
    assert heard.startswith("lpd segment: ")
    assert heard.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_a_file_is_a_sentence(tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]):
    slide = paint(tmp_path / "one.png")
    (tmp_path / "out").write_text("")
    assert segment(tmp_path / "out", checkpoint, slide) == 1
    assert "choose another folder" in capsys.readouterr().err


def test_a_finished_result_is_replaced_only_by_force(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
):
    slide = paint(tmp_path / "one.png")
    out = tmp_path / "out"
    assert segment(out, checkpoint, slide) == 0
    before = (out / "one" / "manifest.json").read_bytes()
    other = ("--mpp", "0.5", "--tissue", "all")
    assert segment(out, checkpoint, slide, more=other) == 1
    assert "made with another model or settings: pass --force" in capsys.readouterr().err
    assert (out / "one" / "manifest.json").read_bytes() == before
    assert read_state(out / "one").state == "done"
    more = ("--mpp", "0.5", "--force", "--region", "0", "0", "50", "50")
    assert segment(out, checkpoint, slide, more=more) == 0
    assert ResultStore.open(out / "one").meta.region is not None
    assert (ResultStore.open(out / "one").read_mask_px(60, 60, (50, 50)) == 255).all()


def test_what_is_done_is_not_done_again(tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]):
    slide, out = paint(tmp_path / "one.png"), tmp_path / "out"
    assert segment(out, checkpoint, slide) == 0
    before = (out / "one" / "manifest.json").read_bytes()
    capsys.readouterr()
    assert segment(out, checkpoint, slide) == 0
    assert "one.png: done before, nothing to do (--force does it again)" in capsys.readouterr().out
    assert (out / "one" / "manifest.json").read_bytes() == before


def test_slides_of_the_same_name_get_folders_of_their_own(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
):
    png, tif = paint(tmp_path / "a.png"), paint(tmp_path / "a.tif", 1)
    assert segment(tmp_path / "out", checkpoint, png, tif) == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"a.png", "a.tif"}
    other = paint(tmp_path / "elsewhere" / "a.png", 2)
    assert segment(tmp_path / "out2", checkpoint, png, other) == 1
    assert "2 slides are named a.png" in capsys.readouterr().err
    assert not (tmp_path / "out2").exists()


def test_a_stopped_run_exports_what_it_has(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    class Stopping(ReportingRun):
        def advance(self, done, total, unit="tiles"):
            if done:
                request_stop(self.folder)
            return super().advance(done, total, unit)

    monkeypatch.setattr(command, "ReportingRun", Stopping)
    one, two = paint(tmp_path / "one.png"), paint(tmp_path / "two.png")
    assert segment(tmp_path / "out", checkpoint, one, two, more=("--mpp", "0.5", "--batch-size", "1")) == 130
    folder = tmp_path / "out" / "one"
    assert visible(folder) == FILES - {"pieces.csv"} | {"stop"}  # nothing but glass so far
    assert read_state(folder).state == "cancelled"
    assert json.loads((folder / "manifest.json").read_text())["state"] == "cancelled"
    assert not (tmp_path / "out" / "two").exists()
    assert "stopped at one.png" in capsys.readouterr().err


def test_a_run_that_died_in_its_export_is_done_again_without_force(tmp_path: Path, checkpoint: Path):
    slide = paint(tmp_path / "one.png")
    folder = tmp_path / "out" / "one"
    assert segment(tmp_path / "out", checkpoint, slide) == 0
    (folder / "manifest.json").unlink()  # it is written last
    (folder / ".unfinished-0123456789ab.tif").touch()
    assert segment(tmp_path / "out", checkpoint, slide) == 0
    assert visible(folder) == FILES
    assert not list(folder.glob(".unfinished-*"))


def test_exports_of_two_runs_are_never_mixed(tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch):
    slide = paint(tmp_path / "one.png")
    folder = tmp_path / "out" / "one"
    assert segment(tmp_path / "out", checkpoint, slide) == 0

    def full(*_: object) -> None:
        raise ResultError("the disk is full")

    monkeypatch.setattr("lpd.export.ome_tiff.write_ome_tiff", full)
    assert segment(tmp_path / "out", checkpoint, slide, more=("--mpp", "0.5", "--force")) == 1
    assert visible(folder) == {"result.zarr", "changes.jsonl", "state.json"}
    assert (read_state(folder).state, read_state(folder).message) == ("failed", "the disk is full")


def test_a_checkpoint_that_does_not_fit_costs_no_result(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
):
    slide = paint(tmp_path / "one.png")
    assert segment(tmp_path / "out", checkpoint, slide) == 0
    before = visible(tmp_path / "out" / "one"), (tmp_path / "out" / "one" / "manifest.json").read_bytes()
    unfit = tmp_path / "unfit.safetensors"
    unfit.write_bytes(checkpoint.read_bytes().replace(b"mit_b0", b"mit_b3"))
    capsys.readouterr()
    assert segment(tmp_path / "out", unfit, slide, more=("--mpp", "0.5", "--force")) == 1
    assert "unfit.safetensors" in capsys.readouterr().err
    assert (visible(tmp_path / "out" / "one"), (tmp_path / "out" / "one" / "manifest.json").read_bytes()) == before
    assert segment(tmp_path / "fresh", unfit, slide) == 1
    assert not (tmp_path / "fresh").exists()


def test_ctrl_c_while_files_are_written_ends_after_this_slide(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    from lpd.export.areas import ClassArea, write_areas_csv

    def interrupted(store: ResultStore, path: Path) -> list[ClassArea]:
        os.kill(os.getpid(), signal.SIGINT)
        return write_areas_csv(store, path)

    monkeypatch.setattr("lpd.export.areas.write_areas_csv", interrupted)
    one, two = paint(tmp_path / "one.png"), paint(tmp_path / "two.png")
    before = signal.getsignal(signal.SIGINT)
    assert segment(tmp_path / "out", checkpoint, one, two) == 130
    assert signal.getsignal(signal.SIGINT) is before
    assert "stopped after one.png" in capsys.readouterr().err
    assert read_state(tmp_path / "out" / "one").state == "done"
    assert json.loads((tmp_path / "out" / "one" / "manifest.json").read_text())["state"] == "done"
    assert not (tmp_path / "out" / "two").exists()


def test_a_result_of_another_slide_is_named(tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]):
    assert segment(tmp_path / "out", checkpoint, paint(tmp_path / "a.png")) == 0
    assert segment(tmp_path / "out", checkpoint, paint(tmp_path / "a.tif", 1)) == 1
    assert "of another slide, a.png" in capsys.readouterr().err


def test_one_slide_named_in_two_ways_is_one_slide(tmp_path: Path, checkpoint: Path):
    slide = paint(tmp_path / "a.png")
    assert segment(tmp_path / "out", checkpoint, slide, tmp_path / "x" / ".." / "a.png") == 0


def test_no_name_leads_out_of_the_folder(tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]):
    dots = paint(tmp_path / "one.png").rename(tmp_path / "...png")
    assert segment(tmp_path / "out" / "below", checkpoint, dots) == 1
    assert "rename it" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_slide_that_breaks_midway_says_where_its_part_is(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def broken(*_: object) -> None:
        raise SlideError("one.png is damaged")

    monkeypatch.setattr("lpd.inference.pipeline._predict", broken)
    assert segment(tmp_path / "out", checkpoint, paint(tmp_path / "one.png")) == 1
    assert f"is damaged; what was finished before is in {tmp_path / 'out' / 'one'}" in capsys.readouterr().err


def test_a_folder_in_the_way_is_a_sentence(tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]):
    slide = paint(tmp_path / "one.png")
    for name in ("mask.ome.tif", "run.lock"):
        (tmp_path / name / "one" / name).mkdir(parents=True)
        assert segment(tmp_path / name, checkpoint, slide) == 1
        heard = capsys.readouterr().err
        assert "choose another" in heard
        assert "Traceback" not in heard


def test_help_needs_no_torch():
    code = "import sys; from lpd.cli import build_parser; build_parser(); sys.exit('torch' in sys.modules)"
    root = Path(__file__).resolve().parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
