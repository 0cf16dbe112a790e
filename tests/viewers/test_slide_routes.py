"""Slides over HTTP: the list, tiles with the right pixels, and everything a stranger may try."""

from __future__ import annotations

import io
import os
import re
import shutil
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

import app as program
from lpd.data.phantom import write_phantom_slide
from lpd.errors import LpdError
from viewers import catalog
from viewers.catalog import Catalogue, SlideFile, SlideInfo
from viewers.options import Options, read_options
from viewers.services import Services
from viewers.web import make_api


def listed(client: TestClient) -> dict[str, dict[str, Any]]:
    """The list once every slide has been opened, which a busy machine takes its time for."""
    deadline = time.monotonic() + 30
    while True:
        slides = client.get("/api/slides").json()["slides"]
        if all(slide["status"] != "unread" for slide in slides):
            return {slide["relative"]: slide for slide in slides}
        assert time.monotonic() < deadline
        time.sleep(0.05)


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def test_list_names_slides_in_subfolders_and_says_why_one_is_bad(client: TestClient) -> None:
    slides = listed(client)
    assert set(slides) == {"first.png", "ward/second.png", "broken.svs"}
    assert slides["first.png"] | {"width": 600, "height": 400, "status": "ok", "mpp": None} == slides["first.png"]
    assert slides["broken.svs"]["status"] == "error"
    assert "broken.svs" in slides["broken.svs"]["error"]
    assert "/" not in slides["broken.svs"]["error"]


def test_a_phantom_is_said_to_be_synthetic_and_nothing_else_is(client: TestClient, slides: Path) -> None:
    write_phantom_slide(slides / "drawn.tif", 512, 512, 3, workers=1)
    assert {name: slide.get("synthetic") for name, slide in listed(client).items()} == {
        "first.png": False,
        "ward/second.png": False,
        "drawn.tif": True,
        "broken.svs": None,
    }


def test_ids_stay_the_same_and_tell_no_path(client: TestClient) -> None:
    first = {name: slide["id"] for name, slide in listed(client).items()}
    assert first == {name: slide["id"] for name, slide in listed(client).items()}
    assert len(set(first.values())) == 3
    assert all(re.fullmatch("[0-9a-f]{16}", slide_id) for slide_id in first.values())


def test_new_and_deleted_slides_show_at_the_next_look(client: TestClient, slides: Path) -> None:
    Image.new("RGB", (50, 40), "white").save(slides / "new.png")
    (slides / "first.png").unlink()
    assert "new.png" in listed(client)
    assert "first.png" not in listed(client)


def test_changed_slide_gets_a_new_fingerprint(client: TestClient, slides: Path) -> None:
    before = listed(client)["first.png"]
    Image.new("RGB", (700, 300), "white").save(slides / "first.png")
    after = listed(client)["first.png"]
    assert after["id"] == before["id"]
    assert after["fingerprint"] != before["fingerprint"]
    assert after["width"] == 700


