"""Who gets an answer: the app's own addresses and pages, nobody else's, with Gradio mounted or without."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest
from fastapi.testclient import TestClient

from viewers.services import Services
from viewers.web import make_api


def ask(services: Services, bind_host: str, host: str, **headers: str) -> int:
    with TestClient(make_api(services, bind_host)) as client:
        return client.get("/healthz", headers={"Host": host, **headers}).status_code


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "localhost:7860", "LOCALHOST", "[::1]:7860"])
def test_loopback_names_are_answered(services: Services, host: str) -> None:
    assert ask(services, "127.0.0.1", host) == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:7860",
        "127.0.0.1.evil.example",
        "192.168.1.5",
        "",
        "[::1",
        "localhost@evil.example:x",
    ],
)
def test_foreign_names_are_refused(services: Services, host: str) -> None:
    assert ask(services, "127.0.0.1", host) == 403


def test_hosts_follow_the_bound_address(services: Services) -> None:
    assert ask(services, "192.168.1.5", "192.168.1.5:80") == 200
    assert ask(services, "192.168.1.5", "192.168.1.6:80") == 403
    for everywhere in ("0.0.0.0", "::"):
        assert ask(services, everywhere, "192.168.1.6:80") == 200
        assert ask(services, everywhere, f"{socket.gethostname()}:80") == 200
        assert ask(services, everywhere, "evil.example") == 403  # rebinding needs a name


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "http://127.0.0.1:9999", "null", "https://127.0.0.1.evil.example"]
)
def test_other_sites_are_refused(services: Services, origin: str) -> None:
    assert ask(services, "127.0.0.1", "127.0.0.1:7860", Origin=origin) == 403
    assert ask(services, "127.0.0.1", "127.0.0.1:7860", Origin="http://127.0.0.1:7860") == 200


def test_gradio_gives_no_other_site_leave_either(whole_app: Any) -> None:
    origins = {origin for _, origin in whole_app.answers}
    assert origins == {"", "http://127.0.0.1:7860", "http://evil.example"}
    for (address, origin), (status, headers, _) in whole_app.answers.items():
        assert "access-control-allow-origin" not in headers, address
        if origin == "http://evil.example":
            assert status == 403, address
        elif origin:
            assert status == 200, address


def test_gradio_page_asks_nothing_outside_and_reports_nothing(whole_app: Any) -> None:
    page = whole_app.answers["/", ""][2]
    assert "googleapis" not in page
    assert json.loads(whole_app.answers["/config", ""][2])["analytics_enabled"] is False


def test_no_documentation_and_no_file_of_this_machine_is_offered(whole_app: Any) -> None:
    documents = ("/docs", "/redoc", "/openapi.json")
    hidden = {a: s for (a, _), (s, _, _) in whole_app.answers.items() if "file=" in a or a in documents}
    assert len(hidden) == 5
    assert set(hidden.values()) <= {403, 404}, hidden
