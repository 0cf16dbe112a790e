"""``python -m benchmarks.engine``: time the ways to run a network, and whole slides against the network alone."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.engine.backends import backends
from benchmarks.engine.scene import Scene
from benchmarks.engine.whole import whole
from benchmarks.speed.reporting import tables
from benchmarks.speed.timing import Row

PARTS: Mapping[str, Callable[[Scene], list[Row]]] = {"backends": backends, "whole": whole}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description=__doc__)
    parser.add_argument("--slide", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--mpp", type=float, help="µm per level-0 pixel, where the slide does not say")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda", "mps"))
    parser.add_argument("--threads", type=int, default=1, help="of torch, on a CPU (default: 1)")
    parser.add_argument("--rounds", type=int, default=7, help="turns of every contestant (default: 7)")
    parser.add_argument("--parts", nargs="+", choices=tuple(PARTS), default=list(PARTS))
    parser.add_argument("--json", type=Path, help="file to write the rows to")
    args = parser.parse_args(arguments)
    scene = Scene(args.slide, args.checkpoint, args.mpp, args.device, args.threads, args.rounds)
    rows: list[Row] = []
    for part in args.parts:
        measured = PARTS[part](scene)
        print(f"{tables(measured)}\n", flush=True)
        rows += measured
    if args.json:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    main()
