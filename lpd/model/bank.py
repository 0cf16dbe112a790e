"""Prototype banks: centroids of each class's embeddings, clustered once (spherical k-means) and read by trainings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from lpd.config import InputSpec, Settings
from lpd.errors import CheckpointError, ConfigError, ShapeError
from lpd.model.header import METADATA_KEY
from lpd.runs import replacing

Floats = npt.NDArray[np.floating[Any]]
Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

FORMAT_VERSION = 1
#: Key of a bank's JSON document in a safetensors file's string metadata; a checkpoint's is another.
BANK_KEY = "lpd_bank"

_VECTORS = "vectors"
_BY_CLASS, _BY_PROTOTYPE = ("tiles", "silhouettes"), ("members", "cosines", "exemplars")
_SHORTEST = 1e-12  # below this length a vector has no direction
_SMALLEST_GAIN = 1e-9  # of the sum of cosines; less is rounding


@dataclass(frozen=True, eq=False)
class Clustering:
    """N vectors in groups; the largest group comes first, of equal ones that with the earliest vector.

    Attributes:
        centroids: (count, D) float64 of unit length, the directions of the groups' means.
        assignment: (N,) group of each vector; none is empty.
        cosines: (N,) of each vector with its own centroid.
        objective: their mean, which k-means makes as large as it can.
    """

    centroids: Doubles
    assignment: Indices
    cosines: Doubles
    objective: float


def cosine_kmeans(vectors: Floats, count: int, *, seed: int, restarts: int = 10, iterations: int = 100) -> Clustering:
    """Group vectors by direction: spherical k-means, k-means++ starts, the best of several.

    Where moving every vector to its nearest centroid changes nothing any more, the one move that gains most is looked
    for, each centroid following its group (Dhillon, Guan & Kogan 2002). Without it, few vectors of many dimensions stay
    about where they started: a vector is most of its own centroid.

    Args:
        vectors: (N, D) of any length above 0; only directions count.
        count: number of groups, at most N.
        seed: equal seeds give equal groups.
        restarts: attempts, of which the best is given.
        iterations: most changes of one attempt.

    Raises:
        ConfigError: there are fewer vectors than groups, a vector has no direction, or a count is below 1.
        ShapeError: the vectors are not (N, D).
    """
    points = _directions(vectors)
    if not 1 <= count <= len(points):
        raise ConfigError(f"{len(points)} vectors cannot make {count} groups: ask for 1 to {len(points)}")
    if restarts < 1 or iterations < 1:
        raise ConfigError(f"restarts {restarts} and iterations {iterations} must be at least 1")
    rng = np.random.default_rng(seed)
    attempts = [_refined(points, _spread(points, count, rng), iterations) for _ in range(restarts)]
    best = max(attempts, key=lambda groups: float(_lengths(_sums(points, groups, count)).sum()))
    return _clustering(points, _largest_first(best, count), count)


def cosine_silhouette(vectors: Floats, assignment: Indices) -> float | None:
    """Mean silhouette of groups under the distance 1 − cosine: 1 far apart, 0 touching, below 0 mixed up.

    That distance is linear in either vector, so a mean distance is the distance to a mean: no N × N table is needed.

    Args:
        vectors: (N, D) of any length above 0.
        assignment: (N,) group 0 … count − 1 of each; every group has a member.

    Returns:
        The mean over all vectors, of which one alone in its group counts 0; None for a single group.

    Raises:
        ConfigError: a vector has no direction.
        ShapeError: the vectors are not (N, D).
    """
    points, count = _directions(vectors), int(assignment.max()) + 1
    if count == 1:
        return None
    rows, sizes = np.arange(len(points)), np.bincount(assignment, minlength=count)
    products = points @ _sums(points, assignment, count).T
    own = sizes[assignment]
    inner = (own - products[rows, assignment]) / np.maximum(own - 1, 1)  # of the n - 1 others: to itself it is 0
    distances = 1 - products / sizes
    distances[rows, assignment] = np.inf
    outer = distances.min(1)
    widest = np.maximum(np.maximum(inner, outer), _SHORTEST)
    return float(np.where(own > 1, (outer - inner) / widest, 0.0).mean())


@dataclass(frozen=True)
class EncoderRecord(Settings):
    """Which encoder computed the embeddings.

    Attributes:
        name, options: as :func:`lpd.model.encoders.build_encoder` takes them.
        weights_file: bare name of its weights file.
        weights_sha256: 64 hexadecimal digits of that file.
        notice: one line on the licence of the weights.
    """

    name: str
    options: tuple[tuple[str, Any], ...]
    weights_file: str
    weights_sha256: str
    notice: str = ""


@dataclass(frozen=True)
class BankInfo(Settings):
    """What a bank says of itself; C classes, K prototypes each, prototypes class-major.

    Attributes:
        codes: (C) class codes in mask order.
        per_class: K.
        encoder: who computed the embeddings,
        input: and what it was fed.
        data_name, data_fingerprint: tile set that they are of.
        patches: each tile gave patches × patches embeddings.
        seed: of the clustering.
        tiles: (C) tiles that show this class alone.
        silhouettes: (C) of each class's groups, see :func:`cosine_silhouette`.
        members: (C * K) embeddings of each group.
        cosines: (C * K) their mean cosine with the prototype.
        exemplars: (C * K) names of the tiles nearest to the prototype, the nearest first.
        notice: one line on the licences of data and weights.
    """

    codes: tuple[str, ...]
    per_class: int
    encoder: EncoderRecord
    input: InputSpec
    data_name: str
    data_fingerprint: str
    patches: int
    seed: int
    tiles: tuple[int, ...]
    silhouettes: tuple[float | None, ...]
    members: tuple[int, ...]
    cosines: tuple[float, ...]
    exemplars: tuple[tuple[str, ...], ...]
    notice: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_bounds({"per_class": (1, 100), "patches": (1, 64), "seed": (0, 2**32 - 1)})
        if not self.codes or len(set(self.codes)) != len(self.codes):
            raise ConfigError(f"class codes {self.codes} must differ from one another, one at least")
        classes, prototypes = (
            dict.fromkeys(_BY_CLASS, len(self.codes)),
            dict.fromkeys(_BY_PROTOTYPE, self.prototype_count),
        )
        for name, expected in {**classes, **prototypes}.items():
            if len(getattr(self, name)) != expected:
                raise ConfigError(f"{name} has {len(getattr(self, name))} entries and should have {expected}")

    @property
    def prototype_count(self) -> int:
        """M = C · K."""
        return len(self.codes) * self.per_class


@dataclass(frozen=True, eq=False)
class PrototypeBank:
    """Clustered prototypes.

    Attributes:
        vectors: (C * K, D) float32 of unit length, class-major; D channels of the encoder's deepest map.
        info: whose they are and how they were made.
    """

    vectors: npt.NDArray[np.float32]
    info: BankInfo

    def __post_init__(self) -> None:
        vectors, count = self.vectors, self.info.prototype_count
        if vectors.ndim != 2 or len(vectors) != count or vectors.dtype != np.float32:
            raise ShapeError(f"the bank's vectors are {vectors.shape} {vectors.dtype}, not ({count}, D) float32")
        if not np.all(np.abs(_lengths(vectors.astype(np.float64)) - 1) < 1e-4):
            raise ConfigError("the bank's vectors are not all of length 1: build the bank again")

    def check_fit(self, codes: Sequence[str], encoder_name: str, weights_sha256: str) -> None:
        """Make sure that the prototypes mean the same in a training.

        Args:
            codes: its class codes in mask order.
            encoder_name: its encoder.
            weights_sha256: 64 hexadecimal digits of the weights file that the encoder starts from; "" for none.

        Raises:
            ConfigError: its classes are others, or in another order.
            CheckpointError: its encoder is another, or starts from other weights.
        """
        info, made_by = self.info, self.info.encoder
        if tuple(codes) != info.codes:
            raise ConfigError(
                f"the prototype bank of {info.data_name!r} has the classes {', '.join(map(repr, info.codes))} and the "
                f"training {', '.join(map(repr, codes))}: build a bank of the training's own tiles with lpd bank"
            )
        if encoder_name != made_by.name:
            raise CheckpointError(
                f"the prototype bank of {info.data_name!r} was made by encoder {made_by.name!r} and the training uses "
                f"{encoder_name!r}: build a bank with that encoder, or train with the bank's"
            )
        if weights_sha256 != made_by.weights_sha256:
            given = f"others, sha256 {weights_sha256[:12]}…" if weights_sha256 else "none"
            raise CheckpointError(
                f"the prototype bank of {info.data_name!r} was made with the encoder weights {made_by.weights_file!r}, "
                f"sha256 {made_by.weights_sha256[:12]}…, and the training starts from {given}: use one file in both"
            )


def save_bank(path: Path, bank: PrototypeBank) -> None:
    """Write a bank; readers see the old file or the new one, never a part.

    Raises:
        CheckpointError: the path does not end in ``.safetensors``, or the file cannot be written.
    """
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{path} was not written: the name of a bank ends in .safetensors")
    document = {"format_version": FORMAT_VERSION, **bank.info.to_dict()}
    try:
        text = json.dumps(document, ensure_ascii=False, allow_nan=False)
        with replacing(path) as temporary:
            save_file({_VECTORS: np.ascontiguousarray(bank.vectors)}, temporary, {BANK_KEY: text})
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path} was not written: an encoder option or a name is not JSON ({error})") from error
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot write {path} ({error}): free some space or choose another folder") from error


def load_bank(path: Path) -> PrototypeBank:
    """Read a bank written by :func:`save_bank`.

    Raises:
        CheckpointError: the file is missing, damaged, foreign, a checkpoint, or of another version.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            document = _document(path, file.metadata() or {})
            if sorted(file.keys()) != [_VECTORS] or file.get_slice(_VECTORS).get_dtype() != "F32":
                raise CheckpointError(f"{path} is damaged: it should hold {_VECTORS} alone, in F32: build it again")
            vectors = file.get_tensor(_VECTORS)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} cannot be read as a prototype bank ({error}): check the path, or build it again with lpd bank"
        ) from error
    version = document.pop("format_version", None)
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has bank format {version!r} and this version of lpd reads format {FORMAT_VERSION}: "
            f"update lpd or build the bank again"
        )
    try:
        return PrototypeBank(vectors, BankInfo.from_dict(document))
    except (ConfigError, ShapeError) as error:
        raise CheckpointError(f"{path} is malformed ({error}): build it again with lpd bank") from error


