"""Names that people give to prototypes: in a small file beside the checkpoint, and in copies saved from it.

``NAME.prototypes.json`` lies beside ``NAME.safetensors``, so that naming changes no checkpoint and no digest. What it
says goes before what the checkpoint itself carries. A prototype is written ``TUM:1``: code of its class, and its number
among those of the class, from 1 on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeAlias

from lpd.errors import CheckpointError, ConfigError, LpdError
from lpd.model.header import CheckpointInfo, read_info
from lpd.runs import write_json_atomically

FORMAT_VERSION = 1
LONGEST_NAME = 60
_SUFFIX = ".prototypes.json"
_LARGEST_BYTES = 2**20
#: What :func:`write_names` and copies store: by class code and number, as JSON.
NamesDocument: TypeAlias = dict[str, dict[str, dict[str, str]]]


@dataclass(frozen=True)
class PrototypeName:
    """What somebody calls a prototype.

    Attributes:
        name: 1 to 60 characters in one line.
        author: who gave it; may be empty.
        time: when, UTC, ISO 8601.
    """

    name: str
    author: str = ""
    time: str = ""


@dataclass(frozen=True)
class PrototypeNames:
    """The names of a checkpoint's prototypes.

    Attributes:
        by_number: names by prototype number, class-major; most have none.
        problem: one sentence, if the file with the names cannot be read; the checkpoint itself is as good as ever.
    """

    by_number: Mapping[int, PrototypeName] = field(default_factory=dict)
    problem: str = ""

    def to_dict(self, info: CheckpointInfo) -> NamesDocument:
        """Names by class code and number within the class, as they are stored."""
        document: NamesDocument = {}
        for number, name in sorted(self.by_number.items()):
            c, k = divmod(number, info.model.prototypes_per_class)
            document.setdefault(info.classes.codes[c], {})[str(k + 1)] = asdict(name)
        return document


def names_path(checkpoint: Path) -> Path:
    """Where the names of a checkpoint's prototypes are kept."""
    return checkpoint.with_name(checkpoint.stem + _SUFFIX)


def read_names(checkpoint: Path) -> PrototypeNames:
    """The names of a checkpoint's prototypes: those it carries, and over them those in the file beside it.

    A file that cannot be read is told of in ``problem``; the names that the checkpoint carries are there even so.

    Raises:
        CheckpointError: the checkpoint itself cannot be read.
    """
    return names_of(read_info(checkpoint))


def names_of(info: CheckpointInfo) -> PrototypeNames:
    """As :func:`read_names`, of a checkpoint whose description has been read; this raises nothing."""
    try:
        carried = _parsed(info, info.names)
    except (LpdError, AttributeError, TypeError, ValueError):  # of a foreign file: names are no reason to refuse it
        carried = {}
    path = names_path(info.path)
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise ConfigError(f"it is larger than {_LARGEST_BYTES >> 20} MB")
        document = json.loads(path.read_text(encoding="utf-8"))
        version = document.get("version")
        if version != FORMAT_VERSION:
            raise ConfigError(f"it has format {version!r}, and this version of lpd reads {FORMAT_VERSION}")
        # An empty name takes away one that the checkpoint carries.
        found = {**carried, **_parsed(info, document["names"], taken_away=True)}
        return PrototypeNames({number: name for number, name in found.items() if name.name})
    except FileNotFoundError:
        return PrototypeNames(carried)
    except (OSError, LpdError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        return PrototypeNames(carried, f"{path.name} is not a readable list of names ({reason}): mend or delete it")


def write_names(checkpoint: Path, names: Mapping[int, str], author: str = "") -> PrototypeNames:
    """Change names in the file beside a checkpoint; those not mentioned stay.

    Args:
        checkpoint: a readable one.
        names: new ones by prototype number; an empty one takes a name away.
        author: who gives them.

    Returns:
        All names from now on.

    Raises:
        CheckpointError: the checkpoint cannot be read, or the file with its names is malformed: it is left as it is.
        ConfigError: a name is too long or has control characters, or there is no such prototype.
        RunError: the file cannot be written.
    """
    info = read_info(checkpoint)
    old = names_of(info)
    if old.problem:
        raise CheckpointError(old.problem)
    changed = {**old.by_number, **given_names(info, names, author)}
    taken = {number: PrototypeName("") for number, text in names.items() if not text.strip()}
    stored = PrototypeNames({**changed, **taken}).to_dict(info)
    write_json_atomically(names_path(checkpoint), {"version": FORMAT_VERSION, "names": stored})
    return names_of(info)


def given_names(info: CheckpointInfo, names: Mapping[int, str], author: str = "") -> dict[int, PrototypeName]:
    """Names as they are stored, given now; empty ones are left out.

    Raises:
        ConfigError: a name is too long or has control characters, or there is no such prototype.
    """
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    for number in names:
        prototype_label(info, number)
    checked = {number: checked_name(text) for number, text in names.items() if text.strip()}
    return {number: PrototypeName(text, author, now) for number, text in checked.items()}


def checked_name(text: str) -> str:
    """A name without the blanks around it.

    Raises:
        ConfigError: it is empty, too long, or has characters that are not to be shown.
    """
    name = text.strip()
    if not name:
        raise ConfigError("a prototype's name is empty: type one")
    if len(name) > LONGEST_NAME:
        raise ConfigError(f"the name {name[:20] + '…'!r} has {len(name)} characters: {LONGEST_NAME} at most")
    if not name.isprintable():
        raise ConfigError(f"the name {name!r} has control characters: type it anew, in one line")
    return name


def prototype_label(info: CheckpointInfo, number: int) -> str:
    """``TUM:1`` of a prototype's number.

    Raises:
        ConfigError: there is no such prototype.
    """
    if not 0 <= number < info.model.prototype_count:
        raise ConfigError(f"prototype {number} does not exist: {info.name} has {info.model.prototype_count} prototypes")
    c, k = divmod(number, info.model.prototypes_per_class)
    return f"{info.classes.codes[c]}:{k + 1}"


def prototype_number(info: CheckpointInfo, label: str) -> int:
    """Number, class-major, of a prototype written ``TUM:1``.

    Raises:
        ConfigError: there is no such prototype.
    """
    code, _, k = label.strip().rpartition(":")
    codes, per_class = info.classes.codes, info.model.prototypes_per_class
    if code not in codes or not k.isdecimal() or not 1 <= int(k) <= per_class:
        raise ConfigError(
            f"{label.strip()!r} is no prototype of {info.name}: write a class ({', '.join(codes)}), a colon and a "
            f"number from 1 to {per_class}, such as {codes[0]}:1"
        )
    return codes.index(code) * per_class + int(k) - 1


def _parsed(
    info: CheckpointInfo, document: Mapping[str, Mapping[str, Mapping[str, Any]]], *, taken_away: bool = False
) -> dict[int, PrototypeName]:
    found = {}
    for code, own in document.items():
        for k, entry in own.items():
            text, author, time = (entry.get(part, "") for part in ("name", "author", "time"))
            if not all(isinstance(part, str) and part.isprintable() for part in (text, author, time)):
                raise ConfigError(f"the entry of {code}:{k} is not plain text")
            name = "" if taken_away and text == "" else checked_name(text)
            found[prototype_number(info, f"{code}:{k}")] = PrototypeName(name, author, time)
    return found
