"""Label sets over HTTP: begun, ticked, undone, two people at once, proposals, and a tile set made by the command."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from lpd import cli
from lpd.data.check import check_dataset
from viewers import children
from viewers.access import Access
from viewers.services import Services
from viewers.web import make_api

CLASSES = [{"code": "RED", "name": "Red", "color": [255, 0, 0]}, {"code": "BLU", "name": "Blue", "color": [0, 0, 255]}]


@pytest.fixture
def services(services: Services, tmp_path: Path) -> Services:
    return replace(services, data=tmp_path / "data")


@pytest.fixture
def labels(client: TestClient, slide_id: str) -> str:
    """A set with tiles of 64 level-0 pixels on ``first.png``: 9 × 6 of them."""
    assert client.put(f"/api/slides/{slide_id}/mpp", json={"mpp": 0.5}).status_code == 200
    answer = client.post("/api/labels", json={"name": "Two colours", "classes": CLASSES, "mpp": 1, "tile_px": 32})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def status(client: TestClient, labels: str, slide: str, since: int = 0) -> dict[str, Any]:
    return dict(client.get(f"/api/labels/{labels}", params={"slide": slide, "since": since}).json())


def tick(client: TestClient, labels: str, slide: str, cell: list[int], *classes: str, **more: Any) -> Any:
    known = {"slide": slide, "revision": status(client, labels, slide)["revision"], "kind": "set", "cells": [cell]}
    return client.post(f"/api/labels/{labels}/edit", json={**known, "classes": classes, **more})


def test_tiles_are_ticked_changed_and_undone(client: TestClient, labels: str, slide_id: str) -> None:
    begun = status(client, labels, slide_id)
    assert {key: begun["slide"][key] for key in ("step", "side", "columns", "rows")} == {
        **{"step": 64.0, "side": 64},
        **{"columns": 9, "rows": 6},
    }
    first = tick(client, labels, slide_id, [0, 0], "RED").json()
    assert (first["slide"]["tiles"], first["counts"]) == ([[0, 0, [0]]], {"classes": [1, 0], "none": 0, "tiles": 1})
    again = tick(client, labels, slide_id, [0, 0], "BLU", kind="add").json()
    assert again["slide"]["tiles"] == [[0, 0, [0, 1]]]
    tick(client, labels, slide_id, [5, 5])
    assert status(client, labels, slide_id)["counts"] == {"classes": [1, 1], "none": 1, "tiles": 2}
    body = {"slide": slide_id, "revision": status(client, labels, slide_id)["revision"]}
    undone = client.post(f"/api/labels/{labels}/undo", json=body).json()
    assert (undone["undone"], undone["slide"]["tiles"], undone["elsewhere"]) == ([5, 5], [[5, 5, None]], False)
    (listed,) = client.get("/api/labels").json()["sets"]
    assert (listed["name"], listed["tiles"], listed["slides"]) == ("Two colours", 1, 1)


def test_sets_take_classes_and_resolution_of_a_model(client: TestClient) -> None:
    made = client.post("/api/labels", json={"name": "From a model", "checkpoint": "good"}).json()
    assert ([c["code"] for c in made["classes"]], made["mpp"]) == (["TUM", "STR", "LYM", "NEC"], 1.0)
    for wrong, says in (
        ({"name": "a"}, "needs classes"),
        ({"name": " ", "classes": CLASSES, "mpp": 1}, "cannot name a label set"),
        ({"name": "a", "classes": CLASSES}, "needs the µm per pixel"),
        ({"name": "a", "classes": [*CLASSES, CLASSES[0]], "mpp": 1}, "must differ"),
        ({"name": "a", "checkpoint": "torn"}, "no usable model"),
    ):
        answer = client.post("/api/labels", json=wrong)
        assert answer.status_code in (400, 404)
        assert says in answer.json()["error"]


def test_what_is_not_there_or_cannot_be_is_refused(client: TestClient, labels: str, slide_id: str) -> None:
    assert client.get("/api/labels/..", params={"slide": slide_id}).status_code == 404
    assert client.get("/api/labels/20260101-000000-abcdef", params={"slide": slide_id}).status_code == 404
    assert tick(client, labels, slide_id, [9, 0], "RED").json()["error"].startswith("there is no tile in column 9")
    assert tick(client, labels, slide_id, [0, 0], "XXX").status_code == 400
    assert tick(client, labels, slide_id, [0, 0], "RED", proposed="x" * 201).status_code == 400
    client.put(f"/api/slides/{slide_id}/mpp", json={"mpp": None})
    assert "enter the size of one pixel" in status(client, labels, slide_id)["error"]


def test_ticks_meant_for_a_file_that_was_replaced_are_refused(client: TestClient, labels: str, slide_id: str) -> None:
    answer = tick(client, labels, slide_id, [0, 0], "RED", fingerprint="of the earlier file")
    assert answer.status_code == 409
    assert "has been replaced meanwhile" in answer.json()["error"]
    now = client.get(f"/api/slides/{slide_id}").json()["fingerprint"]
    assert status(client, labels, slide_id)["slide"]["tiles"] == []
    assert tick(client, labels, slide_id, [0, 0], "RED", fingerprint=now).status_code == 200


def test_two_people_do_not_overwrite_one_another(
    services: Services, client: TestClient, labels: str, slide_id: str
) -> None:
    access = Access(proxy_header="x-user", proxies=(ipaddress.ip_network("127.0.0.1"),))
    with TestClient(
        make_api(services, "127.0.0.1", access), base_url="http://127.0.0.1:7860", client=("127.0.0.1", 50000)
    ) as asked:
        body = {"slide": slide_id, "revision": 0, "kind": "set", "cells": [[0, 0]], "classes": ["RED"]}
        first = asked.post(f"/api/labels/{labels}/edit", json=body, headers={"X-User": "ada"})
        assert first.json()["me"] == "ada"
        second = asked.post(f"/api/labels/{labels}/edit", json=body, headers={"X-User": "ben"})
        assert second.status_code == 409
        assert "ada has labelled this tile meanwhile" in second.json()["error"]
        other = asked.post(f"/api/labels/{labels}/edit", json=body | {"cells": [[1, 0]]}, headers={"X-User": "ben"})
        assert [tile[:2] for tile in other.json()["slide"]["tiles"]] == [[0, 0], [1, 0]]
        seen = {"slide": slide_id, "revision": 9}
        gone = asked.post(f"/api/labels/{labels}/undo", json=seen, headers={"X-User": "cy"})
        assert "there is nothing of cy to undo" in gone.json()["error"]


def test_regions_and_proposals_leave_glass_alone(client: TestClient, labels: str, slide_id: str) -> None:
    square = [[[[0, 0], [200, 0], [200, 100], [0, 100], [0, 0]]]]
    found = client.post(f"/api/labels/{labels}/inside", json={"slide": slide_id, "polygons": square}).json()
    assert found == {"cells": [[0, 0], [1, 0], [2, 0], [0, 1], [1, 1], [2, 1]], "glass": 0}  # middles at 32, 96, 160
    answer = client.post(f"/api/labels/{labels}/proposals", json={"slide": slide_id, "count": 4}).json()
    cells = [tuple(one["cell"]) for one in answer["proposals"]]
    assert len(set(cells)) == 4
    assert answer["candidates"] == 54
    tick(client, labels, slide_id, list(cells[0]), "RED")
    skipped = {"slide": slide_id, "count": 50, "skipped": [cells[1]]}
    later = client.post(f"/api/labels/{labels}/proposals", json=skipped).json()["proposals"]
    assert not {cells[0], cells[1]} & {tuple(one["cell"]) for one in later}
    job = {"slide": slide_id, "job": "20260101-000000-abcdef"}
    assert client.post(f"/api/labels/{labels}/proposals", json=job).status_code == 404


def test_a_tile_set_is_made_by_the_command(
    client: TestClient, services: Services, labels: str, slide_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Done:
        def __init__(self, argv: tuple[str, ...], _folder: Path, _log: Path) -> None:
            self.code = cli.main(argv[len(services.jobs.command) :])

        def wait(self) -> int:
            return self.code

    monkeypatch.setattr(children, "start_process", Done)
    plan = client.get(f"/api/labels/{labels}/plan").json()
    assert plan["problem"].startswith("no tile is labelled yet")
    for column in range(4):
        tick(client, labels, slide_id, [column, 0], "RED")
    tick(client, labels, slide_id, [4, 1], "RED", "BLU")
    tick(client, labels, slide_id, [7, 2], "BLU")
    plan = client.get(f"/api/labels/{labels}/plan").json()
    assert (plan["train"], plan["valid"], plan["problem"]) == (6, 0, "")
    for wrong in ("../out", ".hidden", "", "a/b", "end."):
        assert client.post(f"/api/labels/{labels}/exports", json={"name": wrong}).status_code == 400
    answer = client.post(f"/api/labels/{labels}/exports", json={"name": "colours 1", "licence": "--force"})
    assert answer.status_code == 202, answer.text
    told = client.get(f"/api/labels/{labels}/exports/{answer.json()['id']}").json()
    assert (told["state"], told["ended"], told["name"]) == ("done", True, "colours 1")
    assert str(services.data.parent) not in json.dumps(told)
    check = check_dataset(services.data / "colours 1")
    assert check.errors == ()
    assert check.splits[0].tiles == 6
    taken = client.post(f"/api/labels/{labels}/exports", json={"name": "colours 1"})
    assert "is there already" in taken.json()["error"]
    (noted,) = [json.loads(line) for line in _audit(client, services) if "label set" in line]
    assert (noted["action"], noted["detail"], noted["user"]) == ("exported label set", "Two colours", "local")


def _audit(client: TestClient, services: Services) -> list[str]:
    path = services.jobs.folder / "audit.jsonl"
    for _ in range(100):
        if path.exists() and "label set" in path.read_text():
            break
        client.get("/healthz")
    return path.read_text().splitlines()
