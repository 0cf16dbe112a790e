"""What the Train tab knows beside trainings: data sets, settings, measurements, cards."""

from __future__ import annotations

import io
import json
import os
import shlex
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lpd.errors import LpdError
from lpd.model.header import read_info
from lpd.recipe.settings_file import read_config
from lpd.runs import RunState
from viewers.train import routes, telling
from viewers.train.checks import Checks, fingerprint
from viewers.train.curves import read_curves
from viewers.train.datasets import DataSets
from viewers.train.making import PhantomMaker
from viewers.train.publishing import Publication, publish, write_card
from viewers.train.records import Training
from viewers.train.telling import described_once

from .conftest import seeded, state


def test_data_sets_say_what_is_in_them(asked, folders):
    (listed,) = asked.get("/api/datasets").json()["data"]
    assert (listed["name"], listed["mpp"], listed["splits"]) == ("ward/small", 0.5, {"train": 4, "valid": 1})
    told = asked.get(f"/api/datasets/{listed['id']}").json()
    assert told["labels"]["train"]["classes"] == {"AA": 3, "BB": 2}
    assert (told["labels"]["train"]["several"], told["labels"]["train"]["none"]) == (1, 0)
    assert set(told["samples"]["BB"]) == {2, 3}
    assert told["samples"]["BB"][0] == 2  # of that class alone
    picture = asked.get(f"/datasets/{listed['id']}/tiles/train/2.jpeg")
    with Image.open(io.BytesIO(picture.content)) as image:
        assert abs(np.asarray(image).mean() - 80) < 2
    for path in ("train/9", "train/-1", "../0", "test/0"):
        assert asked.get(f"/datasets/{listed['id']}/tiles/{path}.jpeg").status_code in (404, 400)
    assert asked.get("/api/datasets/0000").status_code == 404
    Image.new("RGB", (64, 64)).save(folders.data / "ward" / "small" / "train" / "0[10].png")
    now = asked.get(f"/api/datasets/{listed['id']}").json()
    assert now["version"] != told["version"]  # tile 2 is another one now: a browser must not show the one it has kept


def test_a_file_that_changes_changes_the_fingerprint(folders):
    folder = folders.data / "ward" / "small"
    before = fingerprint(folder)
    assert fingerprint(folder) == before
    (folder / "valid" / "img" / "v.png").write_bytes(b"longer than it was, or shorter")
    assert fingerprint(folder) != before


def test_settings_come_back_from_a_file(asked):
    text = (
        "encoder: {name: mobilenetv2_100, weights: /gone/my encoder.pth, mean: [.5, .5, .5]}\noptimizer: {epochs: 3}\n"
    )
    told = asked.post("/api/training/settings", json={"text": text}).json()
    assert told["settings"]["optimizer.epochs"] == "3"
    assert told["start"] not in ("none", "")  # the file of that name that is here
    assert asked.post("/api/training/settings", json={"text": "a: &x [1]\nb: *x"}).status_code == 400
    assert "no setting" in asked.post("/api/training/settings", json={"text": "optimzer: {}"}).json()["error"]


def test_time_and_memory_are_measured_beforehand(asked, wish, wait_for, folders):
    number = asked.post("/api/probes", json=wish).json()["id"]
    wait_for(lambda: asked.get(f"/api/probes/{number}").json()["state"] != "running")
    assert asked.get(f"/api/probes/{number}").json()["found"] == {"steps": 12, "total_s": 3.5}
    slow = asked.post("/api/probes", json=seeded(wish, 4)).json()["id"]
    assert asked.post("/api/probes", json=wish).status_code == 400  # one at a time
    assert asked.delete(f"/api/probes/{slow}").status_code == 204
    assert asked.get(f"/api/probes/{slow}").json()["state"] == "failed"
    assert asked.get("/api/probes/nothing").status_code == 404
    assert not folders.runs.exists()


