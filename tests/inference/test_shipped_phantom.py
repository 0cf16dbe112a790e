"""The shipped demo model on a phantom slide it has never seen: the true mask is found, wherever the grid falls."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from lpd.data.phantom import mask_path, write_phantom_slide
from lpd.inference.backend import load_backend
from lpd.inference.pipeline import segment_slide
from lpd.inference.settings import SegmentSettings
from lpd.inference.store import ResultStore
from lpd.runs import Run
from lpd.slide.opening import open_slide

CHECKPOINT = Path(__file__).resolve().parents[2] / "checkpoints" / "phantom-learnable-mobilenetv2_100.safetensors"
WIDTH, HEIGHT = 2560, 1920
CLASSES = 4


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("phantom") / "unseen.tif"
    write_phantom_slide(path, WIDTH, HEIGHT, 31)
    return path


def _mask(phantom: Path, folder: Path, grid_offset_px: int = 0) -> np.ndarray:
    with open_slide(phantom) as slide, Run(folder, "segment") as run:
        settings = SegmentSettings(grid_offset_px=grid_offset_px)
        segment_slide(slide, load_backend(CHECKPOINT, settings.device), folder, settings, run)
    store = ResultStore.open(folder)
    height, width = store.mask_shape
    return store.read_mask_px(0, 0, (width, height))


@pytest.fixture(scope="module")
def mask(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    return _mask(phantom, tmp_path_factory.mktemp("result"))


@pytest.mark.parametrize("offset", [32, pytest.param(224, marks=pytest.mark.slow)])
def test_a_shifted_grid_leaves_99_percent_of_tissue_pixels_in_their_class(
    mask: np.ndarray, phantom: Path, tmp_path: Path, offset: int
) -> None:
    shifted = _mask(phantom, tmp_path, offset)
    tissue = (mask < CLASSES) | (shifted < CLASSES)
    assert tissue.mean() > 0.3
    assert (mask == shifted)[tissue].mean() >= 0.99


def test_the_true_mask_is_found_under_the_predicted_gate(mask: np.ndarray, phantom: Path) -> None:
    truth = tifffile.imread(mask_path(phantom))  # one sample for each 4 x 4 level-0 pixels, that is 2 x 2 of the mask
    found = mask[::2, ::2][: truth.shape[0], : truth.shape[1]]
    counts = np.bincount((truth.astype(int) * 5 + found).ravel(), minlength=25).reshape(5, 5)
    iou = counts.diagonal() / (counts.sum(0) + counts.sum(1) - counts.diagonal())
    assert iou[:CLASSES].mean() >= 0.75, iou
    assert iou[CLASSES] >= 0.9, iou
