"""``lpd bank`` as a person types it: the file, the table, and one sentence where it cannot be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from lpd.cli import main
from lpd.model.bank import load_bank
from lpd.model.encoders import build_encoder

YAML = "name: toy\nmpp: 0.5\nclasses:\n" + "".join(
    f"  - {{code: {code}, name: {code}, color: [1, 2, 3]}}\n" for code in ("AA", "BBBBBB")
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "toy"
    rng = np.random.default_rng(0)
    (folder / "train").mkdir(parents=True)
    for index in range(9):
        tile = Image.fromarray(rng.integers(0, 90 + 20 * index, (64, 64, 3), dtype=np.uint8))
        tile.save(folder / "train" / f"T_x{index}_y0[{('10', '01', '11')[index % 3]}].png")
    (folder / "dataset.yaml").write_text(YAML)
    return folder


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_file(build_encoder("test_convnext").body.state_dict(), tmp_path / "tiny.safetensors")
    return tmp_path / "tiny.safetensors"


@pytest.fixture
def words(folder, weights, tmp_path) -> list[str]:
    flags = f"--data {folder} --out {tmp_path / 'b.safetensors'} --device cpu --set prototypes.per_class=2"
    return ["bank", *flags.split(), "encoder.name=test_convnext", f"encoder.weights={weights}"]


def refused(capsys, words: list[str]) -> str:
    """The one line that a person reads when the command refuses."""
    capsys.readouterr()
    assert main(words) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("lpd bank: ")
    return captured.err


def test_flags_arrive_in_the_bank_and_the_table_tells_of_it(words, tmp_path, capsys):
    settings = ["loop.seed=5", "encoder.mean=[.5, .4, .3]", "encoder.options={drop_path_rate: 0.1}"]
    assert main([*words, *settings, "--threads", "1"]) == 0
    info = load_bank(tmp_path / "b.safetensors").info
    assert info.encoder.options == (("drop_path_rate", 0.1),)
    assert (info.input.mean, info.input.std) == ((0.5, 0.4, 0.3), (0.229, 0.224, 0.225))  # std not given: the default
    assert (info.input.mpp, info.input.tile_px, info.seed, info.per_class) == (0.5, 64, 5, 2)
    head, *rows, end = capsys.readouterr().out.splitlines()
    assert head.split() == ["class", "tiles", "silhouette", "prototype", "members", "mean", "cosine"]
    cells = [row.split() for row in rows]
    assert [row[0] for row in cells] == ["AA", "2", "BBBBBB", "2"]
    assert [row[1] for row in cells[::2]] == ["3", "3"]
    assert [float(row[2]) for row in cells[::2]] == pytest.approx(info.silhouettes, abs=5e-4)
    assert [int(row[-2]) for row in cells] == list(info.members)
    assert [float(row[-1]) for row in cells] == pytest.approx(info.cosines, abs=5e-4)
    assert len({len(row) for row in (head, *rows)}) == 1
    assert end == f"4 prototypes of length {load_bank(tmp_path / 'b.safetensors').vectors.shape[1]} -> " + str(
        tmp_path / "b.safetensors"
    )


def test_a_single_prototype_has_no_silhouette(words, capsys):
    assert main([*words, "prototypes.per_class=1", "--patches", "2"]) == 0
    row = capsys.readouterr().out.splitlines()[1].split()
    assert row[:5] == ["AA", "3", "–", "1", "12"]


def test_an_existing_file_is_kept_unless_forced(words, tmp_path, capsys):
    (tmp_path / "b.safetensors").write_bytes(b"a model of somebody")
    assert "--force" in refused(capsys, words)
    assert (tmp_path / "b.safetensors").read_bytes() == b"a model of somebody"
    assert main([*words, "--force"]) == 0
    assert load_bank(tmp_path / "b.safetensors").info.per_class == 2


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ("encoder.weights=none", "name a weights file"),
        ("encoder.weights=gone.safetensors", "gone.safetensors"),
        ("encoder.name=no_such_encoder", "no_such_encoder"),
        ("encoder.name=mit_b0", "tiny.safetensors"),
        ("prototypes.per_class=4", "class AA has 3 train tiles that show it alone"),
        ("prototypes.per_class=0", "per_class 0"),
        ("--patches 0", "patches 0"),
        ("--patches 60", "patches 60"),
        ("loop.seed=-1", "seed -1"),
        ("encoder.mean=[127,127,127]", "mean"),
        ("--data nowhere", "nowhere"),
        ("--out bank.pth", "must end in .safetensors"),
        ('encoder.options={"in_chans":4}', "in_chans"),
        ("--out /proc/nope/b.safetensors", "cannot write /proc/nope"),
    ],
)
def test_wrong_values_are_one_sentence_and_leave_nothing(words, tmp_path, capsys, flags, named):
    assert named in refused(capsys, [*words, *flags.split()])
    assert not (tmp_path / "b.safetensors").exists()


def test_the_command_line_loads_no_torch():
    code = "import sys, lpd.cli.bank; assert not {'torch', 'timm', 'safetensors'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