def test_a_checkpoint_is_scored_on_a_data_set(asked, wish, wait_for, folders):
    asked.post("/api/trainings", json=wish)
    wait_for(lambda: state(asked) == "done")
    place = "/api/trainings/first/evaluations"
    wanted = {"data": wish["data"], "split": "valid", "which": "last"}
    assert "no best checkpoint" in asked.post(place, json={**wanted, "which": "best"}).json()["error"]
    asked.post(place, json=wanted)
    wait_for(lambda: asked.get(place).json()["evaluations"][0]["state"] == "done")
    (told,) = asked.get(place).json()["evaluations"]
    assert (told["data"], told["tiles"], told["confusion"]) == ("ward/small", 7, [[3, 1], [0, 4]])
    assert told["gates"]["predicted"] == {"miou": 0.5, "mdice": 0.6, "iou": {"AA": 0.25, "BB": 0.75}}
    assert asked.get(f"{place}/{told['key']}/worst.png").status_code == 404
    assert asked.get(f"{place}/..%2f..%2f/worst.png").status_code == 404
    evaluations = folders.runs / "first" / "evaluations"
    (evaluations / "notes").mkdir()  # somebody's own
    assert not told["outdated"]
    os.utime(folders.runs / "first" / "last.safetensors", (4e9, 4e9))  # as when the training has gone on
    assert [one["outdated"] for one in asked.get(place).json()["evaluations"]] == [True]
    (evaluations / told["key"] / "report.json").write_text("[]")
    (broken,) = asked.get(place).json()["evaluations"]
    assert "score it again" in broken["error"]
    asked.post(place, json={**wanted, "split": "test"})
    assert asked.delete("/api/trainings/first").status_code == 204  # which gives the other one up
    assert list(folders.runs.iterdir()) == []


def test_the_check_of_a_data_set_is_kept_until_a_file_changes(folders, tmp_path, wait_for):
    checks, (data,) = Checks(tmp_path / "cache"), DataSets(folders.data).all()
    assert checks.ask(data) == {"state": "running"}
    wait_for(lambda: checks.ask(data)["state"] != "running")
    told = checks.ask(data)
    assert told["report"]["name"] == "small"
    assert any(finding["rule"] == "class rare" for finding in told["report"]["findings"])
    assert str(tmp_path) not in json.dumps(told)
    again = Checks(tmp_path / "cache", ("/no/such/program",))  # after a restart nothing is computed anew
    assert again.ask(data) == told
    (folders.data / "ward" / "small" / "train" / "t0[10].png").touch()
    assert "cannot start" in again.ask(data)["error"]


def test_a_synthetic_set_appears_when_it_is_whole(folders, tmp_path, wait_for):
    script = tmp_path / "fake_phantom.py"
    script.write_text("import sys, pathlib; pathlib.Path(sys.argv[3], 'train').mkdir(parents=True)")
    maker = PhantomMaker(folders.data, (sys.executable, str(script)))
    maker.start()
    wait_for(lambda: not maker.state()["making"])
    assert maker.state() == {"making": False, "error": "", "made": True}
    assert "phantom" in [data.relative for data in DataSets(folders.data).all()]
    with pytest.raises(LpdError, match="already"):
        maker.start()
    failing = PhantomMaker(
        tmp_path / "new", (sys.executable, "-c", "import sys; sys.exit('lpd phantom: no space left')")
    )
    failing.start()
    wait_for(lambda: not failing.state()["making"])
    assert failing.state() == {"making": False, "error": "no space left", "made": False}


