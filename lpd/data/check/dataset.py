"""Checks a whole tile set: reads every file once, in small batches, and puts the findings together."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lpd.data.check.findings import Finding, printable
from lpd.data.check.listing import Listing, describe, list_split
from lpd.data.check.reading import TileRecord, read_tile
from lpd.data.check.set_rules import set_findings
from lpd.data.check.split_rules import split_findings
from lpd.data.check.summary import SplitSummary, summarise
from lpd.data.dataset_info import DatasetInfo
from lpd.data.tiles import SPLIT_FOLDERS
from lpd.errors import ConfigError, DatasetError

#: A class that covers this share of a mask must be in the label; below, labelling rules differ.
SMALLEST_SHARE = 0.05

_BATCH = 64
_THREADS = min(8, os.cpu_count() or 1)


@dataclass(frozen=True)
class DatasetCheck:
    """What a tile set holds and what is wrong with it.

    Attributes:
        folder: as it was given.
        name: from ``dataset.yaml``, else the folder's.
        mpp: µm per pixel, None if not stated.
        classes: the codes in the order of label digits and mask values.
        splits: the numbers of each split that is there.
        findings: errors first.
    """

    folder: str
    name: str
    mpp: float | None
    classes: tuple[str, ...]
    splits: tuple[SplitSummary, ...]
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity == "warning")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form with every finding and every file."""
        return {
            "folder": self.folder,
            "name": self.name,
            "mpp": self.mpp,
            "classes": list(self.classes),
            "splits": [split.to_dict() for split in self.splits],
            "findings": [finding.to_dict() for finding in self.findings],
        }


def check_dataset(
    folder: Path, progress: Callable[[int, int], None] | None = None, *, smallest_share: float = SMALLEST_SHARE
) -> DatasetCheck:
    """Look a tile set over; a bad file is a finding and never ends the check.

    Args:
        folder: holds the split folders and ``dataset.yaml``.
        progress: told how many tiles of how many are read.
        smallest_share: share of a mask from which a class is too large to be missing from the label, above 0 to 1.

    Raises:
        DatasetError: the folder is missing or has none of the split folders.
        ConfigError: the share is out of range.
    """
    if not 0 < smallest_share <= 1:
        raise ConfigError(f"smallest share {smallest_share} must be above 0 and at most 1")
    try:
        found = [listed for listed in (list_split(folder, split) for split in SPLIT_FOLDERS) if listed is not None]
    except OSError as error:
        raise DatasetError(f"{folder} cannot be listed ({error.strerror or error}): check the path") from error
    if not found:
        names = ", ".join(name for spellings in SPLIT_FOLDERS.values() for name in spellings)
        raise DatasetError(f"{folder} is no tile set: it has none of the folders {names}")
    listings = [listing for listing, _ in found]
    info, mpp, findings = describe(folder, listings)
    findings += [finding for _, listed in found for finding in listed]
    records = _read(folder, listings, info, progress)
    summaries = []
    for listing in listings:
        tiles = records[listing.split]
        summaries.append(summarise(listing.split, tiles, info.scheme.count))
        findings += split_findings(listing, tiles, summaries[-1], info, smallest_share)
    findings += set_findings(records, summaries)
    findings.sort(key=lambda finding: finding.severity)  # "error" comes first; the sort keeps the rest in order
    codes = tuple(printable(code) for code in info.scheme.codes)
    return DatasetCheck(printable(str(folder)), printable(info.name), mpp, codes, tuple(summaries), tuple(findings))


def _read(
    folder: Path, listings: list[Listing], info: DatasetInfo, progress: Callable[[int, int], None] | None
) -> dict[str, list[TileRecord]]:
    """Batches keep memory flat and let an interruption through within a second."""
    total, done = sum(len(listing.tiles) for listing in listings), 0
    records: dict[str, list[TileRecord]] = {listing.split: [] for listing in listings}
    with ThreadPoolExecutor(_THREADS) as threads:
        for listing in listings:
            for start in range(0, len(listing.tiles), _BATCH):
                batch = listing.tiles[start : start + _BATCH]
                records[listing.split] += threads.map(partial(read_tile, folder, info=info), batch)
                done += len(batch)
                if progress is not None:
                    progress(done, total)
    return records
