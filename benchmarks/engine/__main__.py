"""``python -m benchmarks.engine``: time the ways to run a network, and whole slides against the network alone."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.engine.backends import backends
from benchmarks.engine.export import export
from benchmarks.engine.large import large
from benchmarks.engine.overhead import memory, overhead, phantom_memory
from benchmarks.engine.page import write_page
from benchmarks.engine.peer import peer
from benchmarks.engine.prototypes import prototypes
from benchmarks.engine.reading import reading
from benchmarks.engine.scene import Scene
from benchmarks.engine.start_up import start_up
from benchmarks.engine.whole import whole
from benchmarks.speed.reporting import tables
from benchmarks.speed.timing import Row

PARTS: Mapping[str, Callable[[Scene], list[Row]]] = {
    "reading": reading,
    "backends": backends,
    "overhead": overhead,
    "whole": whole,
    "prototypes": prototypes,
    "start-up": start_up,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description=__doc__)
    parser.add_argument("--slide", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--mpp", type=float, help="µm per level-0 pixel, where the slide does not say")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda", "mps"))
    parser.add_argument("--threads", type=int, default=1, help="of torch, on a CPU (default: 1)")
    parser.add_argument("--rounds", type=int, default=7, help="turns of every contestant (default: 7)")
    parser.add_argument(
        "--parts", nargs="*", choices=tuple(PARTS), default=list(PARTS), help="none: only what else is asked for"
    )
    parser.add_argument(
        "--memory",
        type=Path,
        nargs="*",
        metavar="SLIDE",
        help="also peak memory on these slides; none: on phantoms of 8,000 to 100,000 px, which takes minutes",
    )
    parser.add_argument(
        "--large",
        type=float,
        metavar="SHARE",
        help="also lpd segment on a phantom of 100,000 × 80,000 px, this share of it tissue (0.02: minutes)",
    )
    parser.add_argument(
        "--peer",
        type=Path,
        metavar="PYTHON",
        help="also TIAToolbox on the same job: the interpreter of an environment that has it",
    )
    parser.add_argument("--export", type=int, metavar="PX", help="also exports of a mask of so many pixels each way")
    parser.add_argument("--json", type=Path, help="file of all rows; those of parts that are not measured now stay")
    parser.add_argument("--page", type=Path, help="Markdown page made from the file of all rows")
    args = parser.parse_args(arguments)
    scene = Scene(args.slide, args.checkpoint, args.mpp, args.device, args.threads, args.rounds)
    rows: list[Row] = []
    for part in args.parts:
        measured = PARTS[part](scene)
        print(f"{tables(measured)}\n", flush=True)
        rows += measured
    if args.memory is not None:
        rows += memory(args.checkpoint, args.memory) if args.memory else phantom_memory(args.checkpoint)
    rows += peer(scene, args.peer) if args.peer else []
    rows += large(args.checkpoint, args.large) if args.large else []
    rows += export(args.export) if args.export else []
    if args.json:
        rows = _joined(args.json, rows)
    if args.page:
        write_page(args.page, rows)


def _joined(path: Path, rows: list[Row]) -> list[Row]:
    """Rows of this run, and what the file has of other parts; written back."""
    measured = {row.part for row in rows}
    old = [Row(**row) for row in json.loads(path.read_text(encoding="utf-8"))] if path.exists() else []
    rows = [row for row in old if row.part not in measured] + rows
    path.write_text(json.dumps([asdict(row) for row in rows], indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return rows


if __name__ == "__main__":
    main()