def test_a_card_says_what_the_checkpoint_says_and_no_paths(checkpoints, tmp_path):
    settings = read_config("tiny", None, ["encoder.weights=/secret/encoder.pth"]).to_dict()
    settings["encoder"]["weights"] = "encoder.pth"  # checkpoints keep bare names
    told = {
        "settings": settings,
        "encoder_weights": {"file": "encoder.pth", "sha256": "ab" * 32, "notice": "MiT of NVIDIA: research only"},
        "data": {"name": "toy", "tiles": 12, "fingerprint": "f00d", "licence": "free"},
        "steps": 77,
        "seconds": 5.5,
    }
    scores = {"miou": 0.5, "mdice": 0.625, "iou": {"TUM": 0.25, "STR": 0.75, "LYM": None, "NEC": None}}
    report = {"gates": {"predicted": {"ignored": scores}}, "data": {"tiles": 9, "split": "valid"}}
    info = replace(read_info(checkpoints / "good.safetensors"), training=told, scores={"valid": report})
    training = Training("first", tmp_path / "first", 0.0, 0.0, RunState(), argv=("lpd", "train", "--data", "/secret"))
    card = write_card(training, Publication("mine", "last"), info)
    assert "| predicted | 50.0 | 62.5 | 25.0 | 75.0 |  |  |" in card
    assert "12 training tiles, fingerprint (names and sizes) `f00d`. Licence of the data: free." in card
    assert "`encoder.pth` (sha256 `abababababababab…`). MiT of NVIDIA: research only." in card
    assert "77 steps in 5.5 s" in card
    assert "optimizer: {epochs: 3, batch_size: 6, learning_rate: 0.001" in card
    assert "Licence of this model: not stated." in card
    assert "secret" not in card
    unscored = replace(info, scores={}, training={**told, "valid": {"fingerprint": "f00d"}})
    assert "ended before it had scored" in write_card(training, Publication("mine", "last"), unscored)
    assert "no valid split" in write_card(training, Publication("mine", "last"), replace(info, scores={}))
    raw = replace(info.calibration, gate_gain=(1.0,) * 4, gate_bias=(0.0,) * 4)
    fitted = replace(raw, gate_gain=(1.0, 2.0, 1.0, 1.0))
    said = [write_card(training, Publication("mine", "last"), replace(info, calibration=c)) for c in (raw, fitted)]
    assert ["is not calibrated" in text for text in said] == [True, False]


def test_of_two_who_publish_under_one_name_one_is_told_that_it_is_taken(checkpoints, tmp_path):
    training = Training("first", tmp_path / "first", 0.0, 0.0, RunState())
    training.folder.mkdir()
    shutil.copy(checkpoints / "good.safetensors", training.folder / "last.safetensors")

    def ask(author: str) -> str:
        try:
            publish(training, Publication("mine", "last", author=author), tmp_path / "models")
        except LpdError as error:
            return str(error)
        return author

    with ThreadPoolExecutor(8) as people:
        told = list(people.map(ask, map(str, range(8))))
    (winner,) = [text for text in told if "already" not in text]
    assert f"Published by {winner}." in (tmp_path / "models" / "mine.md").read_text()


def test_scores_are_told_from_what_is_new_in_the_metrics(tmp_path, monkeypatch):
    training = Training("first", tmp_path, 0.0, 0.0, RunState())
    log = tmp_path / "metrics.jsonl"

    def look(step: int, miou: float | None) -> str:
        scores = {"miou": miou, "mdice": None, "iou": {}}
        return json.dumps({"step": step, "seconds": step, "valid": {"predicted": {"ignored": scores}}}) + "\n"

    def told() -> Any:
        return {key: value["predicted"] for key, value in described_once(training, {})["scores"].items() if key in both}

    both = ("best", "last")
    assert told() == {}
    log.write_text(look(1, 0.6) + look(2, 0.4))
    assert told() == {"best": 0.6, "last": 0.4}
    offsets = []
    monkeypatch.setattr(telling, "read_curves", lambda *known: offsets.append(known[2]) or read_curves(*known))
    with log.open("a") as more:
        more.write(look(3, 0.5))
    before = len(look(1, 0.6) + look(2, 0.4))
    assert told() == {"best": 0.6, "last": 0.5}
    assert offsets == [before]
    other = tmp_path / "new.jsonl"
    other.write_text(look(1, 0.3))  # as after an interruption
    other.replace(log)
    assert told() == {"best": 0.3, "last": 0.3}
    with log.open("w") as same:  # a training of that name begun anew, in a file that got the number of the old one
        same.write(look(11, 0.1) + look(12, 0.2))
    assert told() == {"best": 0.2, "last": 0.2}


def test_tensorboard_is_told_of_where_it_is_installed(asked, folders, monkeypatch):
    assert asked.get("/api/training").json()["tensorboard"] == ""
    monkeypatch.setattr(routes, "find_spec", lambda name: object() if name == "tensorboard" else None)
    command = shlex.split(asked.get("/api/training").json()["tensorboard"])
    assert command == ["tensorboard", "--logdir", str(folders.runs.resolve())]
