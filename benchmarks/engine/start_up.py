"""From the command to the first tile: a process that has all to load, and the resident worker that has it loaded."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.engine.scene import Scene
from benchmarks.speed.timing import Row, quartiles
from lpd.runs import read_state, request_stop


def start_up(scene: Scene) -> list[Row]:
    """Wall seconds until the run counts its first window; a few turns, as each loads everything."""
    with TemporaryDirectory() as folder:
        environment = {**os.environ, "LPD_RESIDENT": str(Path(folder) / "resident")}
        runs = itertools.count()

        def first_window(resident: str) -> float:
            out = Path(folder) / str(next(runs))
            command = [sys.executable, "-m", "lpd", "segment", str(scene.slide), "--checkpoint", str(scene.checkpoint)]
            command += ["--out", str(out), "--device", scene.device, "--resident", resident, "--no-adapt"]
            command += ["--mpp", str(scene.mpp)] if scene.mpp else []
            start = time.monotonic()
            with subprocess.Popen(
                command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            ) as run:
                seconds = _until_progress(out, run, start)
                request_stop(next(out.iterdir()))
                run.wait()
            return seconds

        first_window("start")  # the worker loads the model
        turns = [(first_window("no"), first_window("auto")) for _ in range(scene.rounds)]
        subprocess.run([sys.executable, "-m", "lpd", "resident", "--stop"], env=environment, check=False)
    cases: list[tuple[str, Callable[[tuple[float, float]], float]]] = [
        ("a process of its own", lambda turn: turn[0]),
        ("the resident worker", lambda turn: turn[1]),
    ]
    rows = []
    for name, of in cases:
        low, middle, high = quartiles([turn[0] / of(turn) for turn in turns])
        ms = 1000 * sorted(map(of, turns))[len(turns) // 2]
        rows.append(Row("start-up", "command to first window", name, ms, 0, middle, low, high))
    return rows


def _until_progress(out: Path, run: subprocess.Popen[bytes], start: float) -> float:
    """Seconds until a window has been seen."""
    while run.poll() is None:
        for state in out.glob("*/state.json"):
            if read_state(state.parent).progress.done > 0:
                return time.monotonic() - start
        time.sleep(0.005)
    raise RuntimeError("the run ended before its first window")
