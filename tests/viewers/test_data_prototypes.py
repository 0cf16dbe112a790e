"""Prototypes over data sets by HTTP: one pass a model and split, kept; a tile as a figure; no paths in or out."""

from __future__ import annotations

import json
import os
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from httpx import Response
from PIL import Image

from lpd.classes import BCSS
from lpd.model.header import file_digest
from viewers.services import Services
from viewers.train.room import TrainingFolders, make_room
from viewers.web import make_api

CLASSES = "".join(f"  - {{code: {c.code}, name: {c.name}, color: {list(c.color)}}}\n" for c in BCSS.classes)
#: Stands in for ``lpd prototypes``: notes what it was asked, and answers as the gallery or the figure would.
COMMAND = """
    import json, pathlib, sys
    words = sys.argv[1:]
    of = lambda flag: words[words.index(flag) + 1]
    with open({asked!r}, "a") as log:
        log.write(json.dumps(words) + chr(10))
    if words[1] == "figure":
        open(of("--out"), "w").write("a figure")
        sys.exit()
    if of("--split") == "train":  # at work until it is ended
        import os, time
        from lpd.runs import Run
        open({asked!r} + ".pid", "w").write(str(os.getpid()))
        with Run(pathlib.Path(of("--run")), "prototypes") as run:
            time.sleep(0.6)  # it writes twice a second
            run.advance(3, 7)
            time.sleep(60)
    if of("--split") == "test":
        sys.exit("lpd prototypes: " + of("--data") + "/test/img/a.png cannot be read as an image: replace it")
    own = {{"usage": [1, 0], "dead": [1], "near_duplicates": [[0, 1, 0.97]], "correlations": [[1, 0.97], [0.97, 1]]}}
    figures = {{"prototypes_per_class": 2, "classes": dict.fromkeys({codes!r}, own), "map_cosine": 0.5}}
    place = dict(number=1, tile="b.png", case="b", x_px=4, y_px=0, width_px=16, height_px=16, score=0.5)
    from lpd.data.tiles import TileSet
    from lpd.model.header import file_digest
    tiles = TileSet.open(pathlib.Path(of("--data")), of("--split"), cache_bytes=0)
    found = {{"digest": file_digest(pathlib.Path(of("--checkpoint"))), "fingerprint": tiles.fingerprint(),
        "version": 3, "split": of("--split"), "tile_px": 32, "places": [[place], [], [], []], "figures": figures}}
    out = pathlib.Path(of("--json"))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found))
"""


@pytest.fixture
def asked(services: Services, tmp_path: Path) -> Iterator[TestClient]:
    folder = tmp_path / "data" / "small"
    for split in ("valid", "test"):
        for part, shape in (("img", (32, 32, 3)), ("mask", (32, 32))):
            (folder / split / part).mkdir(parents=True)
            for name in ("a", "b"):
                Image.fromarray(np.zeros(shape, np.uint8)).save(folder / split / part / f"{name}.png")
    (folder / "train").mkdir()
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(folder / "train" / "a[1000].png")
    (folder / "dataset.yaml").write_text(f"name: small\nmpp: 1.0\nclasses:\n{CLASSES}background: 4\nlicence: none\n")
    script = tmp_path / "command.py"
    script.write_text(textwrap.dedent(COMMAND.format(asked=str(tmp_path / "asked"), codes=list(BCSS.codes))))
    services.jobs.command = (sys.executable, str(script))
    folders = TrainingFolders(tmp_path / "runs", tmp_path / "data", tmp_path / "weights")
    room = make_room(folders, services.checkpoints, services.jobs.folder, services.cache)
    with TestClient(
        make_api(replace(services, training=room), "127.0.0.1"), base_url="http://127.0.0.1:7860"
    ) as client:
        yield client


def id_of(client: TestClient) -> str:
    (data,) = client.get("/api/datasets").json()["data"]
    return str(data["id"])


def words(tmp_path: Path) -> list[list[str]]:
    return [json.loads(line) for line in (tmp_path / "asked").read_text().splitlines()]


def answer(client: TestClient, address: str) -> Response:
    """What comes of asking until there is an answer, as the page does."""
    first, _, query = address.partition("?")
    until = time.monotonic() + 30
    while (found := client.get(address)).status_code == 202:
        while found.json()["progress"]:
            assert time.monotonic() < until
            time.sleep(0.05)
            found = client.get(f"{first}/progress?{query}")
            if found.is_error:
                return found
    return found


def test_one_pass_answers_figures_and_gallery_and_is_kept(asked: TestClient, tmp_path: Path) -> None:
    address = f"/api/datasets/{id_of(asked)}/prototypes?split=valid&model=good"
    told = answer(asked, address).json()
    assert told["regions"] == [[{"number": 1, "tile": "b.png", "region": [4, 0, 16, 16], "score": 0.5}], [], [], []]
    assert (told["tiles"], told["tile_px"], told["name"]) == (2, 32, "small")
    assert told["figures"]["map_cosine"] == 0.5
    assert told["dead"] == [1, 3, 5, 7]
    assert told["near_duplicates"] == [[m, m + 1, 0.97] for m in (0, 2, 4, 6)]
    assert str(tmp_path) not in json.dumps(told)
    assert asked.get(address).json() == told
    assert len(words(tmp_path)) == 1
    assert asked.get(address.replace("prototypes?", "prototypes/plot.png?")).content[:4] == b"\x89PNG"
    with (tmp_path / "data" / "small" / "valid" / "img" / "a.png").open("ab") as file:
        file.write(b"more")  # another data set by now
    assert asked.get(address.replace("prototypes?", "prototypes/plot.png?")).status_code == 404
    assert answer(asked, address).json() == told
    assert len(words(tmp_path)) == 2


