"""Where everything of an inspection's figure is, and what is written there; nothing is drawn here."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from string import ascii_uppercase

import numpy as np

from lpd.classes import ClassScheme
from lpd.explain.drawing import text_width
from lpd.explain.inspection import Floats, Inspection

Colour = tuple[float, float, float]

# Points.
SMALL, NORMAL, LARGE = 6.0, 7.0, 9.0
# Inches.
MARGIN, GAP, BLOCK_GAP = 0.18, 0.05, 0.28
CAPTION, HEADING, TITLE, HEADER, ROW_LABEL = 0.14, 0.2, 0.3, 0.4, 0.2
GROUP_GAP = 0.08  # between prototypes and CAMs
PICTURE, LEGEND, NOTE = 1.75, 0.15, 0.14
BAR, BAR_STEP = 0.12, 0.55
_WIDEST, _HIGHEST, _LARGEST_CELL, _SMALLEST_CELL, _NARROWEST_BLOCK = 15.0, 20.0, 1.25, 0.62, 2.0
_FLATTEST = 0.3  # shorter side by longer: of pictures that are flatter maps may become as narrow as they like

_DEFINITIONS = (
    "gate: probability that the class is in the picture; score: mean score of the class over the picture's tissue; "
    "max, mean: of the map in the picture."
)


@dataclass(frozen=True, eq=False)
class Row:
    """A row of a model's grid.

    Attributes:
        label: beside it; empty for prototypes.
        maps: one a class.
        stride_px: mask pixels per cell.
        names, numbers: above each map, on the left and on the right.
        crossed: whether each is crossed out.
    """

    label: str
    maps: tuple[Floats, ...]
    stride_px: float
    names: tuple[str, ...]
    numbers: tuple[str, ...]
    crossed: tuple[bool, ...]


@dataclass(frozen=True, eq=False)
class Block:
    """One model's grid; ``left`` is that of its maps, inches."""

    letter: str
    inspection: Inspection
    rows: tuple[Row, ...]
    left: float


class Plan:
    """Places in inches from the upper left corner.

    Attributes:
        blocks: a model each.
        cell, picture: (width, height) of a map and of the pictures on the left.
        stacked: whether the name of a prototype stands above the number, for want of room.
        caption: height of names and numbers.
        bar_left: of the first bar of colours.
        top: of the first row of maps.
        notes: lines at the bottom.
        width, height: of the figure.
    """

    def __init__(self, inspections: Sequence[Inspection], units: int) -> None:
        region = inspections[0].place.region
        shape = min(1.0, region.width_l0 / region.height_l0), min(1.0, region.height_l0 / region.width_l0)
        rows = [tuple(_rows(inspection)) for inspection in inspections]
        side = _cell_side(sum(i.scheme.count for i in inspections), len(inspections), max(map(len, rows)))
        side = max(side, _SMALLEST_CELL / min(shape)) if min(shape) > _FLATTEST else side
        self.cell = side * shape[0], side * shape[1]
        names = [(n, number) for row in sum(rows, ()) for n, number in zip(row.names, row.numbers, strict=True)]
        self.stacked = any(n and text_width(f"{n} {number}", SMALL) > self.cell[0] for n, number in names)
        self.caption = CAPTION + (CAPTION - 0.03) * self.stacked
        self.picture = PICTURE * shape[0], PICTURE * shape[1]
        left = MARGIN + PICTURE + BLOCK_GAP
        self.blocks: list[Block] = []
        for letter, inspection, own in zip(letters(inspections), inspections, rows, strict=True):
            self.blocks.append(Block(letter, inspection, own, left + ROW_LABEL))
            left += ROW_LABEL + max(inspection.scheme.count * self.step[0], _NARROWEST_BLOCK) + BLOCK_GAP
        self.bar_left = left
        self.width = left + BAR_STEP * units + MARGIN
        self.top = MARGIN + HEADING + TITLE + HEADER
        self.notes = _notes(inspections, self.width - 2 * MARGIN)
        grids = self.top + max(map(len, rows)) * self.step[1] + GROUP_GAP
        pictures = 1 + (inspections[0].truth is not None) + len(inspections)
        left_column = pictures * (self.picture[1] + CAPTION + GAP) + 0.1 + LEGEND * len(legend(inspections))
        self.bottom = max(grids, MARGIN + HEADING + left_column, self.top + 1.2)
        self.height = self.bottom + 0.1 + NOTE * len(self.notes) + MARGIN

    @property
    def step(self) -> tuple[float, float]:
        """From one map to the next."""
        return self.cell[0] + GAP, self.cell[1] + self.caption + GAP

    def row_top(self, block: Block, number: int) -> float:
        """Of the captions of a block's row."""
        return self.top + number * self.step[1] + (GROUP_GAP if number >= block.inspection.per_class else 0)


