"""The chart of a report: a bar of class shares for the slide and for each region, as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from lpd.classes import Rgb
from lpd.export.areas import Tally

_WIDTH, _BAR, _GAP, _NAME = 470, 19, 8, 120
_LONGEST_NAME = 16
#: Below this share a figure does not fit into its field.
_WRITTEN_FROM_PERCENT = 7.0
_INK = "#17222d"


def bars(rows: Sequence[tuple[str, Tally]]) -> str:
    """One bar for each named tally, 100 % of its tissue wide; nothing of one without tissue."""
    height = len(rows) * (_BAR + _GAP)
    drawn = "".join(_bar(name, found, number * (_BAR + _GAP)) for number, (name, found) in enumerate(rows))
    label = "Share of each class in the tissue; the tables say the same in figures"
    return f'<svg class="chart" viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{label}">{drawn}</svg>'


def _bar(name: str, found: Tally, y: float) -> str:
    short = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
    middle = y + _BAR / 2 + 4.5
    text = f'<text x="{_NAME - 8}" y="{middle}" text-anchor="end" font-size="12" fill="{_INK}">{escape(short)}</text>'
    if not found.tissue_mm2:
        return f'{text}<text x="{_NAME}" y="{middle}" font-size="13" fill="{_INK}">no tissue</text>'
    fields, x = [], float(_NAME)
    for row in found.classes:
        width = (_WIDTH - _NAME) * row.percent_of_tissue / 100
        if width:
            fields.append(_field(row.percent_of_tissue, row.color, x, y, width))
        x += width
    return text + "".join(fields)


def _field(percent: float, color: Rgb, x: float, y: float, width: float) -> str:
    place = f'x="{x:.2f}" y="{y}" width="{width:.2f}" height="{_BAR}"'
    field = f'<rect {place} fill="{hex_color(color)}" stroke="#fff" stroke-width=".8"/>'
    if percent < _WRITTEN_FROM_PERCENT:
        return field
    ink = "#fff" if _is_dark(color) else "#000"
    return (
        f'{field}<text x="{x + width / 2:.1f}" y="{y + _BAR / 2 + 4.5}" text-anchor="middle" font-size="12" '
        f'fill="{ink}">{percent:.0f} %</text>'
    )


def hex_color(color: Rgb) -> str:
    """A colour as SVG has it."""
    return "#{:02x}{:02x}{:02x}".format(*color)


def _is_dark(color: Rgb) -> bool:
    """Whether white is easier to read on it than black: by the relative luminance of WCAG 2."""
    linear = [(v / 255 / 12.92) if v / 255 <= 0.04045 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in color]
    luminance = sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return luminance < 0.179
