"""Prototype banks: centroids of each class's embeddings, clustered once and read by trainings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from lpd.config import InputSpec, Settings
from lpd.errors import CheckpointError, ConfigError, ShapeError
from lpd.model.header import METADATA_KEY
from lpd.runs import replacing

Rgb = tuple[float, float, float]

FORMAT_VERSION = 1
#: Key of a bank's JSON document in a safetensors file's string metadata; a checkpoint's is another.
BANK_KEY = "lpd_bank"

_VECTORS = "vectors"
_BY_CLASS, _BY_PROTOTYPE = ("tiles", "silhouettes"), ("members", "cosines", "exemplars")


@dataclass(frozen=True)
class EncoderRecord(Settings):
    """Which encoder computed the embeddings.

    Attributes:
        name, options: as :func:`lpd.model.encoders.build_encoder` takes them.
        weights_file: bare name of its weights file.
        weights_sha256: 64 hexadecimal digits of that file.
        last_stride: see :class:`lpd.config.ModelConfig`.
        notice: one line on the licence of the weights.
    """

    name: str
    options: tuple[tuple[str, Any], ...]
    weights_file: str
    weights_sha256: str
    last_stride: int = 1
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
        silhouettes: (C) of each class's groups, see :func:`lpd.model.kmeans.cosine_silhouette`.
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
        if not np.all(np.abs(np.linalg.norm(vectors.astype(np.float64), axis=1) - 1) < 1e-4):
            raise ConfigError("the bank's vectors are not all of length 1: build the bank again")

    def check_fit(self, codes: Sequence[str], encoder: EncoderRecord, mean: Rgb, std: Rgb) -> None:
        """Make sure that the prototypes mean the same in a training.

        Args:
            codes: its class codes in mask order.
            encoder: the encoder that it starts from; ``weights_sha256`` is "" for one without weights.
            mean, std: what its input is normalised by.

        Raises:
            ConfigError: its classes are others, or in another order.
            CheckpointError: its encoder is another, starts from other weights or is fed otherwise.
        """
        info, made_by = self.info, self.info.encoder
        if tuple(codes) != info.codes:
            raise ConfigError(
                f"the prototype bank of {info.data_name!r} has the classes {', '.join(map(repr, info.codes))} and the "
                f"training {', '.join(map(repr, codes))}: build a bank of the training's own tiles with lpd bank"
            )
        settings = {
            "name": (made_by.name, encoder.name),
            "options": (dict(made_by.options), dict(encoder.options)),
            "last_stride": (made_by.last_stride, encoder.last_stride),
            "mean": (info.input.mean, mean),
            "std": (info.input.std, std),
        }
        for name, (theirs, ours) in settings.items():
            if theirs != ours:
                raise CheckpointError(
                    f"the prototype bank of {info.data_name!r} was made with encoder.{name} {theirs!r} and the "
                    f"training has {ours!r}: build the bank with the training's settings"
                )
        if encoder.weights_sha256 != made_by.weights_sha256:
            given = f"others, sha256 {encoder.weights_sha256[:12]}…" if encoder.weights_sha256 else "none"
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
            temporary.write_bytes(save({_VECTORS: np.ascontiguousarray(bank.vectors)}, {BANK_KEY: text}))
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
