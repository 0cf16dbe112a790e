"""How much of the tissue each class covers, counted on the mask's own pixels."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lpd.classes import NOT_COMPUTED, Rgb
from lpd.errors import ResultError
from lpd.export.source import MaskSource, Meta, blocks
from lpd.runs import replacing


@dataclass(frozen=True)
class ClassArea:
    """One class on one slide.

    Attributes:
        code, name, color: of the class.
        area_mm2: its area in mm².
        percent_of_tissue: 0–100 of all pixels that have been computed and are not background; 0 without tissue.
        pixels: number of mask pixels.
    """

    code: str
    name: str
    color: Rgb
    area_mm2: float
    percent_of_tissue: float
    pixels: int


@dataclass(frozen=True)
class Tally:
    """A slide, or a part of it, by what its mask pixels are.

    Attributes:
        classes: in mask order, absent ones with 0.
        background_mm2: looked at and found to be glass, in mm².
        not_computed_mm2: not looked at, in mm²: nobody knows what is there.
    """

    classes: tuple[ClassArea, ...]
    background_mm2: float
    not_computed_mm2: float

    @property
    def tissue_mm2(self) -> float:
        """All classes together, in mm²."""
        return sum(row.area_mm2 for row in self.classes)

    @property
    def area_mm2(self) -> float:
        """All of it, in mm²."""
        return self.tissue_mm2 + self.background_mm2 + self.not_computed_mm2

    @property
    def computed_percent(self) -> float:
        """How much of it has been looked at, 0–100; 0 of nothing."""
        return 100 * (1 - self.not_computed_mm2 / self.area_mm2) if self.area_mm2 else 0.0


def area_cell(area_mm2: float, decimals: int) -> str:
    """An area under a heading "mm²": what is smaller than a hundredth of one is told in µm², with the unit."""
    um2 = area_mm2 * 1e6
    if area_mm2 and round(um2) < 10_000:
        return f"{um2:.3g} µm²" if um2 < 10 else f"{um2:,.0f} µm²"
    return f"{area_mm2:.{decimals}f}"


def area_text(area_mm2: float) -> str:
    """An area with its unit, for people."""
    text = area_cell(area_mm2, 3 if area_mm2 < 1 else 2) if area_mm2 else "0"
    return text if text.endswith("µm²") else f"{text} mm²"


def areas(store: MaskSource) -> list[ClassArea]:
    """The classes in mask order, absent ones with 0; memory does not grow with the slide."""
    return list(tally(store).classes)


def tally(store: MaskSource) -> Tally:
    """The whole slide; memory does not grow with it."""
    counts = np.zeros(256, np.int64)
    for _, _, block in blocks(store):
        counts += np.bincount(block.ravel(), minlength=256)
    return tally_of(store.meta, counts)


def tally_of(meta: Meta, counts: npt.NDArray[np.int64]) -> Tally:
    """A tally from the number of pixels by mask value, (256,)."""
    classes = meta.classes.classes
    tissue = int(counts[: len(classes)].sum())
    pixel_mm2 = (meta.mask_mpp / 1000) ** 2
    rows = tuple(
        ClassArea(c.code, c.name, c.color, n * pixel_mm2, 100 * n / tissue if tissue else 0.0, n)
        for c, n in zip(classes, counts.tolist(), strict=False)
    )
    return Tally(rows, int(counts[meta.classes.background]) * pixel_mm2, int(counts[NOT_COMPUTED]) * pixel_mm2)


def write_areas_csv(store: MaskSource, path: Path) -> list[ClassArea]:
    """One line per class and one for all tissue: slide, code, name, color, area_mm2, percent_of_tissue, pixels.

    Returns:
        The classes' lines, see :func:`areas`.

    Raises:
        ResultError: the file cannot be written.
    """
    rows = areas(store)
    total = sum(row.area_mm2 for row in rows), sum(row.pixels for row in rows)
    lines = [
        (r.code, r.name, "#{:02x}{:02x}{:02x}".format(*r.color), r.area_mm2, r.percent_of_tissue, r.pixels)
        for r in rows
    ]
    lines.append(("TISSUE", "All tissue", "", total[0], 100.0 if total[1] else 0.0, total[1]))
    try:
        with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("slide", "code", "name", "color", "area_mm2", "percent_of_tissue", "pixels"))
            for code, name, color, area, percent, pixels in lines:
                writer.writerow((store.meta.slide_name, code, name, color, f"{area:.6f}", f"{percent:.4f}", pixels))
    except OSError as error:
        raise ResultError(
            f"cannot write {path} ({error.strerror or error}): free some space or choose another folder"
        ) from error
    return rows
