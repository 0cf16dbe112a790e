"""Prototypes as points of a plane: the two main directions of where they point to. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lpd.classes import ClassScheme
from lpd.errors import ConfigError, ShapeError
from lpd.explain.drawing import FAINT, FONT, FRAME, INK, Sheet, fitted, fitted_size, text_width
from lpd.explain.inspection import Pixels
from lpd.explain.inspection_layout import LARGE, LEGEND, MARGIN, NORMAL, NOTE, SMALL, rgb

Points = npt.NDArray[np.float64]

_SIDE, _AXIS, _LEGEND_WIDTH = 4.0, 0.5, 1.5
_TITLE = 0.15  # a line of it
_CROP = 0.42  # inches
_MARKERS = "os^Dv*"
#: Directions in which a name is tried, and how far from its point, in its own heights.
_TURNS, _REACHES = 12, (1.0, 2.0, 3.0, 4.5)


@dataclass(frozen=True, eq=False)
class PrototypeDirections:
    """Where a model's prototypes point to.

    Attributes:
        checkpoint: its name.
        scheme: its classes.
        directions: (M, D) float64 of length 1, class-major.
        space: the same text for models whose encoders have the same weights: only then do directions share a space.
        names: of the prototypes; numbers within their class where empty.
    """

    checkpoint: str
    scheme: ClassScheme
    directions: Points
    space: str
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.directions.ndim != 2 or len(self.directions) % self.scheme.count:
            raise ShapeError(
                f"directions {self.directions.shape} are not (M, D) of {self.scheme.count} classes with as many each"
            )
        if self.names and len(self.names) != len(self.directions):
            raise ConfigError(f"{len(self.names)} names for {len(self.directions)} prototypes: give one each")

    def class_of(self, index: int) -> int:
        """The class of a prototype."""
        return index // (len(self.directions) // self.scheme.count)

    def label(self, index: int) -> str:
        """Its name, else its number within its class, from 1."""
        name = self.names[index].strip() if self.names else ""
        return name or str(index % (len(self.directions) // self.scheme.count) + 1)


def project(directions: Points) -> tuple[Points, tuple[float, float]]:
    """Points in the plane in which directions differ most (PCA).

    Args:
        directions: (M, D), any M ≥ 1.

    Returns:
        (M, 2) places along the first and the second principal component, whose signs make each component's largest
        entry positive; and the share of all variance that each explains (0 where there is none).
    """
    centred = directions - directions.mean(axis=0)
    _, strengths, components = np.linalg.svd(centred, full_matrices=False)
    total = float((strengths**2).sum())
    places, shares = np.zeros((len(directions), 2)), [0.0, 0.0]
    for axis in range(min(2, len(strengths))):
        component = components[axis]
        places[:, axis] = centred @ component * math.copysign(1, component[np.abs(component).argmax()])
        shares[axis] = float(strengths[axis] ** 2) / total if total > 1e-12 else 0.0
    return places, (shares[0], shares[1])


def draw_projection(
    models: Sequence[PrototypeDirections], *, crops: Mapping[tuple[int, int], Pixels] | None = None
) -> Figure:
    """Draw models' prototypes as points in the colours of their classes.

    Models whose encoders have the same weights share a plane and differ by their markers; others stand side by side,
    each in a plane of its own, for nearness between them would mean nothing.

    Args:
        models: at least one.
        crops: (h, w, 3) uint8 RGB examples by (number of the model, number of the prototype), drawn beside points.

    Raises:
        ConfigError: there is no model, or more than six.
    """
    if not 1 <= len(models) <= len(_MARKERS):
        raise ConfigError(f"{len(models)} models cannot be drawn: choose 1 to {len(_MARKERS)}")
    planes: dict[tuple[str, int], list[int]] = {}
    for number, model in enumerate(models):
        planes.setdefault((model.space, model.directions.shape[1]), []).append(number)
    notes = [
        "Adapted prototypes of the deepest scale, each of length 1, along their first two principal components.",
        *(["Encoders with other weights: each model has a plane of its own."] if len(planes) > 1 else []),
    ]
    entries, top = _legend(models), MARGIN + 0.1 + _TITLE * max(map(len, planes.values()))
    width = MARGIN + len(planes) * (_AXIS + _SIDE + 0.15) + _LEGEND_WIDTH + MARGIN
    height = top + max(_SIDE + _AXIS, LEGEND * len(entries)) + NOTE * len(notes) + MARGIN
    sheet = Sheet(width, height)
    for column, numbers in enumerate(planes.values()):
        corner = MARGIN + _AXIS + column * (_AXIS + _SIDE + 0.15), top
        _draw_plane(sheet, corner, models, numbers, crops or {})
    left = width - MARGIN - _LEGEND_WIDTH
    for row, (name, colour) in enumerate(entries):
        y = top + LEGEND * row
        sheet.fill(left, y, 0.16, 0.1, colour)
        sheet.write(left + 0.22, y + 0.09, fitted(name, _LEGEND_WIDTH - 0.22, NORMAL), NORMAL)
    for number, line in enumerate(reversed(notes)):
        sheet.write(MARGIN, height - MARGIN - NOTE * number, line, SMALL, color=FAINT)
    return sheet.figure


def _legend(models: Sequence[PrototypeDirections]) -> list[tuple[str, tuple[float, float, float]]]:
    return list(
        dict.fromkeys(
            (tissue.name, rgb(model.scheme, c)) for model in models for c, tissue in enumerate(model.scheme.classes)
        )
    )


def _draw_plane(
    sheet: Sheet,
    corner: tuple[float, float],
    models: Sequence[PrototypeDirections],
    numbers: Sequence[int],
    crops: Mapping[tuple[int, int], Pixels],
) -> None:
    """The models of one space in one plane."""
    places, shares = project(np.concatenate([models[number].directions for number in numbers]))
    axes = sheet.panel(*corner, _SIDE, _SIDE, f"plane {' '.join(models[n].checkpoint for n in numbers)}")
    middle = (places.max(axis=0) + places.min(axis=0)) / 2
    reach = max(float(np.abs(places - middle).max()), 1e-3) * (1.45 if crops else 1.2)
    axes.set_xlim(middle[0] - reach, middle[0] + reach)
    axes.set_ylim(middle[1] - reach, middle[1] + reach)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.tick_params(labelsize=SMALL, width=0.5, length=2, color=INK, labelcolor=INK, labelfontfamily=FONT)
    how: Any = {"fontsize": NORMAL, "color": INK, "family": FONT}
    axes.set_xlabel(f"first component ({100 * shares[0]:.0f} % of variance)", labelpad=2, **how)
    axes.set_ylabel(f"second component ({100 * shares[1]:.0f} %)", labelpad=1, **how)
    inches = (places - middle) / (2 * reach) * _SIDE  # from the middle of the axes
    taken = [(x - 0.05, y - 0.05, x + 0.05, y + 0.05) for x, y in inches]
    start = 0
    for row, number in enumerate(numbers):
        model, marker = models[number], _MARKERS[number] if len(numbers) > 1 else "o"
        _draw_title(sheet, corner, row, len(numbers), model.checkpoint, number)
        for index in range(len(model.directions)):
            point = inches[start + index]
            colour = rgb(model.scheme, model.class_of(index))
            axes.plot(
                *places[start + index], marker=marker, markersize=5, markeredgecolor="white", markeredgewidth=0.5,
                color=colour, zorder=3,
            )  # fmt: skip
            _annotate(axes, point, model.label(index), colour, crops.get((number, index)), taken)
        start += len(model.directions)


def _draw_title(sheet: Sheet, corner: tuple[float, float], row: int, rows: int, name: str, number: int) -> None:
    text = f"{'●■▲◆▼★'[number]} {name}" if rows > 1 else name
    size = fitted_size(text, _SIDE, LARGE if rows == 1 else NORMAL, SMALL, bold=True)
    y = corner[1] - 0.08 - _TITLE * (rows - 1 - row)
    sheet.write(corner[0], y, fitted(text, _SIDE, SMALL, bold=True), size, weight="bold")


def _annotate(
    axes: Axes,
    point: Points,
    label: str,
    colour: tuple[float, float, float],
    crop: Pixels | None,
    taken: list[tuple[float, float, float, float]],
) -> None:
    """A name, or an example with its name, where it covers least of what is there; boxes are inches from the middle."""
    label = fitted(label, 1.2, SMALL)
    width = text_width(label, SMALL) if crop is None else max(_CROP, text_width(label, SMALL))
    height = 0.1 if crop is None else _CROP + 0.12
    box = _freest(point, width, height, taken)
    taken.append(box)
    x, y = (box[0] + box[2]) / 2, box[1]

    def share(value: float) -> float:
        return value / _SIDE + 0.5

    edge = min(max(point[0], box[0]), box[2]), min(max(point[1], box[1]), box[3])
    if crop is not None or math.dist(point, edge) > 0.12:
        ends = (share(point[0]), share(edge[0])), (share(point[1]), share(edge[1]))
        axes.plot(*ends, transform=axes.transAxes, color=FRAME, linewidth=0.5, zorder=1, scalex=False, scaley=False)
    text = axes.text(share(x), share(y + 0.015), label, transform=axes.transAxes, color=INK, zorder=5)
    text.set(ha="center", va="bottom", fontsize=SMALL, family=FONT, parse_math=False)
    if crop is not None:
        side = _CROP / _SIDE
        inset = axes.inset_axes((share(x) - side / 2, share(y + 0.12), side, side), zorder=4)
        inset.imshow(crop, interpolation="antialiased", aspect="auto")
        inset.set(xticks=[], yticks=[], label=f"example {label}")
        for spine in inset.spines.values():
            spine.set(color=colour, linewidth=1.2)


def _freest(
    point: Points, width: float, height: float, taken: Sequence[tuple[float, float, float, float]]
) -> tuple[float, float, float, float]:
    """Of boxes around a point, inside the axes, the first that covers least."""
    best, least = None, math.inf
    for reach in _REACHES:
        for turn in range(_TURNS):
            angle = math.pi / 2 - 2 * math.pi * turn / _TURNS
            x = point[0] + math.cos(angle) * (reach * (0.06 + height / 2) + (width - height) / 2)
            y = point[1] + math.sin(angle) * reach * (0.06 + height / 2)
            box = x - width / 2, y - height / 2, x + width / 2, y + height / 2
            outside = max(0.0, *(abs(edge) - _SIDE / 2 for edge in box))
            covered = sum(_common(box, other) for other in taken) + outside
            if covered < least - 1e-9:
                best, least = box, covered
            if least == 0:
                break
    assert best is not None
    return best


def _common(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    """Area that two boxes share."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
