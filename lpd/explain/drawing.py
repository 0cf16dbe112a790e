"""What all figures of prototypes share: sizes in inches, letters that fit, and files that are the same each time."""

from __future__ import annotations

import io
import threading
from typing import Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lpd.errors import ConfigError

FileKind = Literal["png", "svg", "pdf"]
FILE_KINDS: tuple[FileKind, ...] = ("png", "svg", "pdf")

INK, FAINT = "#1c2733", "#5d6975"
FRAME = "#9aa4ae"
#: What was not computed.
UNKNOWN = "#e4e7ea"

#: Letters stay letters: a figure can be searched, and its words changed in a drawing program.
_STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
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

    def write(self, x: float, y: float, text: str, size: float = 7.0, **how: Any) -> None:
        """Text with its left end on the baseline ``y``, unless ``how`` says otherwise; no letter starts a formula."""
        settings = {"color": INK, "ha": "left", "va": "baseline", "family": "DejaVu Sans", **how}
        self.figure.text(x / self.width, 1 - y / self.height, text, fontsize=size, parse_math=False, **settings)


def fitted(text: str, width: float, size: float) -> str:
    """The text, cut with an ellipsis where it would be wider than so many inches in letters of ``size`` points."""
    most = max(1, int(width * 72 / (0.6 * size)))
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"
