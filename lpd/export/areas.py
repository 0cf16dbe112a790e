"""How much of the tissue each class covers, counted on the mask's own pixels."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lpd.classes import Rgb
from lpd.errors import ResultError
from lpd.export.source import MaskSource, blocks
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


def areas(store: MaskSource) -> list[ClassArea]:
    """The classes in mask order, absent ones with 0; memory does not grow with the slide."""
    counts = np.zeros(256, np.int64)
    for _, _, block in blocks(store):
        counts += np.bincount(block.ravel(), minlength=256)
    classes = store.meta.classes.classes
    tissue = int(counts[: len(classes)].sum())
    pixel_mm2 = (store.meta.mask_mpp / 1000) ** 2
    return [
        ClassArea(c.code, c.name, c.color, n * pixel_mm2, 100 * n / tissue if tissue else 0.0, n)
        for c, n in zip(classes, counts.tolist(), strict=False)
    ]


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
