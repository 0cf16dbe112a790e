"""The same job by TIAToolbox and by this project in turn, each in a process of its own that says what it took."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch

from benchmarks.engine.large_slide import write_large_slide
from benchmarks.engine.overhead import peak_mb
from benchmarks.engine.scene import Scene, job_of
from benchmarks.engine.stand_in import StandIn
from benchmarks.speed.timing import Row, quartiles
from lpd.inference.backend import load_backend
from lpd.inference.pipeline import segment_slide
from lpd.inference.settings import SegmentSettings
from lpd.model.checkpoint import save_checkpoint
from lpd.model.header import read_info
from lpd.model.network import LPDNet
from lpd.runs import Run
from lpd.slide.opening import open_slide

_ROOT = Path(__file__).parents[2]
_OWN = """
import sys
from pathlib import Path
from benchmarks.engine.peer import run_own
run_own(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]), sys.argv[5])
"""
#: What the peer does with each tile; our own windows, by PyTorch and, where it is installed, by OpenVINO.
_SAME, _OWN_WINDOWS, _OPENVINO = "the same tiles, fp32", "its own windows, fp32", "its own windows, by OpenVINO"
_NOTHING_PX = 16_000, 12_000


@dataclass(frozen=True)
class _Took:
    """What one process took beyond a loaded model."""

    cpu_s: float
    tiles: int
    mb: float
    note: str


def peer(scene: Scene, python: Path) -> list[Row]:
    """A phantom with a network that costs nothing; the scene's slide with its checkpoint, and with an untrained MiT-B1.

    Args:
        python: the interpreter of an environment with TIAToolbox, see :mod:`benchmarks.engine.peer_process`.
    """
    ways = (_SAME, _OWN_WINDOWS, *((_OPENVINO,) if "openvino" in scene.backend().alternatives else ()))
    with TemporaryDirectory() as folder:
        phantom = write_large_slide(Path(folder) / "phantom.tif", *_NOTHING_PX)
        rows = _compare(scene, python, phantom, scene.checkpoint, "nothing", (_SAME,))
        for checkpoint in (
            scene.checkpoint,
            _untrained(scene.checkpoint, Path(folder) / "untrained-mit_b1.safetensors"),
        ):
            rows += _compare(scene, python, scene.slide, checkpoint, "network", ways)
    return rows


def _compare(scene: Scene, python: Path, slide: Path, checkpoint: Path, kind: str, ways: Sequence[str]) -> list[Row]:
    took: dict[str, list[_Took]] = {}
    with TemporaryDirectory() as folder:
        for turn in range(scene.rounds):
            out = Path(folder) / str(turn)
            arguments = [str(slide), str(checkpoint), kind]
            theirs = [str(python), "-m", "benchmarks.engine.peer_process", *arguments, str(out)]
            took.setdefault("TIAToolbox", []).append(_run(theirs))
            for way in ways:
                ours = [sys.executable, "-c", _OWN, *arguments, str(out / way), way]
                took.setdefault(f"this project, {way}", []).append(_run(ours))
    version, base = took["TIAToolbox"][0].note, [t.cpu_s for t in took["TIAToolbox"]]
    what = "a network that costs nothing" if kind == "nothing" else checkpoint.stem
    rows = []
    for name, own in took.items():
        low, middle, high = quartiles([a / b.cpu_s for a, b in zip(base, own, strict=True)])
        note = f"peak +{median(t.mb for t in own):.0f} MB" + ("" if name == "TIAToolbox" else own[0].note)
        case = f"{what}, {slide.stem}, TIAToolbox {version}, {scene.rounds} round{'s' * (scene.rounds > 1)}"
        rows.append(Row("peer", case, name, 1000 * median(t.cpu_s for t in own), own[0].tiles, middle, low, high, note))
    return rows


def _run(command: list[str]) -> _Took:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(_ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=_ROOT, env=environment)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-2000:]}")
    return _Took(**json.loads(done.stdout.splitlines()[-1]))


def run_own(path: Path, checkpoint: Path, kind: str, folder: Path, way: str) -> None:
    """Run in a process of its own; prints what it took as JSON."""
    torch.set_num_threads(1)
    info = read_info(checkpoint)
    choices: dict[str, object] = {"threads": 1, "reader_threads": 1, "device": "cpu"}
    choices["backend"] = "openvino" if way == _OPENVINO else "torch"
    if way == _SAME:
        tile = info.input.tile_px
        choices |= {"adapt": False, "window_px": tile, "stride_px": tile * 3 // 7, "batch_size": 16}
    settings = SegmentSettings.from_dict(choices)
    backend = StandIn(info) if kind == "nothing" else load_backend(checkpoint, "cpu")
    with open_slide(path) as slide:
        before, cpu_s = peak_mb(), time.process_time()
        with Run(folder, "segment") as run:
            summary = segment_slide(slide, backend, folder, settings, run)
        cpu_s, mb = time.process_time() - cpu_s, peak_mb() - before
        job = job_of(slide, backend, settings)
    note = f", {summary.backend}"
    tiles = round(job.plan.window_count * job.tiles_per_window)
    print(json.dumps({"cpu_s": cpu_s, "tiles": tiles, "mb": mb, "note": note}))


def _untrained(checkpoint: Path, path: Path) -> Path:
    """A MiT-B1 with random weights for the same classes and tiles: it takes the time of a trained one, no more."""
    info = read_info(checkpoint)
    model = dataclasses.replace(info.model, encoder="mit_b1", timm_options=())
    torch.manual_seed(0)
    save_checkpoint(path, LPDNet(model), dataclasses.replace(info, path=path, model=model))
    return path
