"""The evaluation report: one network on one split, under every gate, with and without background, as plain JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from lpd.classes import NOT_COMPUTED, ClassScheme
from lpd.config import Calibration, InputSpec
from lpd.data.tiles import TileSet
from lpd.errors import DatasetError
from lpd.evaluation.confusion import Counts, Scores, confusion_matrix, scores_from
from lpd.evaluation.tiles import GATES, Gate, TileLogits, class_map, gated_logits, tile_logits
from lpd.losses.diversity import prototype_similarity
from lpd.model.network import LPDNet, check_tile_px
from lpd.refinement.crf import refine_crf
from lpd.refinement.pamr import refine_pamr
from lpd.slide.fine_tissue import FineTissue
from lpd.slide.opening import open_slide
from lpd.slide.tissue import tissue_mask

#: How far the tiles' resolution may lie from the checkpoint's, as a ratio.
MPP_TOLERANCE = 1.1

BACKGROUNDS = {
    "ignored": "true background is left out and never predicted: scores on tissue pixels alone",
    "tissue rule": "predicted where the slide tissue rule finds glass in the tile, opened as a slide of its own",
}
GATE_NOTES: Mapping[Gate, str] = {
    "predicted": "soft gate from the network itself, the arithmetic used on slides",
    "oracle": "gate from the true image label: a protocol for comparison, impossible on slides",
    "none": "gate left open",
}
#: Ways to move the borders of a finished map to edges of the picture, with their default settings.
REFINEMENTS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {"pamr": refine_pamr, "crf": refine_crf}
_PLAIN = "none"


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
    """Score a network on a split that has masks.

    Args:
        network: in evaluation mode.
        tiles: ``valid`` or ``test``.
        spec: what the network expects to be fed.
        scheme: the network's classes.
        calibration: of the checkpoint.
        flip: average each tile with its mirror image.
        refinements: of ``REFINEMENTS``; each is scored beside the plain map; a CRF takes a second per tile and gate.

    Returns:
        JSON values; fractions of 1, None where a class never occurs. ``gates`` holds, per gate and background
        protocol, IoU and Dice per class and their means; ``refined`` the same per refinement; ``label_accuracy`` how
        often the predicted gate (score above one half) agrees with the true image label; ``jeffreys_similarity`` per
        scale how alike the prototypes of a class are inside its true regions (1 alike, 0 disjoint), the mean over the
        tiles that have a region, None if none has or if K = 1.

    Raises:
        DatasetError: the tiles are of other classes, another resolution or an odd size; see :func:`check_fit`.
        ConfigError: the network cannot take tiles of this size.
    """
    check_fit(tiles, spec, scheme)
    check_tile_px(network, tiles.tile_px)
    tally = _Tally(tiles, calibration, network.config.prototypes_per_class, refinements)
    for logits in tile_logits(network, tiles, spec, calibration, flip=flip):
        tally.add(logits)
    return {
        "data": {
            "name": tiles.info.name,
            "split": tiles.split,
            "tiles": len(tiles),
            "mpp": tiles.info.mpp,
            "fingerprint": tiles.fingerprint(),
        },
        "flip": flip,
        "protocols": {"gates": dict(GATE_NOTES), "backgrounds": BACKGROUNDS},
        **tally.summary(),
    }


class _Tally:
    """Counts of everything reported, summed over batches."""

    def __init__(
        self, tiles: TileSet, calibration: Calibration, prototypes_per_class: int, refinements: Sequence[str]
    ) -> None:
        self._tiles = tiles
        self._calibration = calibration
        self._per_class = prototypes_per_class
        values = tiles.info.scheme.count + 1
        self._refinements = tuple(refinements)
        self._counts: dict[tuple[str, Gate, str], Counts] = {
            (refinement, gate, background): np.zeros((values, values), dtype=np.int64)
            for refinement in (_PLAIN, *refinements)
            for gate in GATES
            for background in BACKGROUNDS
        }
        self._agreed = np.zeros(tiles.info.scheme.count)
        self._similarity: dict[int, float] = {}
        self._tiles_with_regions: dict[int, int] = {}

    def add(self, logits: TileLogits) -> None:
        labels = self._tiles.labels[list(logits.indices)]
        truth = np.stack([self._tiles.mask(i) for i in logits.indices])
        glass = np.stack([_glass(self._tiles, i) for i in logits.indices])
        for gate in GATES:
            scores = gated_logits(logits, labels, self._calibration, gate)
            self._count(_PLAIN, gate, truth, class_map(scores), glass)
            for refinement in self._refinements:
                refined = REFINEMENTS[refinement](self._pictures(logits).to(scores.device), scores.softmax(1))
                self._count(refinement, gate, truth, class_map(refined), glass)
        gain, bias = np.array(self._calibration.gate_gain), np.array(self._calibration.gate_bias)
        self._agreed += (((logits.gate.cpu().numpy() * gain + bias) > 0) == labels).sum(axis=0)
        self._add_similarity(logits, truth)

    def _pictures(self, logits: TileLogits) -> Tensor:
        """(B, 3, H, W) in 0–1."""
        return torch.from_numpy(self._tiles.images(logits.indices)).permute(0, 3, 1, 2) / 255

    def _count(
        self,
        refinement: str,
        gate: Gate,
        truth: npt.NDArray[np.uint8],
        predicted: npt.NDArray[np.uint8],
        glass: npt.NDArray[np.bool_],
    ) -> None:
        background = self._tiles.info.scheme.background
        values = background + 1
        tissue_only = np.where(truth == background, np.uint8(NOT_COMPUTED), truth)
        with_glass = np.where(glass, np.uint8(background), predicted)
        self._counts[refinement, gate, "ignored"] += confusion_matrix(tissue_only, predicted, values)
        self._counts[refinement, gate, "tissue rule"] += confusion_matrix(truth, with_glass, values)

    def _add_similarity(self, logits: TileLogits, truth: npt.NDArray[np.uint8]) -> None:
        count = self._tiles.info.scheme.count
        classes = torch.arange(count, dtype=torch.uint8)[None, :, None, None]
        regions = (torch.from_numpy(truth)[:, None] == classes).float()
        for scale, cosines in logits.output.prototype_cosines.items():
            # A map pixel belongs to a class if more than half of its area does.
            inside = functional.interpolate(regions, cosines.shape[2:], mode="area") > 0.5
            grouped = cosines.cpu().reshape(len(truth), count, self._per_class, *cosines.shape[2:])
            similarity, known = prototype_similarity(grouped, inside)
            self._similarity[scale] = self._similarity.get(scale, 0.0) + float(similarity.sum())
            self._tiles_with_regions[scale] = self._tiles_with_regions.get(scale, 0) + int(known.sum())

    def summary(self) -> dict[str, Any]:
        codes = self._tiles.info.scheme.codes
        tables: dict[str, Any] = {name: {gate: {} for gate in GATES} for name in (_PLAIN, *self._refinements)}
        for (refinement, gate, background), counts in self._counts.items():
            scores = _as_json(scores_from(counts, len(codes)), codes, background != "ignored")
            tables[refinement][gate][background] = scores
        plain = tables.pop(_PLAIN)
        accuracy = self._agreed / len(self._tiles)
        return {
            "gates": plain,
            "refined": tables,
            "label_accuracy": dict(zip(codes, accuracy.tolist(), strict=True)),
            "jeffreys_similarity": {
                str(scale): total / tiles if (tiles := self._tiles_with_regions[scale]) else None
                for scale, total in sorted(self._similarity.items())
            },
        }


def _as_json(scores: Scores, codes: tuple[str, ...], background: bool) -> dict[str, Any]:
    names = (*codes, "background") if background else codes
    table: dict[str, Any] = {
        "miou": _number(scores.miou),
        "fwiou": _number(scores.fwiou),
        "accuracy": _number(scores.accuracy),
        "iou": {name: _number(value) for name, value in zip(names, scores.iou, strict=False)},
        "dice": {name: _number(value) for name, value in zip(names, scores.dice, strict=False)},
    }
    if background:
        table["miou_with_background"] = _number(scores.miou_with_background)
        table["fwiou_with_background"] = _number(scores.fwiou_with_background)
    return table


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _glass(tiles: TileSet, index: int) -> npt.NDArray[np.bool_]:
    """(H, W) bool: where the slide tissue rule finds glass if this tile is all there is of a slide."""
    with open_slide(tiles.files[index].image, mpp=tiles.info.mpp) as slide:
        tissue = FineTissue(slide, tissue_mask(slide)).read(slide.region, (slide.width_l0, slide.height_l0))
    return ~tissue


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
