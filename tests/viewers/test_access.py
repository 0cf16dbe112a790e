"""Several users: who gets through the gate, by password or by proxy, under which address, and what is noted of it."""

from __future__ import annotations

import json
import logging
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

import app
from lpd.errors import LpdError
from tests.viewers.test_users import PASSWORD, line
from viewers import access, account_routes
from viewers.access import Access
from viewers.audit import AuditLog
from viewers.gate import COOKIE, Visitor
from viewers.services import Services
from viewers.throttle import Throttle
from viewers.web import make_api

BASE = "http://127.0.0.1:7860"
GUARDED = (
    "/", "/config", "/api/slides", "/api/slides/x", "/api/checkpoints", "/api/jobs", "/api/me", "/slides/x.dzi",
    "/api/setup",
    "/slides/x_files/0/0_0.jpeg", "/slides/x/thumbnail", "/slides/x/picture/label", "/results/x/download/csv",
    "/results/x/mask_files/0/0_0.png", "/results/x/changes", "/app/0/main.js", "/openseadragon/openseadragon.js",
    "/healthz", "/gradio_api/queue/data?session_hash=x", "/gradio_api/info", "/assets/x.js", "/log-in/", "//log-in",
    "/log-in/../api/slides", "/results/x/review",
    "/LOG-IN", "/nothing",
)  # fmt: skip


@contextmanager
def asked(services: Services, allowed: Access, peer: str = "127.0.0.1", **more: Any) -> Iterator[TestClient]:
    api = make_api(services, "127.0.0.1", allowed)
    with TestClient(api, base_url=BASE, client=(peer, 50000), follow_redirects=False, **more) as client:
        yield client


@pytest.fixture
def by_password(tmp_path: Path) -> Access:
    (tmp_path / "users").write_text(line("anna") + line("berta") + line("root"))
    return Access(users=tmp_path / "users", admins=frozenset({"root"}))


def log_in(client: TestClient, name: str = "anna", password: str = PASSWORD, way: str = "/log-in") -> Any:
    return client.post(way, data={"name": name, "password": password}, headers={"Origin": str(client.base_url)})


