"""What is asked for twice is computed once: results are shown again, begun ones gone on with, if they fit."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from lpd.model.header import file_digest
from viewers.services import Services

from .test_result_routes import finish, ready, start

__all__ = ["ready"]

Wait = Callable[[Callable[[], object]], None]


def ask(client: TestClient, slide: str, checkpoint: str = "good", **more: Any) -> tuple[int, dict[str, Any]]:
    answer = client.post("/api/jobs", json={"slide": slide, "checkpoint": checkpoint, **more})
    return answer.status_code, dict(answer.json())


def test_a_finished_result_is_shown_instead_of_computed_again(wait_for: Wait, client: TestClient, ready: str) -> None:
    ring = [[10.5, 10], [200, 20], [150, 180.25], [10.5, 10]]
    wishes: list[dict[str, Any]] = [{}, {"region": [0, 0, 200, 100]}, {"polygons": [[ring]]}]
    ids = []
    for wish in wishes:
        status, job = ask(client, ready, **wish)
        assert (status, job["found"]) == (201, "new")
        ids.append(finish(wait_for, client, job["id"])["id"])
    for wish, first in zip(wishes, ids, strict=True):
        status, job = ask(client, ready, **wish)
        assert (status, job["found"], job["id"], job["state"], job["has_mask"]) == (200, "there", first, "done", True)
    others = [{"device": "cpu"}, {"region": [0, 0, 200, 101]}, {"polygons": [[[[11, 10], *ring[1:3], [11, 10]]]]}]
    for wish in [*others, {"anew": True}]:
        assert ask(client, ready, **wish)[1]["found"] == "new"
    assert len(client.get("/api/jobs").json()["jobs"]) == 7


@pytest.mark.parametrize("changed", ["slide", "checkpoint_digest", "made_by"])
def test_a_result_of_what_is_no_longer_so_is_not_shown(
    wait_for: Wait, client: TestClient, ready: str, services: Services, slides: Path, changed: str
) -> None:
    first = finish(wait_for, client, start(client, ready)["id"])
    job = services.jobs.get(first["id"])
    if changed == "slide":
        Image.fromarray(np.full((400, 600, 3), 99, np.uint8)).save(slides / "first.png")
        client.get("/api/slides")
        client.put(f"/api/slides/{ready}/mpp", json={"mpp": 0.5})
    else:
        path = job.run_folder / "result.zarr" / ".zattrs"
        document = json.loads(path.read_text())
        assert changed in document["lpd"]
        document["lpd"][changed] = "another"
        path.write_text(json.dumps(document))
    status, again = ask(client, ready)
    assert (status, again["found"]) == (201, "new")
    assert again["id"] != first["id"]


def test_what_is_at_work_is_shown(wait_for: Wait, client: TestClient, ready: str) -> None:
    first = start(client, ready, "slow")
    status, job = ask(client, ready, "slow")
    assert (status, job["found"], job["id"], job["ended"]) == (200, "there", first["id"], False)
    client.post(f"/api/jobs/{first['id']}/cancel")
    assert ask(client, ready, "slow")[1]["id"] != first["id"]  # what somebody stops is nothing to wait for


def test_what_is_at_work_on_another_file_is_not_what_is_asked_for(
    client: TestClient, ready: str, checkpoints: Path
) -> None:
    """Of a job that has no result yet its record says which slide and model it was asked for."""
    start(client, ready, "slow")
    waiting = start(client, ready, "good")["id"]
    assert ask(client, ready, "good")[1]["id"] == waiting
    for name in ("slow", "good"):  # another model under the same name
        model = checkpoints / f"{name}.safetensors"
        model.write_bytes(model.read_bytes()[:-1] + b"\1")
        assert ask(client, ready, name)[1]["found"] == "new"


def test_a_model_is_read_once_for_all_that_was_asked_before(
    wait_for: Wait, client: TestClient, ready: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    monkeypatch.setattr("viewers.checkpoints.file_digest", lambda path: read.append(path) or file_digest(path))
    finish(wait_for, client, start(client, ready)["id"])
    finish(wait_for, client, ask(client, ready, anew=True)[1]["id"])
    assert ask(client, ready)[1]["found"] == "there"
    assert len(read) == 1


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("end", ["crashed", "cancelled"])
def test_what_had_not_come_to_its_end_goes_on(
    wait_for: Wait, client: TestClient, ready: str, services: Services, end: str
) -> None:
    first = start(client, ready, "slow")["id"]
    wait_for(lambda: client.get(f"/results/{first}/changes").json()["revision"])
    if end == "crashed":
        os.kill(services.jobs.get(first).run.pid, signal.SIGKILL)
    else:
        client.post(f"/api/jobs/{first}/cancel")
    assert finish(wait_for, client, first)["state"] == end
    command = services.jobs.get(first).argv
    status, job = ask(client, ready, "slow")
    assert (status, job["found"], job["id"]) == (201, "going on", first)
    assert (job["state"], job["ended"], job["has_mask"]) == ("queued", False, True)  # what there was is still seen
    wait_for(lambda: client.get(f"/api/jobs/{first}").json()["state"] == "running")
    assert services.jobs.get(first).argv == command
    client.post(f"/api/jobs/{first}/cancel")
    assert finish(wait_for, client, first)["state"] == "cancelled"


def test_what_failed_before_anything_was_there_is_begun_anew(wait_for: Wait, client: TestClient, ready: str) -> None:
    first = finish(wait_for, client, start(client, ready, "late-failure")["id"])
    assert first["state"] == "failed"
    status, job = ask(client, ready, "late-failure")
    assert (status, job["found"]) == (201, "new")


def test_a_command_with_nothing_left_to_do_has_done_its_job(
    wait_for: Wait, client: TestClient, ready: str, services: Services
) -> None:
    """Killed after its last file and before it could say so: lpd finds all done and begins no run."""
    first = finish(wait_for, client, start(client, ready)["id"])["id"]
    job = services.jobs.get(first)
    (job.run_folder / "state.json").unlink()
    wait_for(lambda: (job.folder / "exit.json").exists())
    assert client.get(f"/api/jobs/{first}").json()["state"] == "done"
    (job.folder / "exit.json").write_text(json.dumps({"exit_code": 1}))
    assert client.get(f"/api/jobs/{first}").json()["state"] == "failed"
