"""Annotations: saved by slide, never over somebody else's, lossless, and refused with a sentence if malformed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import shapely
from fastapi.testclient import TestClient
from PIL import Image

RING = [[10, 10], [50.25, 10], [50.25, 40], [10, 10]]


def feature(kind: str = "Polygon", coordinates: Any = None, **more: Any) -> dict[str, Any]:
    """As QuPath writes one, members that only QuPath knows included."""
    return {
        "type": "Feature",
        "id": "3f0b8a3e-6a51-4a0f-9d55-0f5f6b2f0a11",
        "geometry": {"type": kind, "coordinates": [RING] if coordinates is None else coordinates, "isEllipse": False},
        "properties": {
            "objectType": "annotation",
            "classification": {"name": "Tumor", "color": [200, 0, 0]},
            "isLocked": True,
            "measurements": {"Area µm^2": 603.75},
        },
        **more,
    }


def save(client: TestClient, slide: str, features: list[Any], revision: int = 0) -> Any:
    return client.put(f"/api/slides/{slide}/annotations", json={"revision": revision, "features": features})


def test_what_is_saved_comes_back_as_it_was(client: TestClient, slide_id: str) -> None:
    drawn = [
        feature(),
        feature("MultiPolygon", [[RING], [RING, RING]]),
        feature("LineString", [[1, 2], [3, 4]]),
        feature("Point", [5, 6], properties={"lpd": {"view": {"x": 5, "y": 6, "scale": 0.5, "degrees": 90}}}),
        feature("MultiPoint", [[5, 6], [7, 8]], properties=None),
    ]
    assert client.get(f"/api/slides/{slide_id}/annotations").json() == {"revision": 0, "features": []}
    assert save(client, slide_id, drawn).json() == {"revision": 1}
    assert client.get(f"/api/slides/{slide_id}/annotations").json() == {"revision": 1, "features": drawn}


def test_the_file_to_take_along_is_geojson_that_others_read(client: TestClient, slide_id: str) -> None:
    save(client, slide_id, [feature()])
    answer = client.get(f"/api/slides/{slide_id}/annotations.geojson")
    assert 'filename="first-annotations.geojson"' in answer.headers["content-disposition"]
    document = json.loads(answer.content)
    assert document["type"] == "FeatureCollection"
    found = shapely.from_geojson(json.dumps(document["features"][0]["geometry"]))
    assert found.equals_exact(shapely.Polygon(RING))


def test_what_was_drawn_on_a_file_that_was_replaced_is_not_saved_with_the_new_one(
    client: TestClient, slides: Path, slide_id: str
) -> None:
    slide = client.get(f"/api/slides/{slide_id}").json()
    address, body = f"/api/slides/{slide_id}/annotations", {"revision": 0, "features": [feature()]}
    Image.new("RGB", (600, 401)).save(slides / slide["relative"])
    client.get("/api/slides")
    answer = client.put(address, params={"f": slide["fingerprint"]}, json=body)
    assert answer.status_code == 409
    assert "has been replaced meanwhile" in answer.json()["error"]
    after = client.get(f"/api/slides/{slide_id}").json()
    assert client.put(address, params={"f": after["fingerprint"]}, json=body).json() == {"revision": 1}


def test_nobody_writes_over_what_another_saved(client: TestClient, slide_id: str) -> None:
    assert save(client, slide_id, [feature()]).status_code == 200
    answer = save(client, slide_id, [])
    assert answer.status_code == 409
    assert "changed elsewhere" in answer.json()["error"]
    assert len(client.get(f"/api/slides/{slide_id}/annotations").json()["features"]) == 1
    assert save(client, slide_id, [], revision=1).json() == {"revision": 2}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"type": "Polygon"}, "its type is not Feature"),
        (feature("Circle"), "its geometry 'Circle' is none of"),
        (feature(coordinates=[RING[:3]]), "not closed"),
        (feature(coordinates=[[[0, 0], [1, 1], [0, 0]]]), "less than three corners"),
        (feature(coordinates=[]), "empty"),
        (feature("Point", ["a", 1]), "two numbers"),
        (feature("Point", [1e12, 1]), "two numbers"),
        (feature("Point", [True, 1]), "two numbers"),
        (feature(properties=[]), "properties"),
    ],
)
def test_what_is_no_annotation_is_refused_and_nothing_changes(
    client: TestClient, slide_id: str, bad: Any, reason: str
) -> None:
    assert save(client, slide_id, [feature()]).status_code == 200
    answer = save(client, slide_id, [feature(), bad], revision=1)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("annotation 2 is not a GeoJSON feature")
    assert reason in answer.json()["error"]
    assert client.get(f"/api/slides/{slide_id}/annotations").json()["revision"] == 1


def test_a_damaged_file_is_named_and_left_alone(client: TestClient, slide_id: str, services: Any) -> None:
    save(client, slide_id, [feature()])
    (path,) = (services.jobs.folder / "annotations").iterdir()
    path.write_text("{torn")
    answer = client.get(f"/api/slides/{slide_id}/annotations")
    assert answer.status_code == 400
    assert path.name in answer.json()["error"]
    assert save(client, slide_id, []).status_code == 400
    assert path.read_text() == "{torn"


def test_no_id_no_annotations(client: TestClient) -> None:
    assert client.get("/api/slides/..%2fsecret/annotations").status_code == 404
    assert save(client, "0" * 16, []).status_code == 404