def test_a_list_without_time_leaves_slides_unread_and_knows_them_later(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, inspect = threading.Event(), Catalogue._inspect

    def slow_inspect(catalogue: Catalogue, file: SlideFile) -> SlideInfo | LpdError:
        asked.wait(30)
        return inspect(catalogue, file)

    monkeypatch.setattr(Catalogue, "_inspect", slow_inspect)
    assert [found for _, found in services.catalogue.infos(-1)] == [None, None, None]
    asked.set()
    found = {file.relative: found for file, found in services.catalogue.infos(60)}
    assert isinstance(found["broken.svs"], LpdError)
    assert isinstance(found["first.png"], SlideInfo)
    assert None not in [found for _, found in services.catalogue.infos(-1)]


def test_hostile_name_stays_text(client: TestClient, slides: Path) -> None:
    name = "<script>alert(1)<" + ".png" if os.name != "nt" else "&lt;script&gt;.png"
    Image.new("RGB", (50, 40), "white").save(slides / name)
    answer = client.get("/api/slides")
    assert answer.headers["content-type"] == "application/json"
    slide = listed(client)[name]
    assert "<" not in slide["thumbnail"] + slide["dzi"] + slide["tiles"]
    assert client.get(slide["thumbnail"]).headers["content-type"] == "image/jpeg"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every file name is Unicode, or there are no pipes")
def test_name_that_is_no_text_and_pipe_do_not_spoil_the_list(client: TestClient, slides: Path) -> None:
    shutil.copy(slides / "first.png", slides / os.fsdecode(b"bl\xe4tt.png"))
    os.mkfifo(slides / "pipe.svs")
    found = listed(client)
    assert found["first.png"]["status"] == "ok"
    assert "rename" in found["bl\ufffdtt.png"]["error"]
    assert "is not a file" in found["pipe.svs"]["error"]


@pytest.mark.skipif(os.name == "nt", reason="links need privileges on Windows")
def test_link_that_leaves_the_folder_is_refused(client: TestClient, slides: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    Image.new("RGB", (50, 40), "white").save(secret)
    (slides / "link.png").symlink_to(secret)
    (slides / "circle.png").symlink_to(slides / "circle.png")
    slides_by_name = listed(client)
    slide = slides_by_name["link.png"]
    assert slide["status"] == "error"
    assert "leaves the slides folder" in slide["error"]
    assert slides_by_name["circle.png"]["status"] == "error"
    for address in (
        f"/slides/{slide['id']}.dzi",
        f"/slides/{slide['id']}/thumbnail",
        f"/slides/{slide['id']}_files/8/0_0.jpeg",
    ):
        assert client.get(address).status_code == 400


@pytest.mark.skipif(os.name == "nt", reason="links need privileges on Windows")
def test_linked_folder_is_not_entered(client: TestClient, slides: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    Image.new("RGB", (50, 40), "white").save(tmp_path / "elsewhere" / "secret.png")
    (slides / "folder").symlink_to(tmp_path / "elsewhere")
    assert not any("secret" in name for name in listed(client))


def test_full_resolution_tiles_show_the_right_place(client: TestClient, slide_id: str) -> None:
    slide = client.get(f"/api/slides/{slide_id}").json()
    top = slide["levels"] - 1
    assert 2 ** (top - 1) < 600 <= 2**top
    tile = pixels(client.get(f"{slide['tiles']}/{top}/1_0.jpeg").content)
    assert tile.shape == (256, 256, 3)
    assert np.abs(tile[:, :40] - (220, 40, 60)).max() < 12  # x 256–295 is red, from 300 on blue
    assert np.abs(tile[:, 50:] - (40, 60, 220)).max() < 12
    last = pixels(client.get(f"{slide['tiles']}/{top}/2_1.jpeg").content)
    assert last.shape == (400 - 256, 600 - 512, 3)


def test_descriptor_says_size_tile_and_format(client: TestClient, slide_id: str) -> None:
    answer = client.get(f"/slides/{slide_id}.dzi")
    assert answer.headers["content-type"].startswith("application/xml")
    for part in ('Width="600"', 'Height="400"', 'TileSize="256"', 'Overlap="0"', 'Format="jpeg"'):
        assert part in answer.text


def test_tiles_are_kept_by_browsers_only_under_their_fingerprint(client: TestClient, slide_id: str) -> None:
    slide = client.get(f"/api/slides/{slide_id}").json()
    address = f"{slide['tiles']}/9/0_0.jpeg"
    assert "immutable" in client.get(address, params={"f": slide["fingerprint"]}).headers["cache-control"]
    plain = client.get(address)
    assert "no-cache" in plain.headers["cache-control"]
    again = client.get(address, headers={"If-None-Match": plain.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_tile_of_a_file_that_was_replaced_is_refused(client: TestClient, slides: Path, slide_id: str) -> None:
    slide = client.get(f"/api/slides/{slide_id}").json()
    address, before = f"{slide['tiles']}/9/0_0.jpeg", {"f": slide["fingerprint"]}
    assert client.get(address, params=before).status_code == 200
    Image.new("RGB", (600, 401)).save(slides / slide["relative"])
    client.get("/api/slides")
    answer = client.get(address, params=before)
    assert answer.status_code == 409
    assert "has been replaced meanwhile" in answer.json()["error"]
    assert client.get(address).status_code == 200
    after = client.get(f"/api/slides/{slide_id}").json()
    assert client.get(address, params={"f": after["fingerprint"]}).status_code == 200


@pytest.mark.parametrize(
    "place",
    ["99/0_0", "-1/0_0", "10/3_0", "10/0_2", "10/-1_0", f"10/{10**30}_0", f"{2**63}/0_0", f"10/0_{2**31 - 1}"],
)
def test_tiles_that_do_not_exist_are_404(client: TestClient, slide_id: str, place: str) -> None:
    answer = client.get(f"/slides/{slide_id}_files/{place}.jpeg")
    assert answer.status_code in (400, 404)
    assert list(answer.json()) == ["error"]


@pytest.mark.parametrize("place", ["a/0_0", "10/x_0", "10/0_0.5", "10/0x1_0"])
def test_addresses_that_are_no_numbers_are_refused_in_one_sentence(
    client: TestClient, slide_id: str, place: str
) -> None:
    answer = client.get(f"/slides/{slide_id}_files/{place}.jpeg")
    assert answer.status_code == 400
    assert "integer" in answer.json()["error"]


@pytest.mark.parametrize(
    "bad_id", ["..", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "..%5c..%5cwindows", "first.png", "x" * 5000, "%00"]
)
def test_ids_are_looked_up_and_never_used_as_paths(client: TestClient, bad_id: str) -> None:
    for address in (
        f"/api/slides/{bad_id}",
        f"/slides/{bad_id}.dzi",
        f"/slides/{bad_id}/thumbnail",
        f"/slides/{bad_id}_files/8/0_0.jpeg",
    ):
        answer = client.get(address)
        assert answer.status_code == 404
        assert "PNG" not in answer.text
        assert len(answer.text) < 300


def test_thumbnail_is_made_once_and_kept(client: TestClient, slide_id: str, tmp_path: Path) -> None:
    first = client.get(f"/slides/{slide_id}/thumbnail")
    kept = list((tmp_path / "results" / ".cache" / "thumbnails").iterdir())
    assert pixels(first.content).shape == (213, 320, 3)
    assert [path.read_bytes() for path in kept] == [first.content]
    kept[0].write_bytes(b"from the disk")
    assert client.get(f"/slides/{slide_id}/thumbnail").content == b"from the disk"


def test_thumbnail_is_shown_even_if_it_cannot_be_kept(client: TestClient, slide_id: str, tmp_path: Path) -> None:
    (tmp_path / "results" / ".cache").touch()  # a file where the folder should be
    assert client.get(f"/slides/{slide_id}/thumbnail").status_code == 200


def test_answer_about_resolution_is_remembered_and_can_be_taken_back(
    client: TestClient, slide_id: str, tmp_path: Path
) -> None:
    answer = client.put(f"/api/slides/{slide_id}/mpp", json={"mpp": 0.5}).json()
    assert (answer["mpp"], answer["mpp_origin"]) == (0.5, "given")
    assert listed(client)["first.png"]["mpp"] == 0.5
    assert (tmp_path / "results" / "resolutions.json").is_file()
    assert client.put(f"/api/slides/{slide_id}/mpp", json={"mpp": None}).json()["mpp"] is None


@pytest.mark.parametrize("mpp", [0, -1, 1e9, "many", [], {}])
def test_nonsense_about_resolution_is_refused(client: TestClient, slide_id: str, mpp: object) -> None:
    answer = client.put(f"/api/slides/{slide_id}/mpp", json={"mpp": mpp})
    assert answer.status_code == 400
    assert "mpp" in answer.json()["error"] or "µm" in answer.json()["error"]


def test_infinite_resolution_is_refused(client: TestClient, slide_id: str) -> None:
    for text in ('{"mpp": Infinity}', '{"mpp": NaN}', '{"mpp": 1e999}', "{", ""):
        answer = client.put(f"/api/slides/{slide_id}/mpp", content=text, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400


def test_label_and_macro_of_a_real_slide(real_data: Path, client: TestClient, slides: Path) -> None:
    (slides / "cmu.svs").write_bytes((real_data / "slides" / "CMU-1-Small-Region.svs").read_bytes())
    found = client.get(f"/api/slides/{listed(client)['cmu.svs']['id']}").json()
    assert found["pictures"] == ["label", "macro"]
    assert found["mpp"] == pytest.approx(0.499)
    for name in found["pictures"]:
        assert client.get(f"/slides/{found['id']}/picture/{name}").headers["content-type"] == "image/jpeg"
    assert client.get(f"/slides/{found['id']}/picture/thumbnail").status_code == 404


def test_label_and_macro_can_be_kept_back(real_data: Path, services: Services, slides: Path) -> None:
    (slides / "cmu.svs").write_bytes((real_data / "slides" / "CMU-1-Small-Region.svs").read_bytes())
    hiding = replace(services, options=Options(hide_labels=True))
    with TestClient(make_api(hiding, "127.0.0.1"), base_url="http://127.0.0.1:7860") as client:
        found = client.get(f"/api/slides/{listed(client)['cmu.svs']['id']}").json()
        assert (found["pictures"], client.get("/api/setup").json()["labels"]) == ([], False)
        for name in ("label", "macro"):
            answer = client.get(f"/slides/{found['id']}/picture/{name}")
            assert (answer.status_code, "--hide-labels" in answer.json()["error"]) == (404, True)
        assert client.get(found["thumbnail"]).status_code == 200


def test_properties_that_tell_the_label_are_kept_back_too(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"hamamatsu.Barcode": "1", "x.PatientName": "2", "mirax.LABEL": "3", "aperio.AppMag": "20"}
    told |= dict.fromkeys(("openslide.comment", "tiff.ImageDescription"), "Aperio|AppMag = 20|Barcode = 4711")
    opened = catalog.open_slide

    def with_label(path: Path) -> Any:
        slide = opened(path)
        slide.properties = told
        return slide

    monkeypatch.setattr("viewers.catalog.open_slide", with_label)
    for hide, seen in ((True, {"aperio.AppMag"}), (False, set(told))):
        chosen = replace(services, options=Options(hide_labels=hide))
        with TestClient(make_api(chosen, "127.0.0.1"), base_url="http://127.0.0.1:7860") as client:
            found = client.get(f"/api/slides/{listed(client)['first.png']['id']}").json()
            assert set(found["properties"]) == seen


@pytest.mark.parametrize(
    ("flags", "largest"),
    [([], 0), (["--allow-upload"], 10 * 10**9), (["--allow-upload", "--max-upload-gb", "0.5"], 5 * 10**8)],
)
def test_flags_say_what_may_be_uploaded(flags: list[str], largest: int) -> None:
    assert read_options(program.parse(flags)).max_upload == largest
    assert read_options(program.parse([*flags, "--hide-labels"])).hide_labels


@pytest.mark.parametrize("size", ["0", "-1", "nan", "inf", "1e9"])
def test_sizes_that_cannot_be_meant_are_refused(size: str) -> None:
    with pytest.raises(LpdError, match="is no size of a slide"):
        read_options(program.parse(["--allow-upload", "--max-upload-gb", size]))
    with pytest.raises(LpdError, match="without --allow-upload"):
        read_options(program.parse(["--max-upload-gb", size]))
