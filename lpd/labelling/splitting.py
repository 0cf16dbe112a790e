"""What a label set would become as a tile set: which slides train, which are held out to score, what is left out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from lpd.classes import NOT_COMPUTED, ClassScheme
from lpd.data.check.cases import case_of, patient_of
from lpd.errors import DatasetError
from lpd.labelling.grid import Cell, TileGrid
from lpd.labelling.labelling import Labelling, Tick
from lpd.labelling.log import LabelledSlide
from lpd.slide.region import Region

Bytes = npt.NDArray[np.uint8]

#: A tile of a held-out slide is scored from this share of reviewed pixels on, looked up at 8 × 8 places.
LEAST_REVIEWED = 0.5
_LOOKS = 8
_NO_NAME = re.compile(r"[^A-Za-z0-9.]+")


class Reviewed(Protocol):
    """What people have said of a mask, pixel by pixel; :class:`lpd.review.review.Review` is wrapped into it."""

    @property
    def classes(self) -> ClassScheme: ...

    def read(self, region: Region, size: tuple[int, int]) -> Bytes:
        """uint8 (h, w): values of ``classes``, 255 not reviewed."""
        ...


@dataclass(frozen=True)
class SlidePart:
    """One slide in the tile set.

    Attributes:
        slide: which.
        name: the first part of its files' names, unlike that of any other slide.
        grid: its tiles.
        ticks: its labelled tiles, row by row.
        scored: tiles with a reviewed mask, row by row; held out, these are what is written.
        shown: names of the classes that these masks show.
        held_out: whether it is for scores (``valid``) and not trained on.
    """

    slide: LabelledSlide
    name: str
    grid: TileGrid
    ticks: tuple[tuple[Cell, Tick], ...]
    scored: tuple[Cell, ...]
    shown: tuple[str, ...] = ()
    held_out: bool = False


@dataclass(frozen=True)
class Plan:
    """What would be written.

    Attributes:
        classes: those that training tiles show, in the set's order.
        parts: the slides.
        counts: how many training tiles show each class, ``""`` none.
        left_out: codes of classes that no training tile shows.
        problem: why there is nothing to train on, in one sentence; empty if there is.
        notes: what a person has to know of the set.
    """

    classes: ClassScheme | None
    parts: tuple[SlidePart, ...]
    counts: Mapping[str, int]
    left_out: tuple[str, ...]
    problem: str
    notes: tuple[str, ...]

    @property
    def train(self) -> int:
        """Number of training tiles."""
        return sum(len(part.ticks) for part in self.parts if not part.held_out)

    @property
    def valid(self) -> int:
        """Number of tiles to score."""
        return sum(len(part.scored) for part in self.parts if part.held_out)


def make_plan(
    labelling: Labelling,
    reviewed: Mapping[str, Sequence[Reviewed]],
    held_out: Collection[str] | None = None,
) -> Plan:
    """Decide what a label set becomes, without reading a slide.

    Slides are split whole. Only reviewed masks can be scored against: a slide may be held out if it has tiles of which
    people have judged half or more. Without a wish the one is held out whose loss costs training the fewest tiles, not
    more than half of them, and no class; none if there is no such slide.

    Args:
        labelling: the label set.
        reviewed: reviews by fingerprint of their slide.
        held_out: fingerprints of the slides to score on; None leaves it to the rule, empty holds none out.

    Raises:
        DatasetError: a slide that shall be held out has no reviewed mask, or is not in the set.
    """
    parts = _parts(labelling, reviewed)
    if held_out is None:
        chosen = _choose(parts, labelling.scheme.classes.codes)
    else:
        _check_wish(parts, held_out)
        chosen = set(held_out)
    chosen |= _same_patient(parts, chosen)
    parts = [replace(part, held_out=part.slide.fingerprint in chosen) for part in parts]
    counts = _counts(parts, labelling.scheme.classes.codes)
    kept = tuple(c for c in labelling.scheme.classes.classes if counts[c.code])
    total = sum(len(part.ticks) for part in parts if not part.held_out)
    problem = _problem(total, {c.code: counts[c.code] for c in kept})
    left_out = tuple(c.code for c in labelling.scheme.classes.classes if not counts[c.code])
    classes = replace(labelling.scheme.classes, classes=kept) if kept else None
    names = [c.name for c in labelling.scheme.classes.classes if not counts[c.code]]
    return Plan(classes, tuple(parts), counts, left_out, problem, tuple(_notes(parts, names)))


def label_digits(tick: Tick, classes: ClassScheme) -> str:
    """A tile's label as file names carry it, such as ``1010``."""
    return "".join("1" if code in tick.classes else "0" for code in classes.codes)


def file_names(slides: Iterable[LabelledSlide]) -> dict[str, str]:
    """By fingerprint, how the files of a slide begin: its name in plain letters, with digits where two would be alike.

    Training and checks read the slide back from it, so that no two slides may have one.
    """
    listed = list(slides)
    plain = {slide.fingerprint: _NO_NAME.sub("-", slide.name).strip("-.") or "slide" for slide in listed}
    often = Counter(name.lower() for name in plain.values())
    return {key: name if often[name.lower()] == 1 else f"{name}-{key[:6]}" for key, name in plain.items()}


