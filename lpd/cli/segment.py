"""``lpd segment``: slides and a checkpoint in; masks, annotations, areas and a manifest out."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpd.cli.progress import ReportingRun
from lpd.errors import ConfigError, LpdError, ResultError, SlideError
from lpd.inference.settings import BACKENDS, DEVICES, TISSUE_CHOICES, SegmentSettings
from lpd.runs import Run
from lpd.slide.region import Region

if TYPE_CHECKING:  # these bring in torch and OpenSlide, which `lpd --help` does without
    from lpd.inference.backend import Backend
    from lpd.inference.pipeline import SegmentSummary
    from lpd.model.header import CheckpointInfo
    from lpd.slide.slide import Slide

#: Files beside the store; a new run deletes those of the one before, so that a folder never mixes two runs.
EXPORTS = ("mask.ome.tif", "annotations.geojson", "areas.csv", "manifest.json")
_INTERRUPTED = 130


def add_parser(commands: Any) -> None:
    """Add this command to the ``lpd`` command line."""
    parser = commands.add_parser(
        "segment",
        help="segment whole slides with a checkpoint",
        description="Segment slides. Each slide gets its own folder in DIR: result.zarr (OME-Zarr, readable while it "
        "grows), mask.ome.tif and annotations.geojson (QuPath), areas.csv and manifest.json.",
    )
    parser.add_argument("slides", metavar="SLIDE", type=Path, nargs="+", help="slide or image file")
    parser.add_argument("--checkpoint", metavar="FILE", type=Path, required=True, help="model to segment with")
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder for the results")
    parser.add_argument(
        "--region", nargs=4, type=int, metavar=("X", "Y", "W", "H"), help="part of the slide, in level-0 pixels"
    )
    parser.add_argument("--mpp", type=float, metavar="V", help="µm per level-0 pixel, where the slide does not say")
    parser.add_argument("--device", choices=DEVICES, default="auto", help="where the network runs (default: auto)")
    parser.add_argument(
        "--backend",
        choices=BACKENDS,
        default="auto",
        help="how it is computed there (default: auto, the quickest that agrees with torch in fp32 on parts of the "
        "slide; the openvino ones need: pip install openvino)",
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        metavar="N",
        help="windows at a time (default: as many pixels as 4 tiles, on a GPU 64)",
    )
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads of the network (default: all cores)")
    parser.add_argument(
        "--window", type=int, metavar="PX", help="what the network sees at once, in steps of 32 (default: three tiles)"
    )
    parser.add_argument(
        "--stride", type=int, metavar="PX", help="distance of windows, in steps of 32 (default: two thirds of a window)"
    )
    parser.add_argument(
        "--tissue", choices=TISSUE_CHOICES, default="auto", help="'all' segments glass too (default: auto)"
    )
    parser.add_argument(
        "--adapt",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="let prototypes of the slide's own correct the map (default: yes)",
    )
    parser.add_argument("--queue-lock", metavar="FILE", type=Path, help="wait for this lock before computing")
    parser.add_argument("--force", action="store_true", help="start anew where a result is finished or begun")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Segment the slides one after the other; a bad one is reported and the others go on.

    Returns:
        0 if all are done, 1 if any failed, 130 after a stop request.

    Raises:
        LpdError: the request cannot be met for any slide; nothing has been written.
    """
    from lpd.inference.backend import any_size, load_backend
    from lpd.model.header import read_info

    settings = _settings(args)
    info = read_info(args.checkpoint)
    folders = _folders(args.slides, args.out)
    # Whoever waits in a queue must not hold a network in memory; else a bad one is found before anything is written.
    backend = None if args.queue_lock else load_backend(args.checkpoint, settings.device)
    seen_alike = backend.any_size if backend else any_size(info)
    if info.notice:
        print(f"{info.name}: {info.notice}", file=sys.stderr)
    failed = 0
    for slide_path, folder in folders.items():
        try:
            summary, stop = _segment(_Request(slide_path, folder, info, backend, seen_alike, settings, args))
        except LpdError as error:
            print(f"lpd segment: {error}", file=sys.stderr)
            failed += 1
            continue
        if summary.cancelled:
            print(f"lpd segment: stopped at {slide_path.name}; what was finished is in {folder}", file=sys.stderr)
            return _INTERRUPTED
        if summary.kept:
            print(f"{slide_path.name}: went on with a result of which {summary.kept:.0%} was there", file=sys.stderr)
        elif summary.planned_windows == 0:
            print(f"{slide_path.name}: no tissue found; pass --tissue all if there is some", file=sys.stderr)
        print(
            f"{slide_path.name}: {summary.windows} windows in {summary.seconds:.1f} s "
            f"({summary.tiles_per_second:.1f} tiles/s by {summary.backend}), {summary.tissue_mm2:.2f} mm² tissue "
            f"-> {folder}"
        )
        if stop:
            print(f"lpd segment: stopped after {slide_path.name}", file=sys.stderr)
            return _INTERRUPTED
    return 1 if failed else 0


