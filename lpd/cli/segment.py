"""``lpd segment``: slides and a checkpoint in; masks, annotations, areas and a manifest out."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpd.cli.arguments import key_and_value, positive
from lpd.cli.cohort_table import CohortTable
from lpd.cli.progress import progress_bar
from lpd.cli.segmenting import Outcome, Segmenter, settings_of
from lpd.errors import ConfigError
from lpd.inference.settings import BACKENDS, DEVICES, REFINEMENTS, TISSUE_CHOICES

if TYPE_CHECKING:  # these bring in torch and OpenSlide, which `lpd --help` does without
    from lpd.inference.cohort import CohortSlide

_INTERRUPTED = 130


def add_parser(commands: Any) -> None:
    """Add this command to the ``lpd`` command line."""
    parser = commands.add_parser(
        "segment",
        help="segment whole slides with a checkpoint",
        description="Segment slides. Each slide gets its own folder in DIR: result.zarr (OME-Zarr, readable while it "
        "grows), mask.ome.tif and annotations.geojson (QuPath), areas.csv, pieces.csv (areas in each separate piece of "
        "tissue) and manifest.json; lpd export writes most of these again, or in other ways. Slides that are done are "
        "left as they are, one that was interrupted is gone on with. A further run for another part of a slide "
        "(--region, --regions, --pieces, or all of it) with the same checkpoint and settings adds to its folder: what "
        "is there is kept and not computed again, and all files then describe everything that was computed; --force "
        "starts anew. Of folders and lists DIR/cohort.csv says how far "
        "each slide is, why it failed, and its areas.",
    )
    parser.add_argument(
        "slides",
        metavar="SLIDE",
        type=Path,
        nargs="+",
        help="slide or image file, folder of them, or list: a .csv with a column 'slide' and maybe 'mpp'",
    )
    parser.add_argument("--checkpoint", metavar="FILE", type=Path, required=True, help="model to segment with")
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder for the results")
    part = parser.add_mutually_exclusive_group()
    part.add_argument(
        "--region", nargs=4, type=int, metavar=("X", "Y", "W", "H"), help="part of the slide, in level-0 pixels"
    )
    part.add_argument(
        "--regions",
        metavar="GEOJSON",
        type=Path,
        help="polygons drawn in QuPath (File > Export objects as GeoJSON), of one slide: only mask pixels whose middle "
        "lies inside any of them are computed",
    )
    part.add_argument(
        "--pieces",
        metavar="N",
        type=positive,
        nargs="+",
        help="pieces of tissue by their numbers, which lpd pieces lists",
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
    parser.add_argument(
        "--tta",
        action="store_true",
        help="show the network each window in the eight symmetries of the square and take the mean (eight times the "
        "work)",
    )
    parser.add_argument(
        "--refine",
        choices=REFINEMENTS,
        default="none",
        help="move the mask's borders to edges of colour: pamr takes two to three times as long, crf about ten times; "
        "both may do harm, which lpd evaluate measures (default: none)",
    )
    parser.add_argument(
        "--prototype-maps",
        action="store_true",
        help="keep the map of every prototype over the slide in result.zarr too (8 bits, at the network's resolution)",
    )
    parser.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        help="slides at a time, each in a process with a model of its own; one that dies is replaced (default: 1 for "
        "folders and lists, none for slides that are named; with --scheduler or --slurm as many as there is room for)",
    )
    elsewhere = parser.add_mutually_exclusive_group()
    elsewhere.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="segment on the workers of a running Dask cluster, a slide at a time on each; slides, FILE and DIR are "
        "under the same paths on all machines (needs: pip install distributed)",
    )
    elsewhere.add_argument(
        "--slurm",
        metavar="KEY=VALUE",
        type=key_and_value,
        nargs="*",
        help="segment by Slurm, a job a slide, with such of its options as partition=gpu gpus_per_node=1 "
        "timeout_min=240; paths as with --scheduler, logs in DIR/slurm (needs: pip install submitit)",
    )
    parser.add_argument(
        "--resident",
        choices=("auto", "start", "no"),
        default="auto",
        help="let the worker of `lpd resident`, which has models loaded, do it: if one runs (auto, the default), "
        "starting one if need be, or never; with --workers never",
    )
    parser.add_argument(
        "--queue",
        metavar="DIR",
        type=Path,
        help="wait for the device in the line of all commands that name this folder (an app: its results folder)",
    )
    parser.add_argument("--force", action="store_true", help="start anew where a result is finished or begun")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Segment the slides; a bad one is reported and the others go on.

    Returns:
        0 if all are done, 1 if any failed, 130 after a stop request.

    Raises:
        LpdError: the request cannot be met for any slide; nothing has been written.
    """
    from lpd.inference.cohort import LIST_SUFFIX, result_folders, slides_of
    from lpd.model.header import read_info

    slides = slides_of(args.slides)
    folders = result_folders(slides, args.out)
    if args.regions is not None and len(slides) > 1:
        raise ConfigError(f"--regions {args.regions} is of one slide, and there are {len(slides)}: name a single one")
    for polygon in settings_of(args, None).polygons:
        if polygon.crosses_itself:
            print(
                f"lpd segment: {polygon.title} crosses or touches itself: all that its line goes around is taken",
                file=sys.stderr,
            )
    info = read_info(args.checkpoint)
    if info.notice:
        print(f"{info.name}: {info.notice}", file=sys.stderr)
    lists = [path for path in args.slides if path.is_dir() or path.suffix.lower() == LIST_SUFFIX]
    several = bool(lists) or any(x is not None for x in (args.workers, args.scheduler, args.slurm))
    outcomes = _by_workers(folders, args) if several else _here(folders, args)
    table = CohortTable(args.out, folders, info.classes.codes) if several else None
    states: set[str] = set()
    number = 0
    with progress_bar("cohort", "slide") if several else nullcontext(_silent) as progress:
        for number, outcome in enumerate(outcomes, 1):
            states.add(outcome.state)
            _tell(outcome)
            if table is not None:
                progress(number, len(folders))
                if not table.add(outcome):
                    states.add("failed")
            if outcome.asked_to_stop:
                states.add("stopped")
    if number < len(folders):
        print(f"lpd segment: stopped; {len(folders) - number} of {len(folders)} slides not begun", file=sys.stderr)
        states.add("stopped")
    return _INTERRUPTED if "stopped" in states else 1 if "failed" in states else 0


