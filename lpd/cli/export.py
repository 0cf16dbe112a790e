"""``lpd export``: write the files of finished results again, or others, from their stores alone."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpd.cli.arguments import positive
from lpd.errors import ConfigError, LpdError, ResultError, RunError

if TYPE_CHECKING:  # brings in zarr, which `lpd --help` does without
    from lpd.export.source import MaskSource
    from lpd.inference.store import ResultStore
    from lpd.review.review import Review
    from lpd.slide.annotations import DrawnRegion

#: Writes one file of a store and says what is in it, if there is something to say.
Write = Callable[[Any, Path], str]

_FORMS = ("trident", "clam")
#: Read, not written; its table and a report go into the result folder.
_INPUT = "areas_in"
#: What can be asked for, and the flags that only say how.
_ASKED = {
    "geojson": ("simplify", "min_area", "smooth"),
    "ome_tiff": (),
    "areas": (),
    "areas_in": (),
    "report": ("slide",),
    "coords": ("coords_format", "tile", "mpp", "overlap", "min_tissue", "classes"),
    "corrections": (),
    "labels": (),
}
#: What is written of the mask with people's corrections in it if ``--corrected`` is given.
_OF_MASK = ("geojson", "ome_tiff", "areas", "coords")

_EPILOG = """\
RESULT is a folder that lpd segment wrote; name results first, then what to write:
  lpd export results/a --geojson --simplify 4 --smooth
  lpd export results/a results/b --coords --tile 256 --mpp 0.5 --classes TUM STR
Without FILE the files go where lpd segment puts them, into the result folder: annotations.geojson, mask.ome.tif,
areas.csv, region_areas.csv, report.html; coordinates are NAME_patches.h5 (trident) or NAME.h5 (clam), NAME being the
slide's.

Regions and report. --areas-in counts the mask pixels whose middles lie in each area of a GeoJSON file (from QuPath or
the viewer; points and lines are left out) and writes region_areas.csv; a --report lists them, too. The report is one
HTML file that any browser shows, prints and saves as PDF. It takes pictures of the slide and scores of the checkpoint
from where the manifest says they are, if they are still the same files there.
  lpd export results/a --report --areas-in regions.geojson

Corrections that people made in the app. With --corrected, masks and tables have them in, and the names of the files
begin with corrected-. --corrections writes them alone as annotations with author, time and kind (corrections.geojson),
--labels as a mask to train on, like --ome-tiff, where 255 means that nobody has judged the pixel (labels.ome.tif).

GeoJSON. --simplify draws the borders along cells of 2, 4, 8 … mask pixels, as large as UM allows; the pixel at a
cell's middle decides. --smooth puts straight lines in place of stairs: the middle of every cell stays on its side,
neighbours keep one border in common, no gaps or overlaps open. Each region has its area (mm^2, of its pixels or cells,
not of the lines), its perimeter (um: holes included; corrected for the length of stairs, right on average over all
directions, up to 5 % less along the grid and 3 % more between), the number of holes drawn, and its mean class score.

