"""The list: at once whatever the number of slides, remembered across restarts, with what each slide's results are."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from lpd.errors import LpdError
from lpd.slide.label_image import label_image_of
from viewers.catalog import Catalogue
from viewers.jobs import JobRequest
from viewers.resolutions import RememberedMpp
from viewers.result_index import ResultIndex
from viewers.services import Services
from viewers.slide_info import KnownSlides, SlideInfo

Wait = Callable[[Callable[[], object]], None]


def listed(client: TestClient) -> dict[str, dict[str, Any]]:
    return {slide["relative"]: slide for slide in client.get("/api/slides").json()["slides"]}


def all_read(client: TestClient) -> dict[str, dict[str, Any]]:
    """The list once every slide has been opened, which a busy machine takes its time for."""
    deadline = time.monotonic() + 30
    while any(slide["status"] == "unread" for slide in listed(client).values()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return listed(client)


def catalogue(slides: Path, kept: Path) -> Catalogue:
    return Catalogue(slides, RememberedMpp(kept.with_name("mpp.json")), KnownSlides(kept))


def read_all(found: Catalogue) -> dict[str, SlideInfo | LpdError | None]:
    return {file.relative: info for file, info in found.infos(30)}


def no_opening(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("viewers.catalog.open_slide", lambda path: pytest.fail(f"{path} was opened"))


def test_entries_say_where_how_large_and_when(client: TestClient, slides: Path) -> None:
    os.utime(slides / "ward" / "second.png", (1_600_000_000, 1_600_000_000))
    found = all_read(client)
    second = found["ward/second.png"]
    assert (second["folder"], second["name"], second["modified"]) == ("ward", "second.png", 1_600_000_000)
    assert second["size_bytes"] == (slides / "ward" / "second.png").stat().st_size
    assert (second["vendor"], second["width"], second["height"]) == ("plain image", 80, 100)
    assert found["first.png"]["folder"] == ""
    assert found["broken.svs"]["size_bytes"] == len(b"not a slide at all")


def test_a_restart_opens_no_slide_again(slides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (slides / "broken.svs").unlink()
    first = read_all(catalogue(slides, tmp_path / "slides.json"))
    assert (tmp_path / "slides.json").is_file()
    no_opening(monkeypatch)
    again = read_all(catalogue(slides, tmp_path / "slides.json"))
    assert again == first
    assert isinstance(again["first.png"], SlideInfo)


def test_a_changed_file_is_read_anew(slides: Path, tmp_path: Path) -> None:
    read_all(catalogue(slides, tmp_path / "slides.json"))
    Image.new("RGB", (71, 33), "white").save(slides / "first.png")
    info = read_all(catalogue(slides, tmp_path / "slides.json"))["first.png"]
    assert isinstance(info, SlideInfo)
    assert (info.width_l0, info.height_l0) == (71, 33)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"format"', '"shape"'),
        lambda text: text.replace("lpd ", "another "),
        lambda text: text.replace('"width_l0": 600', '"width_l0": "600"'),
        lambda text: text.replace('"width_l0": 600', '"width_l0": -600'),
        lambda text: json.dumps([1, 2, 3]),
        lambda text: json.dumps({**json.loads(text), "slides": [["a", 1]]}),
        lambda text: "\udcff",
    ],
)
def test_a_damaged_memory_is_ignored(slides: Path, tmp_path: Path, damage: Callable[[str], str]) -> None:
    kept = tmp_path / "slides.json"
    whole = read_all(catalogue(slides, kept))
    kept.write_bytes(damage(kept.read_text()).encode("utf-8", "surrogateescape"))
    again = read_all(catalogue(slides, kept))
    assert {name: str(info) for name, info in again.items()} == {name: str(info) for name, info in whole.items()}


def test_memory_that_cannot_be_written_costs_nothing_else(slides: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert isinstance(read_all(catalogue(slides, tmp_path / "file" / "slides.json"))["first.png"], SlideInfo)


def test_what_is_remembered_is_bounded(slides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("viewers.slide_info._LIMIT", 2)
    known = KnownSlides(tmp_path / "slides.json")
    files = Catalogue(slides, RememberedMpp(tmp_path / "mpp.json")).files()
    for file in files:
        known.put(file, LpdError(file.name))
    assert [str(known.get(file)) for file in files] == ["None", *(file.name for file in files[1:])]


def test_many_unread_slides_are_listed_at_once_and_read_behind_the_scenes(
    client: TestClient, slides: Path, monkeypatch: pytest.MonkeyPatch, wait_for: Wait
) -> None:
    from viewers import catalog

    def slowly(path: Path) -> Any:
        time.sleep(0.05)
        return opened(path)

    opened = catalog.open_slide
    monkeypatch.setattr("viewers.catalog.open_slide", slowly)
    for number in range(30):
        (slides / f"n{number % 7}").mkdir(exist_ok=True)
        shutil.copy(slides / "first.png", slides / f"n{number % 7}" / f"{number}.png")
    start = time.monotonic()
    found = listed(client)
    assert time.monotonic() - start < 1.2  # one after the other they take longer
    assert sum(slide["status"] == "unread" for slide in found.values()) > 20
    assert client.get("/healthz").status_code == 200
    wait_for(lambda: all(slide["status"] != "unread" for slide in listed(client).values()))
    assert {slide["status"] for name, slide in listed(client).items() if name != "broken.svs"} == {"ok"}


def test_whoever_asks_again_hears_that_nothing_changed(client: TestClient, slides: Path) -> None:
    listed(client)
    first = client.get("/api/slides")
    again = client.get("/api/slides", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    Image.new("RGB", (50, 40), "white").save(slides / "new.png")
    assert client.get("/api/slides", headers={"If-None-Match": first.headers["etag"]}).status_code == 200


def test_results_are_named_by_model_the_newest_first_without_opening_any(
    services: Services, client: TestClient, wait_for: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {file.relative: file for file in services.catalogue.files()}

    def run(checkpoint: str) -> str:
        path = services.checkpoints.get(checkpoint).path
        file = files["first.png"]
        job = services.jobs.start(JobRequest(file.id, file.path, path, mpp=0.5, region_l0=(0, 0, 90, 80)))
        wait_for(lambda: services.jobs.get(job.id).run.ended)
        time.sleep(1.05)  # ids tell seconds
        return job.id

    older, failed, newer = run("good"), run("early-failure"), run("good")
    monkeypatch.setattr("viewers.services.ResultStore.open", lambda _: pytest.fail("a result was opened"))
    found = listed(client)
    results = found["first.png"]["results"]
    assert [(r["job"], r["checkpoint"], r["state"]) for r in results] == [
        (newer, "good", "done"),
        (failed, "early-failure", "failed"),
    ]
    assert all(r["region"] and abs(r["created"] - time.time()) < 120 for r in results)
    assert found["ward/second.png"]["results"] == []
    shutil.rmtree(services.jobs.folder / newer)
    assert [r["job"] for r in listed(client)["first.png"]["results"]] == [failed, older]


def test_ended_results_are_looked_at_once(services: Services, wait_for: Wait, monkeypatch: pytest.MonkeyPatch) -> None:
    file = next(file for file in services.catalogue.files() if file.relative == "first.png")
    path = services.checkpoints.get("good").path
    job = services.jobs.start(JobRequest(file.id, file.path, path, mpp=0.5))
    wait_for(lambda: services.jobs.get(job.id).run.ended)
    index = ResultIndex(services.jobs)
    first = index.by_slide()
    assert [r["state"] for r in first[file.id]] == ["done"]
    with monkeypatch.context() as patch:
        patch.setattr(type(services.jobs), "get", lambda *_: pytest.fail("looked at again"))
        assert index.by_slide() == first
    os.utime(job.run_folder / "state.json")  # the same command was typed again
    assert index.by_slide() == first


@pytest.mark.skipif(sys.platform == "win32", reason="such names are not allowed there")
@pytest.mark.parametrize(
    "name",
    [
        "two\nlines.png",
        "<script>alert(1)<.png",
        "%2e%2e.png",
        "a..%2f..%2fetc.png",
        "'; DROP.png",
        "\u202egnp.exe.png",
        '"onerror=1',
    ],
)
def test_hostile_names_are_only_names(client: TestClient, slides: Path, name: str) -> None:
    folder = slides / name.removesuffix(".png")
    folder.mkdir()
    path = folder / (name if name.endswith(".png") else f"{name}.png")
    Image.new("RGB", (50, 40), "white").save(path)
    slide = all_read(client)[f"{folder.name}/{path.name}"]
    assert (slide["name"], slide["folder"], slide["status"]) == (path.name, folder.name, "ok")
    for address in (slide["dzi"], slide["thumbnail"], f"{slide['tiles']}/6/0_0.jpeg", f"/api/slides/{slide['id']}"):
        answer = client.get(address)
        assert answer.status_code == 200
        assert not any(name in value for value in answer.headers.values())


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every file name is Unicode")
def test_a_folder_whose_name_is_no_text_spoils_nothing(client: TestClient, slides: Path) -> None:
    folder = slides / os.fsdecode(b"st\xe4tion")
    folder.mkdir()
    shutil.copy(slides / "first.png", folder / "a.png")
    found = all_read(client)
    assert "rename" in found["st\ufffdtion/a.png"]["error"]
    assert found["first.png"]["status"] == "ok"


def test_whoever_knows_a_revision_hears_what_has_changed(client: TestClient, slides: Path) -> None:
    all_read(client)
    whole = client.get("/api/slides").json()
    assert client.get("/api/slides", params={"since": whole["revision"]}).json() == {
        "folder": whole["folder"], "revision": whole["revision"], "changed": [], "gone": [],
    }  # fmt: skip
    Image.new("RGB", (50, 40), "white").save(slides / "new.png")
    (slides / "broken.svs").unlink()
    all_read(client)  # the disk is looked at
    news = client.get("/api/slides", params={"since": whole["revision"]}).json()
    assert [slide["relative"] for slide in news["changed"]] == ["new.png"]
    assert news["gone"] == [slide["id"] for slide in whole["slides"] if slide["name"] == "broken.svs"]
    assert client.get("/api/slides", params={"since": news["revision"]}).json()["changed"] == []
    for strange in ("x", "1", f"{whole['revision']}x", "0-0", whole["revision"].replace("-", "-9-")):
        assert len(client.get("/api/slides", params={"since": strange}).json()["slides"]) == 3


def test_changes_are_asked_for_without_looking_at_the_disk_each_time(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_read(client)
    revision = client.get("/api/slides").json()["revision"]
    monkeypatch.setattr("viewers.catalog.find_slides", lambda _: pytest.fail("the disk was read"))
    monkeypatch.setattr("viewers.slide_listing._FRESH_S", 1000)
    assert client.get("/api/slides", params={"since": revision}).json()["changed"] == []


def test_a_new_result_changes_only_its_slide(services: Services, client: TestClient, wait_for: Wait) -> None:
    all_read(client)
    revision = client.get("/api/slides").json()["revision"]
    file = next(file for file in services.catalogue.files() if file.relative == "first.png")
    path = services.checkpoints.get("good").path
    job = services.jobs.start(JobRequest(file.id, file.path, path, mpp=0.5, user="anna"))
    wait_for(lambda: services.jobs.get(job.id).run.ended)
    (changed,) = client.get("/api/slides", params={"since": revision}).json()["changed"]
    assert (changed["name"], [(r["state"], r["user"]) for r in changed["results"]]) == (
        "first.png",
        [("done", "anna")],
    )


def test_jobs_that_have_ended_are_described_once(
    services: Services, client: TestClient, wait_for: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_read(client)
    file = next(file for file in services.catalogue.files() if file.relative == "first.png")
    job = services.jobs.start(JobRequest(file.id, file.path, services.checkpoints.get("good").path, mpp=0.5))
    wait_for(lambda: (job.folder / "exit.json").is_file())
    first = client.get("/api/jobs").json()["jobs"]
    assert (first[0]["has_mask"], "geojson" in first[0]["downloads"]) == (True, True)
    assert client.get("/api/jobs?going=true").json()["jobs"] == []
    with monkeypatch.context() as patch:
        patch.setattr(type(services), "result", lambda *_: pytest.fail("a result was opened"))
        assert client.get("/api/jobs").json()["jobs"] == first
        assert client.get(f"/api/jobs?slide={file.id}").json()["jobs"] == first
    (job.run_folder / "annotations.geojson").unlink()
    assert "geojson" not in client.get("/api/jobs").json()["jobs"][0]["downloads"]
    with Image.open(file.path) as before:
        size = before.size
    Image.new("RGB", size, "white").save(file.path)  # another slide of the same name and size
    all_read(client)
    (after,) = client.get("/api/jobs").json()["jobs"]
    assert (after["has_mask"], "replaced" in after["message"]) == (False, True)


@pytest.mark.parametrize("ending", [".mask.tif", ".mask.tiff", ".mask.png"])
@pytest.mark.parametrize("slide", ["a.svs", "a.SVS", "a.ndpi", "a.png"])
def test_a_ground_truth_beside_its_slide_is_no_slide(slides: Path, tmp_path: Path, ending: str, slide: str) -> None:
    (slides / slide).touch()
    (slides / f"a{ending}").touch()
    (slides / f"b{ending}").touch()  # of no slide here: somebody's slide may be called so
    names = {file.relative for file in catalogue(slides, tmp_path / "slides.json").files()}
    assert (slide in names, f"a{ending}" in names, f"b{ending}" in names) == (True, False, True)
    found = label_image_of(slides / slide)
    assert found is not None
    assert found.name == f"a{ending}"


def test_a_slide_that_was_replaced_since_the_list_was_read_is_the_new_one(
    slides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = catalogue(slides, tmp_path / "known.json")
    file = next(file for file in found.files() if file.name == "first.png")
    before = found.info(file.id)
    monkeypatch.setattr("viewers.catalog._CHANGES_S", 0.0)
    Image.new("RGB", (70, 50)).save(file.path)
    after = found.info(file.id)
    assert (after.width_l0, after.height_l0) == (70, 50)
    assert after.fingerprint != before.fingerprint
    with found.borrow(file.id) as slide:
        assert (slide.width_l0, slide.height_l0) == (70, 50)
