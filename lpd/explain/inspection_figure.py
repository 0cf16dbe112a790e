"""The figure of an inspection: each model's maps, prototypes down and classes across, with gates, scores and masks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure

from lpd.errors import ConfigError
from lpd.explain.drawing import FAINT, FONT, INK, UNKNOWN, Sheet, figure_bytes, fitted, fitted_size, text_width
from lpd.explain.inspection import Inspection
from lpd.explain.inspection_layout import (
    BAR,
    BAR_STEP,
    CAPTION,
    GAP,
    HEADING,
    LARGE,
    LEGEND,
    MARGIN,
    NORMAL,
    NOTE,
    PICTURE,
    SMALL,
    TITLE,
    Block,
    Plan,
    Row,
    heading,
    legend,
    letters,
    rgb,
    short,
)
from lpd.explain.inspection_panels import Painter, cross_out

__all__ = ["draw_inspection", "figure_bytes"]

#: More maps of one model, or more models, make no figure that anybody could read.
MOST_MAPS, MOST_MODELS = 400, 6
#: Perceptually uniform, and read alike with all common kinds of colour blindness.
COLORMAP = "viridis"

Scales = Mapping[str, tuple[Colormap, Normalize]]


def draw_inspection(
    inspections: Sequence[Inspection],
    *,
    title: str = "",
    opacity: float = 1.0,
    value_range: tuple[float, float] | None = None,
) -> Figure:
    """Draw one or more models' inspections of one place side by side.

    On the left picture, truth and each model's mask; then for each model a column a class, with the maps of its
    prototypes, the CAMs of single scales where they are known, and the fused CAM. All maps of one unit have one scale
    of colours. Axes are labelled (``axes.get_label()``): ``picture``, ``truth``, ``mask A``, ``A TUM 1`` and so on,
    without letters where there is one model.

    Args:
        inspections: of the same place, in the order of their letters A, B, …
        title: above everything; the place if empty.
        opacity: of maps, over the picture in grey; 1 shows no picture.
        value_range: lowest and highest colour; by default those between which all but 1 % of the values lie.

    Returns:
        The figure; :func:`figure_bytes` makes a file of it. It belongs to nobody else: pyplot does not know it.

    Raises:
        ConfigError: there is none, they are of different slides or images, or there is more than can be drawn.
    """
    _check(inspections, opacity, value_range)
    first, scales = inspections[0], _scales(inspections, value_range)
    plan = Plan(inspections, len(scales))
    sheet = Sheet(plan.width, plan.height)
    text, room = title or heading(first), plan.width - 2 * MARGIN
    sheet.write(MARGIN, MARGIN + 0.1, fitted(text, room, SMALL), fitted_size(text, room, LARGE, SMALL))
    painter = Painter(first.picture, first.place.region, opacity)
    _draw_pictures(sheet, plan, inspections, painter)
    for block in plan.blocks:
        _draw_block(sheet, plan, block, painter, scales[block.inspection.unit])
    _draw_colorbars(sheet, plan, scales, opacity)
    for number, line in enumerate(reversed(plan.notes)):
        sheet.write(MARGIN, plan.height - MARGIN - NOTE * number, line, SMALL, color=FAINT)
    return sheet.figure


def _check(inspections: Sequence[Inspection], opacity: float, value_range: tuple[float, float] | None) -> None:
    if not 1 <= len(inspections) <= MOST_MODELS:
        raise ConfigError(f"{len(inspections)} models cannot be drawn: choose 1 to {MOST_MODELS}")
    names = list(dict.fromkeys(inspection.place.name for inspection in inspections))
    if len(names) > 1:
        raise ConfigError(f"{names[0]} and {names[1]} are different pictures: models are compared on one")
    for inspection in inspections:
        count = inspection.scheme.count * inspection.per_class
        if count > MOST_MAPS:
            raise ConfigError(
                f"{inspection.checkpoint} has {count} prototypes, and at most {MOST_MAPS} can be drawn together: "
                "lpd prototypes maps writes each by itself"
            )
    if not 0 < opacity <= 1:
        raise ConfigError(f"opacity {opacity:g} is not above 0 and at most 1: choose for example 0.6")
    if value_range is not None and not value_range[0] < value_range[1]:
        raise ConfigError(f"colours from {value_range[0]:g} to {value_range[1]:g} do not rise: give the lower first")


def _scales(inspections: Sequence[Inspection], value_range: tuple[float, float] | None) -> Scales:
    """By unit: the colours of its values."""
    colours = colormaps[COLORMAP].with_extremes(bad=UNKNOWN)
    found: dict[str, tuple[Colormap, Normalize]] = {}
    for unit in dict.fromkeys(i.unit for i in inspections):
        low, high = value_range or _range([i for i in inspections if i.unit == unit])
        found[unit] = colours, Normalize(low, high, clip=True)
    return found


def _range(inspections: Sequence[Inspection]) -> tuple[float, float]:
    """From low to high, between which all but 1 % of the values of maps and CAMs lie, rounded outwards."""
    arrays = [array for i in inspections for array in (i.maps, i.class_maps, *(cam.values for cam in i.cams))]
    values = np.concatenate([array[~np.isnan(array)] for array in arrays])
    low, high = np.percentile(values, (0.5, 99.5)) if len(values) else (0.0, 1.0)
    steps = 20 if inspections[0].unit == "cosine" else 1  # to the unit
    low, high = math.floor(low * steps) / steps, math.ceil(high * steps) / steps
    return (low, high) if high > low else (low, low + 1 / steps)


def _draw_pictures(sheet: Sheet, plan: Plan, inspections: Sequence[Inspection], painter: Painter) -> None:
    """Picture, truth and masks on the left, with the classes' colours below."""
    first, (width, height), y = inspections[0], plan.picture, MARGIN + HEADING
    known = ("truth",) if first.truth is not None else ()
    for name in ("picture", *known, *(f"mask {letter}".strip() for letter in letters(inspections))):
        sheet.write(MARGIN, y + CAPTION - 0.03, name, NORMAL)
        axes = sheet.panel(MARGIN, y + CAPTION, width, height, name)
        if name == "picture":
            painter.draw_picture(axes, first.place.width_um, plan.picture)
        elif name == "truth" and first.truth is not None:
            painter.draw_mask(axes, first.truth, first.truth_scheme or first.scheme, first.place.region)
        else:
            own = next(block for block in plan.blocks if name == f"mask {block.letter}".strip()).inspection
            painter.draw_mask(axes, own.mask, own.scheme, own.place.region)
        y += height + CAPTION + GAP
    for number, (name, colour) in enumerate(legend(inspections)):
        top = y + 0.1 + LEGEND * number
        sheet.fill(MARGIN, top, 0.16, 0.1, colour)
        sheet.write(MARGIN + 0.22, top + 0.09, fitted(name, PICTURE - 0.22, NORMAL), NORMAL)


