"""What each tile scored, in a file beside the report, so that two models can be compared tile by tile."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lpd.data.check.cases import case_of, patient_of
from lpd.data.tiles import TileSet
from lpd.errors import DatasetError, ResultError
from lpd.evaluation.bootstrap import paired_bootstrap
from lpd.evaluation.confusion import Counts, scores_from
from lpd.evaluation.files import write_text
from lpd.evaluation.protocols import number

FORMAT_VERSION = 1


@dataclass(frozen=True, eq=False)
class TileScore:
    """One tile under the predicted gate, unrefined, background ignored.

    Attributes:
        name: of its file.
        group: the patient, slide or picture it was cut from, see :func:`group_of`.
        counts: (C, C) pixels, rows truth.
    """

    name: str
    group: str
    counts: Counts

    @property
    def miou(self) -> float:
        """Mean IoU over the classes that the tile shows or is said to show; NaN where nothing is labelled."""
        return scores_from(self.counts, len(self.counts)).miou

    @property
    def accuracy(self) -> float:
        """Share of labelled tissue pixels whose class is right; NaN without any."""
        return scores_from(self.counts, len(self.counts)).accuracy


@dataclass(frozen=True, eq=False)
class TileScores:
    """All tiles of a split, in order, and what they are the tiles of.

    Attributes:
        model: file name of the checkpoint.
        data: name of the tile set.
        split: of the tile set.
        fingerprint: of the split.
        codes: of the classes.
        tiles: in the order of the split.
    """

    model: str
    data: str
    split: str
    fingerprint: str
    codes: tuple[str, ...]
    tiles: tuple[TileScore, ...]

    @classmethod
    def of(cls, model: str, tiles: TileSet, scores: Sequence[TileScore]) -> TileScores:
        """The scores of one model's tiles, all of them or none yet."""
        info = tiles.info
        return cls(model, info.name, tiles.split, tiles.fingerprint(), info.scheme.codes, tuple(scores))

    @property
    def counts(self) -> Counts:
        """(N, C, C)."""
        return np.stack([tile.counts for tile in self.tiles])

    @property
    def groups(self) -> list[str]:
        """Of each tile."""
        return [tile.group for tile in self.tiles]


def group_of(name: str) -> str:
    """Group of a tile by its file name: the TCGA patient, else the part before the coordinates, else the whole name.

    >>> group_of("OC-040-TCGA-B1-A47O-kidney_x200_y400.png")
    'TCGA-B1-A47O'
    """
    case = case_of(name)
    return name if case is None else patient_of(case)


def compare(ours: TileScores, other: TileScores) -> dict[str, Any]:
    """By how much the mean IoU of ``ours`` exceeds that of ``other``, with its interval, as JSON values.

    Raises:
        DatasetError: they are scores of different tiles or classes.
        ShapeError: the masks were others.
    """
    check_comparable(ours, other)
    difference, low, high = paired_bootstrap(ours.counts, other.counts, ours.groups, len(ours.codes))
    return {"model": other.model, "difference": number(difference), "low": number(low), "high": number(high)}


def check_comparable(ours: TileScores, other: TileScores) -> None:
    """Refuse scores of different tiles or classes; ``ours`` may still lack its tiles.

    Raises:
        DatasetError: the fingerprints or classes differ.
    """
    if (ours.codes, ours.fingerprint) != (other.codes, other.fingerprint):
        raise DatasetError(
            f"{other.model} was scored on {_what(other)} and {ours.model} on {_what(ours)}: evaluate both on the same"
        )


def _what(scores: TileScores) -> str:
    return f"{scores.split} of {scores.data!r} (fingerprint {scores.fingerprint}, classes {', '.join(scores.codes)})"


def write_tile_scores(path: Path, scores: TileScores) -> None:
    """Write JSON with one line a tile.

    Raises:
        RunError: the file cannot be written.
    """
    head = {
        "format_version": FORMAT_VERSION,
        "model": scores.model,
        "data": scores.data,
        "split": scores.split,
        "fingerprint": scores.fingerprint,
        "classes": list(scores.codes),
        "protocol": "gate predicted, unrefined, background ignored; counts: rows truth, columns prediction",
    }
    rows = ",\n".join(_json(_tile_entry(tile)) for tile in scores.tiles)
    write_text(path, f'{_json(head)[:-1]},\n"tiles": [\n{rows}\n]}}\n')


def _tile_entry(tile: TileScore) -> dict[str, Any]:
    return {"name": tile.name, "group": tile.group, "miou": number(tile.miou), "counts": tile.counts.tolist()}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def read_tile_scores(path: Path) -> TileScores:
    """Read what :func:`write_tile_scores` wrote.

    Raises:
        ResultError: the file is missing, foreign, damaged or of another version.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        version = data["format_version"]
        if version != FORMAT_VERSION:
            raise ResultError(f"{path} has format {version!r} and this version of lpd reads {FORMAT_VERSION}")
        return _scores_from_json(data)
    except OSError as error:
        raise ResultError(f"{path} cannot be read ({error.strerror or error}): name a tiles.json") from error
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ResultError(f"{path} holds no scores of tiles ({error!r}): name a tiles.json that lpd wrote") from error


def _scores_from_json(data: Mapping[str, Any]) -> TileScores:
    codes = tuple(str(code) for code in data["classes"])
    tiles = []
    for tile in data["tiles"]:
        counts = np.array(tile["counts"], dtype=np.int64)
        if counts.shape != (len(codes), len(codes)) or (counts < 0).any():
            raise ValueError(f"counts of {tile['name']!r}")
        tiles.append(TileScore(str(tile["name"]), str(tile["group"]), counts))
    if not tiles:
        raise ValueError("no tiles")
    model, name, split, fingerprint = (str(data[key]) for key in ("model", "data", "split", "fingerprint"))
    return TileScores(model, name, split, fingerprint, codes, tuple(tiles))
