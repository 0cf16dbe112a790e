"""Tiles: the file's own JPEG where it has it, edges cut, caches within bounds, nobody's slide keeps others waiting."""

from __future__ import annotations

import io
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import openslide
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from lpd.data.phantom import write_phantom_slide
from viewers import images
from viewers.byte_cache import ByteCache
from viewers.decoders import Decoders
from viewers.services import Services
from viewers.thumbnails import Thumbnails
from viewers.tiles import Tiles


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 1100 × 700 px in JPEG tiles of 256 px, levels of 1, 4 and 16."""
    path = tmp_path_factory.mktemp("drawn") / "drawn.tif"
    write_phantom_slide(path, 1100, 700, 3, workers=1)
    return path


@pytest.fixture
def phantom(client: TestClient, services: Services, slides: Path, drawn: Path) -> dict[str, Any]:
    """The drawn slide as the list has it."""
    shutil.copy(drawn, slides / drawn.name)
    slide_id = next(file.id for file in services.catalogue.files() if file.name == drawn.name)
    return dict(client.get(f"/api/slides/{slide_id}").json())


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def wait_until_forgotten(decoders: Decoders) -> None:
    """Of a slide that nobody asks for any more nothing is left, a moment after the last answer."""
    end = time.monotonic() + 10
    while decoders._lines:
        assert time.monotonic() < end, decoders._lines
        time.sleep(0.005)


def test_tiles_of_a_level_are_openslide_s_very_pixels_and_edges_are_cut(
    client: TestClient, slides: Path, phantom: dict[str, Any]
) -> None:
    top = phantom["levels"] - 1
    with openslide.OpenSlide(slides / "drawn.tif") as reference:
        for col in range(5):
            for row in range(3):
                tile = pixels(client.get(f"{phantom['tiles']}/{top}/{col}_{row}.jpeg").content)
                width, height = min(256, 1100 - 256 * col), min(256, 700 - 256 * row)
                assert tile.shape == (height, width, 3)
                expected = np.asarray(reference.read_region((256 * col, 256 * row), 0, (width, height)).convert("RGB"))
                if (width, height) == (256, 256):
                    np.testing.assert_array_equal(tile, expected)
                else:  # encoded anew
                    assert np.abs(tile - expected).mean() < 4


def test_tiles_are_kept_the_file_s_own_and_encoded_ones(services: Services, phantom: dict[str, Any]) -> None:
    tiles, info = Tiles(services.catalogue), services.catalogue.info(phantom["id"])
    top = phantom["levels"] - 1
    size = 0
    for place in ((top, 1, 1), (top - 1, 0, 0)):
        assert tiles.kept(info, *place) is None
        first = tiles.jpeg(info, *place)
        size += len(first)
        assert tiles.kept(info, *place) is tiles.jpeg(info, *place) is first
    assert tiles._cache.size == size


def test_what_is_in_memory_is_answered_while_every_decoder_is_busy(
    client: TestClient, phantom: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"{phantom['tiles']}/{phantom['levels'] - 1}/1_1.jpeg?f={phantom['fingerprint']}"
    first = client.get(address)

    async def never(*_args: object) -> None:
        raise AssertionError("a thread was asked")

    monkeypatch.setattr(Decoders, "run", never)
    again = client.get(address)
    assert (again.content, again.headers["etag"]) == (first.content, first.headers["etag"])
    assert client.get(address, headers={"If-None-Match": first.headers["etag"]}).status_code == 304


def test_the_cache_forgets_what_was_not_asked_for_the_longest() -> None:
    cache = ByteCache(10)
    for key in "abc":
        cache.put(key, key.encode() * 4)  # the third is too much
    assert [cache.get(key) for key in "abc"] == [None, b"bbbb", b"cccc"]
    cache.get("b")
    cache.put("d", b"dddd")
    assert [cache.get(key) for key in "bcd"] == [b"bbbb", None, b"dddd"]
    cache.put("b", b"b")
    assert cache.size == 5
    cache.put("huge", bytes(11))
    assert cache.size == 0


def test_pictures_keep_colours_and_their_order() -> None:
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[:, :32] = (220, 40, 60)
    picture[:, 32:] = (40, 60, 220)
    turned = picture.transpose(1, 0, 2)  # not laid out row by row
    for image in (picture, turned):
        assert np.abs(pixels(images.jpeg(image)) - image).mean() < 6


def test_a_slow_slide_takes_its_own_share_of_threads_only() -> None:
    release = threading.Event()
    decoders = Decoders(cores=2)
    at_once: list[int] = []
    busy: list[int] = []

    def slow() -> None:
        busy.append(1)
        at_once.append(len(busy))
        release.wait(20)
        busy.pop()

    async def run() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(12):
                group.start_soon(decoders.run, "slow", slow)
            with anyio.fail_after(10):
                while len(busy) < 2:
                    await anyio.sleep(0.01)
                assert await decoders.run("other", lambda: "at once") == "at once"
            release.set()

    anyio.run(run)
    assert max(at_once) == 2
    assert len(at_once) == 12
    wait_until_forgotten(decoders)


def test_slides_take_turns_and_what_nobody_waits_for_is_not_begun() -> None:
    decoders = Decoders(cores=1)  # eight threads, two a slide
    release, done = threading.Event(), []

    async def run() -> None:
        async with anyio.create_task_group() as group:
            for slide in "abcd":
                for _ in range(2):
                    group.start_soon(decoders.run, slide, lambda: release.wait(20))
            await anyio.sleep(0)
            with anyio.move_on_after(0.05):
                await decoders.run("a", lambda: done.append("given up"))
            for number in range(3):
                group.start_soon(decoders.run, "a", lambda number=number: done.append(f"a{number}"))
            await anyio.sleep(0.05)
            group.start_soon(decoders.run, "e", lambda: done.append("e"))
            await anyio.sleep(0.05)
            assert done == []
            release.set()

    anyio.run(run)
    assert sorted(done) == ["a0", "a1", "a2", "e"]
    wait_until_forgotten(decoders)


def test_an_error_reaches_who_asked_and_frees_the_turn() -> None:
    decoders = Decoders(cores=2)

    def fail() -> None:
        raise ValueError("no")

    async def run() -> None:
        for _ in range(5):
            with pytest.raises(ValueError, match="no"):
                await decoders.run("a", fail)

    anyio.run(run)
    wait_until_forgotten(decoders)


def test_eight_people_on_one_slide_see_the_same_and_others_are_answered_meanwhile(
    client: TestClient, phantom: dict[str, Any]
) -> None:
    address = f"{phantom['tiles']}/{phantom['levels'] - 2}"
    expected = {(c, r): client.get(f"{address}/{c}_{r}.jpeg").content for c in range(3) for r in range(2)}
    wrong: list[str] = []

    def look() -> None:
        for (col, row), content in expected.items():
            if client.get(f"{address}/{col}_{row}.jpeg").content != content:
                wrong.append(f"{col}_{row}")

    people = [threading.Thread(target=look) for _ in range(8)]
    for person in people:
        person.start()
    assert client.get("/healthz").status_code == 200
    for person in people:
        person.join()
    assert wrong == []


def test_thumbnails_stay_within_bounds_and_the_oldest_go(services: Services, slides: Path, tmp_path: Path) -> None:
    for number in range(6):
        colour = (number * 40, 90, 120)
        Image.new("RGB", (300, 200), colour).save(slides / f"t{number}.png")
    files = {file.name: file.id for file in services.catalogue.files()}
    folder = tmp_path / "small"
    one = len(Thumbnails(folder, 10**6).jpeg(services.catalogue, files["t0.png"]))
    thumbnails = Thumbnails(folder, 3 * one + one // 2)
    for number in range(1, 6):
        thumbnails._until_look = 1  # measured at each one
        time.sleep(0.01)
        thumbnails.jpeg(services.catalogue, files[f"t{number}.png"])
        time.sleep(0.01)
        thumbnails.jpeg(services.catalogue, files["t0.png"])  # asked for again and again
    kept = {path.stem for path in folder.iterdir()}
    last = [services.catalogue.info(files[name]).fingerprint for name in ("t0.png", "t5.png", "t4.png")]
    assert kept == set(last)


def test_pictures_in_the_list_close_nobody_s_slide(services: Services, slides: Path) -> None:
    with services.catalogue.borrow(next(f.id for f in services.catalogue.files() if f.name == "first.png")) as viewed:
        pass
    for number in range(15):
        Image.new("RGB", (30, 20), (number, 0, 0)).save(slides / f"t{number}.png")
    for file in services.catalogue.files():
        if file.name.startswith("t"):
            Thumbnails(services.cache / "thumbnails").jpeg(services.catalogue, file.id)
    with services.catalogue.borrow(next(f.id for f in services.catalogue.files() if f.name == "first.png")) as again:
        assert again is viewed
