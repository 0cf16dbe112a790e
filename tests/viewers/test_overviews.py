"""A slide without smaller levels: its overview is made once, told of meanwhile, found again, kept in bounds."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from lpd.errors import SlideError
from lpd.slide.opening import open_slide
from tests.slide.conftest import write_pyramid
from tests.slide.jpeg_slide import texture
from viewers.errors import PreparingError
from viewers.jobs import Jobs
from viewers.overviews import Overviews
from viewers.services import Services, make_services
from viewers.web import make_api

Wait = Callable[[Callable[[], object]], None]


@pytest.fixture
def flat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("lpd.slide.slide._OVERVIEW_PX", 100_000)
    (tmp_path / "flat").mkdir()
    return write_pyramid(tmp_path / "flat" / "flat.tif", [texture(1200, 900)])


def test_the_page_hears_how_far_it_is_and_a_restart_finds_it(
    wait_for: Wait, flat: Path, services: Services, tmp_path: Path
) -> None:
    def restarted() -> Services:
        return make_services(flat.parent, services.checkpoints.folder, tmp_path / "r", services.openseadragon)

    first = restarted()
    with TestClient(make_api(first, "127.0.0.1"), base_url="http://127.0.0.1:7860") as client:
        slide = client.get("/api/slides").json()["slides"][0]
        assert (slide["status"], slide["width"]) == ("ok", 1200)
        answer = client.get(f"/api/slides/{slide['id']}")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["error"].startswith("flat.tif has no smaller levels, so an overview of it is being made")
        assert 0 <= answer.json()["done"] < 1
        wait_for(lambda: client.get(f"/api/slides/{slide['id']}").status_code == 200)
        assert client.get(f"/slides/{slide['id']}_files/7/0_0.jpeg").status_code == 200
        assert client.get(f"/slides/{slide['id']}/thumbnail").status_code == 200
    first.catalogue.close()
    second = restarted()
    with TestClient(make_api(second, "127.0.0.1"), base_url="http://127.0.0.1:7860") as client:
        assert client.get(f"/api/slides/{slide['id']}").status_code == 200
    second.catalogue.close()
    assert Jobs(tmp_path / "r").all() == []


def test_the_oldest_go_first_and_what_fails_is_said_once_each_time(
    wait_for: Wait, flat: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "overviews"
    folder.mkdir()
    for age, name in enumerate(("young", "old")):
        (folder / f"{name}.rgb").write_bytes(bytes(60_000))
        os.utime(folder / f"{name}.rgb", (1e9 - age, 1e9 - age))
    overviews = Overviews(folder, limit=120_000)  # the new one has 150 × 113 × 3 bytes

    def ready() -> bool:
        with open_slide(flat) as slide:
            try:
                overviews.require(slide)
            except PreparingError:
                return False
            return not slide.needs_overview

    with monkeypatch.context() as broken:
        broken.setattr("viewers.overviews.open_slide", lambda path: (_ for _ in ()).throw(OSError(28, "No space left")))
        with pytest.raises(SlideError, match=r"flat\.tif cannot be kept in .* \(No space left\): free some space"):
            wait_for(ready)
    wait_for(ready)
    with open_slide(flat) as slide:
        assert {path.stem for path in folder.iterdir()} == {"young", slide.fingerprint}