def noted(services: Services) -> list[dict[str, str]]:
    path = services.jobs.folder / "audit.jsonl"
    return [json.loads(text) for text in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.parametrize("address", GUARDED)
def test_nothing_is_shown_to_people_who_have_not_logged_in(
    services: Services, by_password: Access, address: str
) -> None:
    with asked(services, by_password) as client:
        for method in ("GET", "POST", "PUT", "HEAD"):
            assert client.request(method, address).status_code == 401, method
        with pytest.raises(WebSocketDisconnect), client.websocket_connect(address):
            pass
        shown = client.get(address, headers={"Accept": "text/html"})
        assert shown.status_code == 303
        assert shown.headers["location"].startswith("/log-in?next=")


def test_after_log_in_everything_is_there_and_after_log_out_it_is_not(services: Services, by_password: Access) -> None:
    with asked(services, by_password) as client:
        answer = log_in(client, way="/log-in?next=%2F%3Fslide%3Dx")
        assert (answer.status_code, answer.headers["location"]) == (303, "/?slide=x")
        cookie = answer.headers["set-cookie"].lower()
        assert all(part in cookie for part in ("httponly", "samesite=strict", "path=/", "max-age=43200"))
        me = client.get("/api/me").json()
        assert me == {"user": "anna", "may_log_out": True, "may_cancel_all": False}
        kept = client.cookies[COOKIE]
        assert client.get("/api/slides").status_code == 200
        assert client.post("/log-out").headers["location"] == "/log-in"
        assert client.get("/api/slides").status_code == 401
        assert (
            client.get("/api/slides", headers={"Cookie": f"{COOKIE}={kept}"}).status_code == 401
        )  # whoever copied it, too


def test_forged_cookies_and_other_sites_are_refused(services: Services, by_password: Access) -> None:
    with asked(services, by_password) as client:
        log_in(client)
        good = client.cookies[COOKIE]
        assert client.get("/api/slides", headers={"Origin": "http://evil.example"}).status_code == 403
        assert client.post("/log-in", headers={"Origin": "http://evil.example"}).status_code == 403
        client.cookies.clear()
        for forged in ("x", good[:-1], good.replace(".", ""), "anna"):
            assert client.get("/api/slides", headers={"Cookie": f"{COOKIE}={forged}"}).status_code == 401


@pytest.mark.parametrize("wanted", ["//evil.example", "https://evil.example", "/\\evil.example", "x", "/a%0d%0ab", ""])
def test_log_in_leads_nowhere_else(services: Services, by_password: Access, wanted: str) -> None:
    with asked(services, by_password) as client:
        assert log_in(client, way=f"/log-in?next={wanted}").headers["location"] == "/"


def test_wrong_passwords_are_refused_slowed_and_shown_as_typed_safely(
    services: Services, by_password: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Time stands still: however long a busy machine takes for a password, nobody has waited long enough.
    monkeypatch.setattr(account_routes, "Throttle", partial(Throttle, clock=lambda: 0.0))
    with asked(services, by_password) as client:
        answers = [log_in(client, '<script>"', "wrong").status_code for _ in range(7)]
        assert answers == [401] * 5 + [429] * 2
        page = log_in(client, '<script>"', "wrong")
        assert int(page.headers["retry-after"]) >= 1
        assert "<script" not in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert log_in(client).status_code == 303  # another name is not held up
    with asked(services, by_password) as client:
        seen = [log_in(client, f"name{number}", "wrong").status_code for number in range(22)]
        assert seen == [401] * 20 + [429] * 2  # one address, many names
        assert COOKIE not in client.cookies


@pytest.mark.parametrize(
    ("peer", "headers", "status"),
    [
        ("10.0.0.7", [("X-Remote-User", "anna")], 200),
        ("10.0.0.7", [], 401),
        ("10.0.0.7", [("X-Remote-User", " ")], 401),
        ("10.0.0.7", [("X-Remote-User", "anna"), ("X-Remote-User", "root")], 401),
        ("10.0.0.8", [("X-Remote-User", "anna")], 403),
        ("10.0.0.8", [("X-Remote-User", "anna"), ("X-Forwarded-For", "10.0.0.7")], 403),
        ("127.0.0.1", [("X-Remote-User", "anna")], 403),
    ],
)
def test_the_proxys_word_counts_from_the_proxy_alone(
    services: Services, peer: str, headers: list[tuple[str, str]], status: int
) -> None:
    allowed = Access(proxy_header="x-remote-user", proxies=(access._network("10.0.0.7"),))
    with asked(services, allowed, peer) as client:
        assert client.get("/healthz", headers=headers).status_code == status
        with asked(services, allowed, peer) as other:
            assert other.get("/log-in").status_code != 200


def test_forwarded_headers_count_from_the_proxy_alone(services: Services, tmp_path: Path) -> None:
    (tmp_path / "users").write_text(line("anna"))
    allowed = Access(
        tmp_path / "users", proxies=(access._network("10.0.0.0/30"),), public_hosts=frozenset({"lpd.example"})
    )
    told = {
        "X-Forwarded-For": "6.6.6.6, 9.9.9.9, 10.0.0.2",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "lpd.example",
    }
    form = {"name": "anna", "password": PASSWORD}
    for peer, secure in (("10.0.0.1", True), ("10.0.0.9", False)):
        with asked(services, allowed, peer) as client:
            answer = client.post("/log-in", data=form, headers=told)
            assert answer.status_code == 303
            assert ("secure" in answer.headers["set-cookie"].lower()) is secure
            host = {**told, "X-Forwarded-Host": "evil.example"}
            assert client.get("/log-in", headers=host).status_code == (403 if secure else 200)
    with asked(services, allowed, "10.0.0.9") as client:
        assert client.get("/log-in", headers={"Host": "lpd.example"}).status_code == 200
    entries = [(entry["address"], entry["action"]) for entry in noted_soon(services, 2)]
    assert sorted(entries) == [("10.0.0.9", "log-in"), ("9.9.9.9", "log-in")]


def noted_soon(services: Services, number: int) -> list[dict[str, str]]:
    deadline = time.monotonic() + 10
    while len(noted(services)) < number and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(noted(services)) == number
    return noted(services)


def test_under_a_prefix_with_and_without_it(services: Services, tmp_path: Path) -> None:
    (tmp_path / "users").write_text(line("anna"))
    with asked(services, Access(tmp_path / "users", root_path="/lpd")) as client:
        shown = client.get("/lpd/api/slides?x=1", headers={"Accept": "text/html"})
        assert shown.headers["location"] == "/lpd/log-in?next=%2Fapi%2Fslides%3Fx%3D1"
        answer = log_in(client, way="/lpd/log-in?next=%2Fapi%2Fslides")
        assert answer.headers["location"] == "/lpd/api/slides"
        assert "path=/lpd;" in answer.headers["set-cookie"].lower()
        session = {"Cookie": f"{COOKIE}={answer.cookies[COOKIE]}"}
        assert client.get("/lpd").headers["location"] == "/lpd/"
        for address in ("/lpd/api/slides", "/lpd/openseadragon/openseadragon.js"):
            assert client.get(address).status_code == 200
            bare = client.get(address.removeprefix("/lpd"), headers=session)
            assert bare.status_code == 200  # a proxy may take the prefix away
        assert client.get("/lpdx/api/slides", headers=session).status_code == 404


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--host", "0.0.0.0", "--auth-proxy-header", "X-Remote-User"], "would believe anyone"),
        (["--auth-proxy-header", "X-Remote-User", "--trusted-proxy", "0.0.0.0/0"], "believe everybody"),
        (["--auth-proxy-header", "X-Remote-User", "--trusted-proxy", "proxy"], "no address"),
        (["--auth-proxy-header", "Cookie"], "cannot carry a user"),
        (["--auth-proxy-header", "X User"], "cannot carry a user"),
        (["--auth-proxy-header", "X-User", "--auth", "users"], "exclude each other"),
        (["--admin", "anna"], "without users"),
        (["--root-path", "lpd"], "not a path"),
        (["--root-path", "/a/../b"], "not a path"),
        (["--public-host", "https://a.example/"], "no host name"),
    ],
)
def test_flags_that_cannot_be_meant_are_refused(flags: list[str], says: str) -> None:
    with pytest.raises(LpdError, match=says):
        access.read_access(app.parse(flags))


