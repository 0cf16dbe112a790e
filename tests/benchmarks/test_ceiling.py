"""The study's ceiling: nobody is scored on masks that were shown, and masks are learnt from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.study.ceiling import FOLDS, folds, part_of, train_with_masks
from lpd.data.tiles import TileSet
from lpd.evaluation.report import measure
from lpd.evaluation.tile_scores import group_of
from lpd.recipe.settings_file import read_config

PX = 96
_YAML = """\
name: halves
mpp: 1.0
classes:
  - {code: A, name: left, color: [255, 0, 0]}
  - {code: B, name: right, color: [0, 255, 0]}
background: 2
licence: synthetic
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two textures side by side; labels say that both are there and nothing about where."""
    folder = tmp_path_factory.mktemp("ceiling") / "tiles"
    for name in ("train", "valid/img", "valid/mask"):
        (folder / name).mkdir(parents=True)
    (folder / "dataset.yaml").write_text(_YAML)
    rng = np.random.default_rng(0)
    for index in range(12):
        mask = np.zeros((PX, PX), dtype=np.uint8)
        mask[:, PX // 2 :] = 1
        mask = np.rot90(mask, index)
        image = (120 + rng.normal(size=(PX, PX, 3)) * np.where(mask, 60, 5)[..., None]).clip(0, 255).astype(np.uint8)
        Image.fromarray(image).save(folder / "train" / f"t{index}[11].png")
        Image.fromarray(image).save(folder / "valid" / "img" / f"P{index // 2}_x{index}_y0.png")
        Image.fromarray(mask).save(folder / "valid" / "mask" / f"P{index // 2}_x{index}_y0.png")
    return folder


def test_every_tile_is_scored_once_and_never_beside_its_own_picture(folder):
    valid = TileSet.open(folder, "valid")
    parts = list(folds(valid, seed=3))
    assert len(parts) == FOLDS
    assert sorted(i for _, scored in parts for i in scored) == list(range(len(valid)))
    names = [group_of(file.image.name) for file in valid.files]
    for shown, scored in parts:
        assert sorted(shown + scored) == list(range(len(valid)))
        assert not {names[i] for i in shown} & {names[i] for i in scored}


def test_masks_teach_what_labels_do_not_say(folder):
    torch.set_num_threads(1)
    settings = ["encoder.name=test_convnext", "encoder.weights=none", "prototypes.dim=16", "loop.precision=fp32"]
    schedule = ["optimizer={epochs: 12, batch_size: 4, learning_rate: 3e-3, ema_decay: 0, warmup_steps: 2}"]
    config = read_config(overrides=[*settings, *schedule])
    tiles, valid = TileSet.open(folder, "train"), TileSet.open(folder, "valid")
    network, calibration = train_with_masks(config, tiles, part_of(valid, range(6)))
    spec = config.input_spec(tiles.info.mpp, tiles.tile_px)
    report = measure(network, part_of(valid, range(6, 12)), spec, tiles.info.scheme, calibration).report
    # Whoever knows only that both are there has no reason to prefer one anywhere: 1/3 at best.
    assert report["gates"]["none"]["ignored"]["miou"] > 0.6
