"""The evaluation report: one network on one split, under every gate, background protocol and refinement, as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lpd.classes import ClassScheme
from lpd.config import Calibration, InputSpec
from lpd.data.tiles import TileSet
from lpd.errors import ConfigError, DatasetError
from lpd.evaluation.adapting import adapt_to_pictures
from lpd.evaluation.bootstrap import LEVEL, RESAMPLES, bootstrap_miou
from lpd.evaluation.gate import GATE_CALIBRATION_NOTE
from lpd.evaluation.paper import PAPER_NOTES
from lpd.evaluation.protocols import BACKGROUNDS, GATE_NOTES, IGNORED, number
from lpd.evaluation.refining import ADAPT, PLAIN, REFINEMENTS, SYMMETRIC, TTA, check_refinements, refinement_notes
from lpd.evaluation.tally import Tally
from lpd.evaluation.tile_scores import TileScore
from lpd.evaluation.tiles import TileLogits, tile_logits, tta_refusal, tta_sides
from lpd.model.network import LPDNet, check_tile_px

__all__ = ["BACKGROUNDS", "GATE_NOTES", "REFINEMENTS", "Measured", "check_fit", "evaluate", "measure"]

#: How far the tiles' resolution may lie from the checkpoint's, as a ratio.
MPP_TOLERANCE = 1.1


@dataclass(frozen=True, eq=False)
class Measured:
    """What :func:`measure` found.

    Attributes:
        report: JSON values.
        tiles: the score of each tile, in order.
    """

    report: dict[str, Any]
    tiles: tuple[TileScore, ...]


def evaluate(
    network: LPDNet,
    tiles: TileSet,
    spec: InputSpec,
    scheme: ClassScheme,
    calibration: Calibration,
    *,
    flip: bool = False,
    refinements: Sequence[str] = (),
) -> dict[str, Any]:
    """The report of :func:`measure`."""
    return measure(network, tiles, spec, scheme, calibration, flip=flip, refinements=refinements).report


def measure(
    network: LPDNet,
    tiles: TileSet,
    spec: InputSpec,
    scheme: ClassScheme,
    calibration: Calibration,
    *,
    flip: bool = False,
    refinements: Sequence[str] = (),
    paper: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Measured:
    """Score a network on a split that has masks.

    Args:
        network: in evaluation mode.
        tiles: ``valid`` or ``test``.
        spec: what the network expects to be fed.
        scheme: the network's classes.
        calibration: of the checkpoint.
        flip: average each tile with its mirror image.
        refinements: ``adapt``, ``pamr``, ``crf``, ``tta``, ``turned``; each is scored beside the plain map; a CRF
            takes seconds a tile.
        paper: also score the map of the paper's released code.
        progress: told how many tiles of how many are done; ``adapt`` looks at some first, and tells of those first.

    Returns:
        A report of fractions of 1, None where a class never occurs or nothing can be said:

        - ``data`` and ``protocols``: what was scored, and what the names mean;
        - ``gates``: per gate and background protocol IoU and Dice per class and their means; ``refined``: the same per
          refinement; ``confusion``: pixel counts of all of them by refinement (``none`` is the plain map), gate and
          background protocol, rows being truth, background last where it counts;
        - ``spread``: mean IoU under the predicted gate with its bootstrap interval over groups of tiles;
        - ``gate``: see :func:`lpd.evaluation.gate.gate_calibration`; ``label_accuracy``: its accuracies;
        - ``jeffreys_similarity``: per scale how alike the prototypes of a class are inside its true regions (1 alike, 0
          disjoint), the mean over the tiles that have a region, None if none has or if K = 1;
        - ``paper``, if asked for: scores by image label (``oracle``, ``predicted``) and background protocol.

    Raises:
        DatasetError: the tiles are of other classes, another resolution or an odd size; see :func:`check_fit`.
        ConfigError: the network cannot take tiles of this size, or of those that ``tta`` needs.
    """
    names = tuple(dict.fromkeys(refinements))
    check_refinements(names)
    check_fit(tiles, spec, scheme)
    check_tile_px(network, tiles.tile_px)
    if TTA in names and (refusal := tta_refusal(network.config, tiles.tile_px)):
        raise ConfigError(refusal)
    prototypes = adapt_to_pictures(network, tiles, spec, calibration, progress=progress) if ADAPT in names else None
    per_class = network.config.prototypes_per_class
    tally = Tally(tiles, calibration, per_class, names, prototypes=prototypes, paper=paper)
    plain = tile_logits(network, tiles, spec, calibration, flip=flip)
    averaged: dict[str, Iterator[TileLogits]] = {}
    if TTA in names:
        averaged[TTA] = tile_logits(network, tiles, spec, calibration, flip=True, sides=tta_sides(tiles.tile_px))
    if SYMMETRIC in names:
        averaged[SYMMETRIC] = tile_logits(network, tiles, spec, calibration, symmetries=True)
    for logits in plain:
        tally.add(logits, {name: next(views) for name, views in averaged.items()})
        if progress is not None:
            progress(logits.indices.stop, len(tiles))
    report = {
        "data": _described(tiles, tally.tile_scores),
        "flip": flip,
        "protocols": _protocols(names, tiles.tile_px, paper=paper),
        "spread": _spread(tally.tile_scores, tiles.info.scheme.codes),
        **tally.summary(),
    }
    return Measured(report, tuple(tally.tile_scores))


def _described(tiles: TileSet, scores: Sequence[TileScore]) -> dict[str, Any]:
    return {
        "name": tiles.info.name,
        "split": tiles.split,
        "tiles": len(tiles),
        "groups": len({score.group for score in scores}),
        "classes": {c.code: c.name for c in tiles.info.scheme.classes},
        "tile_px": tiles.tile_px,
        "mpp": tiles.info.mpp,
        "fingerprint": tiles.fingerprint(),
        "licence": tiles.info.licence,
    }


def _protocols(refinements: Sequence[str], tile_px: int, *, paper: bool) -> dict[str, Any]:
    notes = refinement_notes((tile_px, *tta_sides(tile_px)))
    return {
        "gates": dict(GATE_NOTES),
        "backgrounds": dict(BACKGROUNDS),
        "refinements": {name: notes[name] for name in (PLAIN, *refinements)},
        "gate": GATE_CALIBRATION_NOTE,
        **({"paper": PAPER_NOTES} if paper else {}),
    }


def _spread(scores: Sequence[TileScore], codes: tuple[str, ...]) -> dict[str, Any]:
    """The interval, and how many groups show each class: one that few show makes the interval say little of it."""
    counts, groups = np.stack([score.counts for score in scores]), [score.group for score in scores]
    miou, low, high = bootstrap_miou(counts, groups, len(codes))
    shown = counts.sum(2) > 0
    return {
        "gate": "predicted",
        "background": IGNORED,
        "refinement": PLAIN,
        "miou": number(miou),
        "low": number(low),
        "high": number(high),
        "level": LEVEL,
        "resamples": RESAMPLES,
        "groups": len(set(groups)),
        "groups_by_class": {
            code: len({group for group, row in zip(groups, shown, strict=True) if row[c]})
            for c, code in enumerate(codes)
        },
    }


def check_fit(tiles: TileSet, spec: InputSpec, scheme: ClassScheme) -> None:
    """Refuse tiles that cannot be scored; their size may differ from the network's own by multiples of 32 px.

    Raises:
        DatasetError: the tiles are of other classes, another resolution or a size that no checkpoint may have.
    """
    if tiles.info.scheme.codes != scheme.codes:
        raise DatasetError(
            f"{tiles.info.name!r} has the classes {', '.join(tiles.info.scheme.codes)} but the checkpoint knows "
            f"{', '.join(scheme.codes)}: choose the tile set that it was made for"
        )
    if not 1 / MPP_TOLERANCE <= tiles.info.mpp / spec.mpp <= MPP_TOLERANCE:
        raise DatasetError(
            f"{tiles.info.name!r} has {tiles.info.mpp} µm/px but the checkpoint expects {spec.mpp}: "
            "cut the tiles again at that resolution"
        )
    if tiles.tile_px < 32 or tiles.tile_px % 32:
        raise DatasetError(
            f"{tiles.info.name!r} has tiles of {tiles.tile_px} px, which is not a multiple of 32: "
            f"cut them to {spec.tile_px} px, as the checkpoint was trained on"
        )