def _here(folders: Mapping[CohortSlide, Path], args: argparse.Namespace) -> Iterator[Outcome]:
    """One slide after the other, by the resident worker or in this process, until somebody asks to stop."""
    for outcome in _by_resident_or_here(folders, args):
        yield outcome
        if outcome.asked_to_stop or outcome.state == "stopped":
            return


def _by_resident_or_here(folders: Mapping[CohortSlide, Path], args: argparse.Namespace) -> Iterator[Outcome]:
    from lpd.cli.crew import result_in

    left = list(folders.items())
    before = {folder: result_in(folder)[0] for folder in folders.values()}
    if args.resident != "no":
        from lpd.cli.resident_client import segment_by_resident

        for outcome in segment_by_resident(folders, args, start=args.resident == "start"):
            del left[0]  # they come in order
            yield outcome
    if left:
        segmenter = Segmenter(args)
        for slide, folder in left:  # the first of which a worker that is gone may have begun
            yield segmenter.segment(slide, folder, again=result_in(folder)[0] != before[folder])


def _by_workers(folders: Mapping[CohortSlide, Path], args: argparse.Namespace) -> Iterator[Outcome]:
    """In other processes: of a Dask cluster, of Slurm, or of this machine."""
    if args.scheduler is not None:
        from lpd.cli.dask_cluster import segment_on_dask

        return segment_on_dask(folders, args, args.scheduler, args.workers)
    if args.slurm is not None:
        from lpd.cli.slurm import segment_by_slurm

        return segment_by_slurm(folders, args, dict(args.slurm), args.workers)
    from lpd.cli.workers import segment_in_processes

    count = min(args.workers or 1, len(folders))
    # Workers that all take all cores would wait for one another.
    threads = max(1, (os.cpu_count() or 1) // count) if count > 1 else None
    return segment_in_processes(folders, args, count, threads)


def _tell(outcome: Outcome) -> None:
    if outcome.state in ("failed", "stopped"):
        print(f"lpd segment: {outcome.said}", file=sys.stderr)
        return
    print(outcome.said, flush=True)
    if outcome.asked_to_stop:
        print(f"lpd segment: stopped after {outcome.slide.name}", file=sys.stderr)


def _silent(_done: int, _total: int) -> None:
    pass
