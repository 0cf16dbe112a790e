"""Rules that a split must keep by itself: files, labels, masks, and what its labels can teach."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from lpd.data.check.findings import RARE, WHITE_SHARE, Finding, Item, findings_of
from lpd.data.check.listing import Listing
from lpd.data.check.reading import MaskRecord, TileRecord
from lpd.data.check.summary import SplitSummary
from lpd.data.dataset_info import DatasetInfo


def split_findings(
    listing: Listing, records: Sequence[TileRecord], summary: SplitSummary, info: DatasetInfo, smallest_share: float
) -> list[Finding]:
    """Everything wrong inside one split.

    Args:
        listing: the split's files.
        records: what they hold, in the same order.
        summary: its numbers.
        info: the classes and mask values.
        smallest_share: share of a mask from which a class is too large to be missing from the label.
    """
    findings = _file_findings(records, summary, listing.split)
    findings += _label_findings(listing, records, info)
    if listing.masked:
        findings += _mask_findings(records, info, listing.split)
        findings += _contradictions(records, info, listing.split, smallest_share)
    findings += _class_findings(summary, info)
    return findings + _duplicates(records, listing.split)


def _file_findings(records: Sequence[TileRecord], summary: SplitSummary, split: str) -> list[Finding]:
    faulty = [part for record in records for part in (record, record.mask) if part is not None and part.fault]
    findings = findings_of("unreadable", (Item(part.file, part.fault) for part in faulty), split)
    if summary.size is not None:
        width, height = summary.size
        odd = [Item(r.file, _px(r.size)) for r in records if r.size is not None and r.size != summary.size]
        findings += findings_of("tile size", odd, split, size=_px(summary.size))
        shapely = width == height and width % 32 == 0
        findings += findings_of("tile shape", [] if shapely else [Item(split, _px(summary.size))], split)
    seen = [record for record in records if record.size is not None]
    white = [Item(r.file, f"{r.white:.0%}") for r in seen if r.white >= WHITE_SHARE]
    flat = [Item(r.file) for r in seen if r.uniform and r.white < WHITE_SHARE]
    return findings + findings_of("nearly white", white, split) + findings_of("one colour", flat, split)


def _label_findings(listing: Listing, records: Sequence[TileRecord], info: DatasetInfo) -> list[Finding]:
    count, split = info.scheme.count, listing.split
    unlabelled = [] if listing.masked else [Item(r.file) for r in records if r.digits is None]
    wrong = [Item(r.file, f"{len(r.digits)} digits") for r in records if r.digits is not None and r.named is None]
    empty = [Item(r.file) for r in records if r.named is not None and not any(r.named)]
    unknown = [Item(r.file) for r in records if r.case is None]
    return [
        *findings_of("no label", unlabelled, split, digits="1" * count),
        *findings_of("label digits", wrong, split, count=count),
        *findings_of("no class", empty, split),
        *findings_of("case unknown", unknown, split),
    ]


def _mask_findings(records: Sequence[TileRecord], info: DatasetInfo, split: str) -> list[Finding]:
    missing = [Item(record.file) for record in records if record.mask is None]
    masks = list(_masks(records))
    size = [
        Item(mask.file, f"{_px(mask.size)}, its tile {_px(record.size)}")
        for record, mask in masks
        if mask.size is not None and record.size is not None and mask.size != record.size
    ]
    foreign = [Item(mask.file, f"holds {_few(mask.foreign)}") for _, mask in masks if mask.foreign]
    meant = {"last": info.scheme.count - 1, "background": info.background, "ignore": info.ignore}
    return [
        *findings_of("mask missing", missing, split),
        *findings_of("mask size", size, split),
        *findings_of("mask values", foreign, split, **meant),
    ]


def _contradictions(records: Sequence[TileRecord], info: DatasetInfo, split: str, share: float) -> list[Finding]:
    """Label against mask, where a tile has both; what a mask ignores may hide a class."""
    absent, denied = [], []
    for record, mask in _masks(records):
        if record.named is None or not mask.usable:
            continue
        *classes, _, ignored = mask.pixels
        all_px = sum(mask.pixels)
        rows = list(zip(info.scheme.codes, record.named, classes, strict=True))
        gone = [code for code, labelled, px in rows if labelled and px == 0]
        much = max(1.0, share * all_px)
        there = [f"{code} {px / all_px:.1%}" for code, labelled, px in rows if not labelled and px >= much]
        if gone and ignored < share * all_px:
            absent.append(Item(record.file, " ".join(gone)))
        if there:
            denied.append(Item(record.file, ", ".join(there)))
    return [
        *findings_of("label not in mask", absent, split, share=f"{share:.1%}"),
        *findings_of("mask not in label", denied, split, share=f"{share:.1%}"),
    ]


def _class_findings(summary: SplitSummary, info: DatasetInfo) -> list[Finding]:
    def codes(fits: Callable[[int], bool]) -> list[Item]:
        total = summary.labelled
        both = zip(info.scheme.codes, summary.class_tiles, strict=True)
        return [Item(code, f"{tiles} of {total} tiles") for code, tiles in both if total and fits(tiles)]

    rare = findings_of("class rare", codes(lambda tiles: 0 < tiles < RARE), summary.split)
    if summary.split != "train":
        return findings_of("class unscored", codes(lambda tiles: tiles == 0), summary.split) + rare
    return [
        *rare,
        *findings_of("class never", codes(lambda tiles: tiles == 0), "train"),
        *findings_of("class always", codes(lambda tiles: tiles == summary.labelled), "train"),
    ]


def _duplicates(records: Sequence[TileRecord], split: str) -> list[Finding]:
    first: dict[bytes, TileRecord] = {}
    same: list[Item] = []
    contradicting: list[Item] = []
    for record in records:
        if not record.digest or record.uniform:  # one colour is one colour: the tiles need not be copies
            continue
        known = first.setdefault(record.digest, record)
        if known is not record:
            differ = None not in (known.label, record.label) and known.label != record.label
            (contradicting if differ else same).append(Item(record.file, f"like {known.file}"))
    return [
        *findings_of("duplicate", same, split),
        *findings_of("contradicting duplicate", contradicting, split),
    ]


def _masks(records: Sequence[TileRecord]) -> Iterator[tuple[TileRecord, MaskRecord]]:
    return ((record, record.mask) for record in records if record.mask is not None)


def _px(size: tuple[int, int] | None) -> str:
    return "unreadable" if size is None else f"{size[0]} × {size[1]} px"


def _few(values: Sequence[int], most: int = 5) -> str:
    return ", ".join(map(str, values[:most])) + (" …" if len(values) > most else "")
