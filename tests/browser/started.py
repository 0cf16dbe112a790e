"""Start the app in a process of its own without importing its packages once more for each test."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Sequence
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

from lpd.runs import ENDED
from viewers.jobs import Jobs

ROOT = Path(__file__).resolve().parents[2]
#: What :func:`app.run` imports. No thread runs yet when these are imported, so that a fork of them is a fresh app.
_IMPORTED = ["app", "viewers.web", "viewers.demo", "viewers.openseadragon"]
_made: list[ForkServerContext] = []


def _context() -> ForkServerContext:
    if not _made:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_IMPORTED)
        _made.append(context)
    return _made[0]


def start_app(flags: Sequence[object], log: Path, threads: int | None = None) -> ForkServerProcess:
    """``python app.py FLAGS`` as a child whose output goes to ``log``; PyTorch in its jobs has ``threads``."""
    process = _context().Process(target=_run, args=([str(flag) for flag in flags], log, threads))
    process.start()
    return process


def _run(arguments: list[str], log: Path, threads: int | None) -> None:
    import app

    sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    os.chdir(ROOT)
    if threads:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    sys.exit(app.main(arguments))


def free_port() -> int:
    """A port that nothing listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def end_jobs(results: Path) -> None:
    """Stop the jobs of a results folder, whoever started them."""
    jobs = Jobs(results, stop_patience_s=(10.0, 3.0))
    for job in jobs.all():
        jobs.cancel(job.id)
    deadline = time.monotonic() + 40
    while any(job.run.state not in ENDED for job in jobs.all()) and time.monotonic() < deadline:
        time.sleep(0.2)
