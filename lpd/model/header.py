"""What a checkpoint file says of itself, read from its header alone: no torch, no weights."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lpd.classes import ClassScheme
from lpd.config import Calibration, InputSpec, ModelConfig
from lpd.errors import CheckpointError, ConfigError

FORMAT_VERSION = 1
#: Key of our one JSON document in a safetensors file's string metadata.
METADATA_KEY = "lpd"
PROTOTYPE_SOURCES = ("learnable", "kmeans", "kmeans_init", "linear")

#: Types that weights and counters may have in a safetensors file.
_FLOATS = ("F16", "BF16", "F32", "F64")
_DTYPES = (*_FLOATS, "BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64")

_LENGTH = struct.Struct("<Q")
_MAX_HEADER_BYTES = 64 * 2**20  # a forged length must not make us read a whole disk into memory
_SUFFIX = ".safetensors"


@dataclass(frozen=True)
class CheckpointInfo:
    """Everything needed to run a checkpoint, and what is known of how it was made.

    Attributes:
        path: the file; ignored when saving.
        classes: names and colours by mask value.
        input: what tiles the network expects.
        model: what network it is.
        calibration: how its logits become scores.
        prototype_source: ``learnable``, ``kmeans`` or ``kmeans_init``; ``linear`` where there are none (plain CAM).
        notice: one line that people must see wherever the model is offered: what it is not good for, licences.
        scores: evaluation results as they were measured, each entry with its protocol.
        training: run id, data fingerprint, settings: whatever the trainer recorded.
        versions: of the libraries that wrote the file; filled in when saving.
        names: what people call prototypes, as in :meth:`lpd.model.names.PrototypeNames.to_dict`; may be empty.
        edited: of which file this one is an edited copy, and what was muted and merged, see :mod:`lpd.model.editing`.
    """

    path: Path
    classes: ClassScheme
    input: InputSpec
    model: ModelConfig
    calibration: Calibration
    prototype_source: str = "learnable"
    notice: str = ""
    scores: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, Any] = field(default_factory=dict)
    edited: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        classes = self.classes.count
        if not classes == self.model.class_count == len(self.calibration.pixel_gain):
            raise ConfigError(
                f"the class scheme has {classes} classes, the network {self.model.class_count} and the calibration "
                f"{len(self.calibration.pixel_gain)}: they must agree"
            )
        if len(self.calibration.fusion_weights) != len(self.model.scales):
            raise ConfigError(
                f"{len(self.calibration.fusion_weights)} fusion weights do not pair up with scales {self.model.scales}"
            )
        if self.prototype_source not in PROTOTYPE_SOURCES:
            raise ConfigError(f"prototype source {self.prototype_source!r} is not one of {PROTOTYPE_SOURCES}")
        if (self.prototype_source == "linear") != (self.model.head == "linear"):
            raise ConfigError(f"prototype source {self.prototype_source!r} does not fit a {self.model.head!r} head")

    @property
    def name(self) -> str:
        """File name without its suffix."""
        return self.path.stem

    def to_document(self) -> dict[str, Any]:
        """The JSON document stored in the file."""
        return {
            "format_version": FORMAT_VERSION,
            "classes": self.classes.to_dict(),
            "input": self.input.to_dict(),
            "model": self.model.to_dict(),
            "calibration": self.calibration.to_dict(),
            "prototype_source": self.prototype_source,
            "notice": self.notice,
            "scores": dict(self.scores),
            "training": dict(self.training),
            "versions": dict(self.versions),
            **({"names": dict(self.names)} if self.names else {}),
            **({"edited": dict(self.edited)} if self.edited else {}),
        }

    @classmethod
    def from_document(cls, path: Path, document: Mapping[str, Any]) -> CheckpointInfo:
        """Rebuild from :meth:`to_document`.

        Raises:
            CheckpointError: the document is of another version, incomplete or contradicts itself.
        """
        version = document.get("format_version")
        if version != FORMAT_VERSION:
            raise CheckpointError(
                f"{path} has checkpoint format {version!r} and this version of lpd reads format {FORMAT_VERSION}: "
                f"update lpd or train the checkpoint anew"
            )
        try:
            return cls(
                path=path,
                classes=ClassScheme.from_dict(document["classes"]),
                input=InputSpec.from_dict(document["input"]),
                model=ModelConfig.from_dict(document["model"]),
                calibration=Calibration.from_dict(document["calibration"]),
                prototype_source=str(document["prototype_source"]),
                notice=_one_line(str(document["notice"])),
                scores=dict(document["scores"]),
                training=dict(document["training"]),
                versions=dict(document["versions"]),
                names=dict(document.get("names", {})),
                edited=dict(document.get("edited", {})),
            )
        except (ConfigError, KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            reason = f"has no {error}" if isinstance(error, KeyError) else str(error)
            raise CheckpointError(f"{path} has a malformed description ({reason}): save it again") from error


@dataclass(frozen=True)
class BadCheckpoint:
    """A file in a checkpoint folder that cannot be used, and why, for people."""

    path: Path
    reason: str

    @property
    def name(self) -> str:
        """File name without its suffix."""
        return self.path.stem


def read_info(path: Path) -> CheckpointInfo:
    """Read a checkpoint's description and check that the file is complete; weights stay on disk.

    Raises:
        CheckpointError: the file is missing, truncated, not one of ours, or of another version.
    """
    header = _read_header(path)
    metadata = header.get("__metadata__")
    text = metadata.get(METADATA_KEY) if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise CheckpointError(
            f"{path} is a safetensors file without an LPD description: choose a checkpoint saved by lpd "
            f"(encoder weights go into training, not here)"
        )
    info = CheckpointInfo.from_document(path, _json_object(path, text))
    _check_table(path, header, info.model)
    return info


def list_checkpoints(folder: Path) -> list[CheckpointInfo | BadCheckpoint]:
    """The ``*.safetensors`` files directly in a folder, by name, unusable ones with their reason; [] without folder."""
    if not folder.is_dir():
        return []
    files = (p for p in folder.iterdir() if p.suffix == _SUFFIX and not p.name.startswith(".") and p.is_file())
    return [_info_or_reason(path) for path in sorted(files, key=lambda p: (p.stem.lower(), p.stem))]


def file_digest(path: Path) -> str:
    """``sha256:<hex>`` of a file's bytes, for manifests.

    Raises:
        CheckpointError: the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}): check the path") from error
    return f"sha256:{digest.hexdigest()}"


