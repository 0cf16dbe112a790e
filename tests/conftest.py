"""Fixtures shared by all rooms. Nothing here needs a network or a GPU."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real tissue beside the project (``LPD_TEST_DATA``); tests that need it skip where it is absent."""
    folder = Path(os.environ.get("LPD_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "slides").is_dir():
        pytest.skip(f"no real slides at {folder}: set LPD_TEST_DATA to run this test")
    return folder
