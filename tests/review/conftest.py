"""Small results with masks made by hand or at random."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lpd.classes import BCSS
from lpd.inference.meta import ResultMeta
from lpd.inference.store import ResultStore
from lpd.slide.region import Region

SCALE = 2  # level-0 pixels per mask pixel

MakeStore = Callable[..., ResultStore]


@pytest.fixture
def make_store(tmp_path: Path) -> MakeStore:
    """Writes a mask (h, w) as a finished result; level 0 is twice as fine, a mask pixel is 1 µm wide."""

    def make(mask: np.ndarray, folder: Path = tmp_path / "result") -> ResultStore:
        height, width = mask.shape
        meta = ResultMeta("a", "f", SCALE * width, SCALE * height, 0.5, 1.0, BCSS, "model", "sha256:0")
        store = ResultStore.create(folder, meta)
        store.write_mask(0, 0, mask)
        store.commit(Region(0, 0, SCALE * width, SCALE * height))
        store.finish()
        return ResultStore.open(folder)

    return make


def blobs(height: int, width: int, seed: int, coarse: int = 8) -> np.ndarray:
    """A random mask of classes 0–3, background 4 and 255, in squares of ``coarse`` pixels."""
    rng = np.random.default_rng(seed)
    small = rng.choice([0, 0, 1, 1, 2, 3, 4, 255], (-(-height // coarse), -(-width // coarse))).astype(np.uint8)
    return np.kron(small, np.ones((coarse, coarse), np.uint8))[:height, :width]