def _info_or_reason(path: Path) -> CheckpointInfo | BadCheckpoint:
    try:
        path.name.encode()
        return read_info(path)
    except UnicodeEncodeError:
        return BadCheckpoint(path, f"{path} has a name with characters that are not UTF-8: rename the file")
    except CheckpointError as error:
        return BadCheckpoint(path, str(error))


def _read_header(path: Path) -> dict[str, Any]:
    """The JSON object at the start of a safetensors file: 8 bytes of length, then the text, then the tensors."""
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            start = file.read(_LENGTH.size)
            length = _header_length(path, start, size)
            text = file.read(length)
    except OSError as error:
        reason = error.strerror or error
        raise CheckpointError(f"{path} cannot be read ({reason}): check the path, or download it again") from error
    header = _json_object(path, text)
    _check_complete(path, header, size - _LENGTH.size - length)
    return header


def _header_length(path: Path, start: bytes, size: int) -> int:
    if start == b"version ":
        raise CheckpointError(f"{path} is a Git LFS pointer, not the weights: run `git lfs pull` or download the file")
    if len(start) < _LENGTH.size:
        raise CheckpointError(f"{path} has only {size} bytes, too few for a checkpoint: save or download it again")
    length = int(_LENGTH.unpack(start)[0])
    if length > _MAX_HEADER_BYTES:
        raise CheckpointError(f"{path} is not a safetensors file: choose a checkpoint saved by lpd")
    if length > size - _LENGTH.size:
        raise _truncated(path, f"its header should have {length} bytes and the file has {size}")
    return length


def _json_object(path: Path, text: str | bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
        # NaN is no JSON, and half a character would break every list it is shown in.
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} has an unreadable header ({error}): choose a checkpoint saved by lpd") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} has a header that is not a JSON object: choose a checkpoint saved by lpd")
    return value


def _check_complete(path: Path, header: Mapping[str, Any], data_bytes: int) -> None:
    try:
        ends = [int(entry["data_offsets"][1]) for name, entry in header.items() if name != "__metadata__"]
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise CheckpointError(f"{path} has a malformed tensor table: save or download it again") from error
    if max(ends, default=0) != data_bytes:
        raise _truncated(path, f"its tensors should have {max(ends, default=0)} bytes and have {data_bytes}")


def _check_table(path: Path, header: Mapping[str, Any], model: ModelConfig) -> None:
    for name, entry in header.items():
        if name != "__metadata__" and entry.get("dtype") not in _DTYPES:
            raise CheckpointError(
                f"{path} is damaged: {name} has the unknown type {entry.get('dtype')!r}: save or download it again"
            )
    if model.head == "linear":
        return
    found = header.get("prototypes", {})
    size = [model.prototype_count, model.prototype_dim]
    if found.get("shape") != size or found["dtype"] not in _FLOATS:
        held = f"{found['dtype']} {found.get('shape')}" if found else "missing"
        raise CheckpointError(
            f"{path} does not fit the network that it describes: its prototypes are {held} and should be "
            f"{' or '.join(_FLOATS)} {size}: save or download it again"
        )


def _truncated(path: Path, detail: str) -> CheckpointError:
    return CheckpointError(f"{path} is truncated or damaged ({detail}): save or download it again")


def _one_line(text: str) -> str:
    """Text fit for a terminal: a foreign file must not move its cursor or colour it."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
