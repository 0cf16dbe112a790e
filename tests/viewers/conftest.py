"""Fixtures of the web room: a folder of small slides, a checkpoint header, a stand-in for the ``lpd`` command."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from lpd.classes import BCSS
from lpd.config import Calibration, InputSpec, ModelConfig
from lpd.model.header import METADATA_KEY, CheckpointInfo
from viewers.catalog import Catalogue
from viewers.checkpoints import Checkpoints
from viewers.jobs import Jobs
from viewers.resolutions import RememberedMpp
from viewers.services import Services
from viewers.web import make_api

ROOT = Path(__file__).resolve().parents[2]

#: Writes a result the way ``lpd segment`` does, without a network: the left half tumour, the right half stroma.
FAKE_LPD = """
    import sys, time
    from pathlib import Path
    import numpy as np
    from lpd.classes import BCSS
    from lpd.cli import build_parser
    from lpd.errors import ResultError
    from lpd.inference.meta import ResultMeta
    from lpd.inference.store import ResultStore
    from lpd.model.header import file_digest
    from lpd.runs import DeviceLine, Run
    from lpd.slide.opening import open_slide
    from lpd.slide.region import Region

    args = build_parser().parse_args(sys.argv[1:])
    wish = args.checkpoint.stem
    slide_path = args.slides[0]
    if wish == "early-failure":
        print("lpd segment: the model is not for this slide: choose another one", file=sys.stderr)
        sys.exit(1)
    slide = open_slide(slide_path, mpp=args.mpp)
    folder = args.out / slide.name
    device = "cpu" if args.device == "auto" else args.device
    with Run(folder, "segment", line=DeviceLine(args.queue, device)) as run:
        if wish == "strange-failure":
            1 / 0
        if wish == "late-failure":
            raise ResultError("the disk is full: free some space")
        meta = ResultMeta(slide_path.name, slide.fingerprint, slide.width_l0, slide.height_l0, slide.require_mpp(),
                          slide.require_mpp() * 2, BCSS, wish, file_digest(args.checkpoint), notice="stand-in")
        store = ResultStore.create(folder, meta)
        width, height = meta.mask_size
        steps = 40 if wish == "slow" else 2
        for step in range(steps):
            if run.stop_requested() and wish != "deaf":
                break
            half = width // 2
            if step == 0:
                store.write_mask(0, 0, np.zeros((height, half), np.uint8))
                store.commit(Region(0, 0, half * 2, slide.height_l0))
            if step == steps - 1:
                store.write_mask(half, 0, np.ones((height, width - half), np.uint8))
                store.commit(Region(half * 2, 0, slide.width_l0 - half * 2, slide.height_l0))
                store.finish()
            run.advance(step + 1, steps)
            time.sleep(0.25 if wish == "slow" else 0)
        if wish == "deaf":
            time.sleep(600)
        (folder / "annotations.geojson").write_text("{}")
    sys.exit(0)
"""


#: Asks the whole app, Gradio page included: a process of its own, because Gradio leaves event loops unclosed.
ASK_PAGE = """
import json, sys
from pathlib import Path
import app
from fastapi.testclient import TestClient
from viewers.services import make_services
from viewers.web import make_app
questions, *folders = json.loads(sys.argv[1])
answers = []
with TestClient(make_app(make_services(*map(Path, folders)), "127.0.0.1"), base_url="http://127.0.0.1:7860") as client:
    for address, origin in questions:
        answer = client.get(address, headers={"Origin": origin} if origin else {})
        answers.append([address, origin, answer.status_code, dict(answer.headers), answer.text])
