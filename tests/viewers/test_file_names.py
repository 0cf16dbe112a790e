"""Names of files and folders: the same are good on every system."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from lpd.errors import LpdError
from viewers.file_names import is_plain_name, require_name, require_plain_name


@pytest.mark.parametrize("name", ["first", "LUAD 10x", "v1.2_b", "7"])
def test_plain_names_are_names(name: str) -> None:
    assert require_name(f" {name} ", "it") == require_plain_name(name, "it") == name
    assert is_plain_name(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "a/b", "a\\b", "a\nb", "ends.", "CON", "con.v2", "lpt1", "x" * 101]
)
def test_others_are_refused_in_one_sentence(name: str) -> None:
    for require in (require_name, require_plain_name):
        with pytest.raises(LpdError, match=r"cannot be a model's name: (use|Windows)"):
            require(name, "a model's name")
    assert not is_plain_name(name)


def test_letters_of_any_script_are_for_files_alone() -> None:
    assert require_name("Lunge groß + 肺", "it") == "Lunge groß + 肺"
    assert not is_plain_name("Lunge groß")
    assert require_name("connective", "it") == "connective"


@pytest.mark.parametrize("name", ["../up", "", "a/b", ".hidden", "x" * 101, "a\nb", "a<b"])
def test_names_that_no_model_can_have(client: TestClient, checkpoints: Path, name: str) -> None:
    before = sorted(checkpoints.iterdir())
    answer = client.post("/api/checkpoints/good/edited", json={"name": name, "muted": [0]})
    assert answer.status_code == 400
    assert "cannot be a model's name" in answer.json()["error"]
    assert sorted(checkpoints.iterdir()) == before