def _parts(labelling: Labelling, reviewed: Mapping[str, Sequence[Reviewed]]) -> list[SlidePart]:
    names = file_names(labelling.slides.values())
    parts = []
    for key, slide in labelling.slides.items():
        grid = slide.grid(labelling.scheme)
        ticks = sorted(labelling.tiles(key).items(), key=lambda item: item[0][::-1])
        scored, values = scored_cells(grid, reviewed.get(key, ()), labelling.scheme.classes)
        shown = tuple(c.name for value, c in enumerate(labelling.scheme.classes.classes) if value in values)
        if ticks or scored:
            parts.append(SlidePart(slide, names[key], grid, tuple(ticks), tuple(scored), shown))
    return parts


def translated(said: Bytes, own: ClassScheme, wanted: ClassScheme) -> Bytes:
    """Mask values of one scheme in those of another, by code; classes that it lacks become 255, not judged."""
    table = np.full(256, NOT_COMPUTED, np.uint8)
    for value, code in enumerate(own.codes):
        if code in wanted.codes:
            table[value] = wanted.codes.index(code)
    table[own.background] = wanted.background
    return table[said]


def scored_cells(
    grid: TileGrid, reviewed: Sequence[Reviewed], classes: ClassScheme
) -> tuple[list[Cell], frozenset[int]]:
    """Tiles of which people have judged enough to score them, row by row, and the values of ``classes`` in them."""
    found = np.zeros((grid.rows, grid.columns), np.bool_)
    values: set[int] = set()
    for review in reviewed:
        said = review.read(grid.extent, (grid.columns * _LOOKS, grid.rows * _LOOKS))
        tiles = translated(said, review.classes, classes).reshape(grid.rows, _LOOKS, grid.columns, _LOOKS)
        enough = (tiles != NOT_COMPUTED).mean(axis=(1, 3)) >= LEAST_REVIEWED
        values |= set(np.unique(tiles.swapaxes(1, 2)[enough]).tolist())
        found |= enough
    return [(int(column), int(row)) for row, column in np.argwhere(found)], frozenset(values - {NOT_COMPUTED})


def _choose(parts: Sequence[SlidePart], codes: Sequence[str]) -> set[str]:
    shown = {code for code, count in _counts(parts, codes).items() if code and count}
    total = sum(len(part.ticks) for part in parts)
    for part in sorted((p for p in parts if p.scored), key=lambda p: (len(p.ticks), -len(p.scored))):
        key = part.slide.fingerprint
        away = {key} | _same_patient(parts, {key})
        left = [p for p in parts if p.slide.fingerprint not in away]
        counts = _counts(left, codes)
        if 2 * sum(len(p.ticks) for p in left) >= max(1, total) and shown <= {
            code for code, count in counts.items() if count
        }:
            return {key}
    return set()


def _same_patient(parts: Sequence[SlidePart], chosen: Collection[str]) -> set[str]:
    """Slides of a patient who is held out are held out, too."""
    patients = {_patient(part) for part in parts if part.slide.fingerprint in chosen}
    return {part.slide.fingerprint for part in parts if _patient(part) in patients}


def _patient(part: SlidePart) -> str:
    """As ``lpd check`` will read it from the files' names."""
    return patient_of(case_of(f"{part.name}_x0_y0.png") or part.name)


def _check_wish(parts: Sequence[SlidePart], held_out: Collection[str]) -> None:
    known = {part.slide.fingerprint: part for part in parts}
    for key in held_out:
        if key not in known:
            raise DatasetError(f"no slide of the label set has the fingerprint {key[:40]!r}: it cannot be held out")
        if not known[key].scored:
            raise DatasetError(
                f"{known[key].slide.name} cannot be held out to score on: scores need masks, and no tile of its has a "
                "reviewed one; segment it and review some of it first"
            )


def _counts(parts: Iterable[SlidePart], codes: Sequence[str]) -> dict[str, int]:
    counts = dict.fromkeys((*codes, ""), 0)
    for part in parts:
        for _, tick in () if part.held_out else part.ticks:
            for code in tick.classes or ("",):
                counts[code] += 1
    return counts


def _problem(total: int, shown: Mapping[str, int]) -> str:
    if not total:
        return "no tile is labelled yet for training: tick some tiles first"
    if not shown:
        return "no training tile shows any class: tick some that do"
    always = [code for code, count in shown.items() if count == total]
    if always:
        return (
            f"all {total} training tiles show {always[0]}: what is always there cannot be learnt, "
            "so tick tiles without it"
        )
    return ""


def _notes(parts: Sequence[SlidePart], lacking: Sequence[str]) -> Iterable[str]:
    if lacking:
        yield f"No training tile shows {', '.join(lacking)}: left out of the set."
    held = [part for part in parts if part.held_out]
    if held:
        tiles = sum(len(part.scored) for part in held)
        names = ", ".join(part.slide.name for part in held)
        shown = ", ".join(sorted({name for part in held for name in part.shown})) or "background alone"
        yield f"Held out: {names}; {tiles} tiles with reviewed masks score the training. These show {shown}."
        lost = sum(len(part.ticks) for part in held)
        if lost:
            yield f"{lost} ticked tiles of held-out slides are not trained on."
    elif any(part.scored for part in parts):
        yield "No slide is held out: the training has no scores (only the losses show)."
    else:
        yield (
            "No scores: ticks say what a tile shows, not where, and masks are needed to score. Segment one more slide, "
            "review some of it, and it can be held out."
        )
    if len([part for part in parts if part.ticks and not part.held_out]) == 1:
        yield "All training tiles are of one slide: what is learnt may hold for its stain alone."