def _document(path: Path, metadata: dict[str, str]) -> dict[str, Any]:
    text = metadata.get(BANK_KEY)
    if text is None:
        what = "an lpd checkpoint" if METADATA_KEY in metadata else "a safetensors file without a bank's description"
        raise CheckpointError(f"{path} is {what}, not a prototype bank: choose a file that lpd bank wrote")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} has an unreadable description ({error}): build the bank again") from error
    if not isinstance(document, dict):
        raise CheckpointError(f"{path} has a description that is not a JSON object: build the bank again")
    return document


def _directions(vectors: Floats) -> Doubles:
    if vectors.ndim != 2:
        raise ShapeError(f"vectors are {vectors.shape}, not (N, D)")
    points = vectors.astype(np.float64)
    lengths = _lengths(points)
    usable = np.isfinite(lengths) & (lengths > _SHORTEST)
    if not usable.all():
        raise ConfigError(f"vector {int(np.argmin(usable))} has no direction (length 0, or no number): leave it out")
    return points / lengths[:, None]


def _lengths(vectors: Doubles) -> Doubles:
    lengths: Doubles = np.sqrt(np.square(vectors).sum(1))
    return lengths


def _sums(points: Doubles, assignment: Indices, count: int) -> Doubles:
    sums: Doubles = (assignment == np.arange(count)[:, None]).astype(np.float64) @ points
    return sums


