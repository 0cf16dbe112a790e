"""Gallery of a data set: the places in tiles where each prototype is most active, so many of a case at most."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lpd.config import InputSpec
from lpd.data.check.cases import case_of, patient_of
from lpd.data.tiles import TileSet
from lpd.errors import ConfigError
from lpd.explain.figures import check_tiles, outputs, prototype_figures
from lpd.model.network import LPDNet, LPDOutput

_PER_CASE = 2


@dataclass(frozen=True)
class TopPlace:
    """A square in a tile that a prototype is active in.

    Attributes:
        number: of the tile in its split, from 0.
        tile: its file's name.
        case: what it was cut from, as its name tells: a patient or slide; else the tile itself.
        x_px, y_px, width_px, height_px: in the tile.
        score: mean of the prototype's map over the place, a cosine −1 to 1.
    """

    number: int
    tile: str
    case: str
    x_px: int
    y_px: int
    width_px: int
    height_px: int
    score: float


@dataclass(frozen=True)
class DataGallery:
    """Places of each prototype, class-major, best first; ``figures`` as of :func:`prototype_figures`, which say what is
    dead or nearly another, None of a split without masks."""

    places: list[list[TopPlace]]
    figures: dict[str, Any] | None


def case_of_tile(name: str) -> str:
    """The patient or slide that a tile's file name says, else the name itself."""
    case = case_of(name)
    return name if case is None else patient_of(case)


@torch.inference_mode()
def top_places(
    network: LPDNet,
    tiles: TileSet,
    spec: InputSpec,
    per_prototype: int = 8,
    per_case: int | None = None,
    *,
    scale: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> DataGallery:
    """For each prototype the places where its map has the highest mean, one in a tile, over a split of a tile set.

    A place is half as wide as a tile, to a cell of the map, and begins at any cell; all of its pixels count, for a tile
    set does not say what is tissue. Of equal places the first tile's, by row and column, comes first. The best that
    respect ``per_case`` are found in one pass, in memory that does not grow with the tiles.

    Args:
        network: in evaluation mode.
        tiles: of a split, with or without masks.
        spec: what the network expects to be fed.
        per_prototype: places of a prototype at most.
        per_case: and of one case; 2 if None, or all where there is one case only.
        scale: of the maps; the deepest if None.
        progress: told how many tiles of how many are done.

    Raises:
        ConfigError: a number is below 1; the network has no such scale, or cannot take tiles of this size.
        DatasetError: the tiles have another number of classes than the network, or one cannot be read.
    """
    cases = [case_of_tile(file.image.name) for file in tiles.files]
    if per_case is None:
        per_case = per_prototype if len(set(cases)) == 1 else _PER_CASE
    for name, value in (("per_prototype", per_prototype), ("per_case", per_case)):
        if value < 1:
            raise ConfigError(f"{name} {value} must be at least 1")
    chosen = max(network.config.scales) if scale is None else scale
    check_tiles(network, tiles, chosen)
    best = _Best(tiles, cases, network.config.prototype_count, per_prototype, per_case, chosen)
    if all(file.mask is not None for file in tiles.files):
        figures = prototype_figures(network, tiles, spec, scale=chosen, progress=progress, seen=best.add)
        return DataGallery(best.places, figures)
    for indices, output in outputs(network, tiles, spec, progress):
        best.add(indices, output)
    return DataGallery(best.places, None)


class _Best:
    """The best places so far, in order. What a better one of its case, or as many better ones as are wanted, pushes out
    could not come back: the same places as of all of them sorted."""

    def __init__(
        self, tiles: TileSet, cases: Sequence[str], count: int, per_prototype: int, per_case: int, scale: int
    ) -> None:
        self.places: list[list[TopPlace]] = [[] for _ in range(count)]
        self._cases = cases
        self._tiles, self._most, self._per_case, self._scale = tiles, per_prototype, per_case, scale

    def add(self, indices: Sequence[int], output: LPDOutput) -> None:
        """Offer the best place of each tile."""
        maps = output.prototype_cosines[self._scale]
        scores, rows, columns, sides = (values.tolist() for values in _windows(maps))
        height, width = maps.shape[2:]
        for row, number in enumerate(indices):
            name = self._tiles.files[number].image.name
            for m, own in enumerate(self.places):
                score = scores[row][m]
                if len(own) == self._most and score <= own[-1].score:
                    continue
                y, x = (self._px(cells, of) for cells, of in ((rows[row][m], height), (columns[row][m], width)))
                side_y, side_x = self._px(sides[0], height), self._px(sides[1], width)
                self._offer(own, TopPlace(number, name, self._cases[number], x, y, side_x, side_y, score))

    def _offer(self, own: list[TopPlace], new: TopPlace) -> None:
        fellows = [place for place in own if place.case == new.case]
        if len(fellows) >= self._per_case:
            if new.score <= fellows[-1].score:
                return
            own.remove(fellows[-1])
        own.append(new)
        own.sort(key=lambda place: (-place.score, place.number))
        del own[self._most :]

    def _px(self, cells: int, of: int) -> int:
        tile_px: int = self._tiles.tile_px
        return round(cells * tile_px / of)


def _windows(maps: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean, row and column (B, M) of the best window of each (B, M, h, w) map, and the windows' height and width."""
    sides = [max(1, size // 2) for size in maps.shape[2:]]
    means = functional.avg_pool2d(maps.float(), sides, stride=1)
    scores, places = means.flatten(2).max(2)
    columns = means.shape[3]
    return scores, places // columns, places % columns, torch.tensor(sides)
