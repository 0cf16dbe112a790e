"""``lpd evaluate`` end to end with a small random network: files, tables, comparison, and refusals in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lpd.classes import ClassScheme, TissueClass
from lpd.cli import evaluate as command
from lpd.cli import main
from lpd.config import InputSpec, ModelConfig
from lpd.evaluation.refining import NAMES
from lpd.model.checkpoint import save_checkpoint
from lpd.model.header import CheckpointInfo
from lpd.model.network import LPDNet
from lpd.model.scoring import default_calibration

SCHEME = ClassScheme((TissueClass("AAA", "First", (255, 0, 0)), TissueClass("BBB", "Second", (0, 0, 255))))
YAML = "name: toy\nmpp: 1.0\nclasses:\n" + "".join(
    f"  - {{code: {c.code}, name: {c.name}, color: {list(c.color)}}}\n" for c in SCHEME.classes
)
FILES = {"report.json", "report.md", "tiles.json", "worst.png"}


def write_model(path: Path, seed: int = 0, encoder: str = "test_convnext", px: int = 64) -> Path:
    model = ModelConfig(encoder, class_count=2, prototype_dim=16)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = LPDNet(model)
    info = CheckpointInfo(path, SCHEME, InputSpec(1.0, px), model, default_calibration(model), notice="Random weights.")
    save_checkpoint(path, network, info)
    return path


def write_data(folder: Path, px: int = 64, tiles: int = 4) -> Path:
    rng = np.random.default_rng(0)
    folder.mkdir()
    (folder / "dataset.yaml").write_text(YAML)
    for part in ("img", "mask"):
        (folder / "valid" / part).mkdir(parents=True)
    for index in range(tiles):
        mask = np.full((px, px), index % 2, np.uint8)
        mask[:8], mask[-8:] = 2, 255
        name = f"case{index // 2}_x{index}_y0.png"
        Image.fromarray(rng.integers(60, 200, (px, px, 3), dtype=np.uint8)).save(folder / "valid" / "img" / name)
        Image.fromarray(mask).save(folder / "valid" / "mask" / name)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny.safetensors")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_data(tmp_path_factory.mktemp("data") / "toy")


def evaluate(model: Path, data: Path, out: Path, *more: object) -> int:
    words = ("evaluate", "--checkpoint", model, "--data", data, "--out", out, "--device", "cpu", *more)
    return main([str(word) for word in words])


def refused(capsys, *words: object) -> str:
    capsys.readouterr()
    assert evaluate(*words) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def test_the_default_report_has_every_column_and_file(model, data, tmp_path, capsys):
    out = tmp_path / "new" / "out"
    assert evaluate(model, data, out) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert {path.name for path in out.iterdir()} == FILES
    report = json.loads((out / "report.json").read_text())
    assert list(report["refined"]) == ["adapt", "pamr", "crf", "tta"]
    assert set(report["paper"]) == {"scales", "weights", "oracle", "predicted"}
    assert report["checkpoint"] == "tiny.safetensors"
    assert report["model"]["encoder"] == "test_convnext"
    head = next(line for line in captured.out.splitlines() if line.startswith("gate predicted"))
    assert head.split() == ["gate", "predicted", "none", "adapt", "pamr", "crf", "tta"]
    readable = (out / "report.md").read_text(encoding="utf-8")
    assert readable.startswith("# Evaluation of tiny.safetensors")
    assert "![" in readable
    assert "(worst.png)" in readable
    assert "Random weights." in readable
    assert str(tmp_path) not in readable + json.dumps(report)


def test_error_maps_are_written_on_request(model, data, tmp_path):
    assert evaluate(model, data, tmp_path, "--refine", "none", "--error-maps") == 0
    assert {p.name for p in (tmp_path / "errors").iterdir()} == {f"case{i // 2}_x{i}_y0.png" for i in range(4)}
    assert json.loads((tmp_path / "report.json").read_text())["refined"] == {}
    assert evaluate(model, data, tmp_path, "--refine", "none") == 0
    assert not list((tmp_path / "errors").iterdir())  # those were of the report before


def test_only_what_is_asked_for_is_refined(model, data, tmp_path):
    assert evaluate(model, data, tmp_path, "--refine", "tta", "pamr", "tta") == 0
    assert list(json.loads((tmp_path / "report.json").read_text())["refined"]) == ["tta", "pamr"]


def test_the_command_offers_what_the_library_has(capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", "--help"])
    assert f"{{{','.join((*NAMES, 'none'))}}}" in capsys.readouterr().out


def test_many_tiles_go_without_a_crf_unless_asked(model, data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "MOST_CRF_TILES", 3)
    assert evaluate(model, data, tmp_path) == 0
    assert "without a CRF" in capsys.readouterr().err
    assert list(json.loads((tmp_path / "report.json").read_text())["refined"]) == ["adapt", "pamr", "tta"]
    assert evaluate(model, data, tmp_path, "--refine", "crf") == 0
    assert list(json.loads((tmp_path / "report.json").read_text())["refined"]) == ["crf"]


def test_a_network_of_one_size_goes_without_tta_unless_asked(tmp_path, capsys):
    fixed = write_model(tmp_path / "fixed.safetensors", encoder="mixer_s32_224", px=224)
    data = write_data(tmp_path / "toy", px=224, tiles=1)
    assert evaluate(fixed, data, tmp_path / "out") == 0
    assert "without test-time augmentation: encoder mixer_s32_224 is made for one size" in capsys.readouterr().err
    assert list(json.loads((tmp_path / "out" / "report.json").read_text())["refined"]) == ["adapt", "pamr", "crf"]
    assert "one size of input" in refused(capsys, fixed, data, tmp_path / "out", "--refine", "tta")


def test_two_models_are_compared(model, data, tmp_path, capsys):
    assert evaluate(model, data, tmp_path / "a", "--refine", "none") == 0
    same = tmp_path / "a" / "tiles.json"
    assert evaluate(model, data, tmp_path / "b", "--refine", "none", "--against", same) == 0
    assert "tiny.safetensors on the same tiles" in capsys.readouterr().out
    found = json.loads((tmp_path / "b" / "report.json").read_text())["against"]
    assert found == {"model": "tiny.safetensors", "difference": 0.0, "low": 0.0, "high": 0.0}
    other = write_model(tmp_path / "other.safetensors", seed=1)
    assert evaluate(other, data, tmp_path / "c", "--refine", "none", "--against", same) == 0
    first, second = (json.loads((tmp_path / name / "report.json").read_text()) for name in "ac")
    mious = [report["gates"]["predicted"]["ignored"]["miou"] for report in (second, first)]
    assert second["against"]["difference"] == pytest.approx(mious[0] - mious[1])
    assert mious[0] != mious[1]
    assert "Against another model" in (tmp_path / "c" / "report.md").read_text(encoding="utf-8")


def test_scores_of_other_tiles_are_refused_before_the_work(model, data, tmp_path, capsys):
    assert evaluate(model, data, tmp_path / "a", "--refine", "none") == 0
    fewer = write_data(tmp_path / "fewer", tiles=3)
    message = refused(capsys, model, fewer, tmp_path / "b", "--against", tmp_path / "a" / "tiles.json")
    assert "evaluate both on the same" in message
    assert not (tmp_path / "b").exists()
    assert "no.json cannot be read" in refused(capsys, model, data, tmp_path / "b", "--against", tmp_path / "no.json")


def test_what_cannot_be_scored_is_one_sentence(model, data, tmp_path, capsys):
    out = tmp_path / "out"
    assert "has no folder test" in refused(capsys, model, data, out, "--split", "test")
    other = write_data(tmp_path / "other")
    (other / "dataset.yaml").write_text(YAML.replace("BBB", "CCC"))
    assert "AAA, CCC but the checkpoint knows AAA, BBB" in refused(capsys, model, other, out)
    (other / "dataset.yaml").write_text(YAML)
    (other / "valid" / "mask" / "case0_x0_y0.png").unlink()
    assert "case0_x0_y0.png has no mask" in refused(capsys, model, other, out)
    assert not out.exists()
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        assert "cannot write" in refused(capsys, model, data, folder)


def test_tiles_without_labelled_tissue_leave_no_picture(model, tmp_path, capsys):
    data = write_data(tmp_path / "toy", tiles=2)
    for path in (data / "valid" / "mask").iterdir():
        Image.fromarray(np.full((64, 64), 2, np.uint8)).save(path)
    assert evaluate(model, data, tmp_path / "out", "--refine", "none") == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES - {"worst.png"}
    assert "No labelled tissue pixel" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
