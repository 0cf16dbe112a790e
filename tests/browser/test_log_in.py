"""A person's way in and out: the log-in page, the page behind it, tiles, the way out; also under a proxy's prefix."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import app as program
from viewers import openseadragon

from .started import ROOT, end_jobs, free_port, start_app

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

PASSWORD = "correct horse"
NGINX = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log; worker_processes 1;
events {{}}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port};
    location /lpd/ {{
      proxy_pass http://127.0.0.1:{behind}{strip};
      proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_buffering off;
    }}
  }}
}}
"""


class Served:
    """The app with users, alone or behind nginx, which shows it under ``/lpd``."""

    def __init__(self, folder: Path, slides: Path, *flags: str) -> None:
        self.folder, self.port = folder, free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        (folder / "checkpoints").mkdir()
        shutil.copy(next((ROOT / "checkpoints").glob("phantom-learnable*.safetensors")), folder / "checkpoints")
        places = ("--slides", slides, "--results", folder / "results", "--checkpoints", folder / "checkpoints")
        flags_of_all = ["--auth", folder / "users", "--port", self.port, "--no-browser"]
        self.log = folder / "app.log"
        self.app = start_app([*places, *flags_of_all, *flags], self.log)
        self.proxy: subprocess.Popen[bytes] | None = None
        self.wait()

    def behind_nginx(self, strip: str) -> None:
        nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
        if not nginx:
            pytest.skip("no nginx on this machine")
        port = free_port()
        text = NGINX.format(folder=self.folder, port=port, behind=self.port, strip=strip)
        (self.folder / "nginx.conf").write_text(text)
        command = [nginx, "-p", self.folder, "-c", self.folder / "nginx.conf", "-e", self.folder / "e.log"]
        self.proxy = subprocess.Popen(command)
        self.url = f"http://127.0.0.1:{port}/lpd/"
        self.wait()

    def wait(self) -> None:
        deadline = time.monotonic() + 60
        while status(self.url + "healthz") != 401:
            assert self.app.is_alive(), self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)

    def end(self) -> None:
        if self.proxy:
            self.proxy.terminate()
            self.proxy.wait(20)
        self.app.terminate()
        self.app.join(20)


def status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    except OSError:
        return 0


@pytest.fixture(params=["alone", "prefix kept", "prefix taken away"])
def served(
    request: pytest.FixtureRequest, tmp_path: Path, phantom_slides: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Served]:
    openseadragon.ensure()
    monkeypatch.setattr(getpass, "getpass", lambda _prompt: PASSWORD)
    assert program.main(["--auth", str(tmp_path / "users"), "--add-user", "anna"]) == 0
    served = Served(tmp_path, phantom_slides, *([] if request.param == "alone" else ["--root-path", "/lpd"]))
    try:
        if request.param != "alone":
            served.behind_nginx("/" if "taken" in request.param else "")
        yield served
    finally:
        end_jobs(served.folder / "results")
        served.end()


@pytest.fixture
def visitor(served: Served, browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1366, "height": 768}, accept_downloads=True)
    page = context.new_page()
    outside: list[str] = []
    page.on("request", lambda r: None if r.url.startswith((served.url, "data:", "blob:")) else outside.append(r.url))
    page.set_default_timeout(60_000)
    yield page
    context.close()
    assert outside == []


def look(page: Page, name: str) -> None:
    if folder := os.environ.get("LPD_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png")


def test_in_through_the_page_to_a_result_and_out(visitor: Page, served: Served, request: Any) -> None:
    page, way = visitor, request.node.callspec.id.replace(" ", "-")
    for path in (
        "",
        "config",
        "gradio_api/info",
        "gradio_api/queue/data?session_hash=x",
        "openseadragon/openseadragon.js",
    ):
        assert status(served.url + path) == 401, path
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(served.url)
    page.get_by_label("Name").fill("anna")
    page.get_by_label("Password").fill("not this one")
    page.get_by_role("button", name="Log in").click()
    assert "do not belong together" in page.get_by_role("alert").inner_text()
    look(page, f"log-in-wrong-{way}")
    page.emulate_media(color_scheme="dark")
    look(page, f"log-in-dark-{way}")
    page.emulate_media(color_scheme="light")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_function("window.__lpd?.slideOpen")
    page.locator(".lpd-card", has_text="small-phantom.tif").click()
    page.wait_for_function("window.__lpd.slideOpen && window.__lpd.state.slide === 'small-phantom.tif'")
    page.get_by_role("button", name="Segment slide").click()
    page.wait_for_function("window.__lpd.state.job?.ended", timeout=120_000)
    page.wait_for_function("window.__lpd.state.maskLoading === 0 && window.__lpd.state.maskDrawn > 0")
    look(page, f"logged-in-{way}")
    with page.expect_download() as download:
        page.locator("[data-kind=geojson]").click()
    assert json.loads(download.value.path().read_text())["features"]
    page.wait_for_function(
        "[...document.querySelectorAll('.lpd-card img')].every((one) => one.complete && one.naturalWidth > 0)"
    )
    assert page.evaluate("window.__lpd.errors") == []
    page.get_by_role("button", name="Log out").click()
    page.get_by_label("Name").wait_for()
    assert "/log-in" in page.url
    page.goto(served.url + "api/slides")
    assert "/log-in?next=" in page.url
    assert wrong == []
    lines = (served.folder / "results" / "audit.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    actions = [entry["action"] for entry in entries]
    assert {"failed log-in", "log-in", "opened slide", "started", "downloaded", "log-out"} <= set(actions)
    assert {entry["user"] for entry in entries} == {"anna"}
    assert {entry["address"] for entry in entries} == {"127.0.0.1"}
