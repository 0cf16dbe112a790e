"""Prototype figures: how alike the prototypes of a class are inside its true regions, and how they share them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from lpd.config import InputSpec
from lpd.data.tiles import TileSet
from lpd.errors import ConfigError, DatasetError
from lpd.explain.array_measures import correlations
from lpd.explain.definitions import DEAD_SHARE, DUPLICATE_CORRELATION
from lpd.explain.measures import (
    centred_cosines,
    effective_count,
    half_maximum_sets,
    intersections_over_unions,
    pair_mean,
    silhouette,
    union_coverage,
    winners,
)
from lpd.losses.diversity import prototype_similarity
from lpd.model.header import CheckpointInfo
from lpd.model.inputs import to_network_input
from lpd.model.network import LPDNet, LPDOutput, check_tile_px

#: Region pixels a class whose silhouette is taken.
SAMPLE = 500

#: Told the numbers of some tiles and what the network makes of them.
Seen = Callable[[Sequence[int], LPDOutput], None]

_BATCH = 16
_MIN_PIXELS = 2  # a map over one pixel has no shape
_MIN_SHARE = 0.5
_STEPS = 4096  # correlations are of whole steps of a cosine, whose sums are exact: what is constant has none
_TILE_FIGURES = ("jeffreys_similarity", "map_cosine", "map_iou", "union_coverage")


@torch.inference_mode()
def prototype_figures(
    network: LPDNet,
    tiles: TileSet,
    spec: InputSpec,
    *,
    scale: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    seen: Seen | None = None,
) -> dict[str, Any]:
    """Measure the prototypes of each class inside the class's true regions.

    A map pixel belongs to a class if more than half of its area does; a class has a region in a tile if it has at least
    2 map pixels there. Background and unlabelled pixels are in no region.

    Args:
        network: in evaluation mode.
        tiles: of a split that has masks, in the network's classes.
        spec: what the network expects to be fed.
        scale: of the maps; the deepest if None.
        progress: told how many tiles of how many are done.
        seen: given the numbers of the tiles of each batch and what the network makes of them.

    Returns:
        ``scale``, ``prototypes_per_class``, ``tiles``, and per figure one number, None where nothing can be said (all
        figures of pairs if K = 1):

        - ``jeffreys_similarity``: :func:`lpd.losses.diversity.prototype_similarity` at τ = .07; 1 alike, 0 disjoint;
        - ``map_cosine``: of two maps, each less its mean over the region; those constant there are left out;
        - ``map_iou``: of the pixels where each map, stretched to 0–1 within the region, is at least a half;
        - ``union_coverage``: share of the region that the K sets of such pixels cover together;
        - ``effective_prototypes``: exp(entropy) of the shares of region pixels that each prototype wins in the split,
          1 to K; of prototypes within 1e-5 of the nearest the first wins: equal ones count as one;
        - ``prototype_cosine``: of two adapted prototypes; needs no region;
        - ``silhouette``: of at most 500 region pixels' features by winning prototype and cosine distance, always the
          same pixels; None if one prototype wins them all.

        The first four are means over the pairs, then the tiles with a region, then the classes; only the overall
        ``jeffreys_similarity`` goes over a tile's classes, then the tiles, as in the evaluation report. The others are
        means over classes. ``classes`` holds, by code, the same figures of each class with the number of ``tiles`` that
        have a region, of its ``map_pixels``, and the ``usage`` of each prototype, shares that sum to 1 (None without
        pixels), those that are ``dead``, and ``near_duplicates`` [i, j, correlation] over all of its pixels and the
        (K, K) ``correlations``; prototypes are numbered from 0 within their class, see ``lpd.explain.definitions``.

    Raises:
        ConfigError: the network has no such scale, or cannot take tiles of this size.
        DatasetError: the tiles have no masks, or another number of classes than the network.
    """
    chosen = max(network.config.scales) if scale is None else scale
    check_tiles(network, tiles, chosen)
    tally = _Tally(tiles.info.scheme.codes, network.config.prototypes_per_class, chosen)
    for indices, output in outputs(network, tiles, spec, progress):
        tally.add(output, np.stack([tiles.mask(i) for i in indices]))
        if seen is not None:
            seen(indices, output)
    return {
        "scale": chosen,
        "prototypes_per_class": network.config.prototypes_per_class,
        "tiles": len(tiles),
        **tally.summary(network.adapted_prototypes()[chosen]),
    }


def outputs(
    network: LPDNet, tiles: TileSet, spec: InputSpec, progress: Callable[[int, int], None] | None
) -> Iterator[tuple[Sequence[int], LPDOutput]]:
    """What a network makes of the tiles, batch by batch: their numbers, and its output."""
    for start in range(0, len(tiles), _BATCH):
        indices = range(start, min(start + _BATCH, len(tiles)))
        yield indices, network(to_network_input(tiles.images(indices), spec).to(network.device))
        if progress is not None:
            progress(indices.stop, len(tiles))


def check_tiles(network: LPDNet, tiles: TileSet, scale: int) -> None:
    """
    Raises:
        ConfigError: the network has no such scale, or cannot take tiles of this size.
        DatasetError: the tiles have another number of classes than the network.
    """
    config, count = network.config, tiles.info.scheme.count
    if count != config.class_count:
        raise DatasetError(
            f"{tiles.info.name!r} has {count} classes but the network knows {config.class_count}: "
            "choose the tile set that it was made for"
        )
    if scale not in config.scales:
        raise ConfigError(
            f"the network has no maps at scale {scale}: choose one of {', '.join(map(str, config.scales))}"
        )
    check_tile_px(network, tiles.tile_px)


def check_classes(tiles: TileSet, info: CheckpointInfo) -> None:
    """
    Raises:
        DatasetError: the tiles are of other classes than the checkpoint, or of the same in another order.
    """
    own, known = tiles.info.scheme.codes, info.classes.codes
    if own == known:
        return
    foreign, lacking = ([code for code in one if code not in other] for one, other in ((own, known), (known, own)))
    parts = [f"{', '.join(foreign)} instead of {', '.join(lacking)}"] if foreign and lacking else []
    parts += [f"{', '.join(foreign)} as well"] if foreign and not lacking else []
    parts += [f"no {', '.join(lacking)}"] if lacking and not foreign else []
    differ = parts[0] if parts else f"them in another order, {', '.join(own)}"
    raise DatasetError(
        f"{info.name} knows the classes {', '.join(known)}, but {tiles.info.name!r} has {differ}: "
        "choose the tile set that it was made for"
    )


class _Tally:
    """Everything that is summed over batches, at one scale. NaN stands for what cannot be said."""

    def __init__(self, codes: Sequence[str], prototypes_per_class: int, scale: int) -> None:
        self._codes, self._per_class, self._scale = codes, prototypes_per_class, scale
        self._means = {name: _Mean(len(codes)) for name in _TILE_FIGURES}
        self._similarity = _Mean(1)
        self._tiles = torch.zeros(len(codes), dtype=torch.int64)
        self._won = torch.zeros(len(codes), prototypes_per_class, dtype=torch.int64)
        self._samples = [_Sample() for _ in codes]
        self._sums = torch.zeros(len(codes), prototypes_per_class, dtype=torch.float64)
        self._products = torch.zeros(len(codes), prototypes_per_class, prototypes_per_class, dtype=torch.float64)

    def add(self, output: LPDOutput, masks: npt.NDArray[np.uint8]) -> None:
        """Count B tiles; ``masks`` are (B, H, W) in the values of the class scheme."""
        cosines = output.prototype_cosines[self._scale]
        maps = cosines.reshape(len(masks), len(self._codes), self._per_class, *cosines.shape[2:])
        regions = _true_regions(masks, maps).to(maps.device)
        self._tiles += regions.any(3).any(2).sum(0).cpu()
        similarity = _similarity(maps, regions)
        self._similarity.add(similarity.nanmean(1, keepdim=True))
        sets = half_maximum_sets(maps, regions)
        self._means["jeffreys_similarity"].add(similarity)
        self._means["map_cosine"].add(pair_mean(centred_cosines(maps, regions)))
        self._means["map_iou"].add(pair_mean(intersections_over_unions(sets)))
        self._means["union_coverage"].add(union_coverage(sets, regions))
        self._add_winners(winners(maps), regions, output.features[self._scale])
        self._add_products(maps, regions)

    def _add_winners(self, won: Tensor, regions: Tensor, features: Tensor) -> None:
        """``won`` and ``regions`` are (B, C, h, w), the features (B, D, h, w)."""
        first = self._per_class * torch.arange(len(self._codes), device=won.device)[:, None, None]
        counts = torch.bincount((won + first)[regions], minlength=self._won.numel())
        self._won += counts.reshape(self._won.shape).cpu()
        for index, sample in enumerate(self._samples):
            sample.add(features, won[:, index], regions[:, index])

    def _add_products(self, maps: Tensor, regions: Tensor) -> None:
        """``maps`` are (B, C, K, h, w), the regions (B, C, h, w)."""
        for index in range(len(self._codes)):
            values = (maps[:, index].transpose(0, 1)[:, regions[:, index]].cpu().double() * _STEPS).round()
            self._sums[index] += values.sum(1)
            self._products[index] += values @ values.T

    def summary(self, prototypes: Tensor) -> dict[str, Any]:
        """The figures as JSON values; ``prototypes`` are (M, D), adapted."""
        directions = functional.normalize(prototypes.reshape(*self._won.shape, -1), dim=2)
        by_class = {
            **{name: mean.values() for name, mean in self._means.items()},
            "effective_prototypes": effective_count(self._won),
            "prototype_cosine": pair_mean(directions @ directions.mT),
            "silhouette": torch.tensor(
                [silhouette(sample.features, sample.won) for sample in self._samples], dtype=torch.float64
            ),
        }
        overall = {name: values.nanmean() for name, values in by_class.items()}
        overall["jeffreys_similarity"] = self._similarity.values()[0]
        return {
            **{name: _number(value) for name, value in overall.items()},
            "classes": {code: self._row(index, by_class) for index, code in enumerate(self._codes)},
        }

    def _row(self, index: int, by_class: Mapping[str, Tensor]) -> dict[str, Any]:
        won = self._won[index]
        pixels = int(won.sum())
        usage = (won.double() / pixels).tolist() if pixels else None
        return {
            "tiles": int(self._tiles[index]),
            "map_pixels": pixels,
            "usage": usage,
            "dead": [k for k, share in enumerate(usage or ()) if share < DEAD_SHARE],
            **self._correlations(index, pixels),
            **{name: _number(values[index]) for name, values in by_class.items()},
        }

    def _correlations(self, index: int, pixels: int) -> dict[str, Any]:
        """``near_duplicates`` and the (K, K) ``correlations`` that they are found by, None where there is none."""
        sums, products = self._sums[index].numpy(), self._products[index].numpy()
        squares = np.diagonal(products)
        table = correlations(pixels, (sums, sums), (squares, squares), products)
        pairs = zip(*np.triu_indices(self._per_class, 1), strict=True)
        twins = [(int(i), int(j), float(table[i, j])) for i, j in pairs if table[i, j] >= DUPLICATE_CORRELATION]
        plain = [[None if np.isnan(value) else float(value) for value in row] for row in table]
        return {"near_duplicates": twins, "correlations": plain}


class _Mean:
    """Mean over tiles of (C,) values, each over the tiles that have it."""

    def __init__(self, size: int) -> None:
        self._sums = torch.zeros(size, dtype=torch.float64)
        self._counts = torch.zeros(size, dtype=torch.int64)

    def add(self, values: Tensor) -> None:
        """Count the (B, C) values of B tiles, NaN where a tile says nothing."""
        self._sums += values.double().nansum(0).cpu()
        self._counts += (~values.isnan()).sum(0).cpu()

    def values(self) -> Tensor:
        """(C,) float64, NaN where no tile has said anything."""
        return self._sums / self._counts


class _Sample:
    """At most ``SAMPLE`` pixels of one class's regions, drawn evenly while they pass by.

    Each pixel gets a random number and the lowest stay: the same pixels whatever the batches.
    """

    def __init__(self) -> None:
        self._random = np.random.default_rng(0)
        self._keys = np.zeros(0)
        #: (n, D) features and (n,) winning prototypes of the pixels.
        self.features, self.won = torch.zeros(0, 0), torch.zeros(0, dtype=torch.int64)

    def add(self, features: Tensor, won: Tensor, region: Tensor) -> None:
        """Offer the pixels of a region: (B, D, h, w) features, (B, h, w) winners, (B, h, w) bool."""
        tile, y, x = region.nonzero(as_tuple=True)
        known = len(self._keys)
        keys = np.concatenate([self._keys, self._random.random(len(tile))])
        kept = np.sort(np.argsort(keys)[:SAMPLE])
        old, new = torch.from_numpy(kept[kept < known]), torch.from_numpy(kept[kept >= known] - known).to(tile.device)
        tile, y, x = tile[new], y[new], x[new]
        fresh = features[tile, :, y, x].float().cpu()
        self.features = torch.cat([self.features[old], fresh]) if len(self.features) else fresh
        self.won = torch.cat([self.won[old], won[tile, y, x].cpu()])
        self._keys = keys[kept]


def _true_regions(masks: npt.NDArray[np.uint8], maps: Tensor) -> Tensor:
    """(B, C, h, w) bool of (B, H, W) mask values: the regions of each class, at the size of (B, C, K, h, w) maps."""
    classes = torch.arange(maps.shape[1], dtype=torch.uint8)[None, :, None, None]
    shares = functional.interpolate((torch.from_numpy(masks)[:, None] == classes).float(), maps.shape[3:], mode="area")
    regions = shares > _MIN_SHARE
    return regions & (regions.sum((2, 3), keepdim=True) >= _MIN_PIXELS)


def _similarity(maps: Tensor, regions: Tensor) -> Tensor:
    """(B, C) Jeffreys similarity, NaN without a region: each class of a tile is passed on as an image of its own."""
    similarity, known = prototype_similarity(maps.flatten(0, 1)[:, None], regions.flatten(0, 1)[:, None])
    return similarity.masked_fill(~known, torch.nan).reshape(regions.shape[:2])


def _number(value: Tensor) -> float | None:
    """For JSON, which has no NaN."""
    number = float(value)
    return None if math.isnan(number) else number
