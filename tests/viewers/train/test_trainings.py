"""Trainings as folders and processes, asked for by the routes that the Train tab uses; the trainer is a stand-in."""

from __future__ import annotations

import ipaddress
import json
import shlex
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from filelock import FileLock

from lpd.cli import build_parser
from lpd.errors import LpdError
from lpd.recipe.settings_file import read_config
from lpd.runs import Run, RunState
from viewers.access import Access
from viewers.services import Services
from viewers.train.datasets import DataSets
from viewers.train.records import Training
from viewers.train.trainings import Trainings, Wish, _with_folder
from viewers.web import make_api

from .conftest import seeded, state


def test_a_training_is_started_watched_and_published(
    asked: TestClient, wish: dict[str, object], wait_for: Callable[..., None], training_services: Services
):
    (started,) = asked.post("/api/trainings", json=wish).json()["trainings"]
    assert (started["name"], started["data"]) == ("first", "ward/small")
    wait_for(lambda: state(asked) == "done")
    told = asked.get("/api/trainings/first/curves").json()
    assert [entry["step"] for entry in told["losses"]] == list(range(1, 101))
    assert told["losses"][3]["loss"] == 0.25
    more = asked.get(f"/api/trainings/first/curves?run={told['run']}&since={told['since']}").json()
    assert (more["losses"], more["anew"]) == ([], False)
    card = {"name": "my model", "licence": "CC0", "use": "Looking at stroma."}
    assert asked.post("/api/trainings/first/publication", json=card).json()["name"] == "my model"
    assert "my model" in [found["name"] for found in asked.get("/api/checkpoints").json()["checkpoints"]]
    written = (training_services.checkpoints.folder / "my model.md").read_text()
    assert "Looking at stroma." in written
    assert "Licence of this model: CC0." in written
    again = asked.post("/api/trainings/first/publication", json=card)
    assert "already" in again.json()["error"]
    assert asked.get("/api/trainings/first/settings").json()["settings"]["loop.seed"] == "5"


def test_the_command_that_is_shown_is_one_that_lpd_takes(asked: TestClient, wish: dict[str, object]):
    told = asked.post("/api/trainings/check", json={**wish, "start": "model:good", "also": ["kmeans", "linear"]}).json()
    assert told["problems"] == {}
    assert told["names"] == ["first", "first-kmeans", "first-linear"]
    for line, source in zip(told["commands"], ("learnable", "kmeans", "linear"), strict=True):
        parsed = build_parser().parse_args(shlex.split(line)[2:])
        bank = ["prototypes.bank=own"] if parsed.build_bank else []
        config = read_config(parsed.preset, None, [*parsed.settings, *bank])
        assert (config.prototypes.source, parsed.build_bank) == (source, source == "kmeans")
        assert config.optimizer.epochs == 2
        assert config.encoder.weights.endswith("/good.safetensors")


@pytest.mark.parametrize("source", ["kmeans", "kmeans_init"])
def test_clustered_prototypes_can_be_chosen_among_the_settings(asked, wish, source):
    """As somebody does who takes the settings of such a training: it builds its own bank."""
    own = {**wish, "start": "model:good", "settings": {"prototypes.source": source}}
    told = asked.post("/api/trainings/check", json=own).json()
    assert told["problems"] == {}
    (line,) = told["commands"]
    parsed = build_parser().parse_args(shlex.split(line)[2:])
    assert parsed.build_bank
    assert read_config(parsed.preset, None, [*parsed.settings, "prototypes.bank=own"]).prototypes.source == source
    untrained = asked.post("/api/trainings/check", json={**own, "start": "none"}).json()
    assert "untrained encoder" in untrained["problems"]["prototypes.source"]


@pytest.mark.parametrize(
    ("settings", "field", "words"),
    [
        ({"optimizer.epochs": "0"}, "optimizer.epochs", "must lie in 1"),
        ({"optimizer.epochs": "99999"}, "optimizer.epochs", "most that this page starts"),
        ({"optimizer.epochs": "0x1869F"}, "optimizer.epochs", "most that this page starts"),
        ({"cam.scales": "[&-a [1, 2], *-a]"}, "cam.scales", "write the value out"),
        ({"losses.diversity.weight": "much"}, "losses.diversity.weight", "finite number"),
        ({"encoder.name": "hf-hub:a/b"}, "encoder.name", "no name of a network"),
        ({"encoder.weights": "/etc/passwd"}, "encoder.weights", "no setting"),
        ({"prototypes.bank": "/etc/passwd"}, "prototypes.bank", "no setting"),
        ({"cam.scales": "[1, 2]"}, "cam.scales", "must pair up"),
        ({"losses.similarity.tower": "own"}, "losses.similarity.tower", "untrained encoder"),
    ],
)
def test_a_setting_is_refused_beside_its_field(asked, wish, settings, field, words):
    told = asked.post("/api/trainings/check", json={**wish, "settings": settings}).json()
    assert words in told["problems"][field]
    assert asked.post("/api/trainings", json={**wish, "settings": settings}).status_code == 400


