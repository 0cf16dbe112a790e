"""What one split of a tile set holds, in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lpd.data.check.cases import patient_of
from lpd.data.check.reading import Size, TileRecord


@dataclass(frozen=True)
class SplitSummary:
    """Numbers of one split.

    Attributes:
        split: ``train``, ``valid`` or ``test``.
        tiles: number of tile files, readable or not.
        size: the most common (width, height) in px, None if no tile can be read.
        cases: number of patients or cases that the names tell.
        labelled: tiles with a usable label, from the name or else the mask.
        from_masks: how many of these are from the mask, where one pixel is enough.
        class_tiles: C numbers of tiles with each class.
        no_class: labelled tiles without any class.
        several_classes: labelled tiles with two or more.
        pixels: C + 2 numbers of mask pixels: each class, background, ignore; None without usable masks.
    """

    split: str
    tiles: int
    size: Size | None
    cases: int
    labelled: int
    from_masks: int
    class_tiles: tuple[int, ...]
    no_class: int
    several_classes: int
    pixels: tuple[int, ...] | None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form."""
        return asdict(self)


def summarise(split: str, records: Sequence[TileRecord], class_count: int) -> SplitSummary:
    """Count what a split holds."""
    labels = [record.label for record in records if record.label is not None]
    masks = [record.mask.pixels for record in records if record.mask is not None and record.mask.usable]
    return SplitSummary(
        split=split,
        tiles=len(records),
        size=most_common_size(records),
        cases=len({patient_of(record.case) for record in records if record.case is not None}),
        labelled=len(labels),
        from_masks=sum(record.named is None and record.label is not None for record in records),
        class_tiles=tuple(sum(label[c] for label in labels) for c in range(class_count)),
        no_class=sum(not any(label) for label in labels),
        several_classes=sum(sum(label) > 1 for label in labels),
        pixels=tuple(map(sum, zip(*masks, strict=True))) if masks else None,
    )


def most_common_size(records: Sequence[TileRecord]) -> Size | None:
    """(width, height) of most readable tiles."""
    sizes = Counter(record.size for record in records if record.size is not None)
    return sizes.most_common(1)[0][0] if sizes else None
