"""Slides damaged at random: each is shown or refused in one sentence; nothing leaks and the app goes on."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from lpd.data.phantom import write_phantom_slide
from viewers.services import Services


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def damaged(whole: bytes, generator: np.random.Generator) -> bytes:
    """One of: some bytes changed, in the head or anywhere; a part of zeros; an end that is missing."""
    data = bytearray(whole)
    kind = generator.integers(4)
    if kind == 0:
        for at in generator.integers(0, 4000, 6):
            data[at] = generator.integers(256)
    elif kind == 1:
        for at in generator.integers(0, len(data), 40):
            data[at] = generator.integers(256)
    elif kind == 2:
        at = generator.integers(0, len(data) - 500)
        data[at : at + 500] = bytes(500)
    else:
        del data[int(generator.integers(1, len(data))) :]
    return bytes(data)


def check(client: TestClient, slide: dict[str, Any]) -> str:
    """Ask for all there is of a slide; says whether it was shown, refused, or shown in part."""
    statuses = set()
    addresses = [f"/api/slides/{slide['id']}", f"/slides/{slide['id']}/thumbnail", f"/slides/{slide['id']}.dzi"]
    addresses += [f"/slides/{slide['id']}_files/{level}/0_0.jpeg" for level in (0, 8, 9, 10)]
    addresses += [f"/slides/{slide['id']}_files/10/{col}_{row}.jpeg" for col in (0, 1, 3) for row in (0, 2)]
    for address in addresses:
        answer = client.get(address)
        statuses.add(answer.status_code)
        assert answer.status_code in (200, 400, 404), (address, answer.text)
        if answer.status_code != 200:
            sentence = answer.json()["error"]
            assert 10 < len(sentence) < 400, sentence
            assert "\n" not in sentence
            assert "Traceback" not in sentence
    return "shown" if statuses == {200} else "in part" if 200 in statuses else "refused"


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.filterwarnings("ignore::UserWarning")  # what Pillow says to the console of a damaged file
@pytest.mark.parametrize("count", [5, pytest.param(200, marks=pytest.mark.slow)])
def test_random_damage(client: TestClient, services: Services, slides: Path, tmp_path: Path, count: int) -> None:
    write_phantom_slide(tmp_path / "whole.tif", 1024, 768, 3, workers=1)
    whole = (tmp_path / "whole.tif").read_bytes()
    generator = np.random.default_rng(count)
    path, outcomes, before = slides / "victim.tif", set(), (0, 0.0)
    for number in range(count):
        path.write_bytes(damaged(whole, generator))
        listed = client.get("/api/slides").json()["slides"]
        slide = next(slide for slide in listed if slide["name"] == path.name)
        outcomes.add(check(client, slide))
        if number == count // 2:
            gc.collect()
            before = open_files(), resident_mb()
    gc.collect()
    assert len(outcomes) > 1
    assert open_files() <= before[0] + 60  # those of ten open slides
    assert resident_mb() - before[1] < 150
    path.unlink()
    assert client.get("/healthz").status_code == 200
    first = next(slide for slide in client.get("/api/slides").json()["slides"] if slide["name"] == "first.png")
    assert check(client, first) in ("shown", "in part")  # it has fewer tiles
