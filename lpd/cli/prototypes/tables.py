"""What ``lpd prototypes`` prints and writes of figures of merit: tables, CSV rows, files of figures."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpd.errors import ConfigError
from lpd.evaluation.files import written
from lpd.export.spreadsheet import text_cell

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Figures in the order of the columns, and what stands over them.
COLUMNS = {
    "jeffreys_similarity": "Jeffreys",
    "map_cosine": "cosine",
    "map_iou": "IoU",
    "union_coverage": "coverage",
    "effective_prototypes": "effective",
    "prototype_cosine": "proto. cosine",
    "silhouette": "silhouette",
    "map_silhouette": "map silh.",
}
ALL = "all"
PLOT_KINDS = (".png", ".svg", ".pdf")
_DPI = 200


def names(codes: Sequence[str], per_class: int) -> list[str]:
    """The prototypes as class and number, class-major: ``TUM 1`` …"""
    return [f"{code} {k + 1}" for code in codes for k in range(per_class)]


def with_given(plain: Sequence[str], given: Sequence[str]) -> list[str]:
    """The same with the names that people gave: ``TUM 1 (glands)``; ``given`` is [] if none has one."""
    return [f"{name} ({own})" if own else name for name, own in zip(plain, given or [""] * len(plain), strict=True)]


def figures_table(found: Mapping[str, Any]) -> str:
    """Rows of figures by class and of all, usage beside them; ``found`` is the JSON form of figures."""
    shown = [name for name in COLUMNS if name in found]
    head = ["class", "tiles", *(COLUMNS[name] for name in shown), "usage"]
    rows = [head]
    for code, own in found["classes"].items():
        rows.append([code, str(own["tiles"]), *(decimal(own[name]) for name in shown), usage_of(own)])
    rows.append([ALL, "", *(decimal(found[name]) for name in shown), ""])
    return aligned(rows)


def definitions(found: Mapping[str, Any]) -> str:
    """What the columns are, a line each."""
    from lpd.explain.definitions import DEFINITIONS

    shown = {**{name: label for name, label in COLUMNS.items() if name in found}, "usage": "usage"}
    told = {name for own in found["classes"].values() for name in own}
    flags = {name: name.replace("_", "-") for name in ("dead", "near_duplicates") if name in told}
    return "\n".join(f"{label}: {DEFINITIONS[name]}" for name, label in {**shown, **flags}.items())


def with_names(found: dict[str, Any], given: Sequence[str]) -> dict[str, Any]:
    """Figures with ``names`` in each class that has named prototypes, empty for those without.

    Args:
        found: JSON form of figures.
        given: names of all prototypes, class-major; [] if none has one.
    """
    per_class = found["prototypes_per_class"]
    for index, own in enumerate(found["classes"].values()):
        names = list(given[index * per_class : (index + 1) * per_class])
        if any(names):
            own["names"] = names
    return found


def called(found: Mapping[str, Any]) -> list[str]:
    """What people call prototypes, a line each."""
    return [
        f"{code} {k + 1} is called {name}"
        for code, own in found["classes"].items()
        for k, name in enumerate(own.get("names", ()))
        if name
    ]


def flagged(found: Mapping[str, Any]) -> list[str]:
    """Dead prototypes and near-duplicates, a line each."""
    lines = []
    for code, own in found["classes"].items():
        lines += [f"{code} {k + 1} is dead: it wins {own['usage'][k]:.3%} of its class" for k in own.get("dead", ())]
        lines += [
            f"{code} {i + 1} and {code} {j + 1} are near-duplicates: their maps correlate by {value:.3f}"
            for i, j, value in own.get("near_duplicates", ())
        ]
    return lines


def figures_rows(of: Sequence[str], found: Mapping[str, Any]) -> list[list[Any]]:
    """CSV rows by class and of all, ``of`` first; see :func:`figures_header`."""
    rows = []
    for code, own in [*found["classes"].items(), (ALL, found)]:
        usage = own.get("usage") or ()
        rows.append(
            [
                *of,
                code,
                own.get("tiles", "") if code != ALL else "",
                *(_cell(own.get(name)) for name in COLUMNS),
                " ".join(f"{share:.4f}" for share in usage),
                " ".join(str(k + 1) for k in own.get("dead", ())),
                " ".join(f"{i + 1}-{j + 1}" for i, j, _ in own.get("near_duplicates", ())),
                "; ".join(f"{k + 1} {name}" for k, name in enumerate(own.get("names", ())) if name),
            ]
        )
    return rows


def figures_header(of: Sequence[str]) -> list[str]:
    """Names of the columns of :func:`figures_rows`; prototypes are numbered from 1 within their class."""
    return [*of, "class", "tiles", *COLUMNS, "usage", "dead", "near_duplicates", "names"]


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they need to be: the first and the last to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    last = len(widths) - 1
    lines = [
        "  ".join(
            cell.ljust(w) if i in (0, last) else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def decimal(value: float | None) -> str:
    """Three places; a dash for what cannot be said."""
    return "–" if value is None else f"{value:.3f}"


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A whole table or none; what somebody typed is no formula, see :func:`lpd.export.spreadsheet.text_cell`.

    Raises:
        RunError: it cannot be written.
    """
    with written(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(header)
        table.writerows([text_cell(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)


def check_plot(path: Path | None) -> None:
    """Refuse a name that no figure can be written to, before work is done.

    Raises:
        ConfigError: see above.
    """
    if path is not None and path.suffix.lower() not in PLOT_KINDS:
        raise ConfigError(f"--plot {path} must end in {', '.join(PLOT_KINDS)}")


def write_plot(path: Path, figure: Figure) -> None:
    """As what its name says.

    Raises:
        RunError: it cannot be written.
    """
    from lpd.explain.drawing import figure_bytes

    kind: Any = path.suffix[1:].lower()
    content = figure_bytes(figure, kind, _DPI)
    with written(path) as temporary:
        temporary.write_bytes(content)


def usage_of(own: Mapping[str, Any]) -> str:
    """Shares of a class's prototypes; a dot for what was muted, or merged into one before it, in the checkpoint."""
    if own.get("usage") is None:
        return "–"
    counted = own.get("counted", range(len(own["usage"])))
    return " ".join(f"{share:.0%}" if k in counted else "·" for k, share in enumerate(own["usage"]))


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
