"""Findings: what is wrong with a tile set, how badly, and which files show it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["error", "warning"]

#: A class with fewer tiles in a split is rare: its score rests on a handful of them.
RARE = 10
#: A tile is nearly white from this share of pixels whose three channels all reach WHITE_LEVEL.
WHITE_SHARE, WHITE_LEVEL = 0.95, 220

#: Errors stop training or falsify scores; warnings are to be looked at. ``{…}`` is filled in by the finding.
RULES: dict[str, tuple[Severity, str]] = {
    "description": ("error", "the tile set is not described; the check goes on with classes guessed from the labels"),
    "mpp missing": ("error", "dataset.yaml lacks mpp (µm/px of the tiles): add it, training refuses without"),
    "no tiles": ("error", "a folder of tiles is missing, empty or unreadable"),
    "no split": ("warning", "without train there is nothing to learn from, without valid training gives no scores"),
    "two spellings": ("warning", "a split exists under two names and only the first is read: merge or remove one"),
    "unread file": ("warning", "files that are not .png are never read: convert or remove them"),
    "file name": ("error", "names that are not UTF-8, which no report could state: rename the files"),
    "unreadable": ("error", "files that cannot be read as an 8-bit image: replace or remove them"),
    "tile size": ("error", "tiles of another size than most ({size}): cut all alike"),
    "tile shape": ("error", "tiles must be square, with a side that is a multiple of 32 px"),
    "split sizes": ("warning", "the splits have tiles of different sizes"),
    "no label": ("error", "names without a label: end them with one 0 or 1 a class, as in name[{digits}].png"),
    "label digits": ("error", "labels without exactly one digit for each of the {count} classes: rename the files"),
    "mask missing": ("error", "tiles without a mask of the same name: add it or remove the tile"),
    "orphan mask": ("warning", "masks without a tile of the same name are never read"),
    "mask size": ("error", "masks of another size than their tile: cut both alike"),
    "mask values": ("error", "values that are no class (0 to {last}), background ({background}) or ignore ({ignore})"),
    "label not in mask": ("error", "classes in the label without a pixel in the mask (under {share} of it is ignored)"),
    "mask not in label": ("error", "classes with {share} of the mask or more that the label denies"),
    "class never": ("error", "classes that no training tile is labelled with cannot be learnt"),
    "class always": ("error", "classes that every training tile is labelled with cannot be learnt from such labels"),
    "class unscored": ("warning", "classes without a tile in this split get no score"),
    "class rare": ("warning", f"classes with fewer than {RARE} tiles in this split: their scores are uncertain"),
    "no class": ("warning", "tiles labelled with no class at all: right for glass or unlisted tissue only"),
    "duplicate": ("warning", "tiles with the very pixels of another tile of the split"),
    "contradicting duplicate": ("error", "tiles with the very pixels of another tile of the split but another label"),
    "leaked tile": ("error", "tiles with the very pixels of a tile of another split: scores would be flattered"),
    "leaked case": ("error", "cases with tiles in more than one split: scores would be flattered"),
    "case unknown": ("warning", "names without coordinates tell no case: leaks between splits show by pixels only"),
    "nearly white": ("warning", f"tiles of which {WHITE_SHARE:.0%} or more is white (RGB all ≥ {WHITE_LEVEL})"),
    "one colour": ("warning", "tiles of a single colour other than white show nothing"),
}  # fmt: skip


@dataclass(frozen=True)
class Item:
    """One thing a finding is about: a file (relative to the tile set), class, case or split, and what is up with it."""

    name: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.detail})" if self.detail else self.name


@dataclass(frozen=True)
class Finding:
    """One broken rule.

    Attributes:
        rule: a key of :data:`RULES`.
        severity: ``error`` or ``warning``.
        split: ``train``, ``valid`` or ``test``; empty where the set as a whole is meant.
        says: the rule and its cure in words.
        items: everything that breaks it.
    """

    rule: str
    severity: Severity
    split: str
    says: str
    items: tuple[Item, ...]

    @property
    def count(self) -> int:
        return len(self.items)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form with every item."""
        return {**asdict(self), "count": self.count, "items": [asdict(item) for item in self.items]}


def findings_of(rule: str, items: Iterable[Item], split: str = "", **facts: object) -> list[Finding]:
    """No finding if nothing breaks the rule, else one."""
    items = tuple(items)
    severity, says = RULES[rule]
    return [Finding(rule, severity, split, says.format(**facts), items)] if items else []


def printable(text: str) -> str:
    """Text on one line that any JSON file holds: control characters and undecodable bytes are spelt out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
