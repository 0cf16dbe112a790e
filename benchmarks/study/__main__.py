"""``python -m benchmarks.study``: do the trainings that are still missing, then write docs/results.md."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.study.arms import ARMS, RECIPES
from benchmarks.study.records import Records
from benchmarks.study.reporting import write_report
from benchmarks.study.running import Place, run_arm, wanted

_DOCS = Path(__file__).parents[2] / "docs"


def main() -> None:
    """Train, record, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with the tile sets; without it only the page is written")
    parser.add_argument("--encoder", type=Path, help="weights of mobilenetv2_100")
    parser.add_argument("--work", type=Path, default=Path("runs/study"), help="folder for runs (default: runs/study)")
    parser.add_argument("--sets", nargs="+", choices=tuple(RECIPES), default=list(RECIPES))
    parser.add_argument("--arms", nargs="+", choices=tuple(ARMS), default=list(ARMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--records", type=Path, default=_DOCS / "results.json")
    args = parser.parse_args()
    records = Records(args.records)
    if args.data:
        place = Place(args.data, args.encoder, args.work, args.device)
        for data, arm, seed in wanted(args.arms, args.sets, args.seeds):
            if records.find(data, arm, seed) is None:
                record = run_arm(data, arm, seed, place)
                records.add(record)
                print(f"{data} seed {seed} {arm}: {100 * record['gates']['predicted']['miou']:.1f}", flush=True)
    conclusions = (_DOCS / "results-conclusions.md").read_text(encoding="utf-8")
    write_report(_DOCS / "results.md", records, args.seeds, conclusions)


if __name__ == "__main__":
    main()
