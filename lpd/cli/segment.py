"""``lpd segment``: slides and a checkpoint in; masks, annotations, areas and a manifest out."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from lpd.errors import ConfigError, LpdError, ResultError
from lpd.inference.settings import DEVICES, TISSUE_CHOICES, SegmentSettings
from lpd.runs import Progress, Run
from lpd.slide.region import Region

if TYPE_CHECKING:  # these bring in torch and OpenSlide, which `lpd --help` does without
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
    parser.add_argument("--batch-size", type=int, metavar="N", help="windows at a time (default: 4 on CPU, 64 on GPU)")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads of the network (default: all cores)")
    parser.add_argument("--stride", type=int, metavar="PX", help="distance of windows (default: about 3/8 of a window)")
    parser.add_argument(
        "--tissue", choices=TISSUE_CHOICES, default="auto", help="'all' segments glass too (default: auto)"
    )
    parser.add_argument("--queue-lock", metavar="FILE", type=Path, help="wait for this lock before computing")
    parser.add_argument("--force", action="store_true", help="replace finished results")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Segment the slides one after the other; a bad one is reported and the others go on.

    Returns:
        0 if all are done, 1 if any failed, 130 after a stop request.

    Raises:
        LpdError: the request cannot be met for any slide; nothing has been written.
    """
    from lpd.inference.backend import choose_device
    from lpd.model.header import read_info

    settings = _settings(args)
    info = read_info(args.checkpoint)
    choose_device(settings.device)
    folders = _folders(args.slides, args.out)
    if info.notice:
        print(f"{info.name}: {info.notice}", file=sys.stderr)
    failed = 0
    for slide_path, folder in folders.items():
        try:
            summary = _segment(_Request(slide_path, folder, info, settings, args))
        except LpdError as error:
            print(f"lpd segment: {error}", file=sys.stderr)
            failed += 1
            continue
        if summary.cancelled:
            print(f"lpd segment: stopped at {slide_path.name}; what was finished is in {folder}", file=sys.stderr)
            return _INTERRUPTED
        if summary.planned_windows == 0:
            print(f"{slide_path.name}: no tissue found; pass --tissue all if there is some", file=sys.stderr)
        print(
            f"{slide_path.name}: {summary.windows} tiles in {summary.seconds:.1f} s "
            f"({summary.tiles_per_second:.1f} tiles/s), {summary.tissue_mm2:.2f} mm² tissue -> {folder}"
        )
    return 1 if failed else 0


@dataclass(frozen=True)
class _Request:
    slide_path: Path
    folder: Path
    info: CheckpointInfo
    settings: SegmentSettings
    args: argparse.Namespace


class _ReportingRun(Run):
    """A run whose progress is also a bar on stderr, where that is a terminal."""

    bar: tqdm[Any] | None = None

    def advance(self, done: int, total: int, unit: str = "tiles") -> Progress:
        progress = super().advance(done, total, unit)
        if self.bar is not None:
            self.bar.total = total
            self.bar.update(done - self.bar.n)
        return progress


def _settings(args: argparse.Namespace) -> SegmentSettings:
    return SegmentSettings(
        region=Region(*args.region) if args.region else None,
        stride_px=args.stride,
        tissue=args.tissue,
        device=args.device,
        batch_size=args.batch_size,
        threads=args.threads,
    )


def _folders(slides: list[Path], out: Path) -> dict[Path, Path]:
    """Result folder of each slide: its name, with its ending where two names would be the same."""
    unique = list(dict.fromkeys(path.absolute() for path in slides))
    stems = Counter(path.stem for path in unique)
    folders = {path: out / (path.stem if stems[path.stem] == 1 else path.name) for path in unique}
    for folder, count in Counter(folders.values()).items():
        if count > 1:
            raise ConfigError(f"{count} slides are named {folder.name}: segment them one at a time with another --out")
    return folders


def _segment(request: _Request) -> SegmentSummary:
    from lpd.inference.pipeline import check_request, segment_slide
    from lpd.slide.opening import open_slide

    with open_slide(request.slide_path, mpp=request.args.mpp) as slide:
        check_request(slide, request.info, request.settings)
        _check_replaceable(request.folder, force=request.args.force)
        _make_folder(request.folder)
        run = _ReportingRun(request.folder, "segment", device_lock=request.args.queue_lock)
        with run:
            _delete_exports(request.folder)
            with _bar(run, slide.name):
                summary = segment_slide(slide, request.info.path, request.folder, request.settings, run)
            _export(request, slide, summary, run)
    return summary


def _check_replaceable(folder: Path, *, force: bool) -> None:
    from lpd.inference.store import STORE_NAME, ResultStore

    if force or not (folder / STORE_NAME).exists():
        return
    if ResultStore.open(folder).changes().complete:
        raise ResultError(f"{folder} already holds a finished result: pass --force to replace it or another --out")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResultError(f"cannot write to {folder} ({error.strerror}): choose another --out") from error


def _delete_exports(folder: Path) -> None:
    for name in EXPORTS:
        (folder / name).unlink(missing_ok=True)


@contextmanager
def _bar(run: _ReportingRun, name: str) -> Iterator[None]:
    with tqdm(desc=name, unit="tile", disable=None, file=sys.stderr) as run.bar:
        try:
            yield
        finally:
            run.bar = None


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
