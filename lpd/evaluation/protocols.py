"""The protocols under which maps are scored: what each name means, and how it counts pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from lpd.data.tiles import TileSet
from lpd.evaluation.confusion import Counts, confusion_matrix, scores_from
from lpd.evaluation.tiles import Gate
from lpd.slide.fine_tissue import FineTissue
from lpd.slide.opening import open_pixels
from lpd.slide.tissue import tissue_mask

Mask = npt.NDArray[np.uint8]

GATE_NOTES: Mapping[Gate, str] = {
    "predicted": "the network says how likely each class is in the tile, as on slides",
    "oracle": "gate from the true image label: a protocol for comparison, impossible on slides",
    "none": "gate left open",
}
IGNORED, RULE, GIVEN = "ignored", "tissue rule", "given"
BACKGROUNDS: Mapping[str, str] = {
    IGNORED: "true background is left out and never predicted: scores on tissue pixels alone",
    RULE: "predicted where the slide tissue rule finds glass in the tile, opened as a slide of its own",
    GIVEN: "copied from the truth and scored as a class, so that all of it counts as right: flattering, and usual in "
    "the field; the figures of the tissue classes are those of 'ignored'",
}


def background_counts(
    truth: Mask, predicted: Mask, glass: npt.NDArray[np.bool_], class_count: int
) -> dict[str, Counts]:
    """Confusion counts of one map under every background protocol.

    Args:
        truth: mask values: C classes, then background, or 255 where nobody labelled.
        predicted: same shape, the class of every pixel; never background.
        glass: same shape, where the tissue rule finds none.
        class_count: C.

    Returns:
        (C + 1, C + 1) counts by name of ``BACKGROUNDS``; rows are truth, background last.

    Raises:
        ShapeError: the shapes differ or a value is out of range.
    """
    ruled = np.where(glass, np.uint8(class_count), predicted)
    counts = confusion_matrix(truth, predicted, class_count + 1)
    ignored = counts.copy()
    ignored[class_count] = 0
    rule = confusion_matrix(truth, ruled, class_count + 1)
    return {IGNORED: ignored, RULE: rule, GIVEN: background_given(counts)}


def background_given(counts: Counts) -> Counts:
    """The counts after ``predicted[truth == background] = background``; background is the last row and column."""
    given = counts.copy()
    given[-1] = 0
    given[-1, -1] = counts[-1].sum()
    return given


def score_table(counts: Counts, codes: tuple[str, ...], *, background: bool) -> dict[str, Any]:
    """Scores of one confusion matrix as JSON values.

    Args:
        counts: (C + 1, C + 1), rows truth, background last.
        codes: of the C classes.
        background: whether background is a class under this protocol; else nothing is said of it.

    Returns:
        Fractions of 1, None where nothing can be said; IoU and Dice by code, and their means.
    """
    scores = scores_from(counts, len(codes))
    names = (*codes, "background") if background else codes
    table: dict[str, Any] = {
        "miou": number(scores.miou),
        "mdice": number(scores.mdice),
        "fwiou": number(scores.fwiou),
        "accuracy": number(scores.accuracy),
        "iou": {name: number(value) for name, value in zip(names, scores.iou, strict=False)},
        "dice": {name: number(value) for name, value in zip(names, scores.dice, strict=False)},
    }
    if background:
        table["miou_with_background"] = number(scores.miou_with_background)
        table["mdice_with_background"] = number(scores.mdice_with_background)
        table["fwiou_with_background"] = number(scores.fwiou_with_background)
    return table


def number(value: float) -> float | None:
    """The value for JSON, which has no NaN."""
    return None if math.isnan(value) else float(value)


def glass_mask(tiles: TileSet, index: int) -> npt.NDArray[np.bool_]:
    """(H, W) bool: where the slide tissue rule finds glass if this tile is all there is of a slide."""
    with open_pixels(tiles.images([index])[0], tiles.info.mpp) as slide:
        tissue = FineTissue(slide, tissue_mask(slide)).read(slide.region, (slide.width_l0, slide.height_l0))
    return ~tissue
