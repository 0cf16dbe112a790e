"""``lpd labels``: what people have ticked in the viewer, and a tile set to train on made of it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpd.cli.progress import ReportingRun, progress_bar
from lpd.errors import DatasetError, LpdError

if TYPE_CHECKING:  # bring in NumPy and OpenSlide, which `lpd --help` does without
    from lpd.labelling.exporting import Export, ExportSummary
    from lpd.labelling.log import LabelledSlide
    from lpd.labelling.splitting import Plan
    from lpd.review.review import Review
    from lpd.slide.slide import Slide

_EPILOG = """\
LABELS is the folder of a label set, as the app keeps them: RESULTS/labels/ID. The tile set has the layout of BCSS-WSSS:
train/NAME_xX_yY[1010].png, one digit a class, X and Y in level-0 pixels; dataset.yaml; provenance.json and .csv say of
each tile from which slide and place it is, who ticked it when, and what had proposed it. Slides are found by their
content, so that they may have been renamed.

Split. Slides are never divided. Ticks say what a tile shows and not where, so that no score comes of them: a slide may
be held out (valid/) if people have reviewed some of a result of it in the app (--reviewed RESULT). Of several
the one is held out that costs training the least, and half at most; --hold-out NAME says which, without a name none.
Tiles of which half or more is reviewed are written with their masks; 255 in these is not judged. Classes that no
training tile shows are left out of the set."""


def add_parser(commands: Any) -> None:
    """Add ``labels show`` and ``labels export``."""
    parser = commands.add_parser("labels", help="label sets ticked in the app, and tile sets made of them")
    kinds = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    show = kinds.add_parser("show", help="how many tiles of each slide show each class")
    show.add_argument("labels", type=Path, metavar="LABELS", nargs="+", help="folder of a label set")
    show.set_defaults(run=run, do=_show)
    export = kinds.add_parser(
        "export",
        help="write a tile set to train on",
        description="Cut the ticked tiles out of their slides into a new tile set.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    export.add_argument("labels", type=Path, metavar="LABELS", help="folder of a label set")
    export.add_argument("slides", type=Path, metavar="SLIDE", nargs="+", help="slides, or folders to look for them in")
    export.add_argument("--out", type=Path, metavar="DATA", required=True, help="the tile set, a new folder")
    export.add_argument(
        "--reviewed", type=Path, metavar="RESULT", nargs="+", default=[], help="results with reviewed masks"
    )
    export.add_argument("--hold-out", metavar="NAME", nargs="*", help="slides to score on, by name or fingerprint")
    export.add_argument("--licence", default="not stated", metavar="TEXT", help="of the pictures, in one line")
    export.add_argument("--author", default="", metavar="NAME", help="who makes the set, for its provenance")
    export.add_argument("--force", action="store_true", help="put it in place of a tile set of that name")
    export.add_argument("--run", type=Path, metavar="FOLDER", dest="run_folder", help="where to keep how far it is")
    export.set_defaults(run=run, do=_export)


def run(args: argparse.Namespace) -> int:
    """Show or export.

    Raises:
        LpdError: a label set, slide or result cannot be read, or the tile set cannot be written.
    """
    return int(args.do(args))


def _show(args: argparse.Namespace) -> int:
    from lpd.labelling.labelling import Labelling

    for folder in args.labels:
        labelling = Labelling(folder)
        scheme, counts = labelling.scheme, labelling.counts()
        codes = (*scheme.classes.codes, "", "tiles")
        print(f"{scheme.name}: tiles of {scheme.tile_px} px at {scheme.mpp:g} µm/px, revision {labelling.refresh()}")
        rows = [(slide.name, counts.get(key, {})) for key, slide in labelling.slides.items()]
        total = {code: sum(own.get(code, 0) for _, own in rows) for code in codes}
        width = max(5, *(len(name) for name, _ in rows)) if rows else 5
        print(" ".join([" " * width, *(f"{code or 'none':>6}" for code in codes)]))
        for name, own in (*rows, ("all", total)):
            print(" ".join([f"{name:{width}}", *(f"{own.get(code, 0):6}" for code in codes)]))
    return 0


def _export(args: argparse.Namespace) -> int:
    from lpd.labelling.exporting import Export, StoppedError
    from lpd.labelling.labelling import Labelling
    from lpd.labelling.splitting import make_plan

    state = ReportingRun(args.run_folder, "labels") if args.run_folder else None
    with state or nullcontext():
        labelling = Labelling(args.labels)
        reviewed = _reviews(args.reviewed)
        held_out = None if args.hold_out is None else _named(args.hold_out, labelling.slides.values())
        plan = make_plan(labelling, reviewed, held_out)
        finder = _Finder(args.slides)
        export = Export(labelling, plan, reviewed, finder.open, args.licence, args.author)
        try:
            summary = _write(export, args, state)
        except StoppedError as stopped:
            print(stopped)
            return 130
        if state is not None:
            state.complete()
    _say(summary, plan)
    return 0


def _write(export: Export, args: argparse.Namespace, state: ReportingRun | None) -> ExportSummary:
    from lpd.labelling.exporting import write_dataset

    if state is None:
        with progress_bar(args.out.name, "tile") as show:
            return write_dataset(export, args.out, replace=args.force, progress=lambda *far: bool(show(*far)))

    def report(done: int, total: int) -> bool:
        state.advance(done, total)
        return state.stop_requested()

    with state.bar(args.out.name, "tile"):
        return write_dataset(export, args.out, replace=args.force, progress=report)


def _say(summary: ExportSummary, plan: Plan) -> None:
    codes = plan.classes.codes if plan.classes else ()
    shown = "  ".join(f"{code} {plan.counts[code]}" for code in codes)
    print(f"wrote {summary.folder}: {summary.train} training tiles ({shown}), {summary.valid} to score")
    if summary.copies:
        print(f"{summary.copies} tiles with the very pixels of another were left out")
    if summary.contradicting:
        print(f"{summary.contradicting} tiles of equal pixels with different labels were left out")
    for note in plan.notes:
        print(note)


def _reviews(results: Sequence[Path]) -> Mapping[str, Sequence[Review]]:
    """Reviews of results by the fingerprint of their slide; results that nobody has reviewed are left out."""
    from lpd.inference.store import ResultStore
    from lpd.review.review import Review

    found: dict[str, list[Review]] = {}
    for folder in results:
        review = Review(ResultStore.open(folder))
        if review.refresh():
            found.setdefault(review.store.meta.slide_fingerprint, []).append(review)
    return found


def _named(names: Sequence[str], slides: Any) -> list[str]:
    by_name = {slide.name: slide.fingerprint for slide in slides}
    known = by_name | {fingerprint: fingerprint for fingerprint in by_name.values()}
    missing = [name for name in names if name not in known]
    if missing:
        raise DatasetError(f"no slide of the label set is called {missing[0]!r}: it has {', '.join(sorted(by_name))}")
    return [known[name] for name in names]


class _Finder:
    """Finds slides by their content among files and folders; files of the same name are looked at first."""

    def __init__(self, places: Sequence[Path]) -> None:
        self._places = places

    def open(self, wanted: LabelledSlide) -> Slide:
        """The slide, opened at the resolution that it was labelled at.

        Raises:
            DatasetError: it is not there.
        """
        from lpd.slide.opening import open_slide

        for path in sorted(self._files(), key=lambda path: path.stem != wanted.name):
            try:
                slide = open_slide(path, mpp=wanted.mpp)
            except LpdError:
                continue
            if slide.fingerprint == wanted.fingerprint:
                return slide
            slide.close()
        raise DatasetError(
            f"the slide {wanted.name} is not among the slides named: name its file, or the folder that it lies in"
        )

    def _files(self) -> Iterator[Path]:
        from lpd.slide.endings import is_slide_path

        for place in self._places:
            if place.is_dir():
                yield from (path for path in sorted(place.rglob("*")) if path.is_file() and is_slide_path(path))
            else:
                yield place