@pytest.mark.parametrize("name", ["", "..", "a/b", ".x", "a\nb", "ä", "x" * 90, "-rf", "a.", "con\\x"])
def test_names_that_are_no_folders_are_refused(asked, wish, folders, name):
    assert asked.post("/api/trainings", json={**wish, "name": name}).status_code == 400
    assert not folders.runs.exists() or list(folders.runs.iterdir()) == []


def test_stopped_gone_on_with_and_deleted(asked, wish, wait_for, folders):
    asked.post("/api/trainings", json=seeded(wish, 4))
    wait_for(lambda: asked.get("/api/trainings/first").json()["progress"]["done"] > 2)
    assert asked.delete("/api/trainings/first").status_code == 400
    asked.post("/api/trainings/first/stop")
    wait_for(lambda: state(asked) == "cancelled")
    assert asked.get("/api/trainings/first").json()["exact"]
    asked.post("/api/trainings/first/go-on")
    wait_for(lambda: state(asked) == "done")
    steps = [entry["step"] for entry in asked.get("/api/trainings/first/curves").json()["losses"]]
    assert steps == list(range(1, 101))  # none twice, none left out
    assert asked.post("/api/trainings/first/go-on").status_code == 400
    assert asked.delete("/api/trainings/first").status_code == 204
    assert list(folders.runs.iterdir()) == []


def test_how_it_ended_is_said(asked, wish, wait_for, folders, command):
    for seed, ending, words in (
        (1, "failed", "the weights do not fit: choose others"),
        (2, "failed", "the disk is full: free some space"),
        (3, "crashed", "the process was killed"),
    ):
        asked.post("/api/trainings", json={**seeded(wish, seed), "name": f"run{seed}"})
        wait_for(lambda seed=seed, ending=ending: state(asked, f"run{seed}") == ending)
        wait_for(lambda seed=seed, words=words: words in asked.get(f"/api/trainings/run{seed}").json()["message"])
    # Another app on the same folder, as after a restart, finds them all and says the same.
    found = {training.name: training for training in Trainings(folders.runs, command).all()}
    assert {name: training.run.state for name, training in found.items()} == {
        "run1": "failed",
        "run2": "failed",
        "run3": "crashed",
    }
    assert found["run3"].can_go_on
    assert found["run3"].goes_on_exactly
    assert "choose others" in asked.get("/api/trainings/run1/log").json()["text"]


def test_a_renamed_training_goes_on_where_it_lies_now(tmp_path):
    words = ("lpd", "train", "--data", "/tiles", "--out", str(tmp_path / "old"))
    renamed = Training("new", tmp_path / "new", 0.0, 0.0, RunState(), argv=words)
    assert _with_folder(renamed) == (*words[:-1], str(tmp_path / "new"))


def test_a_training_is_not_gone_on_with_while_it_is_deleted(asked, wish, folders, wait_for, training_services):
    asked.post("/api/trainings", json=seeded(wish, 1))
    wait_for(lambda: state(asked) == "failed")
    trainings, at_rest = training_services.training.trainings, threading.Event()
    rename, told = Path.rename, []

    def slow_rename(path: Path, target: Path) -> Path:
        at_rest.set()
        time.sleep(0.2)
        return rename(path, target)

    def go_on() -> None:
        at_rest.wait()
        told.append(asked.post("/api/trainings/first/go-on").status_code)

    other = threading.Thread(target=go_on)
    other.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "rename", slow_rename)
        trainings.delete("first")
    other.join()
    assert told == [404]
    assert list(folders.runs.iterdir()) == []


def test_where_things_lie_is_told_to_nobody(training_services, folders):
    room = training_services.training
    text = f"{folders.data.resolve()}/ward/t.png cannot be read: look into {folders.runs.resolve()}/first"
    assert room.shortened(text) == "data/ward/t.png cannot be read: look into runs/first"
    at_root = replace(room, data_sets=DataSets(Path("/data")))
    assert at_root.shortened("python -m lpd train --data /data/a") == "python -m lpd train --data /data/a"


