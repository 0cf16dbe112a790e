"""A report of one result: one HTML file with pictures, areas, model and settings, which asks nothing of any server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any, Protocol

from lpd.errors import CheckpointError, ConfigError, ResultError
from lpd.export.areas import Tally, tally
from lpd.export.region_areas import tally_inside
from lpd.export.report_page import Fact, RegionRow, ReportPage, to_html
from lpd.export.report_pictures import Outline, Picture, Readable, draw
from lpd.export.report_scores import score_rows
from lpd.export.source import MaskSource
from lpd.model.header import CheckpointInfo, file_digest, read_info
from lpd.runs import replacing
from lpd.slide.annotations import DrawnRegion
from lpd.slide.region import Region
from lpd.slide.resolution import Resolution

#: Regions in the table; a report of more than a person reads is no help.
MOST_REGIONS = 100
_OVERVIEW_PX, _SEGMENTED_PX = 700, 1400
_SHOWN_VERSIONS = ("lpd", "python", "torch", "timm", "openvino", "openslide-bin")


class Pictured(Readable, Protocol):
    """The part of ``lpd.slide.slide.Slide`` that a report uses; see there."""

    @property
    def path(self) -> Path: ...
    @property
    def vendor(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def mpp(self) -> Resolution | None: ...


@dataclass(frozen=True)
class ReportParts:
    """What a report shows beside the result; all of it may be missing, and is then said to be.

    Attributes:
        slide: of the result, to take pictures of; left out if its fingerprint is another one.
        manifest: what ``manifest.json`` says.
        checkpoint: file of the model, for its scores; they are left out if its hash is not that of the result.
        regions: what people drew, to be counted each by itself.
        unfinished: what keeps the result from being whole, as a verb: ``was not finished``.
        author: who asks for the report.
        created: now, with its time zone.
        review: how far people have reviewed the result, in words.
    """

    slide: Pictured | None = None
    manifest: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: Path | None = None
    regions: Sequence[DrawnRegion] = ()
    unfinished: str = ""
    author: str = ""
    created: datetime = field(default_factory=lambda: datetime.now().astimezone())
    review: str = ""


def write_report(store: MaskSource, path: Path, parts: ReportParts) -> None:
    """Write the report of a result; memory stays flat.

    Raises:
        ResultError: the file cannot be written.
        SlideError: the slide is damaged.
    """
    text = make_report(store, parts)
    try:
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ResultError(
            f"cannot write {path} ({error.strerror or error}): free some space or choose another folder"
        ) from error


def make_report(store: MaskSource, parts: ReportParts) -> str:
    """The report as HTML, see :func:`write_report`; all text that comes from files or people is escaped."""
    meta = store.meta
    slide = parts.slide if parts.slide and parts.slide.fingerprint == meta.slide_fingerprint else None
    whole = tally(store)
    shown = parts.regions[:MOST_REGIONS]
    rows, tangles = _rows(store, shown)
    overview, segmented = _pictures(store, slide, shown)
    info, why_no_scores = _checkpoint(meta.checkpoint_digest, parts.checkpoint)
    page = ReportPage(
        title=_file_name(slide, parts.manifest) or meta.slide_name,
        classes=meta.classes,
        whole=whole,
        regions=rows,
        regions_left_out=len(parts.regions) - len(shown),
        overview=overview,
        segmented=segmented,
        caution=" ".join(filter(None, [_caution(whole, parts.unfinished), *tangles])),
        missing="" if slide else _why_no_slide(parts.slide),
        slide_facts=_slide_facts(store, slide, parts.manifest),
        model_facts=_model_facts(store, info),
        notice=meta.notice,
        scores=score_rows(info.scores, meta.classes) if info else (),
        why_no_scores=why_no_scores,
        protocol=_protocol(store, parts.manifest),
        author=parts.author,
        created=parts.created,
        review=parts.review,
    )
    return to_html(page)


def _rows(store: MaskSource, regions: Sequence[DrawnRegion]) -> tuple[list[RegionRow], list[str]]:
    """A row for each region, and a sentence for each that cannot be counted."""
    rows, tangles = [], []
    for number, region in enumerate(regions, 1):
        name = region.name or f"Region {number}"
        try:
            rows.append(RegionRow(number, name, tally_inside(store, region.polygons)))
        except ConfigError as error:
            tangles.append(f"{name} is left out: {error}.")
    return rows, tangles


def _pictures(
    store: MaskSource, slide: Pictured | None, regions: Sequence[DrawnRegion]
) -> tuple[Picture | None, Picture]:
    meta = store.meta
    outlines = [Outline(number, region.polygons) for number, region in enumerate(regions, 1)]
    everything = Region(0, 0, meta.width_l0, meta.height_l0)
    overview = None
    if slide:
        overview = draw(store, slide, everything, _OVERVIEW_PX, outlines, mask=False, frame=meta.region)
    return overview, draw(store, slide, meta.region or everything, _SEGMENTED_PX, outlines, mask=True)


def _file_name(slide: Pictured | None, manifest: Mapping[str, Any]) -> str:
    """The slide's file without its folder, which is nobody's business."""
    if slide:
        return slide.path.name
    path = str(_part(manifest, "slide").get("path", ""))
    return (PureWindowsPath if "\\" in path else PurePath)(path).name


def _caution(whole: Tally, unfinished: str) -> str:
    if not unfinished and not whole.not_computed_mm2:
        return ""
    why = f"The result {unfinished}. " if unfinished else ""
    return f"{why}Only {whole.computed_percent:.1f} % of the slide was segmented: all figures are of that part alone."


def _why_no_slide(given: Pictured | None) -> str:
    if given:
        return "The slide file is not the one that was segmented (its fingerprint differs): it is not shown."
    return "The slide file was not at hand: the picture shows the classes alone."


def _slide_facts(store: MaskSource, slide: Pictured | None, manifest: Mapping[str, Any]) -> list[Fact]:
    meta, told = store.meta, _part(manifest, "slide")
    size_mm = [f"{side * meta.slide_mpp / 1000:.2f}" for side in (meta.width_l0, meta.height_l0)]
    vendor = slide.vendor if slide else told.get("vendor", "not known")
    own = slide.mpp if slide else None
    origin = told.get("mpp_origin") or (own.origin if own and own.value == meta.slide_mpp else "not known")
    return [
        ("Format", str(vendor)),
        ("Size", f"{meta.width_l0:,} × {meta.height_l0:,} px, {size_mm[0]} × {size_mm[1]} mm"),
        ("Resolution", f"{meta.slide_mpp:.4g} µm/px ({'entered by a person' if origin == 'given' else origin})"),
        ("Fingerprint", meta.slide_fingerprint),
    ]


def _checkpoint(digest: str, path: Path | None) -> tuple[CheckpointInfo | None, str]:
    """What the very file that made the result says of itself; else why that is not known."""
    try:
        if path is None or not path.is_file():
            return None, "The checkpoint file was not at hand: its scores are not shown."
        if file_digest(path) != digest:
            return None, "The checkpoint file has changed since: its scores are not shown."
        return read_info(path), ""
    except (CheckpointError, OSError):
        return None, "The checkpoint file cannot be read: its scores are not shown."


def _model_facts(store: MaskSource, info: CheckpointInfo | None) -> list[Fact]:
    meta = store.meta
    facts = [("Checkpoint", meta.checkpoint_name), ("Hash of the file", meta.checkpoint_digest)]
    if info:
        sources = {"linear": "none (plain CAM)"}
        prototypes = sources.get(info.prototype_source, f"{info.model.prototypes_per_class} a class")
        facts.append(("Network", f"{info.model.encoder}, prototypes: {prototypes} ({info.prototype_source})"))
    return facts


def _protocol(store: MaskSource, manifest: Mapping[str, Any]) -> list[Fact]:
    meta, summary = store.meta, _part(manifest, "summary")
    settings = {**_part(manifest, "settings"), **meta.settings}
    versions = _part(manifest, "versions") or {"lpd": meta.made_by}
    device = f" on {summary['device']}" if summary.get("device") else ""
    facts = [
        ("Segmented", _moment(meta.created)),
        ("Asked for", _asked(settings, len(manifest.get("parts", ())))),
        ("Mask", f"{meta.mask_mpp:.4g} µm/px; a pixel counts for the class with the highest score"),
        ("Back end", f"{meta.backend or summary.get('backend') or 'not known'}{device}"),
        ("Prototypes", _adapted(settings, summary)),
        ("Tissue", _TISSUE.get(str(settings.get("tissue")), "not known")),
        ("Refinement", str(settings.get("refinement", "not known"))),
        ("Test-time augmentation", _yes(settings.get("tta"))),
    ]
    for name, text in (("window_px", "Window"), ("stride_px", "Distance of windows")):
        if settings.get(name):
            facts.append((text, f"{settings[name]} px"))
    shown = [f"{name} {versions[name]}" for name in _SHOWN_VERSIONS if name in versions]
    return [*facts, ("Versions", ", ".join(shown) or "not known")]


_TISSUE = {
    "auto": "glass was left out by the tissue rule and counts as background",
    "all": "every pixel was shown to the network",
}


def _asked(settings: Mapping[str, Any], parts: int) -> str:
    if parts > 1:
        return f"{parts} parts of the slide, one after another"
    region, polygons, pieces = (settings.get(name) for name in ("region", "polygons", "pieces"))
    if isinstance(region, Mapping):
        return "a rectangle: x {x_l0}, y {y_l0}, {width_l0} × {height_l0} px".format(**region)
    if polygons:
        return f"{len(polygons)} drawn outline{'s' * (len(polygons) > 1)}"
    return f"pieces of tissue {', '.join(map(str, pieces))}" if pieces else "the whole slide"


def _adapted(settings: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    if not settings.get("adapt", True):
        return "as in the checkpoint, not adapted to the slide"
    if windows := summary.get("adapted_windows"):
        return f"adapted to this slide, from {windows} windows of it"
    return "to be adapted to the slide; from how many windows is not known"


def _yes(value: object) -> str:
    return "not known" if value is None else "yes" if value else "no"


def _moment(iso: str) -> str:
    try:
        return datetime.fromisoformat(iso).strftime("%Y-%m-%d %H:%M %Z")
    except ValueError:
        return iso or "not known"


def _part(manifest: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = manifest.get(name)
    return found if isinstance(found, Mapping) else {}
