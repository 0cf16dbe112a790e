"""Rules between the splits of a tile set: nothing may leak from one into another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lpd.data.check.cases import patient_of
from lpd.data.check.findings import Finding, Item, findings_of
from lpd.data.check.reading import TileRecord
from lpd.data.check.summary import SplitSummary


def set_findings(records: Mapping[str, Sequence[TileRecord]], summaries: Sequence[SplitSummary]) -> list[Finding]:
    """Everything wrong between the splits.

    Args:
        records: the tiles of each split that is there.
        summaries: their numbers.
    """
    missing = [Item(split, "has no folder") for split in ("train", "valid") if split not in records]
    sizes = {summary.split: summary.size for summary in summaries if summary.size is not None}
    shown = [Item(split, f"{size[0]} × {size[1]} px") for split, size in sizes.items()]
    return [
        *findings_of("no split", missing),
        *findings_of("split sizes", shown if len(set(sizes.values())) > 1 else []),
        *findings_of("leaked tile", _leaked_tiles(records)),
        *findings_of("leaked case", _leaked_cases(records)),
    ]


def _leaked_tiles(records: Mapping[str, Sequence[TileRecord]]) -> list[Item]:
    first: dict[bytes, tuple[str, str]] = {}
    items = []
    for split, tiles in records.items():
        for tile in tiles:
            if tile.digest and not tile.uniform:
                home, file = first.setdefault(tile.digest, (split, tile.file))
                if home != split:
                    items.append(Item(tile.file, f"like {file}"))
    return items


def _leaked_cases(records: Mapping[str, Sequence[TileRecord]]) -> list[Item]:
    """Patients where the names tell them, else cases; with the number of tiles in each split, and one of them."""
    found: dict[str, dict[str, list[str]]] = {}
    for split, tiles in records.items():
        for tile in tiles:
            if tile.case is not None:
                found.setdefault(patient_of(tile.case), {}).setdefault(split, []).append(tile.file)
    return [
        Item(case, "; ".join(f"{len(files)} in {split}, one is {files[0]}" for split, files in splits.items()))
        for case, splits in sorted(found.items())
        if len(splits) > 1
    ]