Coordinates. Upper left corners (x, y) of tiles with enough tissue, in level-0 pixels of the slide file, on a grid
from the slide's corner. As trident, with TRIDENT's attributes, magnifications being 10 by um/px; as clam, with CLAM's,
patch_level 0 and patch_size in level-0 pixels. Needs: pip install h5py"""


def add_parser(commands: Any) -> None:
    """Add this command to the ``lpd`` command line."""
    parser = commands.add_parser(
        "export",
        help="write files of finished results, without the slides",
        description="Write annotations, masks, tables or tile coordinates of finished results, without the slides.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("results", metavar="RESULT", type=Path, nargs="+", help="result folder")
    file: dict[str, Any] = {"metavar": "FILE", "type": Path, "nargs": "?", "const": True}
    parser.add_argument("--geojson", **file, help="annotations for QuPath")
    parser.add_argument("--simplify", metavar="UM", type=float, help="side of the largest cell, µm (default: 0)")
    parser.add_argument("--min-area", metavar="UM2", type=float, help="smallest region, µm² (default: 400)")
    parser.add_argument("--smooth", action="store_const", const=True, help="straight lines instead of stairs")
    parser.add_argument("--ome-tiff", **file, help="label mask")
    parser.add_argument("--areas", **file, help="area of each class, CSV")
    parser.add_argument("--areas-in", metavar="GEOJSON", type=Path, help="area of each class in drawn regions, CSV")
    parser.add_argument("--report", **file, help="pictures, areas, model and settings on one page, HTML")
    parser.add_argument("--slide", metavar="SLIDE", type=Path, help="the slide, if it has been moved since")
    parser.add_argument("--coords", **file, help="coordinates of tissue tiles, HDF5")
    parser.add_argument("--coords-format", choices=_FORMS, help="for which tool (default: trident)")
    parser.add_argument("--tile", metavar="PX", type=positive, help="side of a tile (default: 256)")
    parser.add_argument("--mpp", metavar="V", type=float, help="µm per pixel of a tile (default: 0.5)")
    parser.add_argument("--overlap", metavar="PX", type=int, help="what neighbouring tiles share (default: 0)")
    parser.add_argument(
        "--min-tissue", metavar="SHARE", type=float, help="smallest share of a tile, 0 to 1 (default: 0.5)"
    )
    parser.add_argument("--corrected", action="store_const", const=True, help="with people's corrections in it")
    parser.add_argument("--corrections", **file, help="people's corrections alone, GeoJSON")
    parser.add_argument("--labels", **file, help="people's corrections alone, label mask")
    parser.add_argument("--classes", metavar="CODE", nargs="+", help="what counts as tissue (default: all classes)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write what was asked for; a bad result is reported and the others go on.

    Returns:
        0 if all was written, 1 if any failed.

    Raises:
        ConfigError: the request makes no sense for any result; nothing has been written.
    """
    wanted = _wanted(args)
    failed = False
    for folder in args.results:
        try:
            _export(folder, wanted)
        except LpdError as error:
            print(f"lpd export: {error}", file=sys.stderr)
            failed = True
    return int(failed)


def _export(folder: Path, wanted: Sequence[tuple[str, Path | None, Write]]) -> None:
    from lpd.inference.store import ResultStore

    store = ResultStore.open(folder)
    if part := _unfinished(store):
        print(f"lpd export: {folder} {part}: what is written is a part of it only", file=sys.stderr)
    for name, file, write in wanted:
        path = file or folder / name.format(slide=store.meta.slide_name)
        said = write(store, path)
        print(f"{store.meta.slide_name}{said} -> {path}", flush=True)


def _unfinished(store: ResultStore) -> str:
    """What keeps a result from being whole; empty if nothing does."""
    from lpd.runs import read_state

    if store.changes().complete:
        return ""
    try:
        working = read_state(store.folder).state in ("queued", "running")
    except RunError:
        working = False
    return "is still being computed" if working else "was not finished"


def _wanted(args: argparse.Namespace) -> list[tuple[str, Path | None, Write]]:
    """Default name, file if one is given, and writer of everything that is asked for."""
    from lpd.export.areas import write_areas_csv
    from lpd.export.coordinates import FILE_NAMES, Form
    from lpd.export.ome_tiff import write_ome_tiff

    _check(args)
    form: Form = args.coords_format or "trident"
    choices: dict[str, tuple[str, Callable[[], Write]]] = {
        "geojson": ("annotations.geojson", lambda: _geojson(args)),
        "ome_tiff": ("mask.ome.tif", lambda: partial(_silently, write_ome_tiff)),
        "areas": ("areas.csv", lambda: partial(_silently, write_areas_csv)),
        "areas_in": ("region_areas.csv", lambda: _region_areas(args)),
        "report": ("report.html", lambda: _report(args)),
        "coords": (FILE_NAMES[form], lambda: _coords(args)),
    }
    choices |= {
        "corrections": ("corrections.geojson", lambda: _corrections),
        "labels": ("labels.ome.tif", lambda: _labels),
    }
    wanted = []
    for key, (name, writer) in choices.items():
        given, corrected = vars(args)[key], args.corrected and key in _OF_MASK
        if given is not None:
            write = partial(_corrected, writer()) if corrected else writer()
            where = None if given is True or key == _INPUT else given
            wanted.append((f"corrected-{name}" if corrected else name, where, write))
    return wanted


def _check(args: argparse.Namespace) -> None:
    given = {key for key, value in vars(args).items() if value is not None}
    if not given & _ASKED.keys():
        raise ConfigError(f"nothing is asked for: pass one or more of {', '.join(map(_flag, _ASKED))}")
    for key, manners in _ASKED.items():
        if key not in given and (idle := given.intersection(manners)):
            raise ConfigError(f"{_flag(min(idle))} says how to write {_flag(key)}: pass {_flag(key)}, too")
    if args.corrected and not given.intersection(_OF_MASK):
        raise ConfigError(f"--corrected says what to write: pass one of {', '.join(map(_flag, _OF_MASK))}, too")
    files = [key for key in (*_ASKED, "slide") if isinstance(vars(args)[key], Path)]
    if files and len(args.results) > 1:
        raise ConfigError(
            f"{_flag(files[0])} names one file for {len(args.results)} results: leave it out, or export one at a time"
        )


