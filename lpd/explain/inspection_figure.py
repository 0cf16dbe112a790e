"""The figure of an inspection: each model's maps, prototypes down and classes across, with gates, scores and masks."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from string import ascii_uppercase

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lpd.classes import ClassScheme
from lpd.errors import ConfigError
from lpd.explain.drawing import FAINT, INK, UNKNOWN, Sheet, figure_bytes, fitted
from lpd.explain.inspection import Floats, Inspection, Pixels
from lpd.export.scale_bar import round_length, written

__all__ = ["draw_inspection", "figure_bytes"]

Colour = tuple[float, float, float]

#: More maps of one model than this make no figure that anybody could read.
MOST_MAPS = 600
#: Perceptually uniform, and read alike with all common kinds of colour blindness.
COLORMAP = "viridis"

# Inches.
_MARGIN, _GAP, _BLOCK_GAP = 0.18, 0.05, 0.3
_GROUP_GAP = 0.08  # between prototypes and CAMs
_CAPTION, _TITLE, _HEADER, _ROW_LABEL = 0.14, 0.3, 0.4, 0.2
_PICTURE = 1.75
_WIDEST, _LARGEST_CELL, _SMALLEST_CELL = 15.0, 1.25, 0.62
_NOTE = 0.14
_SMALL, _NORMAL, _LARGE = 6.0, 7.0, 9.0
_DEFINITIONS = (
    "gate: probability that the class is in the picture; score: mean score of the class over the picture's tissue; "
    "max, mean: of the map in the picture."
)


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
    of colours.

    Args:
        inspections: of the same place, in the order of their letters A, B, …
        title: above everything; the place if empty.
        opacity: of maps, over the picture in grey; 1 shows no picture.
        value_range: lowest and highest colour; by default those between which all but 1 % of the values lie.

    Returns:
        The figure; :func:`figure_bytes` makes a file of it.

    Raises:
        ConfigError: there is none, they are of different slides or images, or there are more than 600 maps of one.
    """
    _check(inspections, opacity, value_range)
    plan = _Plan(inspections)
    sheet = Sheet(plan.width, plan.height)
    heading = fitted(title or _place(inspections[0]), plan.width - 2 * _MARGIN, _LARGE)
    sheet.write(_MARGIN, _MARGIN + 0.1, heading, _LARGE)
    scales = _scales(inspections, value_range)
    _draw_pictures(sheet, plan, inspections)
    for block in plan.blocks:
        _draw_block(sheet, plan, block, scales[block.inspection.unit], opacity)
    _draw_colorbars(sheet, plan, scales, opacity)
    for number, line in enumerate(plan.notes):
        sheet.write(_MARGIN, plan.height - _MARGIN - _NOTE * (len(plan.notes) - 1 - number), line, _SMALL, color=FAINT)
    return sheet.figure


def _check(inspections: Sequence[Inspection], opacity: float, value_range: tuple[float, float] | None) -> None:
    if not inspections:
        raise ConfigError("there is nothing to draw: give an inspection")
    names = list(dict.fromkeys(inspection.place.name for inspection in inspections))
    if len(names) > 1:
        raise ConfigError(f"{names[0]} and {names[1]} are different pictures: models are compared on one")
    for inspection in inspections:
        count = inspection.scheme.count * inspection.per_class
        if count > MOST_MAPS:
            raise ConfigError(
                f"{inspection.checkpoint} has {count} prototypes, and at most {MOST_MAPS} can be drawn: take the arrays"
            )
    if not 0 < opacity <= 1:
        raise ConfigError(f"opacity {opacity:g} is not above 0 and at most 1: choose for example 0.6")
    if value_range is not None and not value_range[0] < value_range[1]:
        raise ConfigError(f"colours from {value_range[0]:g} to {value_range[1]:g} do not rise: give the lower first")


def _place(inspection: Inspection) -> str:
    place, region = inspection.place, inspection.place.region
    return (
        f"{place.name}   x {region.x_l0}, y {region.y_l0}, {region.width_l0} × {region.height_l0} px at "
        f"{place.mpp:.4g} µm/px"
    )


# Where things are


@dataclass(frozen=True)
class _Row:
    """A row of a model's grid: its label, and of each class the map, its caption and whether it is crossed out."""

    label: str
    maps: tuple[Floats, ...]
    stride_px: int
    captions: tuple[str, ...]
    crossed: tuple[bool, ...]


@dataclass(frozen=True)
class _Block:
    """One model's grid, its left edge in inches."""

    letter: str
    inspection: Inspection
    rows: tuple[_Row, ...]
    x: float