@dataclass(frozen=True)
class _Request:
    slide_path: Path
    folder: Path
    info: CheckpointInfo
    backend: Backend | None
    any_size: bool
    settings: SegmentSettings
    args: argparse.Namespace


def _settings(args: argparse.Namespace) -> SegmentSettings:
    return SegmentSettings(
        region=Region(*args.region) if args.region else None,
        window_px=args.window,
        stride_px=args.stride,
        tissue=args.tissue,
        adapt=args.adapt,
        device=args.device,
        backend=args.backend,
        batch_size=args.batch_size,
        threads=args.threads,
    )


def _folders(slides: list[Path], out: Path) -> dict[Path, Path]:
    """Result folder of each slide: its name, with its ending where two names would be the same."""
    unique = list(dict.fromkeys(Path(os.path.normpath(path.absolute())) for path in slides))
    stems = Counter(path.stem for path in unique)
    folders = {path: out / (path.stem if stems[path.stem] == 1 else path.name) for path in unique}
    for folder, count in Counter(folders.values()).items():
        if count > 1:
            raise ConfigError(f"{count} slides are named {folder.name}: segment them one at a time with another --out")
        if folder.name in ("", ".", ".."):
            raise ConfigError(f"a slide named {folder.name!r} cannot have a folder in {out}: rename it")
    return folders


def _segment(request: _Request) -> tuple[SegmentSummary, bool]:
    """Segment one slide; also tells whether somebody asked to stop, maybe too late for this slide."""
    from lpd.inference.backend import load_backend
    from lpd.inference.job import check_request
    from lpd.inference.pipeline import segment_slide
    from lpd.slide.opening import open_slide

    with open_slide(request.slide_path, mpp=request.args.mpp) as slide:
        check_request(slide, request.info, request.settings, any_size=request.any_size)
        _check_replaceable(request, slide)
        run = ReportingRun(request.folder, "segment", device_lock=request.args.queue_lock)
        with run:
            _check_replaceable(request, slide)  # another process may have finished it meanwhile
            backend = request.backend or load_backend(request.info.path, request.settings.device)
            _delete_exports(request.folder)
            with run.bar(slide.name, "tile"):
                try:
                    summary = segment_slide(
                        slide, backend, request.folder, request.settings, run, resume=not request.args.force
                    )
                except SlideError as error:
                    raise SlideError(f"{error}; what was finished before is in {request.folder}") from error
            _export(request, slide, summary, run)
            if not summary.cancelled:
                run.complete()
            return summary, run.stop_requested()


def _check_replaceable(request: _Request, slide: Slide) -> None:
    """The manifest is written last: without one that says done, an earlier run did not get to its end."""
    if request.args.force:
        return
    try:
        manifest = json.loads((request.folder / "manifest.json").read_text(encoding="utf-8"))
        done, fingerprint = manifest["state"] == "done", manifest["slide"]["fingerprint"]
        name = Path(manifest["slide"]["path"]).name
    except (OSError, ValueError, KeyError, TypeError):
        return
    if done:
        whose = "" if fingerprint == slide.fingerprint else f" of another slide, {name}"
        raise ResultError(
            f"{request.folder} already holds a finished result{whose}: pass --force to replace it or another --out"
        )


def _delete_exports(folder: Path) -> None:
    try:
        for name in EXPORTS:
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise ResultError(f"cannot replace {folder / name} ({error.strerror}): delete it or choose another") from error


def _export(request: _Request, slide: Slide, summary: SegmentSummary, run: Run) -> None:
    from lpd.export.areas import write_areas_csv
    from lpd.export.geojson import write_geojson
    from lpd.export.ome_tiff import write_ome_tiff
    from lpd.inference.manifest import write_manifest
    from lpd.inference.store import ResultStore

    store = ResultStore.open(request.folder)
    run.say("writing mask.ome.tif")
    write_ome_tiff(store, request.folder / "mask.ome.tif")
    run.say("writing annotations.geojson")
    write_geojson(store, request.folder / "annotations.geojson")
    write_areas_csv(store, request.folder / "areas.csv")
    write_manifest(request.folder, slide, store.meta, summary, _plain(vars(request.args)))
    run.say("")


def _plain(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments as JSON values: paths become text, the command's function is left out."""
    plain = {k: v for k, v in arguments.items() if not callable(v)}
    return {k: [str(p) for p in v] if k == "slides" else str(v) if isinstance(v, Path) else v for k, v in plain.items()}
