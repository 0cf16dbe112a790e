"""A room of trainings whose trainer is a stand-in, and the client that asks for them."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from viewers.services import Services
from viewers.train.room import TrainingFolders, make_room
from viewers.web import make_api

#: Does what ``lpd train`` does to its folder, in no time; the seed says how it ends.
FAKE_TRAIN = """
    import json, os, signal, sys, time
    from pathlib import Path
    sys.path.insert(0, {root!r})
    from lpd.runs import DeviceLine, Run
    from lpd.errors import RunError

    words = sys.argv[1:]
    if words[0] == "evaluate":
        if "test" in words:
            time.sleep(60)
        scores = {{"miou": 0.5, "mdice": 0.6, "iou": {{"AA": 0.25, "BB": 0.75}}, "fwiou": 0.1}}
        confusion = {{"none": {{"predicted": {{"ignored": [[3, 1], [0, 4]]}}}}}}
        report = {{"data": {{"tiles": 7}}, "gates": {{"predicted": {{"ignored": scores}}}}, "confusion": confusion}}
        (Path(words[words.index("--out") + 1]) / "report.json").write_text(json.dumps(report))
        sys.exit(0)
    if "--probe" in words:
        if "loop.seed=4" in words:
            time.sleep(60)
        print("a word of a library")
        print(json.dumps({{"steps": 12, "total_s": 3.5}}))
        sys.exit(0)
    out, queue = Path(words[words.index("--out") + 1]), Path(words[words.index("--queue") + 1])
    seed = next((int(w.partition("=")[2]) for w in words if w.startswith("loop.seed=")), 0)
    if seed == 1:
        print("lpd train: the weights do not fit: choose others", file=sys.stderr)
        sys.exit(1)
    resume = out / "resume.pt"
    first = int(resume.read_text()) if "--resume" in words else 0
    with Run(out, "train", line=DeviceLine(queue, "cpu")) as run, (out / "metrics.jsonl").open("a") as log:
        (out / "config.yaml").write_text("encoder: {{name: mit_b0, weights: none}}\\nloop: {{seed: 5}}\\n")
        if seed == 2:
            raise RunError("the disk is full: free some space")
        for step in range(first + 1, 101):
            entry = {{"step": step, "rate": 1.0, "loss": 1 / step, "seconds": step / 10}}
            print(json.dumps(entry), file=log, flush=True)
            resume.write_text(str(step))
            run.advance(step, 100, "steps")
            if step == 3 and seed == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            if run.stop_requested():
                break
            time.sleep(0.02 if seed == 4 else 0)
        (out / "last.safetensors").write_bytes(Path({model!r}).read_bytes())
        if step == 100:
            resume.unlink()
            run.complete()
    sys.exit(0)
"""

CLASSES = "classes:\n  - {code: AA, name: Able, color: [255, 0, 0]}\n  - {code: BB, name: Bold, color: [0, 255, 0]}\n"


def write_set(folder: Path) -> None:
    """Four training tiles (AA, AA, BB, both), whose colour is their number, and a valid one."""
    for place in ("train", "valid/img", "valid/mask"):
        (folder / place).mkdir(parents=True)
    for number, label in enumerate(("10", "10", "01", "11")):
        tile = Image.fromarray(np.full((64, 64, 3), 40 * number, np.uint8))
        tile.save(folder / "train" / f"t{number}[{label}].png")
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(folder / "valid/img/v.png")
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(folder / "valid/mask/v.png")
    (folder / "dataset.yaml").write_text(f"name: small\nmpp: 0.5\nlicence: free\n{CLASSES}")


@pytest.fixture
def folders(tmp_path: Path) -> TrainingFolders:
    write_set(tmp_path / "data" / "ward" / "small")
    (tmp_path / "data" / ".hidden" / "train").mkdir(parents=True)
    (tmp_path / "data" / "a" / "b" / "c" / "train").mkdir(parents=True)  # deeper than is looked
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "my encoder.pth").write_bytes(b"weights")
    return TrainingFolders(tmp_path / "runs", tmp_path / "data", tmp_path / "weights")


@pytest.fixture
def command(tmp_path: Path) -> tuple[str, ...]:
    script = tmp_path / "fake_train.py"
    root, model = str(Path(__file__).resolve().parents[3]), str(tmp_path / "checkpoints" / "good.safetensors")
    script.write_text(textwrap.dedent(FAKE_TRAIN.format(root=root, model=model)))
    return sys.executable, str(script)


@pytest.fixture
def training_services(services: Services, folders: TrainingFolders, command: tuple[str, ...]) -> Iterator[Services]:
    room = make_room(folders, services.checkpoints, services.jobs.folder, services.cache, command)
    yield replace(services, training=room)
    for training in room.trainings.all():
        room.trainings.kill(training.name)


@pytest.fixture
def asked(training_services: Services) -> Iterator[TestClient]:
    with TestClient(make_api(training_services, "127.0.0.1"), base_url="http://127.0.0.1:7860") as client:
        yield client


@pytest.fixture
def wish(asked: TestClient) -> dict[str, object]:
    """A body that starts a training."""
    (data,) = asked.get("/api/datasets").json()["data"]
    return {"name": "first", "data": data["id"], "preset": "tiny", "settings": {"optimizer.epochs": "2"}}


def state(client: TestClient, name: str = "first") -> str:
    return str(client.get(f"/api/trainings/{name}").json()["state"])


def seeded(wish: dict[str, object], seed: int) -> dict[str, object]:
    return {**wish, "settings": {"loop.seed": str(seed)}}
