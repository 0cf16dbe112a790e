"""A new checkpoint from an old one, with some prototypes muted or merged: the same weights, another description.

All K prototypes of a class stay in the file, and ``model.groups`` in its description says which of them count, and
which count as one (:mod:`lpd.model.grouping`). So nothing is computed, the number of prototypes per class need not be
equal, both ways to merge maps are served, and what is muted can be brought back. The calibration stays as it was.
"""

from __future__ import annotations

import dataclasses
import json
import os
import struct
import uuid
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import lpd
from lpd.errors import CheckpointError, ConfigError
from lpd.model.grouping import groups_of, regrouped
from lpd.model.header import METADATA_KEY, CheckpointInfo, file_digest, read_info
from lpd.model.names import PrototypeNames, given_names, names_of, prototype_label
from lpd.runs import exists

_LENGTH = struct.Struct("<Q")
_COPIED_BYTES = 2**20


def save_edited(
    source: Path,
    out: Path,
    muted: Collection[int] = (),
    merged: Sequence[Collection[int]] = (),
    names: Mapping[int, str] | None = None,
    author: str = "",
) -> CheckpointInfo:
    """Save a copy of a checkpoint in which some prototypes do not count, or count as one.

    Inference with it is what muting and merging in the stored maps shows. Names, those of the file beside the source
    and those given, go into the copy. The scores of the source do not: they are not the copy's.

    Args:
        source: a checkpoint; an edited one is edited further.
        out: the new file, ends in ``.safetensors``; nothing is overwritten.
        muted: numbers of prototypes, class-major; each class keeps one at least.
        merged: sets of prototypes of one class.
        names: further names by prototype number.
        author: who does so; may be empty.

    Returns:
        Description of the new file.

    Raises:
        CheckpointError: the source cannot be read, or the new file exists or cannot be written.
        ConfigError: there is no such prototype, a class would be left without, or they cannot be merged.
    """
    info = read_info(source)
    if out.suffix != ".safetensors":
        raise CheckpointError(f"{out} must end in .safetensors, as checkpoints do")
    _check_free(out)
    edited = _edited(info, muted, merged, author)
    kept = names_of(info)
    all_names = PrototypeNames({**kept.by_number, **given_names(info, names or {}, author)}).to_dict(info)
    _write(source, out, dataclasses.replace(edited, names=all_names))
    return read_info(out)


def _edited(
    info: CheckpointInfo, muted: Collection[int], merged: Sequence[Collection[int]], author: str
) -> CheckpointInfo:
    """The new description, its names left as they are."""
    if info.model.head == "linear" and (muted or merged):
        raise ConfigError(f"{info.name} is plain CAM and has no prototypes to mute or merge: choose another checkpoint")
    labels = {m: prototype_label(info, m) for m in (*muted, *(m for one in merged for m in one))}
    groups = regrouped(groups_of(info.model), muted, merged, lambda m: labels.get(m, str(m)))
    for code, own in zip(info.classes.codes, groups, strict=True):
        if not own:
            raise ConfigError(f"class {code} would have no prototype left: keep one of its prototypes")
    record: dict[str, Any] = {
        "parent": info.path.name,
        "parent_digest": file_digest(info.path),
        "muted": [labels[m] for m in sorted(set(muted))],
        "merged": [[labels[m] for m in sorted(set(one))] for one in merged],
        "author": author,
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "lpd": lpd.__version__,
        **({"before": dict(info.edited)} if info.edited else {}),
    }
    whole = groups == groups_of(dataclasses.replace(info.model, groups=()))
    model = dataclasses.replace(info.model, groups=() if whole else groups)
    return dataclasses.replace(info, model=model, scores={}, edited=record)


def _check_free(out: Path) -> None:
    if exists(out):
        raise CheckpointError(f"{out} exists, and nothing is overwritten: choose another name")


def _write(source: Path, out: Path, info: CheckpointInfo) -> None:
    """Copy the tensors of a safetensors file, byte by byte, behind another description."""
    text = json.dumps(info.to_document(), ensure_ascii=False, allow_nan=False)
    temporary = out.with_name(f".unfinished-{uuid.uuid4().hex[:12]}{out.suffix}")
    try:
        with source.open("rb") as old:
            header = json.loads(old.read(_LENGTH.unpack(old.read(_LENGTH.size))[0]))
            header["__metadata__"] = {**header.get("__metadata__", {}), METADATA_KEY: text}
            start = json.dumps(header, ensure_ascii=False).encode()
            start += b" " * (-len(start) % 8)  # tensors begin at multiples of 8 bytes
            out.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as new:
                new.write(_LENGTH.pack(len(start)) + start)
                while block := old.read(_COPIED_BYTES):
                    new.write(block)
        _put(temporary, out)
    except OSError as error:
        reason = error.strerror or error
        raise CheckpointError(f"cannot write {out} ({reason}): free some space or choose another folder") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _put(temporary: Path, out: Path) -> None:
    """Give a finished file its name; one that has come there meanwhile is left alone."""
    try:
        os.link(temporary, out)
    except FileExistsError:
        _check_free(out)
    except OSError:  # a file system without links
        _check_free(out)
        temporary.replace(out)
