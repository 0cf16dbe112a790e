"""``python -m benchmarks.engine.cohort``: a cohort with bad files, whose workers are killed one after the other."""

from __future__ import annotations

import argparse
import csv
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from lpd.data.phantom import mask_path, write_phantom_slide

#: Different phantoms; the slides are their copies.
_KINDS = 8


def make_slides(folder: Path, count: int, size: tuple[int, int]) -> set[str]:
    """Write phantoms and five bad files, each bad in a way of its own; gives the names of these."""
    folder.mkdir(parents=True)
    for kind in range(_KINDS):
        first = folder / f"{kind:03}.tif"
        write_phantom_slide(first, *size, seed=kind)
        mask_path(first).unlink()
        for number in range(kind + _KINDS, count - 5, _KINDS):
            shutil.copyfile(first, folder / f"{number:03}.tif")
    whole = (folder / "000.tif").read_bytes()
    (folder / "bad-empty.tif").touch()
    (folder / "bad-inside.tif").write_bytes(whole[:2000] + bytes(len(whole) // 4) + whole[2000 + len(whole) // 4 :])
    (folder / "bad-noise.svs").write_bytes(random.Random(1).randbytes(5000))
    (folder / "bad-gone.tif").symlink_to(folder / "nowhere.tif")
    Image.fromarray(np.full((300, 300, 3), 200, np.uint8)).save(folder / "bad-size-unknown.png")
    return {path.name for path in folder.glob("bad-*")} | {"bad-gone.tif"}


class Killer:
    """Ends one process at a time, chosen at random among the workers that there are."""

    def __init__(self, workers: Callable[[], list[int]], period_s: float, seed: int) -> None:
        self.deaths = 0
        self._workers, self._period_s, self._random = workers, period_s, random.Random(seed)
        self._enough = threading.Event()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Kill inside the block."""
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._enough.set()
            thread.join()

    def _run(self) -> None:
        while not self._enough.wait(self._period_s):
            found = self._workers()
            if found:
                os.kill(self._random.choice(found), signal.SIGKILL)
                self.deaths += 1


def workers_of(leader: int) -> list[int]:
    """Processes that a process has spawned to work for it, and that are alive."""
    found: list[int] = []
    try:
        children = psutil.Process(leader).children(recursive=True)
    except psutil.Error:
        return found
    for process in children:
        try:
            if "spawn_main" in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


@contextmanager
def dask_workers(count: int) -> Iterator[tuple[list[str], Callable[[], list[int]]]]:
    """A cluster on this machine whose workers come back: words for the command, and which processes there are.

    Those that are still starting are left out: Dask gives a worker up that dies before the scheduler has heard of it.
    """
    import dask
    from distributed import LocalCluster

    # A cluster of this kind, unlike workers that were started one by one, drops those that are missing at a moment.
    dask.config.set({"distributed.deploy.lost-worker-timeout": "1 hour"})
    with LocalCluster(
        n_workers=count, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=60
    ) as cluster:
        nannies, known = cluster.workers, cluster.scheduler.workers

        def started() -> list[int]:
            ours = [n for n in list(nannies.values()) if n.worker_address in known and n.status.name == "running"]
            return [nanny.pid for nanny in ours]

        yield ["--scheduler", cluster.scheduler_address], started


def check(out: Path, said: str, bad: set[str], code: int) -> list[str]:
    """What is wrong with how the command ended; nothing, it is to be hoped."""
    wrong = [] if code == 1 else [f"exit code {code}, not 1"]
    with (out / "cohort.csv").open(newline="", encoding="utf-8") as file:
        rows = {Path(row["slide"]).name: row for row in csv.DictReader(file)}
    good = {name: row for name, row in rows.items() if name not in bad}
    wrong += [
        f"{n} is {row['state']}: {row['reason']}" for n, row in good.items() if row["state"] not in ("done", "kept")
    ]
    wrong += [f"{name} is {rows[name]['state']}" for name in bad if rows[name]["state"] != "failed"]
    reasons = {re.sub(r"\S*bad-\S+", "", rows[name]["reason"]) for name in bad}
    wrong += [] if len(reasons) == len(bad) else [f"{len(bad)} bad files have {len(reasons)} reasons"]
    ends = Counter(re.findall(r"^(\S+): (?:went on .*; )?\d+ windows in", said, re.MULTILINE))
    wrong += [f"{name} was segmented to its end {count} times" for name, count in ends.items() if count > 1]
    for name, row in good.items():
        path = out / row["folder"] / "changes.jsonl"
        log = path.read_text().splitlines() if path.exists() else []
        whole = ['"complete"' in line for line in log]
        if not any(whole):
            wrong.append(f"{name} is not complete")
        elif not all(whole[whole.index(True) :]):
            wrong.append(f"{name} was computed on after it was complete")
    return wrong + [f"left over: {path}" for path in out.rglob(".unfinished-*")]


def main() -> int:
    """Run it and say how it went; 1 if anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine.cohort", description=__doc__)
    parser.add_argument("folder", type=Path, help="a new folder")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--slides", type=int, default=200, help="five of them bad (default: 200)")
    parser.add_argument("--size", type=int, nargs=2, default=(1024, 768), help="pixels of a slide (default: 1024 768)")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--period", type=float, default=10.0, help="seconds between deaths (default: 10)")
    parser.add_argument("--seed", type=int, default=1, help="of who dies")
    parser.add_argument("--dask", action="store_true", help="workers of a Dask cluster on this machine")
    args = parser.parse_args()
    bad = make_slides(args.folder / "slides", args.slides, tuple(args.size))
    if args.dask:
        with dask_workers(args.workers) as (words, workers):
            return _measure(args, bad, words, workers)
    return _measure(args, bad, ["--workers", str(args.workers)], None)


def _measure(args: argparse.Namespace, bad: set[str], words: list[str], workers: Callable[[], list[int]] | None) -> int:
    out, log = args.folder / "out", args.folder / "said.txt"
    command = [sys.executable, "-m", "lpd", "segment", str(args.folder / "slides"), "--out", str(out), *words]
    command += ["--checkpoint", str(args.checkpoint), "--device", "cpu"]
    begun = time.monotonic()
    with log.open("w") as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
        killer = Killer(workers or (lambda: workers_of(process.pid)), args.period, args.seed)
        with killer.at_work():
            code = process.wait()
    took = time.monotonic() - begun
    text = log.read_text()
    wrong = check(out, text, bad, code)
    if workers is None:
        wrong += [f"process {pid} is left" for pid in workers_of(os.getpid())]
    again = len(re.findall(r"went on where", text))
    print(f"{args.slides} slides in {took:.0f} s, {killer.deaths} workers killed, {again} slides gone on with")
    print("\n".join(wrong) or "every good slide done once, five reasons for the bad ones, nothing left over")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
