"""Reviews over HTTP: regions, edits, undo, two people at once, a result begun anew, files, and who is noted."""

from __future__ import annotations

import base64
import io
import ipaddress
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from fastapi.testclient import TestClient
from PIL import Image

from lpd.classes import BCSS
from lpd.inference.meta import ResultMeta
from lpd.inference.store import ResultStore
from lpd.runs import Run, write_json_atomically
from lpd.slide.region import Region
from viewers.access import Access
from viewers.services import Services
from viewers.web import make_api


@pytest.fixture
def job(client: TestClient, slide_id: str, services: Services) -> str:
    """A finished result of 300 × 200 mask pixels of 1 µm: tumour left of 150, stroma beyond; level 0 twice as fine."""
    job_id = "20260102-030405-abcdef"
    record = {"slide_id": slide_id, "slide_name": "first.png", "checkpoint": "good", "device": "cpu", "mpp": 0.5}
    folder = services.jobs.folder / job_id
    write_json_atomically(folder / "job.json", {**record, "region_l0": None, "created": 0.0, "argv": []})
    with Run(folder / "first", "segment"):
        fingerprint = services.catalogue.info(slide_id).fingerprint
        meta = ResultMeta("first", fingerprint, 600, 400, 0.5, 1.0, BCSS, "good", "0")
        store = ResultStore.create(folder / "first", meta)
        store.write_mask(0, 0, np.repeat([[0, 1]], 200, axis=0).repeat(150, axis=1).astype(np.uint8))
        store.commit(Region(0, 0, 600, 400))
        store.finish()
    return job_id


