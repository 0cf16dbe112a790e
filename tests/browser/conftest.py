"""A real app in a process of its own, a real browser, and two phantom slides to look at."""

from __future__ import annotations

import io
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from lpd.data.phantom import write_phantom_slide
from lpd.errors import LpdError
from viewers import openseadragon

from .started import ROOT, end_jobs, free_port, start_app

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerProcess

    from playwright.sync_api import Browser, Page

_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]


@dataclass
class App:
    """The app as people start it, on folders of its own; it can be stopped and started again."""

    slides: Path
    results: Path
    checkpoints: Path
    port: int
    log: Path
    _process: ForkServerProcess | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        flags = ["--slides", self.slides, "--results", self.results, "--checkpoints", self.checkpoints]
        own = self.results.parent
        flags += ["--runs", own / "runs", "--data", own / "data", "--weights", own / "weights"]
        flags += ["--port", self.port, "--no-browser"]
        self._process = start_app(flags, self.log, threads=1)  # or a big machine is done before a test has looked
        deadline = time.monotonic() + 180  # of which a machine with other work may need most
        while not self._answers():
            assert self._process.is_alive(), self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)

    def kill(self) -> None:
        """End the app as a power cut would; what it started goes on."""
        if self._process:
            self._process.kill()
            self._process.join()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/healthz", timeout=2):
                return True
        except (OSError, urllib.error.URLError):
            return False


def _missing(what: str) -> NoReturn:
    """Skip, or fail where the browser tests must run (``LPD_REQUIRE_BROWSER``)."""
    if os.environ.get("LPD_REQUIRE_BROWSER"):
        pytest.fail(what)
    pytest.skip(what)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not executable:
        _missing("no Chromium on this machine")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=_FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def phantom_slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``small-phantom.tif`` is segmented in seconds, ``large-phantom.tif`` takes long enough to be interrupted."""
    folder = tmp_path_factory.mktemp("phantoms")
    write_phantom_slide(folder / "small-phantom.tif", 1024, 768, 3)
    write_phantom_slide(folder / "large-phantom.tif", 3584, 2560, 5)
    Image.fromarray(np.full((300, 400, 3), (200, 120, 170), np.uint8)).save(folder / "plain.png")
    return folder


@pytest.fixture
def app(tmp_path: Path, phantom_slides: Path, browser: Browser) -> Iterator[App]:
    """A running app with the shipped phantom model."""
    models = sorted((ROOT / "checkpoints").glob("phantom-learnable*.safetensors"))
    assert models, "the phantom checkpoint that checkpoints/ ships is gone"
    try:
        openseadragon.ensure()
    except LpdError as error:
        _missing(str(error))
    (tmp_path / "checkpoints").mkdir()
    shutil.copy(models[0], tmp_path / "checkpoints")
    app = App(phantom_slides, tmp_path / "results", tmp_path / "checkpoints", free_port(), tmp_path / "app.log")
    app.start()
    yield app
    end_jobs(app.results)
    app.kill()


@pytest.fixture
def page(app: App, browser: Browser) -> Iterator[Page]:
    """A fresh browser profile; at the end, nothing may have gone outside or gone wrong."""
    context = browser.new_context(viewport={"width": 1366, "height": 768}, accept_downloads=True)
    context.add_init_script("localStorage.setItem('lpd.guided', 'true')")  # who tests has been here before
    page = context.new_page()
    outside: list[str] = []
    wrong: list[str] = []
    page.on("request", lambda r: None if r.url.startswith((app.url, "data:", "blob:")) else outside.append(r.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.set_default_timeout(60_000)
    yield page
    errors = page.evaluate("window.__lpd?.errors ?? []")
    context.close()
    assert outside == []
    assert wrong == []
    assert errors == []


@pytest.fixture
def look(page: Page) -> Callable[..., npt.NDArray[np.int64]]:
    """Takes a picture of the slide's area, (h, w, 3); kept in ``LPD_SCREENSHOTS`` as a whole page if that is set."""

    def take(name: str, area: str = ".lpd-osd") -> npt.NDArray[np.int64]:
        if folder := os.environ.get("LPD_SCREENSHOTS"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            page.screenshot(path=Path(folder) / f"{name}.png")
        data = page.locator(area).first.screenshot()
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(np.int64)

    return take


@pytest.fixture
def state(page: Page) -> Callable[[], dict[str, Any]]:
    """What the page says of itself."""
    return lambda: dict(page.evaluate("window.__lpd.state"))