@dataclass
class _Plan:
    """Places of everything, inches from the upper left corner."""

    inspections: Sequence[Inspection]
    cell: tuple[float, float] = field(init=False)
    picture: tuple[float, float] = field(init=False)
    blocks: list[_Block] = field(init=False)
    notes: list[str] = field(init=False)
    width: float = field(init=False)
    height: float = field(init=False)

    def __post_init__(self) -> None:
        first = self.inspections[0]
        tall = first.mask.shape[0] / first.mask.shape[1]
        columns = sum(i.scheme.count for i in self.inspections)
        room = _WIDEST - 2 * _MARGIN - _PICTURE - 0.6 - len(self.inspections) * (_BLOCK_GAP + _ROW_LABEL)
        side = min(max(room / columns - _GAP, _SMALLEST_CELL), _LARGEST_CELL)
        self.cell = side * min(1, 1 / tall), side * min(1, tall)
        self.picture = _PICTURE * min(1, 1 / tall), _PICTURE * min(1, tall)
        x = _MARGIN + max(_PICTURE, self.picture[0]) + _BLOCK_GAP
        self.blocks = []
        for letter, inspection in zip(ascii_uppercase, self.inspections, strict=False):
            self.blocks.append(_Block(letter, inspection, tuple(_rows(inspection)), x))
            x += _ROW_LABEL + inspection.scheme.count * self.step[0] + _BLOCK_GAP
        self.bar_x = x
        units = len({i.unit for i in self.inspections})
        self.width = x + 0.55 * units + _MARGIN
        self.top = _MARGIN + 0.2 + _TITLE + _HEADER
        grid = self.top + max(len(block.rows) for block in self.blocks) * self.step[1] + _GROUP_GAP
        left = _MARGIN + 0.2 + self.pictures_height
        self.notes = _notes(self.inspections, self.width - 2 * _MARGIN)
        self.height = max(grid, left, self.top + 1.2) + 0.1 + _NOTE * len(self.notes) + _MARGIN

    @property
    def step(self) -> tuple[float, float]:
        """From one panel of a grid to the next."""
        return self.cell[0] + _GAP, self.cell[1] + _CAPTION + _GAP

    @property
    def pictures_height(self) -> float:
        """Of pictures and masks with their captions, and the legend."""
        first = self.inspections[0]
        count = 1 + (first.truth is not None) + len(self.inspections)
        return count * (self.picture[1] + _CAPTION + _GAP) + 0.1 + 0.15 * len(_legend(self.inspections))


def _rows(inspection: Inspection) -> Iterator[_Row]:
    classes = range(inspection.scheme.count)
    for k in range(inspection.per_class):
        maps = tuple(inspection.maps[c, k] for c in classes)
        crossed = tuple(inspection.is_muted(c, k) for c in classes)
        captions = tuple(
            f"{inspection.label(c, k)}\t{'muted' if crossed[c] else _number('max', maps[c])}" for c in classes
        )
        yield _Row("", maps, inspection.stride_px, captions, crossed)
    nothing = (False,) * len(classes)
    cams = [(f"CAM, scale {cam.scale}", cam.values, cam.stride_px) for cam in inspection.cams]
    for label, values, stride in (*cams, ("fused CAM", inspection.class_maps, inspection.stride_px)):
        captions = tuple(f"\t{_number('mean', values[c])}" for c in classes)
        yield _Row(label, tuple(values), stride, captions, nothing)


def _number(what: str, values: Floats) -> str:
    if np.isnan(values).all():
        return "none"
    value = float(np.nanmax(values) if what == "max" else np.nanmean(values))
    return f"{what} {_short(value)}"


def _short(value: float) -> str:
    """Two figures behind the point; one for what is beyond ±10."""
    if math.isnan(value):
        return "–"
    text = f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
    return text.replace("-", "−")


def _notes(inspections: Sequence[Inspection], width: float) -> list[str]:
    """Definitions and each model's own notes, in lines that fit."""
    several = len(inspections) > 1
    own = [
        (f"{letter}: " if several else "") + note
        for letter, inspection in zip(ascii_uppercase, inspections, strict=False)
        for note in inspection.notes
    ]
    if several and len({inspection.notes for inspection in inspections}) == 1:
        own = list(inspections[0].notes)
    return [line for text in (_DEFINITIONS, *own) for line in _wrapped(text, width)]


def _wrapped(text: str, width: float) -> list[str]:
    return textwrap.wrap(text, max(20, int(width * 72 / (0.56 * _SMALL))))


# Colours


def _scales(
    inspections: Sequence[Inspection], value_range: tuple[float, float] | None
) -> dict[str, tuple[Colormap, Normalize]]:
    """By unit: the colours of its values."""
    colours = colormaps[COLORMAP].with_extremes(bad=UNKNOWN)
    found: dict[str, tuple[Colormap, Normalize]] = {}
    for unit in dict.fromkeys(i.unit for i in inspections):
        low, high = value_range or _range([i for i in inspections if i.unit == unit])
        found[unit] = colours, Normalize(low, high, clip=True)
    return found