def _centroids(points: Doubles, assignment: Indices, count: int) -> Doubles:
    """(count, D) directions of the groups' sums; where members cancel out, the first stands for all."""
    sums = _sums(points, assignment, count)
    lengths = _lengths(sums)
    for group in np.flatnonzero(lengths < _SHORTEST):
        sums[group], lengths[group] = points[np.argmax(assignment == group)], 1.0
    return sums / lengths[:, None]


def _spread(points: Doubles, count: int, rng: np.random.Generator) -> Doubles:
    """(count, D) points far from one another: k-means++, for unit vectors |x − y|² is 2 (1 − cos)."""
    chosen = [int(rng.integers(len(points)))]
    while len(chosen) < count:
        distance = np.maximum(1 - (points @ points[chosen].T).max(1), 0)
        distance[chosen] = 0
        if distance.sum() < _SHORTEST:  # only copies of those chosen are left
            distance = np.ones(len(points))
            distance[chosen] = 0
        chosen.append(int(rng.choice(len(points), p=distance / distance.sum())))
    return points[chosen]


def _refined(points: Doubles, centroids: Doubles, iterations: int) -> Indices:
    """(N,) groups from starting centroids, better with every change."""
    count = len(centroids)
    groups = _nearest(points, centroids)
    for _ in range(iterations):
        changed = _nearest(points, _centroids(points, groups, count))
        if np.array_equal(changed, groups):
            changed = _best_move(points, groups, count)
            if np.array_equal(changed, groups):
                break
        groups = changed
    return groups


