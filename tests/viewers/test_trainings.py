"""Trainings as folders and processes, asked for by the routes that the Train tab uses; the trainer is a stand-in."""

from __future__ import annotations

import io
import ipaddress
import json
import shlex
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from filelock import FileLock
from PIL import Image

from lpd.cli import build_parser
from lpd.errors import LpdError
from lpd.model.header import read_info
from lpd.recipe.settings_file import read_config
from lpd.runs import DeviceLine, Run, RunState
from viewers.access import Access
from viewers.services import Services
from viewers.train.checks import Checks, fingerprint
from viewers.train.datasets import DataSets
from viewers.train.making import PhantomMaker
from viewers.train.publishing import Publication, write_card
from viewers.train.records import Training
from viewers.train.room import TrainingFolders, make_room
from viewers.train.trainings import Trainings
from viewers.web import make_api

#: Does what ``lpd train`` does to its folder, in no time; the seed says how it ends.
FAKE_TRAIN = """
    import json, os, signal, sys, time
    from pathlib import Path
    sys.path.insert(0, {root!r})
    from lpd.runs import DeviceLine, Run
    from lpd.errors import RunError

    words = sys.argv[1:]
    if words[0] == "evaluate":
        if "test" in words:
            time.sleep(60)
        scores = {{"miou": 0.5, "mdice": 0.6, "iou": {{"AA": 0.25, "BB": 0.75}}, "fwiou": 0.1}}
        confusion = {{"none": {{"predicted": {{"ignored": [[3, 1], [0, 4]]}}}}}}
        report = {{"data": {{"tiles": 7}}, "gates": {{"predicted": {{"ignored": scores}}}}, "confusion": confusion}}
        (Path(words[words.index("--out") + 1]) / "report.json").write_text(json.dumps(report))
        sys.exit(0)
    if "--probe" in words:
        if "loop.seed=4" in words:
            time.sleep(60)
        print("a word of a library")
        print(json.dumps({{"steps": 12, "total_s": 3.5}}))
        sys.exit(0)
    out, queue = Path(words[words.index("--out") + 1]), Path(words[words.index("--queue") + 1])
    seed = next((int(w.partition("=")[2]) for w in words if w.startswith("loop.seed=")), 0)
    if seed == 1:
        print("lpd train: the weights do not fit: choose others", file=sys.stderr)
        sys.exit(1)
    resume = out / "resume.pt"
    first = int(resume.read_text()) if "--resume" in words else 0
    with Run(out, "train", line=DeviceLine(queue, "cpu")) as run, (out / "metrics.jsonl").open("a") as log:
        (out / "config.yaml").write_text("encoder: {{name: mit_b0, weights: none}}\\nloop: {{seed: 5}}\\n")
        if seed == 2:
            raise RunError("the disk is full: free some space")
        for step in range(first + 1, 101):
            entry = {{"step": step, "rate": 1.0, "loss": 1 / step, "seconds": step / 10}}
            print(json.dumps(entry), file=log, flush=True)
            resume.write_text(str(step))
            run.advance(step, 100, "steps")
            if step == 3 and seed == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            if run.stop_requested():
                break
            time.sleep(0.02 if seed == 4 else 0)
        (out / "last.safetensors").write_bytes(Path({model!r}).read_bytes())
        if step == 100:
            resume.unlink()
            run.complete()
    sys.exit(0)
"""

CLASSES = "classes:\n  - {code: AA, name: Able, color: [255, 0, 0]}\n  - {code: BB, name: Bold, color: [0, 255, 0]}\n"


def write_set(folder: Path) -> None:
    """Four training tiles (AA, AA, BB, both), whose colour is their number, and a valid one."""
    for place in ("train", "valid/img", "valid/mask"):
        (folder / place).mkdir(parents=True)
    for number, label in enumerate(("10", "10", "01", "11")):
        tile = Image.fromarray(np.full((64, 64, 3), 40 * number, np.uint8))
        tile.save(folder / "train" / f"t{number}[{label}].png")
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(folder / "valid/img/v.png")
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(folder / "valid/mask/v.png")
    (folder / "dataset.yaml").write_text(f"name: small\nmpp: 0.5\nlicence: free\n{CLASSES}")


@pytest.fixture
def folders(tmp_path: Path) -> TrainingFolders:
    write_set(tmp_path / "data" / "ward" / "small")
    (tmp_path / "data" / ".hidden" / "train").mkdir(parents=True)
    (tmp_path / "data" / "a" / "b" / "c" / "train").mkdir(parents=True)  # deeper than is looked
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "my encoder.pth").write_bytes(b"weights")
    return TrainingFolders(tmp_path / "runs", tmp_path / "data", tmp_path / "weights")


@pytest.fixture
def command(tmp_path: Path) -> tuple[str, ...]:
    script = tmp_path / "fake_train.py"
    root, model = str(Path(__file__).resolve().parents[2]), str(tmp_path / "checkpoints" / "good.safetensors")
    script.write_text(textwrap.dedent(FAKE_TRAIN.format(root=root, model=model)))
    return sys.executable, str(script)


@pytest.fixture
def training_services(services: Services, folders: TrainingFolders, command: tuple[str, ...]) -> Iterator[Services]:
    room = make_room(folders, services.checkpoints, services.jobs.folder, services.cache, command)
    yield replace(services, training=room)
    for training in room.trainings.all():
        room.trainings.kill(training.name)


@pytest.fixture
def asked(training_services: Services) -> Iterator[TestClient]:
    with TestClient(make_api(training_services, "127.0.0.1"), base_url="http://127.0.0.1:7860") as client:
        yield client


@pytest.fixture
def wish(asked: TestClient) -> dict[str, object]:
    """A body that starts a training."""
    (data,) = asked.get("/api/datasets").json()["data"]
    return {"name": "first", "data": data["id"], "preset": "tiny", "settings": {"optimizer.epochs": "2"}}


def state(client: TestClient, name: str = "first") -> str:
    return str(client.get(f"/api/trainings/{name}").json()["state"])


def seeded(wish: dict[str, object], seed: int) -> dict[str, object]:
    return {**wish, "settings": {"loop.seed": str(seed)}}


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


@pytest.mark.parametrize(
    ("settings", "field", "words"),
    [
        ({"optimizer.epochs": "0"}, "optimizer.epochs", "must lie in 1"),
        ({"optimizer.epochs": "99999"}, "optimizer.epochs", "most that this page starts"),
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


def test_killed_at_once_and_it_stays_killed(asked, wish, wait_for):
    asked.post("/api/trainings", json=seeded(wish, 4))
    wait_for(lambda: state(asked) == "running")
    asked.post("/api/trainings/first/kill")
    wait_for(lambda: state(asked) == "cancelled")


def test_trainings_wait_in_the_line_of_segmentations(asked, wish, wait_for, training_services):
    with FileLock(DeviceLine(training_services.jobs.folder, "cpu").lock):
        for name in ("first", "second"):
            asked.post("/api/trainings", json={**wish, "name": name})
        wait_for(lambda: [state(asked, name) for name in ("first", "second")] == ["queued", "queued"])
        wait_for(lambda: asked.get("/api/trainings/second").json()["queue_position"] == 1)
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


def test_only_who_started_it_may_end_it(training_services, wish, tmp_path):
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
    audit = [json.loads(line) for line in (training_services.jobs.folder / "audit.jsonl").read_text().splitlines()]
    assert [(e["user"], e["action"], e["detail"]) for e in audit] == [
        ("ann", "started training", "first"),
        ("chief", "killed training", "first"),
    ]


def test_data_sets_say_what_is_in_them(asked):
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
