"""Prototypes over HTTP: maps as tiles, figures, counterparts, gallery, edits, one place as a figure."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from lpd.classes import ClassScheme, TissueClass
from lpd.config import Calibration
from lpd.explain.slide_figures import pooled_figures
from lpd.inference.meta import ResultMeta
from lpd.inference.prototype_layers import MapLayer, PrototypeMaps
from lpd.inference.store import STORE_NAME, ResultStore
from lpd.runs import Run, write_json_atomically
from lpd.slide.region import Region
from viewers.services import Services

COUNT, WIDTH, HEIGHT, STRIDE = 4, 300, 200, 8  # prototypes, mask pixels, mask pixels per cell
ROWS, COLUMNS = HEIGHT // STRIDE, -(-WIDTH // STRIDE)
SCHEME = ClassScheme(tuple(TissueClass(code, code, (0, 0, 9)) for code in ("AAA", "BBB")))
Put = Callable[..., str]


def stripes() -> np.ndarray:
    """(4, 25, 38) bytes: prototype m answers most in the m-th quarter of the columns, and nowhere else."""
    maps = np.full((COUNT, ROWS, COLUMNS), 100, np.uint8)
    for m, columns in enumerate(np.array_split(np.arange(COLUMNS), COUNT)):
        maps[m][:, columns] = 200 + np.arange(ROWS)[:, None]
    return maps


@pytest.fixture
def put(services: Services, slide_id: str) -> Put:
    """Puts a finished result of ``first.png`` in place, its left half AAA, its right half BBB; answers its id."""

    def make(
        number: int,
        maps: np.ndarray | None,
        slide: str = slide_id,
        number_in_id: int = 0,
        checkpoint: str = "",
        digest: str = "",
        **changes: object,
    ) -> str:
        own = services.catalogue.info(slide).fingerprint
        job_id = f"20260101-00000{number_in_id or number}-abcdef"
        folder = services.jobs.folder / job_id
        model = checkpoint or f"model-{number}"
        record = {
            "slide_id": slide,
            "slide_name": "first.png",
            "checkpoint": model,
            "device": "cpu",
        }
        write_json_atomically(
            folder / "job.json",
            {**record, "mpp": None, "region_l0": None, "created": 1.0, "argv": ["--prototype-maps"]} | changes,
        )
        with Run(folder / "first", "segment") as run:
            meta = ResultMeta("first.png", own, 600, 400, 0.5, 1.0, SCHEME, model, digest or f"sha256:{number}")
            meta = replace(meta, settings={"prototype_maps": maps is not None})
            store = ResultStore.create(folder / "first", meta, None if maps is None else kept())
            mask = np.zeros((HEIGHT, WIDTH), np.uint8)
            mask[:, WIDTH // 2 :] = 1
            store.write_mask(0, 0, mask)
            if maps is not None:
                layers = kept().layers
                store.write_layer(layers[0], 0, 0, maps)
                height, width = store.layer_shape(layers[1])
                store.write_layer(layers[1], 0, 0, np.full((COUNT, height, width), 254, np.uint8))
            store.commit(Region(0, 0, 600, 400))
            store.finish()
            run.complete()
        return job_id

    return make


def kept() -> PrototypeMaps:
    ones, zeros = (1.0,) * 2, (0.0,) * 2
    layers = MapLayer("fused", "pixel", COUNT, STRIDE, 14.0), MapLayer("gate", "gate", COUNT, 16, 14.0)
    return PrototypeMaps(2, "mean", Calibration((1.0,), ones, zeros, ones, zeros), 8, layers)


def grey(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


def test_a_result_says_what_maps_it_has(client: TestClient, put: Put) -> None:
    with_maps, without = put(1, stripes()), put(2, None)
    jobs = {job["id"]: job for job in client.get("/api/jobs").json()["jobs"]}
    assert jobs[with_maps]["prototypes"] == {"per_class": 2, "count": 4}
    assert jobs[without]["prototypes"] is None
    assert jobs[without]["maps_wanted"]
    about = client.get(f"/results/{with_maps}/prototypes").json()
    assert (about["per_class"], about["count"], about["stride"], about["limit"]) == (2, 4, 8, 14)
    assert [entry["code"] for entry in about["classes"]] == ["AAA", "BBB"]
    assert about["ranges"][0] == [100, 224]  # three of four quarters say 100; 224 is the highest
    refused = client.get(f"/results/{without}/prototypes")
    assert refused.status_code == 400
    assert refused.json()["error"] == "the result of model-2 has no maps of prototypes: compute them in Compare"


def test_maps_are_tiles_at_the_slide_s_addresses(client: TestClient, put: Put) -> None:
    job, maps = put(1, stripes()), stripes()
    answer = client.get(f"/results/{job}/layers/prototype-1/10/0_0.png")  # level-0 pixels 0 to 255 of both axes
    assert answer.status_code == 200
    cells = maps[1].repeat(16, 0).repeat(16, 1)[:256, :256]
    assert (grey(answer.content) == cells).all()
    missing = client.get(f"/results/{job}/layers/prototype-4/10/0_0.png")
    assert missing.status_code == 400
    assert "4" in missing.json()["error"]


def test_counterparts_of_a_permuted_bank_are_found(client: TestClient, put: Put) -> None:
    one, other = put(1, stripes()), put(2, stripes()[[1, 0, 3, 2]])
    found = client.get("/api/matching", params={"left": one, "right": other}).json()
    pairs = [(p["left"], p["right"], round(p["similarity"], 6)) for c in found["classes"] for p in c["pairs"]]
    assert pairs == [(0, 1, 1.0), (1, 0, 1.0), (2, 3, 1.0), (3, 2, 1.0)]


def test_figures_and_gallery(client: TestClient, put: Put) -> None:
    job = put(1, stripes())
    figures = client.get(f"/results/{job}/prototypes/figures").json()
    assert figures["classes"]["AAA"]["usage"] == pytest.approx([0.5, 0.5], abs=0.05)
    assert set(figures["classes"]["AAA"]) - {"cells", "tiles", "correlations"} <= set(figures["definitions"])
    regions = client.get(f"/results/{job}/prototypes/gallery").json()["regions"]
    assert len(regions) == COUNT
    for own in regions:
        assert [r["score"] for r in own] == sorted((r["score"] for r in own), reverse=True)
    best = [own[0]["region"] for own in regions]
    assert [x // 150 for x, *_ in best] == [0, 1, 2, 3]  # a quarter of 600 px each
    x, y, width, height = best[3]
    slide = client.get("/api/jobs").json()["jobs"][0]["slide_id"]
    crop = client.get(f"/slides/{slide}/crop/{x}_{y}_{width}_{height}.jpeg")
    picture = np.asarray(Image.open(io.BytesIO(crop.content))).astype(int)
    assert np.abs(picture.mean((0, 1)) - (40, 60, 220)).max() < 4  # the right half is blue


@pytest.mark.parametrize("where", ["0_0_0_5", "900_0_50_50", "0_0_99999_9", "-50_0_20_20"])
def test_crops_that_show_nothing_are_refused(client: TestClient, slide_id: str, where: str) -> None:
    answer = client.get(f"/slides/{slide_id}/crop/{where}.jpeg")
    assert answer.status_code == 404
    assert answer.json()["error"].startswith("first.png has no part at ")


def test_muting_changes_mask_and_areas(client: TestClient, put: Put) -> None:
    job = put(1, stripes())
    plain = client.get(f"/results/{job}/prototypes/areas").json()
    assert plain["before"] == plain["after"]
    only_b = client.get(f"/results/{job}/prototypes/areas", params={"muted": [0, 1]}).json()
    assert only_b["after"][0] == 0  # a class with no prototype left is nowhere
    assert sum(only_b["after"]) == pytest.approx(sum(plain["after"]))
    tile = client.get(f"/results/{job}/prototypes/tiles/10/0_0.png", params={"muted": [0, 1]})
    assert set(np.unique(grey(tile.content))) == {1}
    as_one = client.get(f"/results/{job}/prototypes/tiles/10/0_0.png", params={"merged": ["0-1"]})
    assert as_one.status_code == 200


@pytest.mark.parametrize(
    ("asked", "status"),
    [({"muted": [0, 1, 2, 3]}, 400), ({"muted": [7]}, 400), ({"merged": ["0-2"]}, 400), ({"merged": ["0;1"]}, 400)],
)
def test_edits_that_cannot_be(client: TestClient, put: Put, asked: dict[str, list[str]], status: int) -> None:
    answer = client.get(f"/results/{put(1, stripes())}/prototypes/areas", params=asked)
    assert answer.status_code == status
    assert answer.json()["error"]


def test_a_place_is_a_figure_of_one_or_two_models(client: TestClient, put: Put) -> None:
    one, other = put(1, stripes()), put(2, stripes()[[1, 0, 3, 2]])
    shown = client.get(f"/results/{one}/prototypes/place.png", params={"x": 200, "y": 150})
    assert Image.open(io.BytesIO(shown.content)).width > 300
    saved = client.get(
        f"/results/{one}/prototypes/place.svg", params={"x": 200, "y": 150, "beside": other, "save": True}
    )
    assert saved.headers["content-disposition"] == 'attachment; filename="prototypes_200_150.svg"'
    assert "model-1" in saved.text
    assert "model-2" in saved.text
    outside = client.get(f"/results/{one}/prototypes/place.png", params={"x": 5000, "y": 150})
    assert outside.status_code == 400
    assert "lies outside of first.png" in outside.json()["error"]


def test_two_slides_have_no_common_place(client: TestClient, put: Put, slides: Path) -> None:
    listed = client.get("/api/slides").json()["slides"]
    second = next(slide["id"] for slide in listed if slide["name"] == "second.png")
    one, other = put(1, stripes()), put(2, stripes(), second)
    answer = client.get(f"/results/{one}/prototypes/place.png", params={"x": 9, "y": 9, "beside": other})
    assert answer.status_code == 400
    assert answer.json()["error"] == "these results are of two slides: choose two of one slide"


def test_prototypes_are_named_and_a_model_saved_without_some(
    client: TestClient, put: Put, services: Services, checkpoints: Path
) -> None:
    named = client.put("/api/checkpoints/good/prototypes", json={"names": {"1": "glands"}})
    assert named.json() == {"names": {"1": "glands"}}
    assert (checkpoints / "good.prototypes.json").exists()
    saved = client.post("/api/checkpoints/good/edited", json={"name": "good 2", "muted": [0], "merged": [[1, 2]]})
    assert saved.status_code == 201
    assert saved.json()["name"] == "good 2"
    info = services.checkpoints.get("good 2")
    assert info.model.groups[0] == ((1, 2),)
    again = client.post("/api/checkpoints/good/edited", json={"name": "good 2", "muted": [0]})
    assert again.status_code == 400
    assert again.json()["error"].startswith("good 2.safetensors exists")


def test_a_model_that_was_replaced_is_not_taken_for_that_of_the_maps(
    client: TestClient, put: Put, checkpoints: Path
) -> None:
    path = checkpoints / "good.safetensors"
    old = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    job = put(1, stripes(), checkpoint="good", digest=old)
    client.put("/api/checkpoints/good/prototypes", json={"digest": old, "names": {"1": "glands"}})
    about = client.get(f"/results/{job}/prototypes").json()
    assert (about["digest"], about["names"], about["names_problem"]) == (old, {"1": "glands"}, "")
    assert not about["replaced"]
    client.post("/api/checkpoints/good/edited", json={"digest": old, "name": "other", "muted": [0]})
    (checkpoints / "other.safetensors").replace(path)
    about = client.get(f"/results/{job}/prototypes").json()
    assert (about["digest"], about["names"]) == (old, {})
    assert about["replaced"]  # so that the page lets maps be computed again
    assert about["names_problem"] == ("good is another model now than when its maps were computed: compute them again")
    edited = client.post("/api/checkpoints/good/edited", json={"digest": old, "name": "third", "muted": [0]})
    named = client.put("/api/checkpoints/good/prototypes", json={"digest": old, "names": {"1": "no"}})
    drawn = client.get("/api/checkpoints/projection.svg", params={"model": "good", "digest": old})
    assert [edited.status_code, named.status_code, drawn.status_code] == [409, 409, 409]
    assert not (checkpoints / "third.safetensors").exists()


def test_no_error_says_where_results_lie(client: TestClient, put: Put, services: Services) -> None:
    one, other = put(1, stripes()), put(2, np.full_like(stripes(), 255))
    answer = client.get("/api/matching", params={"left": one, "right": other})
    assert answer.status_code == 400
    assert answer.json()["error"] == (
        "the result of model-1 and the result of model-2 have no tissue in common: segment the same part of the slide "
        "in both"
    )


def test_a_picture_goes_to_the_command_under_its_own_name(
    client: TestClient, services: Services, tmp_path: Path
) -> None:
    script = tmp_path / "draws.py"
    script.write_text("import sys; open(sys.argv[sys.argv.index('--out') + 1], 'w').write(' '.join(sys.argv[1:]))")
    services.jobs.command = (sys.executable, str(script))
    files = {"image": ("../../etc/tile 7.png", b"pixels"), "mask": ("m.png", b"values")}
    answer = client.post("/api/images/figure", data={"checkpoint": ["good", "slow"]}, files=files)
    assert answer.status_code == 200
    words = answer.text.replace("tile 7", "tile_7").split()
    assert words[:3] == ["prototypes", "figure", "--image"]
    assert words[3].endswith("/image/tile_7.png")
    assert services.cache in Path(words[3]).parents  # not in the system's folder for temporary files
    assert not Path(words[3]).parent.exists()
    given = [Path(words[i + 1]).name for i, word in enumerate(words) if word == "--checkpoint"]
    assert given == ["good.safetensors", "slow.safetensors"]


def test_what_the_command_says_is_the_answer(client: TestClient, services: Services, tmp_path: Path) -> None:
    script = tmp_path / "fails.py"
    script.write_text("import sys; sys.exit(f'lpd prototypes: {sys.argv[4]} is no picture: choose another one')")
    services.jobs.command = (sys.executable, str(script))
    sent = {"image": ("a.png", b"x")}
    answer = client.post("/api/images/figure", data={"checkpoint": "good"}, files=sent)
    assert (answer.status_code, answer.json()["error"]) == (400, "a.png is no picture: choose another one")
    named = client.post("/api/images/figure", data={"checkpoint": "good"}, files={"image": ("a.exe", b"x")})
    assert named.json()["error"] == "a.exe is no picture: choose a PNG, JPEG or TIFF file"
    unknown = client.post("/api/images/figure", data={"checkpoint": "nobody"}, files=sent)
    assert unknown.status_code == 404


def test_maps_of_a_linear_head_are_said_to_be_logits(
    client: TestClient, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert client.get(f"/results/{put(1, stripes())}/prototypes").json()["unit"] == "cosine"
    plain = replace(kept(), per_class=1, layers=tuple(replace(layer, limit=32.0) for layer in kept().layers))
    monkeypatch.setattr(f"{__name__}.kept", lambda: plain)
    about = client.get(f"/results/{put(2, stripes())}/prototypes").json()
    assert (about["unit"], about["limit"]) == ("logit", 32)


def test_figures_of_a_folder_and_of_all_slides(client: TestClient, put: Put, slides: Path) -> None:
    """Three slides of one model, the second in another folder; of the third a part was computed later, too."""
    Image.new("RGB", (600, 400), (200, 40, 40)).save(slides / "third.png")
    listed = {slide["name"]: slide["id"] for slide in client.get("/api/slides").json()["slides"]}
    same, turned = {"checkpoint": "model-1", "digest": "sha256:1"}, stripes()[:, :, ::-1]
    first = put(1, stripes(), **same)
    second = put(2, stripes(), listed["second.png"], **same)
    third = put(3, turned, listed["third.png"], **same)
    put(4, stripes(), listed["third.png"], region_l0=[0, 0, 300, 200], **same)

    def measured(job: str, over: str) -> dict[str, Any]:
        return client.get(f"/results/{job}/prototypes/figures", params={"over": over}).json()

    alone, folder, everywhere = (measured(first, over) for over in ("slide", "folder", "all"))
    assert [found["slides"] for found in (alone, folder, everywhere)] == [1, 2, 3]
    assert alone["classes"]["AAA"]["usage"] == pytest.approx([0.5, 0.5], abs=0.05)
    # Turned maps answer in the other half: over both slides cells are counted together.
    results = slides.parent / "results"
    expected = pooled_figures([ResultStore.open(results / job / "first") for job in (first, third)]).to_dict()
    assert folder["classes"] == expected["classes"]
    assert folder["slide"] == "2 slides"
    assert everywhere["classes"]["AAA"]["cells"] == 3 * alone["classes"]["AAA"]["cells"]
    assert measured(second, "folder")["slides"] == 1
    seen = {place["slide"] for own in gallery(client, first, "folder")["regions"] for place in own}
    assert seen == {listed["first.png"], listed["third.png"]}
    plot = client.get(f"/results/{first}/prototypes/plot.svg", params={"over": "all"})
    assert "3 slides" in plot.text
    assert client.get(f"/results/{first}/prototypes/figures", params={"over": "moon"}).status_code == 400


def gallery(client: TestClient, job: str, over: str) -> dict[str, Any]:
    return client.get(f"/results/{job}/prototypes/gallery", params={"over": over}).json()


def test_a_gallery_flags_what_is_dead_or_there_twice(client: TestClient, put: Put) -> None:
    maps = stripes()
    maps[3] = maps[2]  # of equal ones the first counts
    found = gallery(client, put(1, maps), "slide")
    assert found["dead"] == [3]
    assert found["near_duplicates"] == [[2, 3, pytest.approx(1)]]


def test_a_gallery_of_all_slides_of_a_model(client: TestClient, put: Put) -> None:
    listed = {slide["name"]: slide["id"] for slide in client.get("/api/slides").json()["slides"]}
    first = put(1, stripes())
    other = put(1, stripes(), listed["second.png"], number_in_id=7)
    put(2, stripes(), listed["second.png"])  # another model: its prototypes have nothing to do with these
    found = gallery(client, first, "all")
    assert set(found["slides"]) == {listed["first.png"], listed["second.png"]}
    assert {place["slide"] for place in found["regions"][0]} == set(found["slides"])
    assert max(sum(p["slide"] == listed["first.png"] for p in own) for own in found["regions"]) == 2
    assert client.get(f"/results/{other}/prototypes/gallery").json()["slides"] == {listed["second.png"]: "first.png"}


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_figures_are_drawn_of_one_and_of_two_models(client: TestClient, put: Put, kind: str) -> None:
    one, other = put(1, stripes()), put(2, stripes()[[1, 0, 3, 2]])
    alone = client.get(f"/results/{one}/prototypes/plot.{kind}")
    both = client.get(f"/results/{one}/prototypes/plot.{kind}", params={"beside": other, "save": True})
    pairs = client.get(f"/api/matching/plot.{kind}", params={"left": one, "right": other})
    for answer in (alone, both, pairs):
        assert answer.status_code == 200
        assert answer.content.startswith(b"\x89PNG" if kind == "png" else b"<?xml")
    assert both.headers["content-disposition"] == f'attachment; filename="prototype-figures.{kind}"'
    assert client.get(f"/results/{one}/prototypes/plot.exe").status_code == 400


def test_the_log_says_what_was_drawn_and_which_models_changed(
    client: TestClient, put: Put, services: Services, wait_for: Any
) -> None:
    one, other = put(1, stripes()), put(2, stripes()[[1, 0, 3, 2]])
    client.get("/api/matching/plot.svg", params={"left": one, "right": other})
    services.jobs.command = (sys.executable, "-c", "import sys; open(sys.argv[-1], 'w').write('drawn')")
    assert client.get("/api/checkpoints/projection.svg", params={"model": "good"}).text == "drawn"
    client.put("/api/checkpoints/good/prototypes", json={"names": {"1": "glands"}})
    path = services.jobs.folder / "audit.jsonl"
    wanted = [("inspected", one, ""), ("inspected models", "", ""), ("named prototypes", "", "good")]

    def noted() -> list[tuple[str, str, str]]:
        entries = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [(e["action"], e.get("job", ""), e.get("detail", "")) for e in entries if e["action"] != "opened slide"]

    wait_for(lambda: noted() == wanted)


def test_examples_are_of_the_very_models_that_are_projected(
    client: TestClient, put: Put, services: Services, checkpoints: Path
) -> None:
    path = checkpoints / "good.safetensors"
    own = put(1, stripes(), checkpoint="good", digest=f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}")
    old = put(2, stripes(), checkpoint="good")  # of a file that was replaced since
    services.jobs.command = (sys.executable, "-c", "import sys; open(sys.argv[-1], 'w').write(' '.join(sys.argv[1:]))")
    asked = {"model": "good", "example": [own, old]}
    words = client.get("/api/checkpoints/projection.svg", params=asked).text.split()
    given = [words[i + 1] for i, word in enumerate(words) if word == "--examples"]
    assert given == [str(services.jobs.folder / own / "first")]


def test_a_damaged_result_is_told_of_without_its_place(client: TestClient, put: Put, services: Services) -> None:
    own = put(1, stripes())
    shutil.rmtree(services.jobs.folder / own / "first" / STORE_NAME / "prototypes")
    said = "the result of model-1 is not a readable result (its prototype maps are gone): segment the slide again"
    assert client.get(f"/results/{own}/prototypes").json() == {"error": said}