def test_a_sweep_trains_with_the_very_weights_that_were_typed(asked, wish):
    told = asked.post("/api/trainings/check", json={**wish, "diversity": [0.12345671, 0.12345672, 0.5, 1e-05]}).json()
    values = [w.partition("=")[2] for line in told["commands"] for w in line.split() if "diversity.weight" in w]
    assert list(map(float, values)) == [0.12345671, 0.12345672, 1e-05]  # 0.5 is the preset's
    assert told["names"] == ["first-div0.12345671", "first-div0.12345672", "first-div0.5", "first-div1e-05"]


def test_a_sweep_that_cannot_be_started_whole_says_what_was(asked, wish, folders, monkeypatch):
    start = Trainings.start

    def full_disk(trainings: Trainings, one: Wish) -> Training:
        if one.name == "first-seed3":
            raise LpdError(f"cannot write {trainings.folder / one.name}: free some space")
        return start(trainings, one)

    monkeypatch.setattr(Trainings, "start", full_disk)
    said = asked.post("/api/trainings", json={**wish, "seeds": [1, 2, 3]}).json()["error"]
    begun = "first-seed1, first-seed2 are started and go on"
    assert said == f"cannot write runs/first-seed3: free some space ({begun})"
    assert {one["name"] for one in asked.get("/api/trainings").json()["trainings"]} == {"first-seed1", "first-seed2"}


def test_what_cannot_be_clustered_is_refused_before_it_waits_in_line(asked, wish):
    told = asked.post("/api/trainings/check", json={**wish, "also": ["kmeans"]}).json()
    assert "untrained encoder mean nothing" in told["problems"][""]
    assert asked.post("/api/trainings", json={**wish, "also": ["kmeans"]}).status_code == 400


def test_killed_at_once_and_it_stays_killed(asked, wish, wait_for):
    asked.post("/api/trainings", json=seeded(wish, 4))
    wait_for(lambda: state(asked) == "running")
    asked.post("/api/trainings/first/kill")
    wait_for(lambda: state(asked) == "cancelled")


def test_trainings_wait_in_the_line_of_segmentations(asked, wish, wait_for, training_services):
    with FileLock(training_services.jobs.folder / "device-cpu.lock"):
        for name in ("first", "second"):
            asked.post("/api/trainings", json={**wish, "name": name})
        wait_for(lambda: [state(asked, name) for name in ("first", "second")] == ["queued", "queued"])
        wait_for(lambda: asked.get("/api/trainings/second").json()["queue_position"] == 1)
        assert asked.get("/api/trainings/second").json()["device"] == "cpu"
        asked.post("/api/trainings/second/stop")
        wait_for(lambda: state(asked, "second") == "cancelled")
    wait_for(lambda: state(asked, "first") == "done")


def test_a_training_of_a_terminal_is_shown(asked, folders):
    with Run(folders.runs / "by hand", "train") as run:
        (run.folder / "config.yaml").write_text("encoder: {name: mit_b0, weights: none}\n")
        (told,) = asked.get("/api/trainings").json()["trainings"]
        assert (told["name"], told["state"], told["terminal"]) == ("by hand", "running", True)
    assert not asked.get("/api/trainings/by hand").json()["can_go_on"]
    (folders.runs / "link").symlink_to(folders.data)
    assert asked.get("/api/trainings/link").status_code == 404


def test_only_who_started_it_may_end_it(training_services, wish, tmp_path, wait_for):
    everybody = (ipaddress.ip_network("0.0.0.0/0"),)
    access = Access(proxy_header="x-user", proxies=everybody, admins=frozenset({"chief"}))
    api = make_api(training_services, "127.0.0.1", access)
    with TestClient(api, base_url="http://127.0.0.1:7860", client=("127.0.0.1", 1)) as client:

        def ask(user: str, method: str, path: str, **more: object) -> int:
            return client.request(method, path, headers={"X-User": user}, **more).status_code

        assert ask("ann", "POST", "/api/trainings", json=seeded(wish, 4)) == 201
        assert ask("bob", "POST", "/api/trainings/first/stop") == 403
        assert ask("bob", "DELETE", "/api/trainings/first") == 403
        assert ask("chief", "POST", "/api/trainings/first/kill") == 200
        shown = client.post("/api/trainings/check", headers={"X-User": "bob"}, json={**wish, "name": "x"}).json()
        assert str(tmp_path) not in json.dumps(shown)
        assert ask("bob", "GET", f"/datasets/{wish['data']}/tiles/train/0.jpeg") == 200
    log = training_services.jobs.folder / "audit.jsonl"
    wait_for(lambda: len(log.read_text().splitlines()) >= 3)  # by a thread of its own
    audit = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(e["user"], e["action"], e["detail"]) for e in audit] == [
        ("ann", "started training", "first"),
        ("chief", "killed training", "first"),
        ("bob", "opened data set", "ward/small"),
    ]
