"""Fixtures shared by all rooms. Nothing here needs a network or a GPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from lpd.data.phantom import tissue
from lpd.data.phantom.textures import Texture
from lpd.runs import is_alive, request_stop

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real tissue beside the project (``LPD_TEST_DATA``); tests that need it skip where it is absent."""
    folder = Path(os.environ.get("LPD_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "slides").is_dir():
        pytest.skip(f"no real slides at {folder}: set LPD_TEST_DATA to run this test")
    return folder


@pytest.fixture(scope="session", autouse=True)
def shared_textures() -> Iterator[None]:
    """Let phantom cases share two sets of textures, which take seconds to make; layout and stain stay their own."""
    make = cache(tissue.make_textures)

    def share(seed: int) -> tuple[Texture, ...]:
        return make(seed % 2)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tissue, "make_textures", share)
        yield


@pytest.fixture(scope="session", autouse=True)
def own_resident(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test hands its slides to a worker that a person has running; one that a test starts is stopped."""
    folder = tmp_path_factory.mktemp("resident", numbered=True)
    folder.chmod(0o700)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LPD_RESIDENT", str(folder))
        yield folder
        if is_alive(folder):
            request_stop(folder)
