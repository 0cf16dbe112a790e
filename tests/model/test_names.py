"""Names of prototypes: kept beside a checkpoint, carried by copies, and never in the way of the checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lpd.errors import CheckpointError, ConfigError
from lpd.model.checkpoint import save_checkpoint
from lpd.model.header import list_checkpoints
from lpd.model.names import names_path, prototype_label, prototype_number, read_names, write_names


@pytest.fixture
def checkpoint(tiny_network, tiny_info, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_checkpoint(path, tiny_network, tiny_info)
    return path


def texts(checkpoint: Path) -> dict[int, str]:
    return {number: name.name for number, name in read_names(checkpoint).by_number.items()}


def test_names_are_kept_beside_the_checkpoint_which_does_not_change(checkpoint: Path):
    before = checkpoint.read_bytes()
    assert read_names(checkpoint).by_number == {}
    found = write_names(checkpoint, {0: "  glands ", 4: "Stromafasern – dünn"}, "Ada")
    assert (found.by_number[4].author, len(found.by_number[4].time)) == ("Ada", 25)
    write_names(checkpoint, {4: "", 11: "necrosis"}, "Bo")
    assert texts(checkpoint) == {0: "glands", 11: "necrosis"}
    stored = json.loads((checkpoint.parent / "tiny.prototypes.json").read_text(encoding="utf-8"))
    assert stored["version"] == 1
    assert stored["names"]["TUM"]["1"]["name"] == "glands"
    assert checkpoint.read_bytes() == before
    assert [entry.name for entry in list_checkpoints(checkpoint.parent)] == ["tiny"]


@pytest.mark.parametrize(
    ("name", "words"),
    [("x" * 61, "has 61 characters: 60 at most"), ("a\nb", "control characters"), ("a\x1b[1m", "control characters")],
)
def test_names_that_cannot_be_shown_are_refused(checkpoint: Path, name: str, words: str):
    with pytest.raises(ConfigError, match=words):
        write_names(checkpoint, {0: name})
    assert not names_path(checkpoint).exists()


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"version": 2, "names": {}}',
        '{"version": 1}',
        '{"version": 1, "names": {"XXX": {"1": {"name": "a"}}}}',
        '{"version": 1, "names": {"TUM": {"4": {"name": "a"}}}}',
        '{"version": 1, "names": {"TUM": {"1": {"name": 3}}}}',
        '{"version": 1, "names": {"TUM": {"1": {"name": "a\\u0007"}}}}',
        '{"version": 1, "names": {"TUM": ["a"]}}',
    ],
)
def test_a_malformed_file_is_one_sentence_and_the_checkpoint_stays_usable(checkpoint: Path, text: str):
    names_path(checkpoint).write_text(text, encoding="utf-8")
    found = read_names(checkpoint)
    assert found.by_number == {}
    assert found.problem.startswith("tiny.prototypes.json is not a readable list of names (")
    assert found.problem.endswith("): mend or delete it")
    assert "\n" not in found.problem
    with pytest.raises(CheckpointError, match="mend or delete it"):
        write_names(checkpoint, {0: "glands"})
    assert names_path(checkpoint).read_text(encoding="utf-8") == text
    assert [entry.name for entry in list_checkpoints(checkpoint.parent)] == ["tiny"]


def test_a_prototype_is_written_by_class_and_number_from_one(tiny_info):
    assert [prototype_label(tiny_info, m) for m in (0, 2, 3, 11)] == ["TUM:1", "TUM:3", "STR:1", "NEC:3"]
    assert [prototype_number(tiny_info, t) for t in ("TUM:1", " TUM:3", "STR:1", "NEC:3")] == [0, 2, 3, 11]
    for text in ("TUM:4", "TUM:0", "TUM", "tum:1", "TUM:-1", ":1", ""):
        with pytest.raises(ConfigError, match=r"a colon and a number from 1 to 3, such as TUM:1"):
            prototype_number(tiny_info, text)