def _range(inspections: Sequence[Inspection]) -> tuple[float, float]:
    """From low to high, between which all but 1 % of the values of maps and CAMs lie, rounded outwards."""
    values = np.concatenate(
        [
            array[~np.isnan(array)]
            for i in inspections
            for array in (i.maps, i.class_maps, *(cam.values for cam in i.cams))
        ]
    )
    low, high = np.percentile(values, (0.5, 99.5)) if len(values) else (0.0, 1.0)
    step = 0.05 if inspections[0].unit == "cosine" else 1.0
    low, high = math.floor(low / step) * step, math.ceil(high / step) * step
    return (low, high) if high > low else (low, low + step)


# Panels


def _draw_pictures(sheet: Sheet, plan: _Plan, inspections: Sequence[Inspection]) -> None:
    """Picture, truth and masks on the left, with the classes' colours below."""
    first = inspections[0]
    panels: list[tuple[str, Pixels, str]] = [("picture", first.picture, "antialiased")]
    if first.truth is not None:
        panels.append(("truth", _coloured(first.truth, first.scheme), "nearest"))
    for block in plan.blocks:
        name = "mask" if len(plan.blocks) == 1 else f"mask {block.letter}"
        panels.append((name, _coloured(block.inspection.mask, block.inspection.scheme), "nearest"))
    y, (width, height) = _MARGIN + 0.2, plan.picture
    for name, pixels, interpolation in panels:
        sheet.write(_MARGIN, y + _CAPTION - 0.03, name, _NORMAL)
        axes = sheet.panel(_MARGIN, y + _CAPTION, width, height, name)
        axes.imshow(pixels, interpolation=interpolation, aspect="auto")
        if name == "picture":
            _draw_scale_bar(axes, first)
        y += height + _CAPTION + _GAP
    y += 0.1
    for name, colour in _legend(inspections):
        box = sheet.panel(_MARGIN, y, 0.16, 0.1, f"legend {name}")
        box.set_facecolor(colour)
        sheet.write(_MARGIN + 0.22, y + 0.09, fitted(name, _PICTURE - 0.22, _NORMAL), _NORMAL)
        y += 0.15


def _coloured(mask: Pixels, scheme: ClassScheme) -> Pixels:
    """(h, w, 3) colours of mask values; what is none, or not known, is grey."""
    colours = np.full((256, 3), 0xD5, dtype=np.uint8)
    colours[: scheme.count + 1] = scheme.palette()
    return np.asarray(colours[mask])


def _legend(inspections: Sequence[Inspection]) -> list[tuple[str, Colour]]:
    """Names and colours of all classes and of background; each once."""
    found: dict[tuple[str, Colour], None] = {}
    for inspection in inspections:
        names = [c.name for c in inspection.scheme.classes]
        found.update({(n, _rgb(inspection.scheme, c)): None for c, n in enumerate(names)})
    found.update({("background", _rgb(i.scheme, i.scheme.background)): None for i in inspections})
    return list(found)


def _rgb(scheme: ClassScheme, value: int) -> Colour:
    red, green, blue = (channel / 255 for channel in scheme.palette()[value].tolist())
    return red, green, blue


def _draw_scale_bar(axes: Axes, inspection: Inspection) -> None:
    height, width = inspection.picture.shape[:2]
    length_um = round_length(inspection.place.width_um / 3)
    length = length_um / inspection.place.width_um * width
    left, bottom, thick = 0.04 * width, height * (1 - 0.05), 0.018 * height
    corner = left / 2, bottom - 0.115 * height
    plate = Rectangle(corner, length + left, 0.14 * height, color="white", alpha=0.85, lw=0)
    axes.add_patch(plate)
    axes.add_patch(Rectangle((left, bottom - thick), length, thick, color=INK, lw=0))
    axes.text(
        left + length / 2,
        bottom - 1.6 * thick,
        written(length_um),
        fontsize=_SMALL,
        color=INK,
        ha="center",
        va="bottom",
        family="DejaVu Sans",
    )


