"""The export benchmark runs from end to end on a small mask."""

from __future__ import annotations

from benchmarks.engine.export import export


def test_exports_of_a_small_mask() -> None:
    rows = export(700)
    assert {row.case for row in rows} == {"a made-up mask of 700 × 700 px"}
    assert {"annotations.geojson", "mask.ome.tif", "areas.csv"} <= {row.name for row in rows}
    assert all(row.ms > 0 and "MB" in row.note for row in rows)
