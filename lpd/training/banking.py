"""Building a prototype bank: embed the tiles that show one class alone, cluster them class by class (as PBIP does)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lpd.config import InputSpec, Settings
from lpd.data.tiles import TileSet
from lpd.errors import CheckpointError, ConfigError, DatasetError
from lpd.model.bank import BankInfo, EncoderRecord, PrototypeBank
from lpd.model.encoder_weights import load_encoder_weights
from lpd.model.encoders import TIMM_REFUSALS, Encoder, build_encoder, reason
from lpd.model.header import file_digest
from lpd.model.inputs import to_network_input
from lpd.model.kmeans import Clustering, cosine_kmeans, cosine_silhouette
from lpd.recipe.config import EncoderConfig
from lpd.training.fitting_memory import enough_memory

_EXEMPLARS = 5


@dataclass(frozen=True)
class BankConfig(Settings):
    """How a bank is made.

    Attributes:
        per_class: K, prototypes of each class.
        patches: each tile gives patches × patches embeddings, of as many equal parts of the encoder's deepest map.
        seed: of the clustering.
        batch_size: tiles at a time.
    """

    per_class: int = 3
    patches: int = 1
    seed: int = 0
    batch_size: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_bounds(
            {"per_class": (1, 100), "patches": (1, 64), "seed": (0, 2**32 - 1), "batch_size": (1, 65536)}
        )


def load_bank_encoder(config: EncoderConfig) -> tuple[Encoder, EncoderRecord]:
    """An encoder with its weights, and the record of both.

    Raises:
        ConfigError: the encoder is unknown, or has no weights file.
        CheckpointError: the weights file does not fit the encoder.
    """
    if not config.pretrained:
        raise ConfigError(
            f"groups of what an untrained encoder {config.name} sees mean nothing: name a weights file, not none"
        )
    path = Path(config.weights)
    encoder = build_encoder(config.name, maps=1, last_stride=config.last_stride, options=config.options)
    loaded = load_encoder_weights(encoder, path)
    digest = file_digest(path).removeprefix("sha256:")
    return encoder, EncoderRecord(config.name, config.options, path.name, digest, config.last_stride, loaded.notice)


def build_bank(
    encoder: Encoder,
    record: EncoderRecord,
    tiles: TileSet,
    spec: InputSpec,
    config: BankConfig,
    *,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> PrototypeBank:
    """Cluster the tiles that show one class alone; what else is in them (glass, say) is clustered with it.

    Args:
        encoder: with its weights; it is moved to ``device`` and put into evaluation mode.
        record: of that encoder.
        tiles: with image-level labels.
        spec: what the encoder is fed.
        config: how many prototypes, and how they are found.
        device: where the encoder runs.
        progress: told how many tiles of how many are embedded.

    Raises:
        ConfigError: a class has fewer embeddings than prototypes, or the encoder refuses tiles of this size or
            cannot be cut into so many patches.
        DatasetError: a class is in no tile alone, or a tile cannot be read.
        CheckpointError: the encoder answers with something that has no direction.
        RunError: the memory of the device or of the machine does not suffice.
    """
    cure = f"choose a smaller encoder than {record.name}, smaller tiles, or --device cpu if that was not the device"
    with enough_memory("clustering these tiles", cure):
        return _build(encoder, record, tiles, spec, config, device, progress)


def _build(
    encoder: Encoder,
    record: EncoderRecord,
    tiles: TileSet,
    spec: InputSpec,
    config: BankConfig,
    device: torch.device | str,
    progress: Callable[[int, int], None] | None,
) -> PrototypeBank:
    chosen = clustered_tiles(tiles, config)
    encoder.to(device).eval()
    _check_patches(encoder, record.name, spec, config.patches, device)
    embeddings = embed(encoder, tiles, np.concatenate(chosen).tolist(), spec, config, device=device, progress=progress)
    _check_directions(embeddings, [tiles.files[i].image.name for c in chosen for i in c], record)

    groups = []
    for part in np.split(embeddings, np.cumsum([len(c) for c in chosen])[:-1]):
        groups.append(_group(part.reshape(-1, part.shape[2]), config))
    vectors = np.concatenate([group.clustering.centroids for group in groups]).astype(np.float32)
    return PrototypeBank(vectors, _info(record, tiles, spec, config, chosen, groups))


def single_class_tiles(tiles: TileSet) -> list[npt.NDArray[np.intp]]:
    """For each class the indices of the tiles whose label is that class and no other."""
    alone = tiles.labels & (tiles.labels.sum(1, keepdims=True) == 1)
    return [np.flatnonzero(alone[:, c]) for c in range(tiles.info.scheme.count)]


def clustered_tiles(tiles: TileSet, config: BankConfig) -> list[npt.NDArray[np.intp]]:
    """As :func:`single_class_tiles`, if there are enough of them.

    Raises:
        ConfigError: a class has fewer embeddings than prototypes.
        DatasetError: a class is in no tile alone.
    """
    chosen = single_class_tiles(tiles)
    _check_enough(tiles, chosen, config)
    return chosen


@torch.inference_mode()
def embed(
    encoder: Encoder,
    tiles: TileSet,
    indices: Sequence[int],
    spec: InputSpec,
    config: BankConfig,
    *,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> npt.NDArray[np.float32]:
    """(N, patches², D) mean of the encoder's deepest map over each part of each tile, parts row by row."""
    parts = []
    for start in range(0, len(indices), config.batch_size):
        batch = indices[start : start + config.batch_size]
        deepest = encoder(to_network_input(tiles.images(batch), spec).to(device))[-1]
        parts.append(_part_means(deepest, config.patches).float().cpu().numpy())
        if progress is not None:
            progress(start + len(batch), len(indices))
    return np.concatenate(parts)


