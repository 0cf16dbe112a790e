"""Slides that come in by the page: names, full disks, people who go away, the sample; never a half one."""

from __future__ import annotations

import errno
import functools
import hashlib
import http.server
import io
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from lpd.errors import LpdError
from viewers.access import Access
from viewers.arriving import arriving, clear_stale, safe_name
from viewers.gate import Visitor
from viewers.options import CMU_1, Options, Sample
from viewers.services import Services
from viewers.web import make_api


def png(size: tuple[int, int] = (60, 40)) -> bytes:
    with io.BytesIO() as file:
        Image.new("RGB", size, "pink").save(file, "png")
        return file.getvalue()


def asked(services: Services, **options: Any) -> TestClient:
    chosen = replace(services, options=Options(**options))
    return TestClient(make_api(chosen, "127.0.0.1"), base_url="http://127.0.0.1:7860")


@pytest.fixture
def allowed(services: Services) -> Iterator[TestClient]:
    with asked(services, max_upload=200_000) as client:
        yield client


def listing(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*")}


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("a.svs", "a.svs"),
        ("Müller & Co (2).SVS", "Müller & Co (2).SVS"),
        ("../../etc/a.png", "a.png"),
        ("C:\\slides\\a.png", "a.png"),
        ("<script>.png", "_script_.png"),
        ("two\nlines\x00.png", "two_lines_.png"),
        ("%2e%2e%2fa.png", "_2e_2e_2fa.png"),
        ("...hidden.png", "hidden.png"),
        ("NUL.tif", "_NUL.tif"),
        ("com1.b.tif", "_com1.b.tif"),
        ("console.tif", "console.tif"),
        ("Falcon.tif", "Falcon.tif"),
        ("beacon.svs", "beacon.svs"),
        ("a .png. ", "a.png"),
        ("\u202egnp.exe.png", "_gnp.exe.png"),
        ("x" * 400 + ".tif", "x" * 150 + ".tif"),
        ("é" * 200 + ".tif", "é" * 75 + ".tif"),
        ("e\u0301.png", "é.png"),
        ("\udcff.png", "_.png"),
    ],
)
def test_names_become_names_of_files_everywhere(told: str, kept: str) -> None:
    assert safe_name(told) == kept


@pytest.mark.parametrize("told", ["", ".png", "..", "notes.txt", "a.exe", "a", "a.png/", "....png"])
def test_names_that_are_no_slides_are_refused(told: str) -> None:
    with pytest.raises(LpdError, match=r"no slide by its ending: it must be one of .*svs"):
        safe_name(told)


@pytest.mark.parametrize("told", ["a.mrxs", "a.VMS", "a.dcm"])
def test_slides_of_several_files_are_to_be_copied(told: str) -> None:
    with pytest.raises(LpdError, match="copy all of them, with their folder"):
        safe_name(told)


@pytest.mark.parametrize("told", ["case.mask.png", "a.MASK.tif", "b.mask.tiff"])
def test_nobody_brings_a_ground_truth_for_all(told: str) -> None:
    with pytest.raises(LpdError, match="is the ground truth of another slide by its name: give it a name of its own"):
        safe_name(told)


def test_nobody_may_upload_unless_it_was_allowed(client: TestClient, slides: Path) -> None:
    before = listing(slides)
    answer = client.post("/api/uploads?name=a.png", content=png())
    assert (answer.status_code, "copy them into the slides folder" in answer.json()["error"]) == (403, True)
    assert client.get("/api/setup").json()["max_upload"] == 0
    assert listing(slides) == before


def test_an_uploaded_slide_is_in_the_list_and_in_the_log(allowed: TestClient, slides: Path, services: Services) -> None:
    answer = allowed.post("/api/uploads", params={"name": "<new>.png"}, content=png((61, 43)))
    assert (answer.status_code, answer.json()["name"]) == (201, "_new_.png")
    assert (slides / "_new_.png").read_bytes() == png((61, 43))
    slide = allowed.get(answer.headers["location"]).json()
    assert (slide["id"], slide["width"], slide["height"]) == (answer.json()["id"], 61, 43)
    log = services.jobs.folder / "audit.jsonl"
    for _ in range(100):
        if log.is_file() and "uploaded" in log.read_text():
            break
        threading.Event().wait(0.05)
    assert '"action": "uploaded", "slide": "_new_.png"' in log.read_text()


@pytest.mark.parametrize(
    ("name", "content", "status", "said"),
    [
        ("first.png", png(), 409, "is in the slides folder already"),
        ("a.png", b"", 400, "is empty"),
        ("a.png", b"no picture", 400, "nothing was kept"),
        ("a.svs", b"no slide", 400, "a.svs is neither a slide"),
        ("a.png", bytes(200_001), 413, "brings more than 195 kB"),
        ("a.txt", png(), 400, "no slide by its ending"),
    ],
)
def test_what_cannot_be_taken_leaves_nothing(
    allowed: TestClient, slides: Path, name: str, content: bytes, status: int, said: str
) -> None:
    before = {path: path.read_bytes() for path in slides.rglob("*") if path.is_file()}
    for body in (content, iter([content[:5], content[5:]])):  # with its size told beforehand, and without
        answer = allowed.post("/api/uploads", params={"name": name}, content=body)
        assert (answer.status_code, said in answer.json()["error"]) == (status, True), answer.text
    assert {path: path.read_bytes() for path in slides.rglob("*") if path.is_file()} == before


def test_only_this_route_may_be_brought_much(services: Services) -> None:
    with asked(services, max_upload=10**12) as client:
        for path in ("/api/uploadsX", "/api/jobs", "/api/sample"):
            assert client.post(path, content=bytes(17 * 2**20)).status_code == 413, path