def _draw_block(sheet: Sheet, plan: Plan, block: Block, painter: Painter, colours: tuple[Colormap, Normalize]) -> None:
    """One model: its name, a header a class, and its rows of maps."""
    inspection, y = block.inspection, MARGIN + HEADING + TITLE
    width = max(inspection.scheme.count * plan.step[0] - GAP, 2.0)
    name = f"{block.letter}   {inspection.checkpoint}".strip()
    size = fitted_size(name, width, LARGE, SMALL, bold=True)
    sheet.write(block.left, y - 0.1, fitted(name, width, SMALL, bold=True), size, weight="bold")
    for c in range(inspection.scheme.count):
        _draw_header(sheet, inspection, c, block.left + c * plan.step[0], y, plan.cell[0])
    for number, row in enumerate(block.rows):
        top = plan.row_top(block, number)
        if row.label:
            middle = top + plan.caption + plan.cell[1] / 2
            sheet.write(block.left - 0.06, middle, row.label, SMALL, rotation=90, ha="right", va="center")
        _draw_row(sheet, plan, block, row, top, painter, colours)


def _draw_row(
    sheet: Sheet,
    plan: Plan,
    block: Block,
    row: Row,
    top: float,
    painter: Painter,
    colours: tuple[Colormap, Normalize],
) -> None:
    width, height = plan.cell
    for c, (values, name, number) in enumerate(zip(row.maps, row.names, row.numbers, strict=True)):
        x, y = block.left + c * plan.step[0], top + plan.caption - 0.03
        if name:
            room = width if plan.stacked else width - text_width(number + " ", SMALL)
            sheet.write(x, y - (CAPTION - 0.03) * plan.stacked, fitted(name, room, SMALL), SMALL)
        size = fitted_size(number, width, SMALL, 4.0)
        sheet.write(x + width, y, number, size, ha="right", color=FAINT)
        label = f"{row.label} {block.inspection.scheme.codes[c]}" if row.label else name
        axes = sheet.panel(x, top + plan.caption, width, height, f"{block.letter} {label}".strip())
        painter.draw_map(axes, block.inspection, values, row.stride_px, colours)
        if row.crossed[c]:
            cross_out(axes)


def _draw_header(sheet: Sheet, inspection: Inspection, c: int, x: float, y: float, width: float) -> None:
    """Colour, name, gate and score of a class."""
    tissue = inspection.scheme.classes[c]
    sheet.fill(x, y - 0.04, width, 0.05, rgb(inspection.scheme, c))
    name = tissue.name if fitted(tissue.name, width, NORMAL, bold=True) == tissue.name else tissue.code
    sheet.write(x, y + 0.13, fitted(name, width, NORMAL, bold=True), NORMAL, weight="bold")
    sheet.write(x, y + 0.24, f"gate {short(float(inspection.gates[c]))}", SMALL)
    sheet.write(x, y + 0.34, f"score {short(float(inspection.scores[c]))}", SMALL)


def _draw_colorbars(sheet: Sheet, plan: Plan, scales: Scales, opacity: float) -> None:
    """One bar a unit, to the right of all grids."""
    height = min(3.0, plan.bottom - plan.top - plan.caption - 0.1)
    for number, (unit, (colour, norm)) in enumerate(scales.items()):
        x = plan.bar_left + BAR_STEP * number
        axes = sheet.panel(x, plan.top + plan.caption, BAR, height, f"colours {unit}")
        bar = sheet.figure.colorbar(ScalarMappable(norm, colour), cax=axes, extend="both", alpha=opacity)
        axes.set_label(f"colours {unit}")
        axes.tick_params(labelsize=SMALL, width=0.5, length=2, color=INK, labelcolor=INK, labelfontfamily=FONT)
        bar.outline.set_linewidth(0.5)
        sheet.write(x, plan.top + 0.04, unit, NORMAL)