def _draw_block(sheet: Sheet, plan: _Plan, block: _Block, colours: tuple[Colormap, Normalize], opacity: float) -> None:
    """One model: its name, a header a class, and its rows of maps."""
    inspection, left = block.inspection, block.x + _ROW_LABEL
    width = inspection.scheme.count * plan.step[0] - _GAP
    y = _MARGIN + 0.2 + _TITLE
    letter = f"{block.letter}   " if len(plan.blocks) > 1 else ""
    sheet.write(left, y - 0.1, fitted(letter + inspection.checkpoint, width, _LARGE), _LARGE, weight="bold")
    for c in range(inspection.scheme.count):
        _draw_header(sheet, inspection, c, left + c * plan.step[0], y, plan.cell[0])
    grey = _grey(inspection.picture) if opacity < 1 else None
    for number, row in enumerate(block.rows):
        top = plan.top + number * plan.step[1] + (_GROUP_GAP if number >= inspection.per_class else 0)
        middle = top + _CAPTION + plan.cell[1] / 2
        sheet.write(block.x + 0.12, middle, row.label, _NORMAL, rotation=90, ha="center", va="center")
        for c, values in enumerate(row.maps):
            x = left + c * plan.step[0]
            _draw_caption(sheet, row.captions[c], x, top + _CAPTION - 0.03, plan.cell[0])
            name = f"{block.letter} {row.label or inspection.label(c, number)} {inspection.scheme.codes[c]}"
            axes = sheet.panel(x, top + _CAPTION, *plan.cell, name)
            _draw_map(axes, inspection, values, row.stride_px, colours, opacity, grey)
            if row.crossed[c]:
                _cross_out(axes)


def _draw_header(sheet: Sheet, inspection: Inspection, c: int, x: float, y: float, width: float) -> None:
    band = sheet.panel(x, y - 0.04, width, 0.05, f"class {inspection.scheme.codes[c]}")
    band.set_facecolor(_rgb(inspection.scheme, c))
    tissue = inspection.scheme.classes[c]
    name = tissue.name if fitted(tissue.name, width, _NORMAL) == tissue.name else tissue.code
    sheet.write(x, y + 0.13, fitted(name, width, _NORMAL), _NORMAL, weight="bold")
    gate, score = _short(float(inspection.gates[c])), _short(float(inspection.scores[c]))
    sheet.write(x, y + 0.24, f"gate {gate}", _SMALL)
    sheet.write(x, y + 0.34, f"score {score}", _SMALL)


def _draw_caption(sheet: Sheet, caption: str, x: float, y: float, width: float) -> None:
    """A name on the left, a number on the right; the name gives way."""
    name, _, number = caption.partition("\t")
    taken = 0.6 * _SMALL * len(number) / 72
    if name:
        sheet.write(x, y, fitted(name, width - taken, _SMALL), _SMALL)
        sheet.write(x + width, y, number, _SMALL, ha="right", color=FAINT)
    else:
        sheet.write(x, y, number, _SMALL, color=FAINT)


def _draw_map(
    axes: Axes,
    inspection: Inspection,
    values: Floats,
    stride_px: int,
    colours: tuple[Colormap, Normalize],
    opacity: float,
    grey: npt.NDArray[np.float32] | None,
) -> None:
    height, width = inspection.mask.shape
    colour, norm = colours
    whole = (0, width, height, 0)
    if grey is not None:
        axes.imshow(grey, cmap="gray", vmin=0, vmax=255, extent=whole, aspect="auto", interpolation="antialiased")
    cells = (0, values.shape[1] * stride_px, values.shape[0] * stride_px, 0)
    shown = np.ma.masked_invalid(values)
    axes.imshow(shown, cmap=colour, norm=norm, extent=cells, aspect="auto", interpolation="nearest", alpha=opacity)
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)


def _grey(picture: Pixels) -> npt.NDArray[np.float32]:
    return np.asarray(picture.mean(axis=2, dtype=np.float32))


def _cross_out(axes: Axes) -> None:
    for ends in ((0, 1), (1, 0)):
        axes.plot((0, 1), ends, transform=axes.transAxes, color="white", linewidth=2.2, scalex=False, scaley=False)
        axes.plot((0, 1), ends, transform=axes.transAxes, color=INK, linewidth=1.0, scalex=False, scaley=False)


def _draw_colorbars(sheet: Sheet, plan: _Plan, scales: dict[str, tuple[Colormap, Normalize]], opacity: float) -> None:
    """One bar a unit, to the right of all grids."""
    height = min(3.0, plan.height - plan.top - 0.5)
    for number, (unit, (colour, norm)) in enumerate(scales.items()):
        axes = sheet.panel(plan.bar_x + 0.55 * number, plan.top + _CAPTION, 0.12, height, f"colours {unit}")
        bar = sheet.figure.colorbar(ScalarMappable(norm, colour), cax=axes, extend="both", alpha=opacity)
        bar.ax.tick_params(labelsize=_SMALL, width=0.5, length=2, color=INK, labelcolor=INK)
        bar.ax.set_label(f"colours {unit}")
        bar.outline.set_linewidth(0.5)
        sheet.write(plan.bar_x + 0.55 * number, plan.top + 0.04, unit, _NORMAL)
