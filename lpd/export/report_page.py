"""The HTML of a report: no script, no address of anything else; all text from files and people is escaped."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape

import lpd
from lpd.classes import ClassScheme, Rgb
from lpd.export.areas import ClassArea, Tally, area_cell
from lpd.export.report_chart import bars, hex_color
from lpd.export.report_pictures import Picture
from lpd.export.report_scores import ScoreRow
from lpd.export.report_style import STYLE
from lpd.export.tumour_stroma import in_words, tumour_stroma, why_no_ratio

#: What every report says, on each page.
RESEARCH_USE = "Research use only. Not a medical device."
#: A name and what is said of it.
Fact = tuple[str, str]

_FINE_BELOW_MM2 = 1.0
_RATIO_NOTE = "The ratio is of areas, not the score of one field that guidelines of the tumour-stroma ratio describe."
_SCORES_NOTE = """\
Scores of the checkpoint on tiles with masks, as its file states them, in percent: they say nothing of this very slide.
Gate predicted: the network itself says which classes are in a tile, as on slides. Background ignored: only tissue
pixels are scored; tissue rule: glass found by the tissue rule is scored as background, too. mIoU is the mean of the
tissue classes."""


@dataclass(frozen=True)
class RegionRow:
    """A drawn region: its number on the pictures, its name, and what is in it."""

    number: int
    name: str
    tally: Tally


@dataclass(frozen=True)
class ReportPage:
    """All that a report says, as plain text; what is empty is left out.

    Attributes:
        title: the slide's file name.
        overview, segmented: pictures of the slide, and of the part that was segmented with its classes.
        caution: what the figures leave out.
        missing: why the slide is not shown.
        regions_left_out: how many more were drawn than are listed.
    """

    title: str
    classes: ClassScheme
    whole: Tally
    regions: Sequence[RegionRow]
    regions_left_out: int
    overview: Picture | None
    segmented: Picture
    caution: str
    missing: str
    slide_facts: Sequence[Fact]
    model_facts: Sequence[Fact]
    notice: str
    scores: Sequence[ScoreRow]
    why_no_scores: str
    protocol: Sequence[Fact]
    author: str
    created: datetime
    review: str = ""


def to_html(page: ReportPage) -> str:
    """Write a report out as one HTML document."""
    style_hash = base64.b64encode(hashlib.sha256(STYLE.encode("utf-8")).digest()).decode("ascii")
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{style_hash}'; form-action 'none'; base-uri 'none'"
    parts = [
        _header(page),
        _box("caution", page.caution),
        _box("caution", page.missing),
        _figures(page),
        _section("Areas", _areas(page)),
        _section("Regions", _regions(page)) if page.regions else "",
        _section("Slide", _facts(page.slide_facts)),
        _section("Model", _model(page)),
        _section("How it was made", _facts(page.protocol)),
        f"<footer>{RESEARCH_USE} Made by lpd {escape(lpd.__version__)}.</footer>",
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{_text(page.title)}: tissue segmentation report</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{chr(10).join(part for part in parts if part)}\n</main>\n</body>\n</html>\n"
    )


def _header(page: ReportPage) -> str:
    by = f" for {_text(page.author)}" if page.author else ""
    when = page.created.strftime("%Y-%m-%d %H:%M %Z").strip()
    return (
        f'<header><p class="kind">Tissue segmentation report</p><h1>{_text(page.title)}</h1>'
        f'<p class="made">{_text(when)}{by}</p><p class="use">{RESEARCH_USE}</p>{_box("review", page.review)}</header>'
    )


def _figures(page: ReportPage) -> str:
    figures = []
    if page.overview:
        figures.append(f"<figure>{page.overview.svg}<figcaption>The slide</figcaption></figure>")
    caption = "Tissue classes" if page.overview is None else "Tissue classes over the slide"
    grey = "; grey: not segmented" if page.whole.not_computed_mm2 else ""
    legend = "".join(f"<li>{_swatch(c.color)}{_text(c.name)}</li>" for c in page.classes.classes)
    figures.append(
        f'<figure>{page.segmented.svg}<figcaption>{caption}{grey}</figcaption><ul class="legend">{legend}</ul></figure>'
    )
    return f'<div class="figures">{"".join(figures)}</div>'


def _areas(page: ReportPage) -> str:
    whole = page.whole
    decimals = _decimals(whole)
    rows = [
        (f"{_swatch(r.color)}{_text(r.name)}", area_cell(r.area_mm2, decimals), _share(r, whole)) for r in whole.classes
    ]
    rows.append(("All tissue", area_cell(whole.tissue_mm2, decimals), "100 %" if whole.tissue_mm2 else "–"))
    table = _table(("Class", "mm²", "of tissue"), rows, numbers_from=1, last_is_sum=True)
    chart = bars([("Slide", whole), *((f"{r.number} {_clean(r.name)}", r.tally) for r in page.regions)])
    found = tumour_stroma(page.classes, [row.area_mm2 for row in whole.classes])
    ratio = _text(in_words(found)) if found else f"none: {_text(why_no_ratio(page.classes))}"
    note = f" {_RATIO_NOTE}" if found else ""
    return (
        f'<div class="areas">{table}<div>{chart}<p><strong>Tumour/stroma ratio</strong> {ratio}.{note}</p></div></div>'
    )


def _regions(page: ReportPage) -> str:
    names = [c.name for c in page.classes.classes]
    ratios = not why_no_ratio(page.classes)
    head = ["", "Region", "Area", "Tissue", *map(_text, names), *(["Tumour/stroma"] if ratios else [])]
    unknown = any(row.tally.not_computed_mm2 for row in page.regions)
    if unknown:
        head.append("Segmented")
    rows = [_region(row, page.classes, ratios=ratios, unknown=unknown) for row in page.regions]
    more = f"<p>And {page.regions_left_out} more, which are not listed.</p>" if page.regions_left_out else ""
    note = "<p>In mm² and percent of the tissue in the region. Numbers are those on the pictures.</p>"
    return _table(head, rows, numbers_from=2) + note + more


def _region(row: RegionRow, classes: ClassScheme, *, ratios: bool, unknown: bool) -> list[str]:
    found, decimals = row.tally, _decimals(row.tally)
    cells = [str(row.number), _text(row.name), *(area_cell(v, decimals) for v in (found.area_mm2, found.tissue_mm2))]
    cells += [f"{area_cell(r.area_mm2, decimals)}<br>{_share(r, found)}" for r in found.classes]
    if ratios:
        both = tumour_stroma(classes, [r.area_mm2 for r in found.classes])
        cells.append(f"{both.ratio:.2f}" if both and both.ratio is not None else "–")
    if unknown:
        cells.append(f"{found.computed_percent:.1f} %")
    return cells


def _model(page: ReportPage) -> str:
    parts = [_facts(page.model_facts), _box("caution", page.notice), _box("caution", page.why_no_scores)]
    if page.scores:
        for data in dict.fromkeys(row.data for row in page.scores):
            parts.append(f"<h3>Scores on {_text(data)}</h3>{_scores([r for r in page.scores if r.data == data])}")
        parts.append(f"<p>{_SCORES_NOTE}</p>")
    return "".join(parts)


def _scores(rows: Sequence[ScoreRow]) -> str:
    head = ["Protocol", "mIoU", *(f"IoU {_text(name)}" for name, _ in rows[0].iou)]
    lines = []
    for row in rows:
        interval = f"<br>mIoU {_text(row.interval)}" if row.interval else ""
        lines.append([_text(row.protocol) + interval, f"{row.miou:.1f}", *(_figure(iou) for _, iou in row.iou)])
    return _table(head, lines, numbers_from=1)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _section(title: str, content: str) -> str:
    return f"<section><h2>{title}</h2>{content}</section>"


def _box(kind: str, text: str) -> str:
    return f'<p class="{kind}">{_text(text)}</p>' if text else ""


def _facts(facts: Iterable[Fact]) -> str:
    return f"<dl>{''.join(f'<dt>{_text(name)}</dt><dd>{_text(value)}</dd>' for name, value in facts)}</dl>"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], *, numbers_from: int, last_is_sum: bool = False) -> str:
    """A table of cells that are HTML already; columns from ``numbers_from`` on hold numbers."""
    kinds = ["" if column < numbers_from else ' class="n"' for column in range(len(head))]
    top = "".join(f'<th scope="col"{kind}>{cell}</th>' for kind, cell in zip(kinds, head, strict=True))
    lines = ["".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds, row, strict=True)) for row in rows]
    ends = ["<tr>"] * len(lines)
    if last_is_sum:
        ends[-1] = '<tr class="sum">'
    body = "".join(f"{begin}{line}</tr>" for begin, line in zip(ends, lines, strict=True))
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _share(row: ClassArea, of: Tally) -> str:
    return f"{row.percent_of_tissue:.1f} %" if of.tissue_mm2 else "–"


def _decimals(found: Tally) -> int:
    """A biopsy needs a third decimal, a resection does not."""
    return 3 if found.tissue_mm2 < _FINE_BELOW_MM2 else 2


def _swatch(color: Rgb) -> str:
    return (
        '<svg class="swatch" viewBox="0 0 12 12" aria-hidden="true">'
        f'<rect x=".5" y=".5" width="11" height="11" rx="2" fill="{hex_color(color)}" stroke="#56647280"/></svg>'
    )


def _text(text: str) -> str:
    return escape(_clean(text))


def _clean(text: str) -> str:
    """Without what is not printed: it could turn what follows about, or hide."""
    return "".join(c if c.isprintable() else " " for c in text)
