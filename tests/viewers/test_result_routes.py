"""Jobs and results over HTTP: start, watch the mask grow, cancel, fail with a sentence, download."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from lpd.data.phantom import write_phantom_slide
from lpd.export.areas import write_areas_csv
from viewers.services import Services

SHIPPED = Path(__file__).resolve().parents[2] / "checkpoints"

Wait = Callable[[Callable[[], object]], None]


@pytest.fixture
def ready(client: TestClient, slide_id: str) -> str:
    """Id of a slide whose resolution is known."""
    assert client.put(f"/api/slides/{slide_id}/mpp", json={"mpp": 0.5}).status_code == 200
    return slide_id


def start(client: TestClient, slide: str, checkpoint: str = "good", **more: Any) -> dict[str, Any]:
    answer = client.post("/api/jobs", json={"slide": slide, "checkpoint": checkpoint, **more})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def finish(wait_for: Wait, client: TestClient, job: str) -> dict[str, Any]:
    wait_for(lambda: client.get(f"/api/jobs/{job}").json()["ended"])
    return dict(client.get(f"/api/jobs/{job}").json())


def values(content: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(content))
    assert image.mode == "L"
    return np.asarray(image)


def test_models_are_listed_with_notice_and_bad_ones_with_reason(client: TestClient) -> None:
    models = {model["name"]: model for model in client.get("/api/checkpoints").json()["checkpoints"]}
    assert models["good"]["notice"] == "for research only"
    assert [entry["code"] for entry in models["good"]["classes"]] == ["TUM", "STR", "LYM", "NEC", "BACK"]
    assert "torn.safetensors" in models["torn"]["error"]
    assert "/" not in models["torn"]["error"]


def test_the_phantom_model_is_suggested_for_the_phantom_only(
    client: TestClient, slides: Path, checkpoints: Path
) -> None:
    write_phantom_slide(slides / "drawn.tif", 512, 512, workers=1)
    shutil.copy(SHIPPED / "phantom-learnable-mobilenetv2_100.safetensors", checkpoints / "a.safetensors")
    suggested = {s["name"]: s["suggested_checkpoint"] for s in client.get("/api/slides").json()["slides"]}
    assert suggested["drawn.tif"] == "a"
    assert suggested["first.png"] == "deaf"  # first by name that is usable and not the phantom's


def test_slide_without_resolution_is_not_segmented(client: TestClient, slide_id: str) -> None:
    answer = client.post("/api/jobs", json={"slide": slide_id, "checkpoint": "good"})
    assert answer.status_code == 400
    assert "resolution" in answer.json()["error"]
    assert client.get("/api/jobs").json() == {"jobs": []}


@pytest.mark.parametrize(
    "change",
    [
        {"slide": "../../etc/passwd"},
        {"checkpoint": "../checkpoints/good"},
        {"checkpoint": "torn"},
        {"device": "cuda:0; rm -rf /"},
        {"region": [0, 0, 10]},
        {"region": [0, 0, 10**20, 1]},
        {"region": [0, 0, 0, 5]},
        {"region": [5000, 5000, 10, 10]},
        {"surprise": 1},
    ],
)
def test_jobs_that_make_no_sense_are_refused_and_leave_nothing(
    client: TestClient, ready: str, change: dict[str, Any]
) -> None:
    answer = client.post("/api/jobs", json={"slide": ready, "checkpoint": "good", **change})
    assert answer.status_code in (400, 404)
    assert list(answer.json()) == ["error"]
    assert client.get("/api/jobs").json() == {"jobs": []}


@pytest.mark.parametrize(
    "polygons",
    [[[[[0, 0], [50, 0], [50, 50], [0, 1]]]], [[[[0, 0], [1, 1], [0, 0]]]], [[]], [[[["a", 0]]]], [[[[1e300, 0]]]]],
)
def test_polygons_that_are_none_are_refused(client: TestClient, ready: str, polygons: Any) -> None:
    answer = client.post("/api/jobs", json={"slide": ready, "checkpoint": "good", "polygons": polygons})
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]
    assert client.get("/api/jobs").json() == {"jobs": []}


def test_a_drawn_region_is_handed_to_the_command_as_a_file(client: TestClient, ready: str, services: Services) -> None:
    ring = [[10.5, 10], [200, 20], [150, 180.25], [10.5, 10]]
    job = start(client, ready, polygons=[[ring]])
    assert job["polygons"] == 1
    argv = services.jobs.get(job["id"]).argv
    written = Path(argv[argv.index("--regions") + 1])
    assert json.loads(written.read_text()) == {"type": "MultiPolygon", "coordinates": [[ring]]}


def test_finished_mask_lies_at_the_slide_tiles_addresses(wait_for: Wait, client: TestClient, ready: str) -> None:
    job = finish(wait_for, client, start(client, ready)["id"])
    assert (job["state"], job["has_mask"]) == ("done", True)
    assert [entry["code"] for entry in job["classes"]] == ["TUM", "STR", "LYM", "NEC", "BACK"]
    slide = client.get(f"/api/slides/{ready}").json()
    for level, col, row in ((slide["levels"] - 1, 1, 0), (slide["levels"] - 2, 0, 0), (8, 0, 0)):
        answer = client.get(f"/results/{job['id']}/layers/mask/{level}/{col}_{row}.png")
        mask = values(answer.content)
        tile = Image.open(io.BytesIO(client.get(f"/slides/{ready}_files/{level}/{col}_{row}.jpeg").content))
        assert mask.shape[::-1] == tile.size
        step = 2 ** (slide["levels"] - 1 - level)
        x = (np.arange(mask.shape[1]) + 0.5) * step + col * 256 * step
        assert (mask == np.where(x < 300, 0, 1)).all()
        assert "immutable" in answer.headers["cache-control"]


def test_changes_tell_what_is_new_since_a_revision(wait_for: Wait, client: TestClient, ready: str) -> None:
    job = finish(wait_for, client, start(client, ready)["id"])["id"]
    everything = client.get(f"/results/{job}/changes").json()
    assert everything["rects"] == [[0, 0, 300, 400], [300, 0, 300, 400]]
    address, since = f"/results/{job}/changes", everything["revision"]
    nothing = client.get(address, params={"since": since, "run": everything["run"]}).json()
    assert (nothing["run"], nothing["revision"], nothing["rects"]) == (everything["run"], since, [])
    assert client.get(address, params={"since": since, "run": "another"}).json() == everything
    assert client.get(f"/results/{job}/changes", params={"since": -1}).status_code == 400


def test_mask_is_there_while_the_job_runs_and_not_kept_by_browsers(
    wait_for: Wait, client: TestClient, ready: str
) -> None:
    job = start(client, ready, "slow")["id"]
    assert client.get(f"/results/{job}/layers/mask/8/0_0.png").status_code == 404
    wait_for(lambda: client.get(f"/results/{job}/changes").json()["rects"])
    assert not client.get(f"/api/jobs/{job}").json()["ended"]
    answer = client.get(f"/results/{job}/layers/mask/10/0_0.png")
    assert answer.headers["cache-control"] == "no-store"
    assert (values(answer.content) == 0).all()
    assert (values(client.get(f"/results/{job}/layers/mask/10/2_0.png").content) == 255).all()


def test_cancelled_job_keeps_what_it_has(wait_for: Wait, client: TestClient, ready: str) -> None:
    job = start(client, ready, "slow")["id"]
    wait_for(lambda: client.get(f"/results/{job}/changes").json()["rects"])
    assert client.post(f"/api/jobs/{job}/cancel").json()["message"].startswith("Stopping")
    assert finish(wait_for, client, job)["state"] == "cancelled"
    assert (values(client.get(f"/results/{job}/layers/mask/10/0_0.png").content) == 0).all()


def test_failures_are_told_in_the_commands_own_sentence(wait_for: Wait, client: TestClient, ready: str) -> None:
    early = finish(wait_for, client, start(client, ready, "early-failure")["id"])
    assert (early["state"], early["message"]) == ("failed", "the model is not for this slide: choose another one")
    late = finish(wait_for, client, start(client, ready, "late-failure")["id"])
    assert (late["state"], late["message"]) == ("failed", "the disk is full: free some space")
    strange = finish(wait_for, client, start(client, ready, "strange-failure")["id"])
    assert strange["state"] == "failed"
    assert "ZeroDivision" not in strange["message"]
    assert f"{strange['id']}/log.txt" in strange["message"]


def test_jobs_of_a_slide_come_newest_first(wait_for: Wait, client: TestClient, ready: str) -> None:
    ids = [finish(wait_for, client, start(client, ready, anew=True)["id"])["id"] for _ in range(2)]
    listed = [job["id"] for job in client.get("/api/jobs", params={"slide": ready}).json()["jobs"]]
    assert sorted(listed) == sorted(ids)
    assert client.get("/api/jobs", params={"slide": "other"}).json() == {"jobs": []}


def test_region_is_clipped_to_the_slide_and_reaches_the_command(
    wait_for: Wait, client: TestClient, ready: str, tmp_path: Path
) -> None:
    job = start(client, ready, region=[-50, 100, 200, 9000])
    assert job["region_l0"] == [0, 100, 150, 300]
    record = json.loads((tmp_path / "results" / job["id"] / "job.json").read_text())
    at = record["argv"].index("--region")
    assert record["argv"][at + 1 : at + 5] == ["0", "100", "150", "300"]
    assert record["argv"][record["argv"].index("--mpp") + 1] == "0.5"
    assert finish(wait_for, client, job["id"])["state"] == "done"


def test_downloads_carry_a_telling_name(wait_for: Wait, client: TestClient, ready: str) -> None:
    job = finish(wait_for, client, start(client, ready)["id"])
    assert "geojson" in job["downloads"]
    answer = client.get(f"/results/{job['id']}/download/geojson")
    assert answer.content == b"{}"
    assert 'filename="first-good.geojson"' in answer.headers["content-disposition"]
    assert client.get(f"/results/{job['id']}/download/ome-tiff").status_code == 404
    assert client.get(f"/results/{job['id']}/download/..%2fjob.json").status_code == 404
    assert client.get(f"/results/{job['id']}/download/state.json").status_code == 404


@pytest.mark.parametrize("job", ["20200101-000000-abcdef", "..", "%2e%2e", "device.lock", "x" * 4000, ".cache"])
def test_results_that_do_not_exist_are_404(client: TestClient, job: str) -> None:
    for address in (
        f"/api/jobs/{job}",
        f"/results/{job}/changes",
        f"/results/{job}/layers/mask/8/0_0.png",
        f"/results/{job}/download/csv",
    ):
        assert client.get(address).status_code == 404
    assert client.post(f"/api/jobs/{job}/cancel").status_code == 404


def test_areas_come_from_the_commands_table(wait_for: Wait, client: TestClient, ready: str, services: Services) -> None:
    job = finish(wait_for, client, start(client, ready)["id"])["id"]
    assert client.get(f"/results/{job}/areas").status_code == 404
    table = services.jobs.get(job).run_folder / "areas.csv"
    with services.result(services.jobs.get(job)) as store:
        write_areas_csv(store, table)
    rows = client.get(f"/results/{job}/areas").json()["areas"]
    assert [row["code"] for row in rows] == ["TUM", "STR", "LYM", "NEC", "TISSUE"]
    half_mm2 = 300 * 400 * (0.5 / 1000) ** 2
    assert [row["area_mm2"] for row in rows] == pytest.approx([half_mm2, half_mm2, 0, 0, 2 * half_mm2])
    assert [row["percent"] for row in rows] == pytest.approx([50, 50, 0, 0, 100])
    table.write_text("code\nTUM\n")
    assert client.get(f"/results/{job}/areas").status_code == 400


def test_picture_is_drawn_when_asked_for(wait_for: Wait, client: TestClient, ready: str) -> None:
    job = finish(wait_for, client, start(client, ready)["id"])
    assert "png" in job["downloads"]
    answer = client.get(f"/results/{job['id']}/download/png")
    assert answer.headers["content-type"] == "image/png"
    assert min(Image.open(io.BytesIO(answer.content)).size) > 200


def test_mask_of_a_replaced_slide_is_not_laid_over_the_new_one(
    wait_for: Wait, client: TestClient, ready: str, slides: Path
) -> None:
    job = finish(wait_for, client, start(client, ready)["id"])["id"]
    Image.new("RGB", (640, 400), "white").save(slides / "first.png")
    client.get("/api/slides")
    found = client.get(f"/api/jobs/{job}").json()
    assert not found["has_mask"]
    assert "replaced" in found["message"]
