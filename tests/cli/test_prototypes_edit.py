"""``lpd prototypes edit``: what it writes, and what it says of what cannot be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lpd.cli import main
from lpd.model.header import read_info

SHIPPED = Path(__file__).resolve().parents[2] / "checkpoints" / "phantom-learnable-mobilenetv2_100.safetensors"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return Path(shutil.copy(SHIPPED, tmp_path / "model.safetensors"))


def test_names_alone_go_into_the_file_beside(checkpoint: Path, capsys):
    assert main(["prototypes", "edit", str(checkpoint), "--name", "TUM:1=glands", "--name", "NEC:3=a=b"]) == 0
    assert "TUM:1  glands\nNEC:3  a=b" in capsys.readouterr().out
    stored = json.loads(checkpoint.with_name("model.prototypes.json").read_text(encoding="utf-8"))
    assert stored["names"]["NEC"]["3"]["name"] == "a=b"


def test_muting_and_merging_make_a_new_checkpoint(checkpoint: Path, capsys):
    out, words = checkpoint.with_name("new.safetensors"), ["--mute", "TUM:2,STR:1", "--merge", "NEC:1+3"]
    name = ["--name", "STR:2=fibres", "--author", "Ada"]
    assert main(["prototypes", "edit", str(checkpoint), *words, *name, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "TUM: 1, 3\nSTR: 2, 3\nLYM: 1, 2, 3\nNEC: 1+3, 2\n" in said
    assert "its scores are not known yet" in said
    info = read_info(out)
    assert info.names["STR"]["2"]["author"] == "Ada"
    assert info.model.groups[3] == ((9, 11), (10,))
    assert not checkpoint.with_name("model.prototypes.json").exists()
    assert main(["prototypes", "edit", str(checkpoint), *words, "--out", str(out)]) == 1
    assert "exists, and nothing is overwritten" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "there is nothing to do: pass --name, or --mute or --merge with --out"),
        (["--mute", "TUM:1"], "name it with --out NEW.safetensors"),
        (["--name", "TUM:1"], "--name 'TUM:1' has no '=': write it as TUM:1=NAME"),
        (["--name", "XXX:1=a"], "'XXX:1' is no prototype of model: write a class (TUM, STR, LYM, NEC), a colon"),
        (["--merge", "TUM:1+7", "--out", "new.safetensors"], "'TUM:7' is no prototype of model"),
    ],
)
def test_what_cannot_be_is_one_sentence(checkpoint: Path, capsys, words: list[str], said: str):
    assert main(["prototypes", "edit", str(checkpoint), *words]) == 1
    assert said in capsys.readouterr().err
