"""A small painted slide and a network that is a colour rule, so that every mask has a known answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torch import Tensor

from lpd.classes import ClassScheme, TissueClass
from lpd.config import Calibration, InputSpec, ModelConfig
from lpd.inference import pipeline
from lpd.inference.settings import SegmentSettings
from lpd.inference.store import ResultStore
from lpd.inference.trials import Tried
from lpd.model.header import CheckpointInfo
from lpd.runs import Run
from lpd.slide.opening import open_slide

TILE_PX = 64
SCHEME = ClassScheme(
    (
        TissueClass("RED", "Red", (255, 0, 0)),
        TissueClass("GRN", "Green", (0, 255, 0)),
        TissueClass("BLU", "Blue", (0, 0, 255)),
    )
)


class ColourBackend:
    """Pixel logits: how much a channel stands out of the mean of the 4 × 4 px cell; presence: a constant of 20."""

    any_size = True
    name = "torch"
    alternatives: tuple[str, ...] = ()

    def running(self, name: str) -> ColourBackend:
        assert name == self.name
        return self

    def __init__(self, path: Path) -> None:
        ones, zeros = (1.0,) * 3, (0.0,) * 3
        calibration = Calibration((1.0,), ones, zeros, ones, zeros)
        model = ModelConfig("none", 3, scales=(3,), scale_weights=(1.0,))
        self.info = CheckpointInfo(
            path, SCHEME, InputSpec(mpp=1.0, tile_px=TILE_PX, mean=(0.5, 0.5, 0.5)), model, calibration
        )
        self.device = torch.device("cpu")
        self.tried = Tried()
        self.batches: list[int] = []
        self.swaps = False
        self.sampled: list[tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]] = []

    def logits(self, windows: npt.NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        count, side = len(windows), windows.shape[1] // 4
        self.batches.append(count)
        cells = windows.reshape(count, side, 4, side, 4, 3).mean(axis=(2, 4)) / 16
        pixel = torch.from_numpy((cells - cells.mean(axis=3, keepdims=True)).transpose(0, 3, 1, 2).astype(np.float32))
        return pixel, torch.full_like(pixel, 20.0)

    def adapted(self, windows: Iterable[tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]]) -> ColourBackend | None:
        """One that takes red for green and green for red, if it is asked to be like that."""
        self.sampled = list(windows)
        return SwappedBackend(self.info.path) if self.swaps else None


class SwappedBackend(ColourBackend):
    def logits(self, windows: npt.NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        pixel, presence = super().logits(windows)
        return pixel[:, [1, 0, 2]], presence


def paint_slide(path: Path, width: int = 930, height: int = 710) -> npt.NDArray[np.uint8]:
    """A slide of smooth coloured areas in a frame of white glass; returns its pixels."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    waves = [np.sin(x / a + y / b + c) for a, b, c in ((61, 47, 0.0), (83, -59, 1.0), (-71, 97, 2.0))]
    pixels = np.stack([120 + 70 * wave for wave in waves], axis=2)
    glass = (x < 290) | (x > width - 60) | (y < 90) | ((x - 500) ** 2 + (y - 400) ** 2 < 70**2)
    pixels[glass] = 245
    image = np.asarray(pixels.round(), dtype=np.uint8)
    Image.fromarray(image).save(path)
    return image


@pytest.fixture
def slide_path(tmp_path: Path) -> Path:
    path = tmp_path / "painted.png"
    paint_slide(path)
    return path


@pytest.fixture
def backend(tmp_path: Path) -> ColourBackend:
    path = tmp_path / "colours.safetensors"
    path.write_bytes(b"colours")
    return ColourBackend(path)


Segment = Callable[..., tuple[ResultStore, pipeline.SegmentSummary]]


@pytest.fixture
def segment(tmp_path: Path, slide_path: Path, backend: ColourBackend) -> Segment:
    """Segment the painted slide with the colour rule into a folder of its own."""
    count = 0

    def call(
        mpp: float = 0.5,
        pixels: npt.NDArray[np.uint8] | None = None,
        using: ColourBackend | None = None,
        run_kind: type[Run] = Run,
        into: Path | None = None,
        resume: bool = False,
        **choices: object,
    ) -> tuple[ResultStore, pipeline.SegmentSummary]:
        nonlocal count
        count += 1
        if pixels is not None:
            Image.fromarray(pixels).save(slide_path)
        folder = into or tmp_path / f"result{count}"
        settings = SegmentSettings.from_dict({"threads": 1, "device": "cpu", **choices})
        with open_slide(slide_path, mpp=mpp) as slide, run_kind(folder, "segment") as run:
            summary = pipeline.segment_slide(slide, using or backend, folder, settings, run, resume=resume)
        return ResultStore.open(folder), summary

    return call


def whole_mask(store: ResultStore) -> npt.NDArray[np.uint8]:
    return store.read_mask_px(0, 0, store.meta.mask_size)


def all_scores(store: ResultStore) -> npt.NDArray[np.uint8]:
    from lpd.inference.pyramid import Pyramid

    pyramid = Pyramid(store.folder / "result.zarr")
    _, height, width = pyramid.shape
    planes = [pyramid.sample(np.arange(height), np.arange(width), 1.0, (c,)) for c in range(3)]
    return np.stack(planes)