def letters(inspections: Sequence[Inspection]) -> Sequence[str]:
    """What models are called in the figure: A, B, …; nothing if there is only one."""
    return ascii_uppercase[: len(inspections)] if len(inspections) > 1 else ("",)


def heading(inspection: Inspection) -> str:
    """The place in words."""
    place, region = inspection.place, inspection.place.region
    size = f"{region.width_l0} × {region.height_l0} px at {place.mpp:.4g} µm/px"
    return f"{place.name}   {size if place.whole else f'x {region.x_l0}, y {region.y_l0}, {size}'}"


def legend(inspections: Sequence[Inspection]) -> list[tuple[str, Colour]]:
    """Names and colours of all classes, each once, then of background; a name of two colours says whose it is."""
    owned = [(f"mask {letter}".strip(), i.scheme) for letter, i in zip(letters(inspections), inspections, strict=True)]
    owned += [("truth", scheme) for i in inspections[:1] if (scheme := i.truth_scheme) is not None]
    found: dict[tuple[str, Colour], str] = {}
    for owner, scheme in owned:
        for c, tissue in enumerate(scheme.classes):
            found.setdefault((tissue.name, rgb(scheme, c)), owner)
    for owner, scheme in owned:
        found.setdefault(("background", rgb(scheme, scheme.background)), owner)
    names = [name for name, _ in found]
    return [(f"{n} ({owner})" if names.count(n) > 1 else n, colour) for (n, colour), owner in found.items()]


def rgb(scheme: ClassScheme, value: int) -> Colour:
    """The colour of a mask value, 0 to 1."""
    red, green, blue = (channel / 255 for channel in scheme.palette()[value].tolist())
    return red, green, blue


def short(value: float) -> str:
    """Two figures behind the point; one for what is beyond ±10."""
    if math.isnan(value):
        return "–"
    text = f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
    return ("0.00" if text == "-0.00" else text).replace("-", "−")


def _cell_side(columns: int, blocks: int, rows: int) -> float:
    wide = _WIDEST - 2 * MARGIN - PICTURE - BAR_STEP - blocks * (BLOCK_GAP + ROW_LABEL)
    side = min(wide / columns - GAP, _HIGHEST / rows - GAP - CAPTION)
    return min(max(side, _SMALLEST_CELL), _LARGEST_CELL)


def _rows(inspection: Inspection) -> Iterator[Row]:
    classes = range(inspection.scheme.count)
    for k in range(inspection.per_class):
        crossed = tuple(inspection.is_muted(c, k) for c in classes)
        maps = tuple(inspection.maps[:, k])
        numbers = tuple("muted" if crossed[c] else _highest(maps[c]) for c in classes)
        yield Row("", maps, inspection.stride_px, tuple(inspection.label(c, k) for c in classes), numbers, crossed)
    cams = [(f"CAM, scale {cam.scale}", cam.values, cam.stride_px) for cam in inspection.cams]
    for label, values, stride in (*cams, ("fused CAM", inspection.class_maps, inspection.stride_px)):
        numbers = tuple(_mean(values[c]) for c in classes)
        yield Row(label, tuple(values), stride, ("",) * len(classes), numbers, (False,) * len(classes))


def _highest(values: Floats) -> str:
    return "none" if np.isnan(values).all() else f"max {short(float(np.nanmax(values)))}"


def _mean(values: Floats) -> str:
    return "none" if np.isnan(values).all() else f"mean {short(float(np.nanmean(values)))}"


def _notes(inspections: Sequence[Inspection], width: float) -> list[str]:
    """Definitions and each model's own notes, in lines that fit."""
    notes = [(*inspection.notes, *_merged(inspection)) for inspection in inspections]
    own = list(notes[0])
    if len(set(notes)) > 1:
        pairs = zip(letters(inspections), notes, strict=True)
        own = [f"{letter}: {note}" for letter, some in pairs for note in some]
    most = max(20, int(width * 72 / (0.56 * SMALL)))
    return [line for text in (_DEFINITIONS, *own) for line in textwrap.wrap(text, most)]


def _merged(inspection: Inspection) -> Iterator[str]:
    for group in inspection.merged:
        names = [inspection.label(*divmod(m, inspection.per_class)) for m in group]
        yield f"{' and '.join(names)} count as one in CAMs, gate, score and mask."
