"""``python -m benchmarks.few``: do the trainings that are still missing, then write docs/few-tiles.md."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from benchmarks.few.arms import ARMS
from benchmarks.few.page import page
from benchmarks.few.running import Place, run_arm
from benchmarks.study.records import Records
from lpd.evaluation.files import write_text

_DOCS = Path(__file__).parents[2] / "docs"
_PREVIEW = Path(__file__).parents[2] / "checkpoints" / "luad224-learnable-mobilenetv2_100.safetensors"


def main() -> None:
    """Train, record, report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.few", description=__doc__)
    parser.add_argument("--data", type=Path, help="tile set ocelot224; without it only the page is written")
    parser.add_argument("--encoder", type=Path, help="ImageNet weights of mobilenetv2_100")
    parser.add_argument("--preview", type=Path, default=_PREVIEW, help="model of another tissue, for its encoder")
    parser.add_argument("--work", type=Path, default=Path("runs/few"), help="folder for runs (default: runs/few)")
    parser.add_argument("--arms", nargs="+", choices=tuple(ARMS), default=list(ARMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: 1)")
    args = parser.parse_args()
    records = Records(_DOCS / "few-tiles.json")
    if args.data:
        torch.set_num_threads(args.threads)
        place = Place(args.data, args.encoder, args.preview.resolve(), args.work)
        for arm in args.arms:
            for seed in args.seeds:
                if records.find(args.data.name, arm, seed) is None:
                    record = run_arm(arm, seed, place)
                    records.add(record)
                    print(f"{arm}, seed {seed}: {100 * record['gates']['predicted']['miou']:.1f}", flush=True)
    write_text(_DOCS / "few-tiles.md", page(records.all))


if __name__ == "__main__":
    main()
