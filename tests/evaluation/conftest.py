"""A toy split with masks, half tissue and half glass, and a small random network for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lpd.config import InputSpec, ModelConfig
from lpd.data.tiles import TileSet
from lpd.model.network import LPDNet

PX = 64
YAML = """\
name: toy
mpp: 1.0
classes:
  - {code: AAA, name: First, color: [255, 0, 0]}
  - {code: BBB, name: Second, color: [0, 255, 0]}
  - {code: CCC, name: Third, color: [0, 0, 255]}
background: 3
licence: synthetic
"""


def _write_tiles(folder: Path, count: int, px: int = PX, empty: tuple[int, ...] = (), name: str = "{:02d}") -> TileSet:
    """Noise on white; the third class never occurs, and nothing but background in the ``empty`` tiles' masks."""
    rng = np.random.default_rng(0)
    (folder / "dataset.yaml").write_text(YAML)
    for part in ("img", "mask"):
        (folder / "valid" / part).mkdir(parents=True)
    for index in range(count):
        image = np.full((px, px, 3), 245, np.uint8)
        image[:, : px // 2] = rng.integers(60, 180, (px, px // 2, 3))
        mask = np.full((px, px), 3, np.uint8)
        if index not in empty:
            mask[:, : px // 2] = index % 2
        mask[: px // 16] = 255
        Image.fromarray(image).save(folder / "valid" / "img" / f"{name.format(index)}.png")
        Image.fromarray(mask).save(folder / "valid" / "mask" / f"{name.format(index)}.png")
    return TileSet.open(folder, "valid")


@pytest.fixture(scope="session")
def write_tiles() -> Callable[..., TileSet]:
    """Writes a tile set into a folder: ``write_tiles(folder, count, px, empty, name)``."""
    return _write_tiles


@pytest.fixture(scope="session")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> TileSet:
    """19 tiles, more than a batch."""
    return _write_tiles(tmp_path_factory.mktemp("tiles"), 19)


@pytest.fixture(scope="session")
def network() -> LPDNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LPDNet(ModelConfig("test_convnext", class_count=3, prototype_dim=16)).eval()


@pytest.fixture(scope="session")
def spec() -> InputSpec:
    return InputSpec(mpp=1.0, tile_px=PX)
