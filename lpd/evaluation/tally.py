"""Tally: everything that is counted while a network goes through a split, and the report's numbers made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from lpd.config import Calibration
from lpd.data.check.findings import printable
from lpd.data.tiles import TileSet
from lpd.evaluation.adapting import adapted
from lpd.evaluation.confusion import Counts, confusion_matrix
from lpd.evaluation.gate import gate_calibration, gate_scores
from lpd.evaluation.paper import PaperTally
from lpd.evaluation.protocols import BACKGROUNDS, IGNORED, Mask, background_counts, glass_mask, score_table
from lpd.evaluation.refining import ADAPT, PLAIN, REFINEMENTS, refine
from lpd.evaluation.tile_scores import TileScore, group_of
from lpd.evaluation.tiles import GATES, Gate, TileLogits, class_map, gated_scores
from lpd.losses.diversity import prototype_similarity
from lpd.model.adaptation import PicturePrototypes


@dataclass(frozen=True, eq=False)
class _Truth:
    """Of B tiles: (B, C) image labels, (B, H, W) mask values, (B, H, W) where the tissue rule finds glass."""

    labels: npt.NDArray[np.bool_]
    masks: Mask
    glass: npt.NDArray[np.bool_]


class Tally:
    """Counts of everything reported, summed over batches."""

    def __init__(
        self,
        tiles: TileSet,
        calibration: Calibration,
        prototypes_per_class: int,
        refinements: Sequence[str] = (),
        *,
        prototypes: Mapping[str, PicturePrototypes | None] | None = None,
        paper: bool = False,
    ) -> None:
        self._tiles, self._calibration = tiles, calibration
        self._codes = tiles.info.scheme.codes
        size = len(self._codes) + 1
        self._refinements = tuple(refinements)
        self._prototypes = prototypes or {}
        self._counts: dict[tuple[str, Gate, str], Counts] = {
            (refinement, gate, background): np.zeros((size, size), dtype=np.int64)
            for refinement in (PLAIN, *refinements)
            for gate in GATES
            for background in BACKGROUNDS
        }
        self._gate_logits: list[npt.NDArray[np.float32]] = []
        self._similarity = _Similarity(len(self._codes), prototypes_per_class)
        self._paper = PaperTally(self._codes) if paper else None
        #: Of every tile so far.
        self.tile_scores: list[TileScore] = []

    def add(self, logits: TileLogits, averaged: Mapping[str, TileLogits]) -> None:
        """Count a batch; ``averaged`` are the same tiles' logits under each test-time augmentation that is counted."""
        indices = list(logits.indices)
        truth = _Truth(
            self._tiles.labels[indices],
            np.stack([self._tiles.mask(i) for i in indices]),
            np.stack([glass_mask(self._tiles, i) for i in indices]),
        )
        for gate in GATES:
            scores = gated_scores(logits, truth.labels, self._calibration, gate)
            found = class_map(scores)
            self._count(PLAIN, gate, truth, found)
            if gate == "predicted":
                self._add_tiles(indices, truth, found)
            for refinement in self._refinements:
                self._count(refinement, gate, truth, self._refined(refinement, gate, truth, scores, logits, averaged))
        self._gate_logits.append(logits.gate.cpu().numpy())
        self._similarity.add(logits, truth.masks)
        if self._paper is not None:
            present = gate_scores(self._gate_logits[-1], self._calibration) > 0.5
            self._paper.add(logits.output, truth.masks, truth.labels, present)

    def _refined(
        self,
        refinement: str,
        gate: Gate,
        truth: _Truth,
        scores: Tensor,
        logits: TileLogits,
        averaged: Mapping[str, TileLogits],
    ) -> Mask:
        if refinement not in REFINEMENTS:
            other = adapted(logits, self._tiles, self._prototypes) if refinement == ADAPT else averaged[refinement]
            return class_map(gated_scores(other, truth.labels, self._calibration, gate))
        pictures = torch.from_numpy(self._tiles.images(logits.indices)).permute(0, 3, 1, 2) / 255
        return class_map(refine(refinement, pictures.to(scores.device), scores.softmax(1)))

    def _count(self, refinement: str, gate: Gate, truth: _Truth, found: Mask) -> None:
        counts = background_counts(truth.masks, found, truth.glass, len(self._codes))
        for background, matrix in counts.items():
            self._counts[refinement, gate, background] += matrix

    def _add_tiles(self, indices: Sequence[int], truth: _Truth, found: Mask) -> None:
        classes = len(self._codes)
        for index, mask, predicted in zip(indices, truth.masks, found, strict=True):
            name = self._tiles.files[index].image.name
            counts = confusion_matrix(mask, predicted, classes + 1)[:classes, :classes]
            self.tile_scores.append(TileScore(printable(name), printable(group_of(name)), counts))

    def summary(self) -> dict[str, Any]:
        """The report's numbers, as JSON values."""
        scores = gate_scores(np.concatenate(self._gate_logits), self._calibration)
        gate = gate_calibration(scores, self._tiles.labels, self._codes)
        tables = self._tables()
        return {
            "gates": tables.pop(PLAIN),
            "refined": tables,
            "confusion": self._confusion(),
            **({} if self._paper is None else {"paper": self._paper.summary()}),
            "gate": gate,
            "label_accuracy": {code: row["accuracy"] for code, row in gate.items()},
            "jeffreys_similarity": self._similarity.summary(),
        }

    def _tables(self) -> dict[str, Any]:
        tables: dict[str, Any] = {name: {gate: {} for gate in GATES} for name in (PLAIN, *self._refinements)}
        for (refinement, gate, background), counts in self._counts.items():
            table = score_table(counts, self._codes, background=background != IGNORED)
            tables[refinement][gate][background] = table
        return tables

    def _confusion(self) -> dict[str, Any]:
        tables: dict[str, Any] = {name: {gate: {} for gate in GATES} for name in (PLAIN, *self._refinements)}
        for (refinement, gate, background), counts in self._counts.items():
            shown = counts[:-1, :-1] if background == IGNORED else counts
            tables[refinement][gate][background] = shown.tolist()
        return tables


class _Similarity:
    """How alike the prototypes of a class are inside its true regions, by scale."""

    def __init__(self, class_count: int, prototypes_per_class: int) -> None:
        self._classes, self._per_class = class_count, prototypes_per_class
        self._sums: dict[int, float] = {}
        self._tiles_with_regions: dict[int, int] = {}

    def add(self, logits: TileLogits, truth: Mask) -> None:
        classes = torch.arange(self._classes, dtype=torch.uint8)[None, :, None, None]
        regions = (torch.from_numpy(truth)[:, None] == classes).float()
        for scale, cosines in logits.output.prototype_cosines.items():
            # A map pixel belongs to a class if more than half of its area does.
            inside = functional.interpolate(regions, cosines.shape[2:], mode="area") > 0.5
            grouped = cosines.cpu().reshape(len(truth), self._classes, self._per_class, *cosines.shape[2:])
            similarity, known = prototype_similarity(grouped, inside)
            self._sums[scale] = self._sums.get(scale, 0.0) + float(similarity.sum())
            self._tiles_with_regions[scale] = self._tiles_with_regions.get(scale, 0) + int(known.sum())

    def summary(self) -> dict[str, float | None]:
        return {
            str(scale): total / tiles if (tiles := self._tiles_with_regions[scale]) else None
            for scale, total in sorted(self._sums.items())
        }
