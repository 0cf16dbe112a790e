"""The app and the peer, each a process of its own on a free port, and a segmentation that the app is told to run."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[2]
_PATIENCE_S = 240.0


@dataclass(frozen=True)
class Server:
    """A process that answers on ``port`` of 127.0.0.1."""

    port: int
    pid: int

    def cpu_s(self) -> float:
        """CPU seconds that it has taken; 0 where the system does not tell (only Linux does here)."""
        try:
            told = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def running_app(slides: Path, results: Path, checkpoints: Path) -> Iterator[Server]:
    """With a resident worker of its own, which ends with it."""
    flags = ["--slides", slides, "--results", results, "--checkpoints", checkpoints, "--no-browser"]
    environment = {**os.environ, "LPD_RESIDENT": str(results / "resident")}
    port = _free_port()
    command = [sys.executable, "-c", "import sys, app; sys.exit(app.main(sys.argv[1:]))", *map(str, flags)]
    with _running([*command, "--port", str(port)], environment, port, "/healthz") as server:
        try:
            yield server
        finally:
            subprocess.run([sys.executable, "-m", "lpd", "resident", "--stop"], env=environment, cwd=_ROOT, check=False)


@contextmanager
def running_peer(slide: Path) -> Iterator[Server]:
    """See :mod:`benchmarks.tiles.peer`."""
    port = _free_port()
    command = [sys.executable, "-m", "benchmarks.tiles.peer", str(slide), str(port)]
    with _running(command, dict(os.environ), port, "/raw/0/0_0.jpeg") as server:
        yield server


@contextmanager
def segmenting(port: int, slide_id: str, checkpoint: str) -> Iterator[None]:
    """While the app's job computes, from its first window on."""
    job = ask(port, "/api/jobs", {"slide": slide_id, "checkpoint": checkpoint, "device": "cpu"})["id"]
    deadline = time.monotonic() + _PATIENCE_S
    while not (found := ask(port, f"/api/jobs/{job}"))["progress"]["done"]:
        if found["ended"] or time.monotonic() > deadline:
            raise RuntimeError(f"the segmentation did not begin: {found['message']}")
        time.sleep(0.2)
    try:
        yield
        found = ask(port, f"/api/jobs/{job}")
        if found["ended"]:
            raise RuntimeError(f"the segmentation ended too soon ({found['state']}): take a larger slide")
    finally:
        ask(port, f"/api/jobs/{job}/cancel", {})
        while not ask(port, f"/api/jobs/{job}")["ended"] and time.monotonic() < deadline + _PATIENCE_S:
            time.sleep(0.2)


def ask(port: int, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """A route's JSON; a body makes it a POST."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return dict(json.load(answer))


@contextmanager
def _running(command: list[str], environment: dict[str, str], port: int, path: str) -> Iterator[Server]:
    with subprocess.Popen(command, env=environment, cwd=_ROOT, stdout=subprocess.DEVNULL) as process:
        try:
            _wait_for(f"http://127.0.0.1:{port}{path}", process)
            yield Server(port, process.pid)
        finally:
            process.terminate()
            process.wait(30)


def _wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"{address} does not answer")


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])