def _flag(key: str) -> str:
    return "--" + key.replace("_", "-")


def _silently(write: Callable[[Any, Path], object], store: Any, path: Path) -> str:
    write(store, path)
    return ""


def _review(store: ResultStore) -> Review:
    from lpd.review.review import Review

    review = Review(store)
    if not review.log.active():
        raise ResultError(f"{store.folder} has no corrections by people: review it in the app first")
    return review


def _corrected(write: Write, store: ResultStore, path: Path) -> str:
    from lpd.review.sources import CorrectedMask

    return write(CorrectedMask(_review(store)), path)


def _corrections(store: ResultStore, path: Path) -> str:
    from lpd.review.geojson import write_corrections_geojson

    return f": {write_corrections_geojson(_review(store), path)} corrections"


def _labels(store: ResultStore, path: Path) -> str:
    from lpd.export.ome_tiff import write_ome_tiff
    from lpd.review.sources import CorrectionsAlone

    write_ome_tiff(CorrectionsAlone(_review(store)), path, unknown="not reviewed")
    return ""


def _geojson(args: argparse.Namespace) -> Write:
    from lpd.export.geojson import write_geojson

    chosen = {"min_area_um2": args.min_area, "simplify_um": args.simplify, "smooth": args.smooth}
    return partial(_silently, partial(write_geojson, **{k: v for k, v in chosen.items() if v is not None}))


def _region_areas(args: argparse.Namespace) -> Write:
    from lpd.export.region_areas import write_region_areas_csv
    from lpd.slide.annotations import read_regions

    regions = read_regions(args.areas_in)
    return partial(_silently, lambda store, path: write_region_areas_csv(store, regions, path))


def _report(args: argparse.Namespace) -> Write:
    from lpd.slide.annotations import read_regions

    regions = read_regions(args.areas_in) if args.areas_in else ()
    return lambda store, path: _write_report(store, path, args.slide, regions)


def _write_report(store: ResultStore, path: Path, slide_path: Path | None, regions: Sequence[DrawnRegion]) -> str:
    from lpd.export.report import ReportParts, write_report
    from lpd.inference.manifest_file import read_manifest

    source, said = _reviewed(store)
    manifest = read_manifest(store.folder)
    checkpoint = manifest.get("arguments", {}).get("checkpoint")
    parts = ReportParts(
        manifest=manifest,
        checkpoint=Path(checkpoint) if checkpoint else None,
        regions=regions,
        review=said,
        unfinished=_unfinished(store),
    )
    found = slide_path or Path(manifest.get("slide", {}).get("path", ""))
    if slide_path is None and not found.is_file():
        write_report(source, path, parts)
        return f": without the slide, which is not at {found}; --slide says where it is" if found.name else ""
    from lpd.slide.opening import open_slide

    with open_slide(found) as slide:
        if slide_path and slide.fingerprint != store.meta.slide_fingerprint:
            raise ConfigError(f"{slide_path} is not the slide that {store.folder} is a result of: pass that one")
        write_report(source, path, replace(parts, slide=slide))
    return ""


def _reviewed(store: ResultStore) -> tuple[MaskSource, str]:
    """The mask with what people have said in it, and how far they have come; a damaged review takes no report away."""
    from lpd.review.review import Review
    from lpd.review.sources import CorrectedMask, with_corrections

    try:
        review = Review(store)
        return CorrectedMask(review, noted=False), with_corrections(review.status())
    except ResultError as error:
        return store, f"The review cannot be read, so all figures are the model's own ({error})."


def _coords(args: argparse.Namespace) -> Write:
    from lpd.export.coordinates import Form, TileWish, write_coordinates

    chosen = {
        "tile_px": args.tile,
        "mpp": args.mpp,
        "overlap_px": args.overlap,
        "min_tissue": args.min_tissue,
        "codes": tuple(args.classes) if args.classes else None,
    }
    wish = TileWish(**{k: v for k, v in chosen.items() if v is not None})
    form: Form = args.coords_format or "trident"
    return lambda store, path: f": {write_coordinates(store, path, wish, form)} tiles"