def review(client: TestClient, job: str, since: int = 0) -> dict[str, Any]:
    answer = client.get(f"/results/{job}/review?since={since}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def edit(client: TestClient, job: str, what: str, **more: Any) -> Any:
    known = review(client, job)
    body = {"run": known["run"], "revision": known["revision"], **more}
    return client.post(f"/results/{job}/review/{what}", json=body)


def stroke(client: TestClient, job: str, x: float, y: float, value: int | None = 2, **more: Any) -> Any:
    return edit(client, job, "stroke", **{"points": [[x, y]], "radius_um": 10, "value": value, **more})


def values(content: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(content))
    assert image.mode == "L"
    return np.asarray(image)


def test_nothing_is_said_until_somebody_says_it(client: TestClient, job: str, services: Services) -> None:
    found = review(client, job)
    assert (found["revision"], found["words"], found["authors"]) == (0, "Not reviewed by anybody.", [])
    assert client.get(f"/results/{job}/review/export/corrected").status_code == 404
    assert not (services.jobs.get(job).run_folder / "review").exists()


def test_a_result_whose_slide_was_replaced_is_not_corrected(client: TestClient, job: str, slides: Path) -> None:
    assert stroke(client, job, 100, 100).status_code == 200
    Image.new("RGB", (600, 400)).save(slides / "first.png")
    client.get("/api/slides")
    for what, more in (("stroke", {"points": [[9, 9]], "radius_um": 10, "value": 2}), ("undo", {}), ("redo", {})):
        refused = edit(client, job, what, **more)
        assert (refused.status_code, "first.png has been replaced" in refused.json()["error"]) == (409, True)
    assert review(client, job)["revision"] == 1


def test_a_region_is_found_accepted_relabelled_and_undone(client: TestClient, job: str) -> None:
    asked = {"x": 100, "y": 100, "view": [0, 0, 400, 300]}
    found = client.get(f"/results/{job}/review/region", params=asked).json()
    assert (found["value"], found["box"], found["cut"]) == (0, [0, 0, 300, 300], True)
    assert found["area_mm2"] == pytest.approx(150 * 150 / 1e6)
    picture = values(base64.b64decode(found["picture"].partition(",")[2]))
    assert picture.shape == (150, 150)
    assert (picture[1:-1, 1:-1] == 1).all()
    assert (picture[0] == 2).all()
    done = edit(client, job, "region", **asked).json()
    assert done["words"] == "Reviewed by somebody without a name: 37.5 % of the tissue, 0 mm² changed."
    assert done["rects"] == [[0, 0, 300, 300]]
    done = edit(client, job, "region", **asked, value=3).json()
    assert done["changed_mm2"] == pytest.approx(0.0225)
    tile = values(client.get(f"/results/{job}/review/tiles/10/0_0.png").content)
    assert (tile == 3).all()
    tile = values(client.get(f"/results/{job}/review/tiles/9/0_0.png").content)  # half size: the whole slide
    assert (tile == np.where(np.mgrid[0:200, 0:256].max(axis=0) < 150, 3, 255)).all()
    assert edit(client, job, "undo").json()["changed_mm2"] == 0
    assert edit(client, job, "undo").json()["words"] == "Not reviewed by anybody."
    assert "no edit of local to undo" in edit(client, job, "undo").json()["error"]
    assert edit(client, job, "redo").json()["undone"]["kind"] == "relabel"
    done = edit(client, job, "redo").json()
    assert (done["changed_mm2"], done["undone"]) == (pytest.approx(0.0225), None)
    assert "no edit of local to bring back" in edit(client, job, "redo").json()["error"]


def test_the_second_of_two_writers_at_one_place_is_told(client: TestClient, job: str) -> None:
    seen = review(client, job)
    assert stroke(client, job, 100, 100).status_code == 200
    late = stroke(client, job, 110, 100, revision=seen["revision"])
    assert late.status_code == 409
    assert late.json()["error"].startswith("local has corrected this place meanwhile")
    elsewhere = stroke(client, job, 500, 300, revision=seen["revision"])
    assert elsewhere.status_code == 200
    assert elsewhere.json()["rects"] == [[80, 80, 40, 40], [480, 280, 40, 40]]
    assert review(client, job)["revision"] == 2


def test_areas_are_those_of_the_mask_that_is_asked_for(client: TestClient, job: str) -> None:
    """300 × 200 mask pixels of 1 µm, the left half tumour; of a quarter of that half people make lymphocytes."""
    edit(client, job, "region", x=100, y=100, view=[0, 0, 300, 200], value=2)
    areas = {row["code"]: row["area_mm2"] for row in review(client, job)["corrected"]["areas"]}
    assert areas == pytest.approx({"TUM": 0.015, "STR": 0.03, "LYM": 0.015, "NEC": 0, "TISSUE": 0.06})
    polygons = {"polygons": [[[[200, 0], [400, 0], [400, 200], [200, 200], [200, 0]]]]}
    for corrected, lymphocytes in ((False, 0), (True, 50)):
        found = client.post(f"/results/{job}/region-areas", json={**polygons, "corrected": corrected}).json()
        assert [row["percent"] for row in found["areas"]] == pytest.approx([50 - lymphocytes, 50, lymphocytes, 0, 100])
    table = client.get(f"/results/{job}/review/export/areas").text.splitlines()
    assert "0.015000,25.0000,15000" in table[1]
    edit(client, job, "undo")
    assert review(client, job)["corrected"] is None


def test_a_file_is_sent_to_its_end_though_somebody_corrects_meanwhile(
    client: TestClient, job: str, services: Services
) -> None:
    stroke(client, job, 100, 100)
    found = services.jobs.get(job)
    file, *_ = services.reviews.file(found, "corrections")
    stroke(client, job, 500, 300)
    later, *_ = services.reviews.file(found, "corrections")
    with file, later:
        assert [len(json.load(one)["features"]) for one in (file, later)] == [1, 2]
    assert len(list(found.run_folder.glob("review/*/corrections-*.geojson"))) == 1


def test_a_result_begun_anew_is_reviewed_anew(client: TestClient, job: str, services: Services) -> None:
    before = review(client, job)
    stroke(client, job, 100, 100)
    folder = services.jobs.get(job).run_folder
    old = ResultStore.open(folder)
    new = ResultStore.create(folder, old.meta)
    new.write_mask(0, 0, np.full((200, 300), 1, np.uint8))
    new.commit(Region(0, 0, 600, 400))
    new.finish()
    answer = stroke(client, job, 100, 100, run=before["run"])
    assert answer.status_code == 409
    assert answer.json()["error"].startswith("this result was computed anew meanwhile: reload the page")
    found = review(client, job)
    assert (found["revision"], found["earlier"]) == (0, 1)
    assert (folder / "review" / before["run"] / "log.jsonl").is_file()


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("stroke", {"value": 5}, "class 5 does not exist: this result has 4 classes and background"),
    ("stroke", {"value": 300}, "value is not valid"),
    ("stroke", {"radius_um": 30000}, "60,000 µm is too large"),
    ("stroke", {"radius_um": "NaN"}, "radius_um is not valid"),
    ("stroke", {"points": []}, "points is not valid"),
    ("stroke", {"points": [[0, 0]] * 5001}, "points is not valid"),
    ("stroke", {"points": [[0, 1e300]]}, "not valid"),
    ("stroke", {"points": [[0, 0], [9000, 0]]}, "paint it in parts"),
    ("stroke", {"points": [[900, 900]]}, "nothing that has been computed lies under the brush"),
    ("stroke", {"value": None}, "no correction lies under the eraser"),
    ("region", {"x": 550}, "the place is not in view"),
    ("region", {"view": [9000, 9000, 10, 10]}, "the view shows no part of the slide"),
    ("region", {"extra": 1}, "extra"),
]