def test_a_model_that_is_another_file_by_now_is_refused(asked: TestClient, tmp_path: Path, services: Services) -> None:
    address = f"/api/datasets/{id_of(asked)}/prototypes"
    query = "?split=valid&model=good&digest="
    refused = asked.get(f"{address}{query}sha256:0123")
    assert refused.status_code == 409
    assert refused.json()["error"].startswith("good is another model now than when its maps were computed")
    assert asked.get(f"{address}/plot.png{query}sha256:0123").status_code == 409
    own = file_digest(services.checkpoints.folder / "good.safetensors")
    assert answer(asked, f"{address}{query}{own}").json()["checkpoint"] == "good"
    assert asked.get(f"{address}/plot.png{query}{own}").status_code == 200
    assert len(words(tmp_path)) == 1


def test_a_model_replaced_while_its_pass_waits_is_not_kept_as_the_former_one(
    asked: TestClient, tmp_path: Path, services: Services
) -> None:
    path = services.checkpoints.folder / "good.safetensors"
    address, own = f"/api/datasets/{id_of(asked)}/prototypes", path.read_bytes()
    assert asked.get(f"{address}?split=train&model=good&who=one").status_code == 202
    assert asked.get(f"{address}?split=valid&model=good&who=two").json()["progress"]["waiting"]
    asked.post("/api/checkpoints/good/edited", json={"name": "other", "muted": [0]})
    path.with_name("other.safetensors").replace(path)
    asked.delete(f"{address}?split=train&model=good&who=one")
    until = time.monotonic() + 30
    while asked.get(f"{address}/progress?split=valid&model=good&who=two").json()["progress"]:
        assert time.monotonic() < until
        time.sleep(0.05)
    assert [given for given in words(tmp_path) if "valid" in given]  # it has run, of whichever of the two
    path.write_bytes(own)
    assert asked.get(f"{address}?split=valid&model=good").status_code == 202


def test_what_cannot_be_is_one_sentence_without_a_path(asked: TestClient, tmp_path: Path) -> None:
    data = id_of(asked)
    failed = answer(asked, f"/api/datasets/{data}/prototypes?split=test&model=good")
    assert failed.status_code == 400
    assert failed.json()["error"] == "small/test/img/a.png cannot be read as an image: replace it"
    assert asked.get(f"/api/datasets/{data}/prototypes?split=../..&model=good").status_code == 404
    assert asked.get(f"/api/datasets/{data}/prototypes?split=valid&model=nobody").status_code == 404
    yaml = tmp_path / "data" / "small" / "dataset.yaml"
    yaml.write_text(yaml.read_text().replace("TUM", "XXX"))
    refused = asked.get(f"/api/datasets/{data}/prototypes?split=valid&model=good").json()["error"]
    assert (
        refused == "good knows TUM, STR, LYM, NEC, but small has XXX, STR, LYM, NEC: choose a data set of its classes"
    )


def test_a_pass_tells_how_far_it_is_and_ends_when_nobody_wants_it(asked: TestClient, tmp_path: Path) -> None:
    address = f"/api/datasets/{id_of(asked)}/prototypes"
    query = "?split=train&model=good&who="
    assert asked.get(f"{address}{query}one").json()["progress"]["total"] == 0
    other = f"{address}?split=valid&model=good"
    assert asked.get(other).json()["progress"]["waiting"]  # one at a time
    until = time.monotonic() + 30
    while asked.get(f"{address}/progress{query}two").json()["progress"]["done"] != 3:
        assert time.monotonic() < until
        time.sleep(0.05)
    assert asked.get(f"{address}/progress{query}one").json()["progress"]["total"] == 7
    pid = int((tmp_path / "asked.pid").read_text())
    asked.delete(f"{address}{query}one")
    time.sleep(0.5)
    os.kill(pid, 0)  # another page waits for it still
    asked.delete(f"{address}{query}two")
    assert answer(asked, other).status_code == 200
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_tile_is_drawn_by_its_number(asked: TestClient, tmp_path: Path) -> None:
    address = f"/api/datasets/{id_of(asked)}/figure.svg?split=valid&model=good&model=slow&number="
    answer = asked.get(f"{address}1&save=true")
    assert (answer.text, answer.headers["content-type"]) == ("a figure", "image/svg+xml")
    (given,) = words(tmp_path)
    assert "--name=b.png" in given
    assert [Path(given[i + 1]).stem for i, word in enumerate(given) if word == "--checkpoint"] == ["good", "slow"]
    assert asked.get(f"{address}2").status_code == 404
