"""What all figures of prototypes share: sizes in inches, letters that fit, and files that are the same each time."""

from __future__ import annotations

import io
import threading
from typing import Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lpd.errors import ConfigError

FileKind = Literal["png", "svg", "pdf"]
FILE_KINDS: tuple[FileKind, ...] = ("png", "svg", "pdf")

#: matplotlib brings it, so that letters are as wide everywhere.
FONT = "DejaVu Sans"
INK, FAINT = "#1c2733", "#5d6975"
FRAME = "#9aa4ae"
#: What was not computed.
UNKNOWN = "#e4e7ea"

#: Letters stay letters: a figure can be searched, and its words changed in a drawing program.
_STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": [FONT],
    "axes.linewidth": 0.6,
    "hatch.linewidth": 0.5,
    "text.usetex": False,
    "path.simplify": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "lpd",
    "pdf.fonttype": 42,
    "savefig.bbox": None,
    "savefig.transparent": False,
}
_METADATA: dict[FileKind, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None, "Format": None, "Type": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
#: matplotlib's settings are the whole process's: two threads must not change them at a time.
_ALONE = threading.Lock()


def figure_bytes(figure: Figure, kind: FileKind, dpi: float = 300.0) -> bytes:
    """A figure as a file: the same bytes of the same figure, with no date in it, letters as letters.

    Args:
        figure: of this package.
        kind: ``png``, ``svg`` or ``pdf``.
        dpi: pixels per inch of a PNG, and of pictures in the others.

    Raises:
        ConfigError: there is no such kind.
    """
    if kind not in FILE_KINDS:
        raise ConfigError(f"figures are not written as {kind!r}: choose {', '.join(FILE_KINDS)}")
    buffer = io.BytesIO()
    with _ALONE, matplotlib.rc_context(_STYLE):
        figure.savefig(buffer, format=kind, dpi=dpi, metadata=_METADATA[kind])
    return buffer.getvalue()


class Sheet:
    """A figure of which places are in inches from the upper left corner.

    Attributes:
        figure: what is drawn on.
        width, height: inches.
    """

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width, height), facecolor="white")

    def panel(self, x: float, y: float, width: float, height: float, name: str) -> Axes:
        """Axes without ticks; ``name`` is their label, which is not drawn."""
        axes: Axes = self.figure.add_axes(
            (x / self.width, 1 - (y + height) / self.height, width / self.width, height / self.height), label=name
        )
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_linewidth(0.6)
            spine.set_color(FRAME)
        return axes

    def fill(self, x: float, y: float, width: float, height: float, colour: tuple[float, float, float]) -> None:
        """A rectangle in one colour."""
        corner = x / self.width, 1 - (y + height) / self.height
        size, transform = (width / self.width, height / self.height), self.figure.transFigure
        patch = Rectangle(corner, *size, transform=transform, facecolor=colour, edgecolor=FRAME, linewidth=0.6)
        self.figure.add_artist(patch)

    def write(self, x: float, y: float, text: str, size: float = 7.0, **how: Any) -> None:
        """Text with its left end on the baseline ``y``, unless ``how`` says otherwise; no letter starts a formula."""
        settings = {"color": INK, "ha": "left", "va": "baseline", "family": FONT, **how}
        self.figure.text(x / self.width, 1 - y / self.height, text, fontsize=size, parse_math=False, **settings)


def fitted(text: str, width: float, size: float, *, bold: bool = False) -> str:
    """The text, cut with an ellipsis where it would be wider than so many inches in letters of ``size`` points."""
    most = max(1, int(width * 72 / (_em(bold=bold) * size)))
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"


def fitted_size(text: str, width: float, size: float, smallest: float, *, bold: bool = False) -> float:
    """The size at which the text is no wider than so many inches: ``size``, or less, down to ``smallest`` points."""
    return min(size, max(smallest, width * 72 / (_em(bold=bold) * max(1, len(text)))))


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """About how wide a text is, inches."""
    return _em(bold=bold) * size * len(text) / 72


def _em(*, bold: bool) -> float:
    """About how wide a letter is, in its size."""
    return 0.66 if bold else 0.58
