"""The tumour/stroma ratio of areas, where a model has classes that are called so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lpd.classes import ClassScheme, TissueClass

#: A class counts as one of these if its code, its name or its QuPath name is one of the words; see decision 0021.
_TUMOUR, _STROMA = frozenset({"tum", "tumour", "tumor"}), frozenset({"str", "stroma"})


@dataclass(frozen=True)
class TumourStroma:
    """Areas of tumour and stroma, in mm², and the names of the classes that were taken for them."""

    tumour: tuple[str, ...]
    stroma: tuple[str, ...]
    tumour_mm2: float
    stroma_mm2: float

    @property
    def ratio(self) -> float | None:
        """Tumour for each part of stroma; None without stroma."""
        return self.tumour_mm2 / self.stroma_mm2 if self.stroma_mm2 else None

    @property
    def stroma_percent(self) -> float | None:
        """Stroma's share of both, 0–100; None without either."""
        both = self.tumour_mm2 + self.stroma_mm2
        return 100 * self.stroma_mm2 / both if both else None


def tumour_stroma(classes: ClassScheme, areas_mm2: Sequence[float]) -> TumourStroma | None:
    """Tumour and stroma among the areas of classes, in mask order; None if the scheme lacks either."""
    pairs = list(zip(classes.classes, areas_mm2, strict=True))
    tumour = [(c.name, area) for c, area in pairs if _is(c, _TUMOUR)]
    stroma = [(c.name, area) for c, area in pairs if _is(c, _STROMA)]
    if not tumour or not stroma:
        return None
    names = tuple(tuple(name for name, _ in found) for found in (tumour, stroma))
    return TumourStroma(names[0], names[1], sum(a for _, a in tumour), sum(a for _, a in stroma))


def why_no_ratio(classes: ClassScheme) -> str:
    """What a model lacks for a ratio, for people; empty if it lacks nothing."""
    wanted = (("tumour", _TUMOUR), ("stroma", _STROMA))
    lacking = [name for name, words in wanted if not any(_is(c, words) for c in classes.classes)]
    return f"this model has no class called {' or '.join(lacking)}" if lacking else ""


def in_words(found: TumourStroma) -> str:
    """A ratio with what was taken for tumour and stroma, for people."""
    names = f"{' + '.join(found.tumour)} to {' + '.join(found.stroma)}"
    if found.ratio is None or found.stroma_percent is None:
        return f"{names}: no ratio, as there is no stroma"
    return f"{names} {found.ratio:.2f} : 1 (stroma is {found.stroma_percent:.1f} % of both)"


def _is(tissue_class: TissueClass, words: frozenset[str]) -> bool:
    names = (tissue_class.code, tissue_class.name, tissue_class.qupath_name)
    return any(name.strip().lower() in words for name in names)