def _nearest(points: Doubles, centroids: Doubles) -> Indices:
    """(N,) nearest centroid; one that nobody is nearest to gets the point farthest from its own, if not the last."""
    cosines = points @ centroids.T
    groups: Indices = cosines.argmax(1)
    sizes = np.bincount(groups, minlength=len(centroids))
    for empty in np.flatnonzero(sizes == 0):
        own = np.where(sizes[groups] > 1, cosines[np.arange(len(points)), groups], np.inf)
        moved = int(own.argmin())
        sizes[groups[moved]] -= 1
        groups[moved], sizes[empty] = empty, 1
    return groups


def _best_move(points: Doubles, groups: Indices, count: int) -> Indices:
    """The groups after the one move of a point that lengthens Σ |sum of a group| most; unchanged if none does."""
    rows, sums = np.arange(len(points)), _sums(points, groups, count)
    lengths, products = _lengths(sums), points @ sums.T
    left = np.sqrt(np.maximum(lengths[groups] ** 2 - 2 * products[rows, groups] + 1, 0))
    joined = np.sqrt(np.maximum(lengths**2 + 2 * products + 1, 0))
    gains = joined - lengths + (left - lengths[groups])[:, None]
    gains[rows, groups] = 0  # one alone in its group never gains by leaving it, so no group is left empty
    point, group = np.unravel_index(gains.argmax(), gains.shape)
    moved = groups.copy()
    if gains[point, group] > _SMALLEST_GAIN:
        moved[point] = group
    return moved


def _largest_first(groups: Indices, count: int) -> Indices:
    sizes = np.bincount(groups, minlength=count)
    order = sorted(range(count), key=lambda group: (-sizes[group], int(np.argmax(groups == group))))
    return np.argsort(order)[groups]


def _clustering(points: Doubles, groups: Indices, count: int) -> Clustering:
    centroids = _centroids(points, groups, count)
    cosines = np.asarray((points * centroids[groups]).sum(1))
    return Clustering(centroids, groups, cosines, float(cosines.mean()))
