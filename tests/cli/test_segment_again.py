"""``lpd segment`` again over what is there: parts of a slide that add up, and a slide while another one is exported."""

from __future__ import annotations

import csv
import json
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile

from lpd.cli import main
from lpd.export.ome_tiff import write_ome_tiff
from lpd.inference.store import ResultStore
from lpd.runs import read_state

from .test_segment import checkpoint, paint, segment

__all__ = ["checkpoint"]


def test_runs_over_parts_of_a_slide_add_up(tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]):
    slide, out = paint(tmp_path / "one.png"), tmp_path / "out"
    drawn = tmp_path / "drawn.geojson"
    corners = [[10.3, 10.1], [150.7, 20.9], [90.5, 170.3], [10.3, 10.1]]
    drawn.write_text(json.dumps({"type": "Polygon", "coordinates": [corners]}), encoding="utf-8")
    polygon, region = ("--regions", str(drawn)), ("--region", "100", "100", "60", "60")
    folder = out / "one"
    assert segment(out, checkpoint, slide, more=("--mpp", "0.5", *polygon)) == 0
    first = tifffile.imread(folder / "mask.ome.tif")
    assert (first != 255).sum() == pytest.approx(0.25 * 0.5 * 140.4 * 150, rel=0.1)
    assert segment(out, checkpoint, slide, more=("--mpp", "0.5", *region)) == 0
    mask = tifffile.imread(folder / "mask.ome.tif")
    assert (mask[50:80, 50:80] != 255).all()
    assert (mask[first != 255] == first[first != 255]).all()
    areas = list(csv.DictReader((folder / "areas.csv").read_text().splitlines()))
    assert int(areas[-1]["pixels"]) == (mask < 4).sum()
    manifest = json.loads((folder / "manifest.json").read_text())
    assert [bool(p["polygons"]) for p in manifest["parts"]] == [True, False]
    assert all(p["began"] <= p["ended"] for p in manifest["parts"])
    assert [run["arguments"]["regions"] for run in manifest["earlier"]] == [str(drawn)]
    capsys.readouterr()
    assert segment(out, checkpoint, slide, more=("--mpp", "0.5", *polygon)) == 0  # it is there
    assert "done before, nothing to do" in capsys.readouterr().out
    assert segment(out, checkpoint, slide) == 0
    assert segment(tmp_path / "straight", checkpoint, slide) == 0
    straight = tifffile.imread(tmp_path / "straight" / "one" / "mask.ome.tif")
    np.testing.assert_array_equal(tifffile.imread(folder / "mask.ome.tif"), straight)
    assert segment(out, checkpoint, slide, more=("--mpp", "0.5", "--pieces", "2")) == 1
    assert "one.png has no piece of tissue 2: it has 1, numbered from 1" in capsys.readouterr().err
    assert main(["pieces", str(slide), "--mpp", "0.5"]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("1,")


def test_the_next_slide_is_computed_while_files_of_this_one_are_written(tmp_path: Path, checkpoint: Path, monkeypatch):
    first, second = paint(tmp_path / "one.png"), paint(tmp_path / "two.png", 1)
    real, ended = write_ome_tiff, threading.Event()

    def waiting(store: ResultStore, path: Path) -> None:
        if path.parent.name == "one":
            ended.wait(60)
            assert read_state(tmp_path / "out" / "two").state == "done"
        real(store, path)

    monkeypatch.setattr("lpd.export.ome_tiff.write_ome_tiff", waiting)
    more = ("--mpp", "0.5", "--resident", "no", "--queue", str(tmp_path))
    codes: list[int] = []
    one = threading.Thread(target=lambda: codes.append(segment(tmp_path / "out", checkpoint, first, more=more)))
    one.start()
    until = time.monotonic() + 60
    while read_state(tmp_path / "out" / "one").message != "writing mask.ome.tif" and time.monotonic() < until:
        time.sleep(0.02)
    assert segment(tmp_path / "out", checkpoint, second, more=more) == 0
    ended.set()
    one.join()
    assert codes == [0]
