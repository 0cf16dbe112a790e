"""How much of each piece of tissue each class covers, counted on the mask's own pixels."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lpd.classes import NOT_COMPUTED
from lpd.errors import ResultError
from lpd.export.source import MaskSource, blocks
from lpd.runs import replacing
from lpd.slide.pieces import Piece, TissuePieces

Counts = npt.NDArray[np.int64]

_VALUES = 256
_HEAD = (
    *("slide", "piece", "x_l0", "y_l0", "width_l0", "height_l0", "centroid_x_mm", "centroid_y_mm"),
    *("code", "name", "area_mm2", "percent_of_piece_tissue"),
)


def write_pieces_csv(store: MaskSource, pieces: TissuePieces, path: Path) -> None:
    """One line per piece and class; pieces that nobody has segmented any part of are left out.

    The rectangle (level-0 pixels) and the centre of gravity (mm from the slide's upper left) are those of the coarse
    tissue mask; ``area_mm2`` and ``percent_of_piece_tissue`` (0–100, of all pixels of the piece that are a class) are
    counted on the mask. Scraps that belong to no piece are counted nowhere.

    Raises:
        ResultError: the file cannot be written.
    """
    counts = piece_counts(store, pieces)
    try:
        with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(_HEAD)
            for piece in pieces.pieces:
                if counts[piece.number, :NOT_COMPUTED].any():
                    writer.writerows(_lines(store, piece, counts[piece.number]))
    except OSError as error:
        raise ResultError(
            f"cannot write {path} ({error.strerror or error}): free some space or choose another folder"
        ) from error


def piece_counts(store: MaskSource, pieces: TissuePieces) -> Counts:
    """(P + 1, 256) mask pixels by piece (0 for none) and mask value; memory does not grow with the slide."""
    counts = np.zeros((len(pieces.pieces) + 1) * _VALUES, np.int64)
    scale = store.meta.scale
    for x, y, block in blocks(store):
        height, width = block.shape
        # The mask's last pixels may have their middles beyond the slide's edge.
        numbers = pieces.at(scale * np.arange(x + 0.5, x + width), scale * np.arange(y + 0.5, y + height))
        np.multiply(numbers, _VALUES, out=numbers)
        counts += np.bincount((numbers + block).ravel(), minlength=len(counts))
    return counts.reshape(-1, _VALUES)


def _lines(store: MaskSource, piece: Piece, counts: Counts) -> Iterator[tuple[object, ...]]:
    meta, box = store.meta, piece.region
    center = [f"{value * meta.slide_mpp / 1000:.4f}" for value in piece.center_l0]
    head = (meta.slide_name, piece.number, box.x_l0, box.y_l0, box.width_l0, box.height_l0, *center)
    tissue = int(counts[: meta.classes.count].sum())
    for tissue_class, pixels in zip(meta.classes.classes, counts.tolist(), strict=False):
        area = pixels * (meta.mask_mpp / 1000) ** 2
        percent = 100 * pixels / tissue if tissue else 0.0
        yield *head, tissue_class.code, tissue_class.name, f"{area:.6f}", f"{percent:.4f}"
