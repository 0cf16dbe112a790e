"""A label set of hand-made classes, and slides of plain pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lpd.classes import ClassScheme, TissueClass
from lpd.labelling.labelling import Labelling, Wish
from lpd.labelling.log import LabelledSlide, LabelScheme
from lpd.slide.opening import open_slide

CLASSES = ClassScheme(
    (
        TissueClass("TUM", "Tumour", (255, 0, 0)),
        TissueClass("STR", "Stroma", (0, 255, 0)),
        TissueClass("LYM", "Lymph", (0, 0, 255)),
    )
)
TUM, STR = ("TUM",), ("STR",)


@pytest.fixture
def labelling(tmp_path: Path) -> Labelling:
    """Tiles of 32 px at 1 µm/px, 64 level-0 pixels wide on :func:`a_slide`."""
    return Labelling.create(tmp_path / "labels" / "one", LabelScheme("Kidney", CLASSES, 1.0, 32, "Ada"))


def a_slide(fingerprint: str = "f0", name: str = "case-1") -> LabelledSlide:
    return LabelledSlide(fingerprint, name, 640, 400, 0.5)


def tick(labelling: Labelling, cell: tuple[int, int], classes: tuple[str, ...], **more) -> None:
    slide, author = more.pop("slide", a_slide()), more.pop("author", "Ada")
    wish = Wish(slide, (cell,), "set", classes, since=labelling.refresh(), **more)
    labelling.edit(author, wish)


def write_slide(path: Path, seed: int) -> LabelledSlide:
    """Random pixels, 640 × 400, of 0.5 µm."""
    pixels = np.random.default_rng(seed).integers(0, 256, (400, 640, 3), np.uint8)
    Image.fromarray(pixels).save(path, compress_level=0)
    with open_slide(path, mpp=0.5) as slide:
        return LabelledSlide(slide.fingerprint, slide.name, 640, 400, 0.5)
