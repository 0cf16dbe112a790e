"""``lpd prototypes gallery --data``: the tiles of a data set that each prototype answers most to."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpd.cli.progress import ReportingRun, progress_bar
from lpd.cli.prototypes.tables import flagged, names, write_csv, write_plot
from lpd.runs import write_json_atomically

if TYPE_CHECKING:
    from lpd.data.tiles import TileSet
    from lpd.explain.data_gallery import DataGallery
    from lpd.model.header import CheckpointInfo

TABLE = "places.csv"
_COLUMNS = ("tile", "case", "x_px", "y_px", "width_px", "height_px", "score")


def run_on_tiles(args: argparse.Namespace) -> int:
    """Write the table and the sheets, or all of it as JSON.

    Raises:
        LpdError: the model or the tiles cannot be read, or do not belong together.
        KeyboardInterrupt: somebody asked the run to stop.
    """
    state = ReportingRun(args.run_folder, "prototypes") if args.run_folder else None
    with state or nullcontext():
        _run(args, state)
        if state is not None:
            state.complete()
    return 0


def _run(args: argparse.Namespace, state: ReportingRun | None) -> None:
    from lpd.data.tiles import TileSet
    from lpd.evaluation.files import check_writable
    from lpd.explain.data_gallery import top_places
    from lpd.explain.figures import check_classes
    from lpd.inference.devices import choose_device
    from lpd.model.checkpoint import load_checkpoint
    from lpd.model.header import file_digest

    if args.out:
        check_writable(args.out)
    digest = file_digest(args.checkpoint)
    network, info = load_checkpoint(args.checkpoint, choose_device(args.device or "auto"))
    if info.model.groups:
        print(f"lpd prototypes: of {info.name} all are shown, those muted or merged in it, too", file=sys.stderr)
    tiles = TileSet.open(args.data, args.split or "valid", cache_bytes=0)
    of = {"digest": digest, "fingerprint": tiles.fingerprint()}
    check_classes(tiles, info)
    with _progress(args.data.name, state) as progress:
        found = top_places(network.eval(), tiles, info.input, args.per_prototype, args.per_case, progress=progress)
    if args.json:
        write_json_atomically(args.json, of | _document(found, tiles, info))
    if args.out:
        _write_table(args.out, found, tiles, info)
        _write_sheets(args.out, found, tiles, info)
    for line in flagged(found.figures) if found.figures else ():
        print(line)
    if found.figures is None:
        print(f"split {tiles.split} has no masks: what is dead or twice there is not known", file=sys.stderr)


@contextmanager
def _progress(name: str, state: ReportingRun | None) -> Iterator[Callable[[int, int], None]]:
    """Tells the terminal, and the run's folder if there is one."""
    if state is None:
        with progress_bar(name, "tile") as show:
            yield show
        return
    with state.bar(name, "tile"):

        def report(done: int, total: int) -> None:
            state.advance(done, total)
            if state.stop_requested():
                raise KeyboardInterrupt

        yield report


def _document(found: DataGallery, tiles: TileSet, info: CheckpointInfo) -> dict[str, Any]:
    about = {"version": 3, "data": tiles.info.name, "split": tiles.split, "checkpoint": info.name}
    places = [[asdict(place) for place in own] for own in found.places]
    return {**about, "tile_px": tiles.tile_px, "places": places, "figures": found.figures}


def _write_table(out: Path, found: DataGallery, tiles: TileSet, info: CheckpointInfo) -> None:
    from lpd.cli.prototypes.pictures import prototype_names

    called = names(info.classes.codes, info.model.prototypes_per_class)
    rows = [
        [name, given, rank, tiles.split, *(getattr(p, column) for column in _COLUMNS[:-1]), f"{p.score:.6f}"]
        for name, given, own in zip(called, prototype_names(info), found.places, strict=True)
        for rank, p in enumerate(own, 1)
    ]
    write_csv(out / TABLE, ("prototype", "name", "rank", "split", *_COLUMNS), rows)
    print(f"{len(rows)} places of {len(called)} prototypes in {len(tiles)} tiles -> {out / TABLE}")


def _write_sheets(out: Path, found: DataGallery, tiles: TileSet, info: CheckpointInfo) -> None:
    from lpd.cli.prototypes.pictures import prototype_names
    from lpd.explain.tile_sheet import tile_sheet

    per_class, given = info.model.prototypes_per_class, prototype_names(info)
    with progress_bar("gallery", "class") as progress:
        for index, own in enumerate(info.classes.classes):
            part = slice(index * per_class, (index + 1) * per_class)
            figures = found.figures["classes"][own.code] if found.figures else None
            name = re.sub(r"[^\w.-]", "_", own.code)
            path = out / f"{name}.png"
            write_plot(path, tile_sheet(own, found.places[part], figures, tiles, given[part]))
            progress(index + 1, info.classes.count)
            print(f"{own.name} -> {path}")