def test_what_cannot_be_done_is_said_and_nothing_changes(client: TestClient, job: str) -> None:
    stroke_on = {"points": [[100, 100]], "radius_um": 10, "value": 1}
    region_on = {"x": 100, "y": 100, "view": [0, 0, 300, 300]}
    for what, change, reason in REFUSED:
        answer = edit(client, job, what, **{**(region_on if what == "region" else stroke_on), **change})
        assert answer.status_code == 400, change
        assert reason in answer.json()["error"]
        assert review(client, job)["revision"] == 0


def test_ids_and_tiles_that_do_not_exist(client: TestClient, job: str) -> None:
    for address in ("/results/..%2f../review", "/results/20200101-000000-abcdef/review"):
        assert client.get(address).status_code == 404
    for address in ("tiles/10/99_0.png", f"tiles/{2**40}/0_0.png", "export/..%2flog.jsonl", "export/secret"):
        assert client.get(f"/results/{job}/review/{address}").status_code == 404, address


def test_a_result_that_grows_is_not_reviewed_yet(client: TestClient, job: str, services: Services) -> None:
    with Run(services.jobs.get(job).run_folder, "segment"):
        answer = stroke(client, job, 100, 100)
    assert answer.status_code == 404
    assert answer.json()["error"] == f"result {job} is still being computed: review it when that is done"


def test_files_say_what_was_said(client: TestClient, job: str, tmp_path: Path) -> None:
    stroke(client, job, 100, 100, 2)
    for kind, name in (("corrected", "first-good-corrected.ome.tif"), ("labels", "first-good-labels.ome.tif")):
        answer = client.get(f"/results/{job}/review/export/{kind}")
        assert name in answer.headers["content-disposition"]
        (tmp_path / name).write_bytes(answer.content)
        mask = tifffile.imread(tmp_path / name)
        assert mask[50, 50] == 2
        assert mask[150, 50] == (0 if kind == "corrected" else 255)
    stroke(client, job, 100, 300, 3)
    document = client.get(f"/results/{job}/review/export/corrections").json()
    assert [f["properties"]["author"] for f in document["features"]] == ["local", "local"]
    lines = client.get(f"/results/{job}/review/export/log").text.splitlines()
    assert [json.loads(line).get("kind") for line in lines] == [None, "brush", "brush"]
    again = client.get(f"/results/{job}/review/export/corrected")
    (tmp_path / "again.tif").write_bytes(again.content)
    assert tifffile.imread(tmp_path / "again.tif")[150, 50] == 3, "made anew after an edit"


def test_people_are_named_and_undo_their_own(client: TestClient, job: str, services: Services, wait_for: Any) -> None:
    access = Access(proxy_header="x-remote-user", proxies=(ipaddress.ip_network("127.0.0.1"),))
    application = make_api(services, "127.0.0.1", access)
    with TestClient(application, base_url="http://127.0.0.1:7860", client=("127.0.0.1", 50000)) as asked:
        asked.headers["X-Remote-User"] = "anna"
        assert stroke(asked, job, 100, 100, 2).status_code == 200
        asked.headers["X-Remote-User"] = "ben"
        assert stroke(asked, job, 500, 100, 3).json()["mine"]["kind"] == "brush"
        asked.headers["X-Remote-User"] = "anna"
        left = edit(asked, job, "undo").json()
        assert [author["name"] for author in left["authors"]] == ["ben"]
        assert left["mine"] is None
        assert "no edit of anna to undo" in edit(asked, job, "undo").json()["error"]
        asked.get(f"/results/{job}/review/export/log")
    path = services.jobs.folder / "audit.jsonl"
    wanted = [("anna", "corrected"), ("ben", "corrected"), ("anna", "corrected"), ("anna", "downloaded")]

    def noted() -> list[tuple[str, str]]:
        entries = [json.loads(line) for line in path.read_text().splitlines()]
        return [(entry["user"], entry["action"]) for entry in entries if entry.get("job") == job]

    wait_for(lambda: noted()[-4:] == wanted)


def test_a_mask_that_has_grown_is_exported_anew(client: TestClient, job: str, services: Services) -> None:
    assert stroke(client, job, 100, 100).status_code == 200
    first = client.get(f"/results/{job}/review/export/corrected").content
    store = ResultStore.open(services.jobs.get(job).run_folder)
    store.write_mask(0, 150, np.full((50, 300), 3, np.uint8))
    store.commit(Region(0, 300, 600, 100))
    store.flush()
    assert client.get(f"/results/{job}/review/export/corrected").content != first