def _part_means(maps: Tensor, patches: int) -> Tensor:
    """(B, patches², D) means of (B, D, h, w) over parts that do not overlap, their sides equal or one pixel apart."""
    parts = [part for row in maps.tensor_split(patches, 2) for part in row.tensor_split(patches, 3)]
    return torch.stack([part.mean((2, 3)) for part in parts], 1)


def _check_enough(tiles: TileSet, chosen: list[npt.NDArray[np.intp]], config: BankConfig) -> None:
    for code, indices in zip(tiles.info.scheme.codes, chosen, strict=True):
        found = len(indices) * config.patches**2
        if not found:
            raise DatasetError(
                f"class {code} of {tiles.info.name!r} is in no {tiles.split} tile alone, so there is nothing to "
                f"cluster: add such tiles, or use learnable prototypes"
            )
        if found < config.per_class:
            more = math.ceil(math.sqrt(config.per_class / len(indices)))
            raise ConfigError(
                f"class {code} has {len(indices)} {tiles.split} tiles that show it alone, too few for "
                f"{config.per_class} prototypes: ask for at most {found}, or pass patches {more}, which makes "
                f"{more**2} embeddings of each tile"
            )


@torch.inference_mode()
def _check_patches(encoder: Encoder, name: str, spec: InputSpec, patches: int, device: torch.device | str) -> None:
    try:
        deepest = encoder(torch.zeros(1, 3, spec.tile_px, spec.tile_px, device=device))[-1]
    except TIMM_REFUSALS as error:
        raise ConfigError(
            f"encoder {name} cannot take tiles of {spec.tile_px} px ({reason(error)}): "
            f"cut the tiles to another size, for example 224, or choose another encoder"
        ) from error
    if patches > min(deepest.shape[2:]):
        raise ConfigError(
            f"patches {patches} is too many: the deepest map of encoder {name} has {deepest.shape[3]} × "
            f"{deepest.shape[2]} pixels for a tile of {spec.tile_px} px"
        )


def _check_directions(embeddings: npt.NDArray[np.float32], names: list[str], record: EncoderRecord) -> None:
    lengths = np.linalg.norm(embeddings.astype(np.float64), axis=2)
    usable = (np.isfinite(lengths) & (lengths > 1e-9)).all(1)
    if not usable.all():
        raise CheckpointError(
            f"encoder {record.name} with {record.weights_file} answers tile {names[int(usable.argmin())]} with zeros "
            f"or with what is no number: check the weights file, mean and std"
        )


@dataclass(frozen=True, eq=False)
class _Group:
    clustering: Clustering
    silhouette: float | None


def _group(vectors: npt.NDArray[np.float32], config: BankConfig) -> _Group:
    clustering = cosine_kmeans(vectors, config.per_class, seed=config.seed)
    return _Group(clustering, cosine_silhouette(vectors, clustering.assignment))


def _info(
    record: EncoderRecord,
    tiles: TileSet,
    spec: InputSpec,
    config: BankConfig,
    chosen: list[npt.NDArray[np.intp]],
    groups: list[_Group],
) -> BankInfo:
    members, cosines, exemplars = [], [], []
    for indices, group in zip(chosen, groups, strict=True):
        names = [tiles.files[i].image.name for i in np.repeat(indices, config.patches**2)]
        for k in range(config.per_class):
            own = np.flatnonzero(group.clustering.assignment == k)
            nearest = own[np.argsort(-group.clustering.cosines[own], kind="stable")]
            members.append(len(own))
            cosines.append(float(group.clustering.cosines[own].mean()))
            exemplars.append(tuple(dict.fromkeys(names[i] for i in nearest))[:_EXEMPLARS])
    return BankInfo(
        codes=tiles.info.scheme.codes,
        per_class=config.per_class,
        encoder=record,
        input=spec,
        data_name=tiles.info.name,
        data_fingerprint=tiles.fingerprint(),
        patches=config.patches,
        seed=config.seed,
        tiles=tuple(len(indices) for indices in chosen),
        silhouettes=tuple(group.silhouette for group in groups),
        members=tuple(members),
        cosines=tuple(cosines),
        exemplars=tuple(exemplars),
        notice=f"{tiles.info.licence}; {record.notice}" if record.notice else tiles.info.licence,
    )