def test_without_flags_nobody_is_believed_and_nobody_asked() -> None:
    assert access.read_access(app.parse([])) == Access()
    behind = access.read_access(app.parse(["--root-path", "/lpd/"]))
    assert (behind.root_path, behind.believes("127.0.0.1"), behind.believes("10.0.0.1")) == ("/lpd", True, False)


def test_jobs_are_cancelled_by_who_started_them_or_an_admin(
    services: Services, by_password: Access, wait_for: Callable[[Callable[[], object]], None]
) -> None:
    with asked(services, by_password) as client:
        log_in(client)
        slide = next(s["id"] for s in client.get("/api/slides").json()["slides"] if s["name"] == "first.png")
        client.put(f"/api/slides/{slide}/mpp", json={"mpp": 0.5})
        first, second, third = (
            client.post("/api/jobs", json={"slide": slide, "checkpoint": "slow", "anew": True}).json()["id"]
            for _ in range(3)
        )
        assert client.get(f"/api/jobs/{first}").json()["user"] == "anna"
        log_in(client, "berta")
        refused = client.post(f"/api/jobs/{first}/cancel")
        assert (refused.status_code, "anna" in refused.json()["error"]) == (403, True)

        def places() -> list[int | None]:
            jobs = {job["id"]: job["queue_position"] for job in client.get("/api/jobs").json()["jobs"]}
            return [jobs[number] for number in (first, second, third)]

        def states() -> list[str]:
            return [services.jobs.get(number).run.state for number in (first, second, third)]

        wait_for(lambda: states().count("running") == 1)  # whoever of the three was quickest
        wait_for(lambda: sorted(places(), key=str) == [1, 2, None])  # once all have said what "auto" is for them
        assert places()[2] == client.get(f"/api/jobs/{third}").json()["queue_position"]
        assert places()[states().index("running")] is None
        log_in(client, "root")
        for number in (third, second, first):
            assert client.post(f"/api/jobs/{number}/cancel").status_code == 200
    actions = [(entry["user"], entry["action"]) for entry in noted_soon(services, 10)]
    assert actions.count(("anna", "started")) == 3
    assert actions.count(("root", "cancelled")) == 3
    assert ("anna", "set resolution") in actions
    started = next(entry for entry in noted(services) if entry["action"] == "started")
    assert started["slide"] == "first.png"
    assert started["job"] in (first, second, third)


def test_opening_is_noted_once_and_tiles_are_not(services: Services) -> None:
    with asked(services, Access()) as client:
        slide = next(s["id"] for s in client.get("/api/slides").json()["slides"] if s["name"] == "second.png")
        for _ in range(3):
            client.get(f"/slides/{slide}_files/7/0_0.jpeg")
            client.get(f"/api/slides/{slide}")
        client.get("/api/slides/none")
        (entry,) = noted_soon(services, 1)
    assert entry.pop("time")[:2] == "20"
    assert entry == {"user": "local", "address": "127.0.0.1", "action": "opened slide", "slide": "ward/second.png"}


@pytest.mark.skipif(os.name == "nt", reason="rights of POSIX")
def test_the_log_is_its_owners_turns_over_and_stays_one_line_an_entry(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl", largest_bytes=400)
    for number in range(10):
        log.note(Visitor("an\nna\ud800", "::1"), "opened slide", slide=f'"{number}\n')
    log.flush()
    files = sorted(tmp_path.iterdir())
    entries = [json.loads(text) for file in files for text in file.read_text().splitlines()]
    assert len(files) > 2
    assert sorted(entry["slide"] for entry in entries) == [f'"{number}\n' for number in range(10)]
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files)


def test_a_disk_that_takes_nothing_costs_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = AuditLog(tmp_path / "gone" / "audit.jsonl")
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            log.note(Visitor(), "started")
        log.flush()
    assert len(caplog.records) == 1
    (tmp_path / "gone").mkdir()
    log.note(Visitor(), "started")
    log.flush()
    assert len(log.path.read_text().splitlines()) == 1


def test_bodies_over_the_limit_are_refused(services: Services) -> None:
    big = b'{"slide": "' + b"x" * (17 * 2**20) + b'"}'

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(big), 2**20):
            yield big[start : start + 2**20]

    with asked(services, Access()) as client:
        for body, way in ((big, "/api/jobs"), (pieces(), "/api/jobs"), (big[: 2**20 + 1], "/gradio_api/upload")):
            answer = client.post(way, content=body, headers={"Content-Type": "application/json"})
            assert answer.status_code == 413
            assert answer.json()["error"].count(":") == 1
        assert client.post("/api/jobs", headers={"Content-Length": "-1"}).status_code == 413
