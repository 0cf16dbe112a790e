"""``lpd check`` as a person types it: what it prints, stores and returns."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lpd.cli import main
from lpd.data.check import SMALLEST_SHARE

YAML = "name: toy\nmpp: 0.5\nclasses:\n" + "".join(
    f"  - {{code: {code}, name: {code}, color: [1, 2, 3]}}\n" for code in ("AAA", "BBB")
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "toy"
    rng = np.random.default_rng(0)
    (folder / "train").mkdir(parents=True)
    for part in ("img", "mask"):
        (folder / "val" / part).mkdir(parents=True)
    for index in range(30):
        tile = Image.fromarray(rng.integers(0, 200, (32, 32, 3), dtype=np.uint8))
        tile.save(folder / "train" / f"T_x{index}_y0[{('10', '01', '11')[index % 3]}].png")
    for index in range(10):
        tile = Image.fromarray(rng.integers(0, 200, (32, 32, 3), dtype=np.uint8))
        tile.save(folder / "val" / "img" / f"V_x{index}_y0.png")
        Image.fromarray(np.eye(32, dtype=np.uint8)).save(folder / "val" / "mask" / f"V_x{index}_y0.png")
    (folder / "dataset.yaml").write_text(YAML)
    return folder


def test_a_sound_set_is_told_in_numbers(folder, capsys):
    assert main(["check", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "toy: 0.5 µm/px, classes AAA BBB" in out
    assert "train   30 tiles, 32 × 32 px, 1 case by name" in out
    assert "AAA 20 (66.7 %)  BBB 20 (66.7 %)" in out
    assert "no class 0, one 20, several 10" in out
    assert "AAA 9920 (96.9 %)  BBB 320 (3.1 %)  background 0 (0.0 %)  ignore 0 (0.0 %)" in out
    assert out.endswith("0 errors, 0 warnings\n")


def test_warnings_alone_return_0(folder, capsys):
    (folder / "train" / "notes.jpg").write_bytes(b"")
    assert main(["check", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "warning: unread file in train, 1: files that are not .png" in out
    assert out.endswith("0 errors, 1 warning\n")


def test_a_set_that_cannot_be_trained_on_is_no_sound_one(folder, capsys):
    (folder / "dataset.yaml").write_text(YAML.replace("mpp: 0.5\n", ""))
    assert main(["check", str(folder)]) == 1
    out = capsys.readouterr().out
    assert "unknown µm/px" in out
    assert "error: mpp missing, 1: dataset.yaml lacks mpp" in out
    assert out.endswith("1 error, 0 warnings\n")


def test_errors_return_1_and_json_names_every_file(folder, tmp_path, capsys):
    for path in (folder / "val" / "img").iterdir():
        path.write_bytes(b"nothing")
    out_file = tmp_path / "report" / "check.json"
    assert main(["check", str(folder), "--json", str(out_file)]) == 1
    captured = capsys.readouterr()
    assert "error: unreadable in valid, 10: files that cannot be read" in captured.out
    assert "    val/img/V_x0_y0.png (cannot be read as an image" in captured.out
    assert "    … and 5 more" in captured.out
    assert "Traceback" not in captured.err
    (finding,) = json.loads(out_file.read_text())["findings"]
    assert [item["name"] for item in finding["items"]] == [f"val/img/V_x{i}_y0.png" for i in range(10)]


def test_a_wrong_folder_or_share_is_one_sentence(folder, tmp_path, capsys):
    assert main(["check", str(tmp_path / "absent")]) == 1
    assert main(["check", str(folder), "--smallest-share", "2"]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert "absent is no tile set" in errors[0]
    assert "smallest share 2.0" in errors[1]


def test_help_states_the_share_that_is_used(capsys):
    with pytest.raises(SystemExit):
        main(["check", "--help"])
    assert f"(default: {SMALLEST_SHARE})" in " ".join(capsys.readouterr().out.split())


def test_a_narrow_terminal_encoding_does_not_end_the_report(folder, monkeypatch):
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", narrow)
    assert main(["check", str(folder)]) == 0
    narrow.flush()
    assert b"32 \\xd7 32 px" in narrow.buffer.getvalue()


@pytest.mark.parametrize("spelling", ["val", "valid", None])
def test_training_scores_on_either_spelling_of_valid(folder, tmp_path, monkeypatch, capsys, spelling):
    """BCSS-WSSS says ``val``: training must not go without scores because of it."""
    from lpd.training import loop

    class Reached(Exception):  # noqa: N818
        pass

    def train(config, tiles, valid, *_, **__):
        raise Reached(valid and len(valid))

    monkeypatch.setattr(loop, "train", train)
    (folder / "val").rename(folder / (spelling or "elsewhere"))
    flags = ["--set", "encoder.name=mit_b0", "encoder.weights=none", "--device", "cpu"]
    with pytest.raises(Reached) as reached:
        main(["train", "--data", str(folder), "--out", str(tmp_path / "run"), *flags])
    assert reached.value.args == (10 if spelling else None,)
    assert ("without scores" in capsys.readouterr().err) == (spelling is None)