def test_a_full_disk_is_said_in_one_sentence(
    allowed: TestClient, slides: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = listing(slides)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("viewers.arriving.Arrival.write", full)
        answer = allowed.post("/api/uploads?name=a.png", content=png())
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("the disk of the slides folder became full before a.png was there: free")
    with pytest.raises(LpdError, match="free some space, then try again"), arriving(slides, "a.png", 10**18):
        pytest.fail("it began")
    assert listing(slides) == before


def test_whoever_goes_away_in_the_middle_leaves_nothing(services: Services, slides: Path) -> None:
    import anyio

    before, app = listing(slides), make_api(replace(services, options=Options(max_upload=10**6)), "127.0.0.1")
    scope = {
        "type": "http", "method": "POST", "path": "/api/uploads", "query_string": b"name=a.png", "scheme": "http",
        "headers": [(b"host", b"127.0.0.1")], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
        "http_version": "1.1", "root_path": "", "raw_path": b"/api/uploads",
    }  # fmt: skip
    messages: Iterator[dict[str, Any]] = iter(
        [{"type": "http.request", "body": png(), "more_body": True}, {"type": "http.disconnect"}]
    )

    async def receive() -> dict[str, Any]:
        return next(messages)

    async def send(_message: Any) -> None:
        return None

    anyio.run(app, scope, receive, send)
    assert listing(slides) == before


def test_two_of_one_name_do_not_overwrite_each_other(slides: Path) -> None:
    with arriving(slides, "a.png", 0) as one, arriving(slides, "a.png", 0) as other:
        one.write(png((20, 20)))
        other.write(png((30, 30)))
        one.settle()
        with pytest.raises(LpdError, match="already"):
            other.settle()
    assert (slides / "a.png").read_bytes() == png((20, 20))
    assert not list(slides.glob(".*"))


def test_leftovers_of_a_power_cut_are_cleared_a_day_later(slides: Path) -> None:
    old, new = slides / ".arriving-0.png", slides / ".arriving-1.png"
    for path in (old, new):
        path.touch()
    os.utime(old, (1e9, 1e9))
    clear_stale(slides)
    assert (old.exists(), new.exists()) == (False, True)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def public(tmp_path: Path) -> Iterator[str]:
    """A server of this machine in place of the public one."""
    folder = tmp_path / "public"
    folder.mkdir()
    (folder / "sample.png").write_bytes(png())
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def sample(url: str, content: bytes = png()) -> Sample:
    return Sample(url, "sample.png", len(content), hashlib.sha256(content).hexdigest())


def test_the_sample_is_fetched_once_and_checked(services: Services, public: str, slides: Path) -> None:
    with asked(services, sample=sample(f"{public}/sample.png")) as client:
        assert client.get("/api/setup").json()["sample"] == {
            "name": "sample.png",
            "size": len(png()),
            "host": "127.0.0.1",
        }
        answer = client.post("/api/sample")
        assert (answer.status_code, (slides / "sample.png").read_bytes()) == (201, png())
        assert client.get(answer.headers["location"]).json()["name"] == "sample.png"
        assert client.post("/api/sample").status_code == 409


@pytest.mark.parametrize(
    ("path", "content", "said"),
    [
        ("sample.png", png((61, 40)), "sent something else than the sample slide"),
        ("sample.png", png() + b"more", "sent something else"),
        ("sample.png", png()[:-1], "sent something else"),
        ("gone.png", png(), "it answers 404"),
    ],
)
def test_another_sample_is_thrown_away(
    services: Services, public: str, slides: Path, path: str, content: bytes, said: str
) -> None:
    before = listing(slides)
    with asked(services, sample=sample(f"{public}/{path}", content)) as client:
        answer = client.post("/api/sample")
    assert (answer.status_code, said in answer.json()["error"]) == (400, True), answer.text
    assert listing(slides) == before


def test_offline_says_what_to_do_instead(services: Services, slides: Path) -> None:
    before = listing(slides)
    with asked(services, sample=sample("http://127.0.0.1:9/sample.png")) as client:
        error = client.post("/api/sample").json()["error"]
    assert error.startswith("the sample slide cannot be fetched from 127.0.0.1 (Connection refused): copy sample.png")
    assert str(slides) in error
    assert listing(slides) == before


def test_the_sample_is_for_admins_where_people_have_names(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("viewers.sample.urllib.request.urlopen", lambda *_, **__: pytest.fail("it went outside"))
    access = Access(proxy_header="x-remote-user", proxies=(), admins=frozenset({"chief"}))
    monkeypatch.setattr(Access, "believes", lambda *_: True)
    with TestClient(make_api(services, "127.0.0.1", access), base_url="http://127.0.0.1:7860") as client:
        anna, chief = {"X-Remote-User": "anna"}, {"X-Remote-User": "chief"}
        assert client.post("/api/sample", headers=anna).status_code == 403
        assert client.get("/api/setup", headers=anna).json()["sample"] is None
        assert client.get("/api/setup", headers=chief).json()["sample"]["size"] == CMU_1.size
        for path in ("/api/sample", "/api/uploads?name=a.png"):
            assert client.post(path, content=png()).status_code == 401
    assert Visitor().may_cancel_all


def test_the_pinned_sample_is_the_real_one(real_data: Path) -> None:
    content = (real_data / "slides" / CMU_1.name).read_bytes()
    assert (len(content), hashlib.sha256(content).hexdigest()) == (CMU_1.size, CMU_1.sha256)
