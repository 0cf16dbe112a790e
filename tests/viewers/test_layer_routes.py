"""Layers over HTTP: scores, doubt, tissue and ground truth at the slide tiles' addresses; values at a point."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from lpd.classes import BCSS
from lpd.inference.meta import ResultMeta
from lpd.inference.store import ResultStore
from lpd.slide.region import Region
from viewers.layer_routes import margins, value_at


def values(content: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(content))
    assert image.mode == "L"
    return np.asarray(image)


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    """8 × 4 mask pixels, two cells: one of stroma .9, tumour .1; the other not computed. Level 0 is twice as fine."""
    meta = ResultMeta("a", "f", 16, 8, 0.5, 1.0, BCSS, "c", "0" * 64)
    store = ResultStore.create(tmp_path / "result", meta)
    store.write_mask(0, 0, np.ones((4, 4), np.uint8))
    scores = np.zeros((4, 1, 1), np.uint8)
    scores[0], scores[1] = 25, 229
    store.write_scores(0, 0, scores)
    store.finish()
    return store


def test_margin_is_by_how_much_the_best_is_ahead(store: ResultStore) -> None:
    found = margins(store, Region(0, 0, 16, 8), (4, 2))
    assert found.tolist() == [[204, 204, 255, 255], [204, 204, 255, 255]]


def test_glass_has_no_margin(store: ResultStore) -> None:
    store.write_scores(1, 0, np.zeros((4, 1, 1), np.uint8))
    assert margins(store, Region(8, 0, 8, 8), (2, 2)).tolist() == [[255, 255], [255, 255]]


def test_value_at_a_point(store: ResultStore) -> None:
    assert value_at(store, 3, 3) == {"class": 1, "scores": [0.098, 0.902, 0.0, 0.0]}
    assert value_at(store, 12, 3) == {"class": None, "scores": None}
    assert value_at(store, 99, 99) == {"class": None, "scores": None}


def test_ground_truth_beside_the_slide_is_a_layer(client: TestClient, slide_id: str, slides: Path) -> None:
    assert client.get(f"/api/slides/{slide_id}").json()["truth"] is False
    missing = client.get(f"/slides/{slide_id}/layers/truth/10/0_0.png")
    assert missing.status_code == 404
    assert missing.json()["error"] == "first.png has no ground truth: put first.mask.tif beside it"
    truth = np.zeros((200, 300), np.uint8)
    truth[:, 150:] = 3
    Image.fromarray(truth).save(slides / "first.mask.png")
    slide = client.get(f"/api/slides/{slide_id}").json()
    assert slide["truth"] is True
    answer = client.get(f"/slides/{slide_id}/layers/truth/{slide['levels'] - 1}/1_0.png")
    assert (values(answer.content) == np.where(np.arange(256, 512) < 300, 0, 3)).all()


def test_tissue_is_a_layer(client: TestClient, slide_id: str, slides: Path) -> None:
    picture = np.full((600, 600, 3), 240, np.uint8)
    picture[200:400, 200:400] = (180, 60, 140)
    Image.fromarray(picture).save(slides / "island.png")
    listed = client.get("/api/slides").json()["slides"]
    island = next(slide["id"] for slide in listed if slide["name"] == "island.png")
    assert client.put(f"/api/slides/{island}/mpp", json={"mpp": 2.0}).status_code == 200
    level = client.get(f"/api/slides/{island}").json()["levels"] - 2
    found = values(client.get(f"/slides/{island}/layers/tissue/{level}/0_0.png").content)
    assert (found[110:190, 110:190] == 0).all()
    assert (found[:70] == 255).all()


@pytest.mark.parametrize("layer", ["nothing", "..", "score-x", "mask"])
def test_unknown_layers_are_named(client: TestClient, slide_id: str, layer: str) -> None:
    answer = client.get(f"/slides/{slide_id}/layers/{layer}/10/0_0.png")
    assert answer.status_code == 404


@pytest.mark.parametrize("address", ["10/99_0.png", "10/-1_0.png", f"{2**40}/0_0.png"])
def test_tiles_that_do_not_exist(client: TestClient, slide_id: str, address: str) -> None:
    assert client.get(f"/slides/{slide_id}/layers/tissue/{address}").status_code in (400, 404)
