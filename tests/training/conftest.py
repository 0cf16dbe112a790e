"""A toy tile set that a small network learns within a minute: three textures in two variants each, on white glass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CLASSES = ("DOT", "BAR", "FOG")
TILE_PX = 128

_YAML = f"""\
name: toy textures
mpp: 1.0
classes:
{"".join(f"  - {{code: {c}, name: {c}, color: [{80 * i}, 0, 255]}}" + chr(10) for i, c in enumerate(CLASSES))}\
background: 3
licence: synthetic
"""


@pytest.fixture(scope="session")
def toy_tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tile set large enough to learn from."""
    return write_tile_set(tmp_path_factory.mktemp("toy") / "tiles", train=120, valid=16)


@pytest.fixture(scope="session")
def few_tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tile set that is large enough to run the loop, not to learn."""
    return write_tile_set(tmp_path_factory.mktemp("few") / "tiles", train=6, valid=2)


def write_tile_set(folder: Path, *, train: int, valid: int, seed: int = 0) -> Path:
    """Write ``train`` tiles with labels in their names and ``valid`` tiles with masks."""
    rng = np.random.default_rng(seed)
    for name in ("train", "valid/img", "valid/mask"):
        (folder / name).mkdir(parents=True)
    (folder / "dataset.yaml").write_text(_YAML)
    for index in range(train):
        image, mask = _tile(rng)
        digits = "".join(str(int((mask == c).mean() > 0.03)) for c in range(len(CLASSES)))
        Image.fromarray(image).save(folder / "train" / f"t{index}[{digits}].png")
    for index in range(valid):
        image, mask = _tile(rng)
        Image.fromarray(image).save(folder / "valid" / "img" / f"v{index}.png")
        Image.fromarray(mask).save(folder / "valid" / "mask" / f"v{index}.png")
    return folder


def _tile(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    shown = rng.choice(len(CLASSES), size=rng.choice([1, 2], p=[0.5, 0.5]), replace=False)
    values = [*shown, len(CLASSES)] if rng.random() < 0.3 else list(shown)
    winner = np.stack([_smooth(rng, 22) for _ in values]).argmax(0)
    mask = np.array(values, dtype=np.uint8)[winner]
    image = np.full((TILE_PX, TILE_PX, 3), 0.95)
    for value in shown:
        # Both variants of a class lie side by side, so that its prototypes have something to divide among themselves.
        side = _smooth(rng, 16)[..., None] > 0
        texture = np.where(side, _texture(rng, value, 0), _texture(rng, value, 1))
        image[mask == value] = texture[mask == value]
    noisy = image * rng.uniform(0.95, 1.05, 3) + rng.normal(0, 0.02, image.shape)
    return (noisy.clip(0, 1) * 255).astype(np.uint8), mask


def _texture(rng: np.random.Generator, value: int, variant: int) -> np.ndarray:
    if value == 0:
        dark, light = (0.35, 0.2, 0.5), ((0.75, 0.5, 0.75), (0.55, 0.4, 0.8))[variant]
        pattern = _smooth(rng, (1.2, 2.2)[variant]) > 1.0
    elif value == 1:
        dark, light = (0.8, 0.45, 0.6), ((0.95, 0.7, 0.8), (0.98, 0.6, 0.55))[variant]
        rows, columns = np.mgrid[:TILE_PX, :TILE_PX]
        angle = rng.uniform(0, np.pi)
        pattern = np.sin((rows * np.cos(angle) + columns * np.sin(angle)) / (1.5, 3.0)[variant]) > 0
    else:
        dark, light = ((0.6, 0.7, 0.55), (0.75, 0.75, 0.45))[variant], (0.85, 0.85, 0.7)
        pattern = _smooth(rng, (3.0, 6.0)[variant]) > 0.3
    return np.where(pattern[..., None], dark, light)


def _smooth(rng: np.random.Generator, sigma: float) -> np.ndarray:
    rows, columns = np.fft.fftfreq(TILE_PX)[:, None], np.fft.rfftfreq(TILE_PX)[None, :]
    blur = np.exp(-2 * (np.pi * sigma) ** 2 * (rows**2 + columns**2))  # a Gaussian's own transform
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((TILE_PX, TILE_PX))) * blur)
    return (field - field.mean()) / field.std()