print(json.dumps({"answers": answers, "modules": list(sys.modules)}))
"""
PAGE_ADDRESSES = ("/", "/config", "/gradio_api/info", "/api/slides", "/api/checkpoints", "/api/jobs")
HIDDEN_ADDRESSES = ("/docs", "/redoc", "/openapi.json", "/gradio_api/file=app.py")
ORIGINS = ("", "http://127.0.0.1:7860", "http://evil.example")


def _wait_for(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


@pytest.fixture
def wait_for() -> Callable[[Callable[[], object]], None]:
    """Looks again and again until something has happened; fails when it does not within half a minute."""
    return _wait_for


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    """A slides folder: a plain picture with known pixels, one in a sub-folder, a broken file, something else."""
    folder = tmp_path / "slides"
    (folder / "ward").mkdir(parents=True)
    picture = np.zeros((400, 600, 3), dtype=np.uint8)
    picture[:, :300] = (220, 40, 60)
    picture[:, 300:] = (40, 60, 220)
    Image.fromarray(picture).save(folder / "first.png")
    Image.fromarray(picture[:100, :80]).save(folder / "ward" / "second.png")
    (folder / "broken.svs").write_bytes(b"not a slide at all")
    (folder / "notes.txt").write_text("no slide")
    return folder


@pytest.fixture
def checkpoint_bytes() -> bytes:
    """A checkpoint file that says everything and whose only weights are prototypes: enough for a list."""
    model = ModelConfig(encoder="mit_b0", class_count=4)
    ones, zeros = (1.0,) * 4, (0.0,) * 4
    info = CheckpointInfo(
        path=Path("any"),
        classes=BCSS,
        input=InputSpec(mpp=1.0),
        model=model,
        calibration=Calibration((0.2, 0.4, 0.4), ones, zeros, ones, zeros),
        notice="for research only",
    )
    shape = [model.prototype_count, model.prototype_dim]
    data = bytes(2 * shape[0] * shape[1])
    prototypes = {"dtype": "F16", "shape": shape, "data_offsets": [0, len(data)]}
    document = json.dumps(info.to_document())
    header = json.dumps({"__metadata__": {METADATA_KEY: document}, "prototypes": prototypes}).encode()
    return struct.pack("<Q", len(header)) + header + data


@pytest.fixture
def checkpoints(tmp_path: Path, checkpoint_bytes: bytes) -> Path:
    """A checkpoints folder; the names tell the stand-in command how to behave."""
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for name in ("good", "slow", "deaf", "early-failure", "late-failure", "strange-failure"):
        (folder / f"{name}.safetensors").write_bytes(checkpoint_bytes)
    (folder / "torn.safetensors").write_bytes(checkpoint_bytes[:50])
    return folder


@pytest.fixture
def fake_lpd(tmp_path: Path) -> tuple[str, ...]:
    """Command that stands in for ``python -m lpd``."""
    script = tmp_path / "fake_lpd.py"
    script.write_text(textwrap.dedent(FAKE_LPD))
    return sys.executable, str(script)


@pytest.fixture
def services(tmp_path: Path, slides: Path, checkpoints: Path, fake_lpd: tuple[str, ...]) -> Iterator[Services]:
    """Services whose jobs run the stand-in; whatever still runs at the end is ended."""
    library = tmp_path / "openseadragon"
    library.mkdir()
    (library / "openseadragon.js").write_text("// stands in for the library")
    jobs = Jobs(tmp_path / "results", fake_lpd, stop_patience_s=(0.8, 0.4))
    remembered = RememberedMpp(jobs.folder / "resolutions.json")
    catalogue = Catalogue(slides, remembered)
    yield Services(catalogue, Checkpoints(checkpoints), jobs, library)
    catalogue.close()
    for job in jobs.all():
        jobs.cancel(job.id)
    _wait_for(lambda: all(job.run.ended for job in jobs.all()))


@pytest.fixture
def client(services: Services) -> Iterator[TestClient]:
    """The routes without the Gradio page, asked under the app's own address."""
    with TestClient(make_api(services, "127.0.0.1"), base_url="http://127.0.0.1:7860") as asked:
        yield asked


@dataclass(frozen=True)
class WholeApp:
    """What the mounted app answered, by address and Origin, and the modules that its process had loaded then."""

    answers: dict[tuple[str, str], tuple[int, dict[str, str], str]]
    modules: list[str]


@pytest.fixture(scope="session")
def whole_app(tmp_path_factory: pytest.TempPathFactory) -> WholeApp:
    """The whole app, asked for everything in PAGE_ADDRESSES from every origin and for HIDDEN_ADDRESSES."""
    folder = tmp_path_factory.mktemp("whole")
    for name in ("slides", "checkpoints"):
        (folder / name).mkdir()
    Image.new("RGB", (50, 40), "white").save(folder / "slides" / "secret.png")
    questions = [(address, origin) for address in PAGE_ADDRESSES for origin in ORIGINS]
    questions += [(address, "") for address in (*HIDDEN_ADDRESSES, f"/gradio_api/file={folder}/slides/secret.png")]
    places = [str(folder / name) for name in ("slides", "checkpoints", "results", "openseadragon")]
    command = [sys.executable, "-c", ASK_PAGE, json.dumps([questions, *places])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    answers = {(address, origin): (status, headers, text) for address, origin, status, headers, text in told["answers"]}
    return WholeApp(answers, told["modules"])


@pytest.fixture
def slide_id(client: TestClient) -> str:
    """Id of ``first.png``, 600 × 400, left half red, right half blue; its resolution is not known."""
    listed = client.get("/api/slides").json()["slides"]
    return str(next(slide["id"] for slide in listed if slide["name"] == "first.png"))
