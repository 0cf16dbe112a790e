"""The engine's benchmarks run from end to end on small slides and masks, and the page shows them beside the aims."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.engine import overhead
from benchmarks.engine.export import export
from benchmarks.engine.large import large
from benchmarks.engine.page import write_page
from benchmarks.speed.timing import Row
from lpd.slide.opening import open_slide
from lpd.slide.tissue import tissue_mask

CHECKPOINT = Path(__file__).resolve().parents[2] / "checkpoints" / "phantom-learnable-mobilenetv2_100.safetensors"


def test_exports_of_a_small_mask() -> None:
    rows = export(700)
    assert {row.case for row in rows} == {"a made-up mask of 700 × 700 px"}
    assert {"annotations.geojson", "mask.ome.tif", "areas.csv"} <= {row.name for row in rows}
    assert all(row.ms > 0 and "MB" in row.note for row in rows)


def test_a_large_slide_by_the_command_a_person_types(tmp_path: Path) -> None:
    (row,) = large(CHECKPOINT, 1.0, (1500, 1200))
    assert row.case.startswith("1500 × 1200 px, 100.0% of it tissue, torch")
    found = re.fullmatch(r"peak \+(\d+) MB \((\d+) in all\), (\d+) CPU-s, 0\.2 mm², all files complete", row.note)
    assert found  # 0.75 × 0.6 mm, and the phantom begins with a rim of glass
    added, peak, _ = map(int, found.groups())
    assert 0 < added < peak
    assert row.ms > 0
    assert row.tiles == 36
    write_page(tmp_path / "page.md", [row])
    text = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "100,000 × 80,000 px on 2 cores: all files | 1500 × 1200 px: " in text


def test_a_command_that_fails_is_no_figure(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"none\.safetensors cannot be read"):
        large(tmp_path / "none.safetensors", 1.0, (300, 300))


def test_memory_is_measured_on_phantoms_of_all_sizes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shares = []

    def measured(_checkpoint: Path, slides: list[Path]) -> list[Row]:
        with open_slide(slides[0]) as slide:
            shares.append(tissue_mask(slide).fraction)
            name = f"{slide.width_l0} × {slide.height_l0} px"
        return [Row("memory", "a network that costs nothing", name, 1, 0, 1, 1, 1, "peak +7 MB")]

    monkeypatch.setattr(overhead, "memory", measured)
    rows = overhead.phantom_memory(CHECKPOINT, [(1500, 1200, 1.0), (9000, 4096, 0.34)])
    assert [row.name for row in rows] == ["1500 × 1200 px", "9000 × 4096 px, 34.0% of it tissue"]
    assert 0.2 < shares[0] < 0.9
    assert 0.1 < shares[1] < 0.45
    write_page(tmp_path / "page.md", rows)
    text = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "≤ 300 MB | 1500 × 1200 px: +7 MB; 9000 × 4096 px, 34.0% of it tissue: +7 MB |" in text
