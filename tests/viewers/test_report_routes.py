"""Areas of a drawn region and the report of a result over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from lpd.export.areas import write_areas_csv
from viewers.services import Services

Wait = Callable[[Callable[[], object]], None]
#: A pixel's area in mm² at 0.5 µm; the stand-in's mask is tumour left of x = 300, stroma right of it.
PIXEL = 0.5**2 * 1e-6


@pytest.fixture
def job(client: TestClient, slide_id: str, wait_for: Wait) -> str:
    """Id of a finished result of ``first.png``, 600 × 400."""
    client.put(f"/api/slides/{slide_id}/mpp", json={"mpp": 0.5})
    started = client.post("/api/jobs", json={"slide": slide_id, "checkpoint": "good"}).json()["id"]
    wait_for(lambda: client.get(f"/api/jobs/{started}").json()["ended"])
    return str(started)


def square(x0: float, y0: float, x1: float, y1: float) -> list[list[list[float]]]:
    return [[[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]]


def annotate(client: TestClient, slide: str, *drawn: tuple[str, str, Any]) -> None:
    features = [
        {"type": "Feature", "geometry": {"type": kind, "coordinates": coordinates}, "properties": {"name": name}}
        for name, kind, coordinates in drawn
    ]
    body = {"revision": 0, "features": features}
    assert client.put(f"/api/slides/{slide}/annotations", json=body).status_code == 200


def test_areas_of_a_region_and_of_the_slide(client: TestClient, job: str, services: Services) -> None:
    found = client.post(f"/results/{job}/region-areas", json={"polygons": [square(200, 0, 340, 100)]}).json()
    tumour, stroma, _, _, tissue = (row["area_mm2"] for row in found["areas"])
    assert [tumour, stroma, tissue] == pytest.approx([100 * 100 * PIXEL, 40 * 100 * PIXEL, 140 * 100 * PIXEL])
    assert found["areas"][0]["percent"] == pytest.approx(100 * 100 / 140)
    assert found["ratio"] == "Tumour to Stroma 2.50 : 1 (stroma is 28.6 % of both)"
    assert found["computed_percent"] == 100
    made = services.jobs.get(job)
    with services.result(made) as store:
        write_areas_csv(store, made.run_folder / "areas.csv")
    assert client.get(f"/results/{job}/areas").json()["ratio"].startswith("Tumour to Stroma 1.00 : 1")


def test_regions_that_are_none(client: TestClient, job: str) -> None:
    for polygons, words in (
        ([], "polygons is not valid"),
        ([[]], "is empty"),
        ([[[[0, 0], [9, 9], [0, 0]]]], "is empty, its line encloses nothing"),
        ([[[["a", 0]]]], "not valid"),
        ([[[[1e300, 0], [0, 1], [1, 1]]]], "not valid"),
        ([[[[0, 0], [1, 2]] * 110_000]], "220000 corners, more than 200000: draw it simpler"),
    ):
        answer = client.post(f"/results/{job}/region-areas", json={"polygons": polygons})
        assert answer.status_code == 400
        assert words in answer.json()["error"]


def test_report_has_the_regions_that_have_names(
    client: TestClient, job: str, slide_id: str, services: Services, wait_for: Wait
) -> None:
    annotate(
        client,
        slide_id,
        ("core <i>1</i>", "Polygon", square(200, 0, 340, 100)),
        ("", "Polygon", square(0, 0, 10, 10)),
        ("a length", "LineString", [[0, 0], [5, 5]]),
        ("a slip", "Polygon", [[[5, 5], [5, 5], [5, 5], [5, 5]]]),
    )
    answer = client.get(f"/results/{job}/report.html")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''first-good-report.html"
    assert answer.headers["cache-control"] == "no-store"
    page = answer.text
    assert "<h1>first.png</h1>" in page
    assert "core &lt;i&gt;1&lt;/i&gt;" in page
    assert "a length" not in page
    assert "a slip" not in page
    assert "3,500 µm²" in page  # 140 × 100 pixels
    assert page.count("data:image/jpeg") == 2
    assert "Research use only. Not a medical device." in page
    log = services.jobs.folder / "audit.jsonl"
    wait_for(lambda: '"detail": "report.html"' in log.read_text())


def test_report_has_peoples_corrections_in_its_figures(client: TestClient, job: str) -> None:
    report = client.get(f"/results/{job}/report.html").text
    assert '<p class="review">Not reviewed by anybody.</p>' in report
    assert "Tumour to Stroma 1.00 : 1" in report
    place = {"x": 100, "y": 100, "view": [0, 0, 600, 400], "value": 1, "revision": 0, "run": review_run(client, job)}
    assert client.post(f"/results/{job}/review/region", json=place).status_code == 200
    report = client.get(f"/results/{job}/report.html").text
    assert "Reviewed by somebody without a name: 50.0 % of the tissue" in report
    assert "All figures and pictures are with the corrections." in report
    assert "Tumour to Stroma 0.00 : 1" in report


def review_run(client: TestClient, job: str) -> str:
    return str(client.get(f"/results/{job}/review").json()["run"])


def test_report_of_unfinished_work(client: TestClient, slide_id: str, wait_for: Wait) -> None:
    client.put(f"/api/slides/{slide_id}/mpp", json={"mpp": 0.5})
    slow = client.post("/api/jobs", json={"slide": slide_id, "checkpoint": "slow"}).json()["id"]
    wait_for(lambda: client.get(f"/api/jobs/{slow}").json()["has_mask"])
    answer = client.get(f"/results/{slow}/report.html")
    assert answer.status_code == 404
    assert "has no report yet" in answer.json()["error"]
    assert client.post(f"/results/{slow}/region-areas", json={"polygons": [square(0, 0, 600, 400)]}).status_code == 200
    client.post(f"/api/jobs/{slow}/cancel")
    wait_for(lambda: client.get(f"/api/jobs/{slow}").json()["ended"])
    page = client.get(f"/results/{slow}/report.html").text
    assert "The result was not finished. Only 50.0 % of the slide was segmented" in page


def test_report_without_slide_or_model(client: TestClient, job: str, services: Services) -> None:
    (services.catalogue.folder / "first.png").unlink()
    (services.checkpoints.folder / "good.safetensors").unlink()
    page = client.get(f"/results/{job}/report.html").text
    assert "The slide file was not at hand" in page
    assert "The checkpoint file was not at hand" in page


@pytest.mark.parametrize("job_id", ["20200101-000000-abcdef", "%2e%2e", "x" * 3000])
def test_results_that_do_not_exist(client: TestClient, job_id: str) -> None:
    assert client.get(f"/results/{job_id}/report.html").status_code == 404
    assert client.post(f"/results/{job_id}/region-areas", json={"polygons": [square(0, 0, 9, 9)]}).status_code == 404
