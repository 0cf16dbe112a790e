"""The form of all settings: presets, fields with their words of help, and a person's wish checked as it is typed."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from lpd.config import Settings
from lpd.errors import ConfigError
from lpd.recipe.config import FROM_SCRATCH, TrainConfig
from lpd.recipe.presets import PRESETS
from lpd.recipe.settings_file import read_config

#: Settings that name files: they come from lists here, never from what is typed.
_FILES = frozenset({"encoder.weights", "prototypes.bank", "losses.similarity.weights"})
#: Names of networks may name nothing else, such as a file or another server.
_NETWORK = re.compile(r"[A-Za-z0-9_.]{0,80}")
_NETWORKS = ("encoder.name", "losses.similarity.name")
#: YAML's anchors and aliases; a few of them can stand for gigabytes.
LINKS = re.compile(r"(^|[\s\[{,:])[&*][\w-]")
#: Largest values for everybody who uses the page; the command knows others.
_MOST = {"optimizer.epochs": 10_000, "optimizer.batch_size": 4096, "prototypes.per_class": 32}


@dataclass(frozen=True)
class Field:
    """One setting: ``kind`` is ``number``, ``switch``, ``choice`` or ``text``; values are written as in YAML."""

    path: str
    kind: str
    choices: tuple[str, ...]
    help: str


def form() -> dict[str, Any]:
    """All fields and presets as plain JSON, with each preset's values as text by path."""
    return {
        "fields": [dataclasses.asdict(field) for field in fields()],
        "presets": [
            {"name": name, "purpose": preset.purpose, "values": values_of(name)} for name, preset in PRESETS.items()
        ],
    }


@cache
def fields() -> tuple[Field, ...]:
    """The settings in order, but for those that name files."""
    return tuple(field for field in _fields(TrainConfig, "") if field.path not in _FILES)


@cache
def values_of(preset: str) -> Mapping[str, str]:
    """A preset's values as text by path."""
    needed = () if "encoder" in PRESETS[preset].values else ("encoder.name=mit_b1",)
    # Some presets are incomplete on purpose; what they lack is a file, which is no field here.
    tower = ("losses.similarity.tower=off",)
    config = read_config(preset, None, (*needed, f"encoder.weights={FROM_SCRATCH}", *tower))
    wanted = PRESETS[preset].values.get("losses", {}).get("similarity", {}).get("tower", "off")
    return {**texts(config), "losses.similarity.tower": wanted}


def texts(config: TrainConfig) -> dict[str, str]:
    """The settings of a training as text by path, but for those that name files."""
    tree = config.to_dict()
    return {field.path: as_text(_inside(tree, field.path)) for field in fields()}


def as_text(value: Any) -> str:
    """A value as a person would write it in YAML."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(v, list) and len(v) == 2 for v in value):
        value = dict(value)  # options: pairs of name and value
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10_000)
    return text.removesuffix("\n").removesuffix("\n...")


def overrides(preset: str, settings: Mapping[str, str]) -> dict[str, str]:
    """Those of the settings that say something else than the preset."""
    values = values_of(preset)
    return {path: text for path, text in settings.items() if values.get(path) != text}


def check(
    preset: str, settings: Mapping[str, str], files: Mapping[str, str]
) -> tuple[TrainConfig | None, dict[str, str]]:
    """The settings of a training, or what is wrong with them.

    Args:
        preset: where they start from.
        settings: text by path, as a person typed it.
        files: settings that name files, and what must go with these, as text by path.

    Returns:
        The settings, None if something is wrong; one sentence by the path of the field that it is about, which is empty
        where that is not known.
    """
    problems = dict(_refusals(settings))
    if preset not in PRESETS:
        return None, {"": f"there is no preset {preset[:40]!r}"}
    sound = {path: text for path, text in settings.items() if path not in problems}
    words = {**overrides(preset, sound), **files}
    if "encoder.name" not in PRESETS[preset].values.get("encoder", {}):
        words = {"encoder.name": sound.get("encoder.name") or values_of(preset)["encoder.name"], **words}
    try:
        config = read_config(preset, None, as_words(words))
    except ConfigError as error:
        return None, problems | _placed(preset, words, files, str(error))
    problems |= _excesses(config)
    return (None if problems else config), problems


def as_words(settings: Mapping[str, str]) -> tuple[str, ...]:
    """As ``--set`` takes them."""
    return tuple(f"{path}={text}" for path, text in settings.items())


def quoted(value: str) -> str:
    """A file's path as YAML takes it, whatever it is made of."""
    return value if re.fullmatch(r"[\w./-]+", value) and value != "" else json.dumps(value, ensure_ascii=False)


def _refusals(settings: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    known = {field.path for field in fields()}
    for path, text in settings.items():
        if path not in known:
            yield path, f"there is no setting {path[:60]!r} here"
        elif LINKS.search(text):
            yield path, f"{path} is written with YAML anchors (& and *): write the value out"
        elif path in _NETWORKS and not _NETWORK.fullmatch(text):
            yield path, f"{path} {text[:60]!r} is no name of a network: use letters, digits, _ and . alone"


def _excesses(config: TrainConfig) -> dict[str, str]:
    tree = config.to_dict()
    values = {path: _inside(tree, path) for path in _MOST}
    return {
        path: f"{path} {value} is more than {_MOST[path]}, the most that this page starts"
        for path, value in values.items()
        if value > _MOST[path]
    }


def _placed(preset: str, words: Mapping[str, str], files: Mapping[str, str], said: str) -> dict[str, str]:
    """Which field a refusal is about: the one that is refused by itself, or else that which the sentence names."""
    alone = {path: files[path] for path in files}
    name = {"encoder.name": values_of(preset)["encoder.name"], "losses.similarity.tower": "off"}
    problems = {}
    for path, text in words.items():
        try:
            read_config(preset, None, as_words({**name, **alone, path: text}))
        except ConfigError as error:
            problems[path] = str(error)
    if problems.keys() - files.keys():
        return {path: text for path, text in problems.items() if path not in files}
    named = [field.path for field in fields() if re.search(rf"\b{re.escape(field.path)}\b", said)]
    return {min(named, key=said.find) if named else "": said}


def _fields(kind: type[Settings], prefix: str) -> Iterator[Field]:
    kinds, told = get_type_hints(kind), _helps(kind)
    for field in dataclasses.fields(kind):
        inner, path = kinds[field.name], f"{prefix}{field.name}"
        if isinstance(inner, type) and issubclass(inner, Settings):
            yield from _fields(inner, f"{path}.")
        else:
            yield Field(path, *_kind(inner), told.get(field.name, ""))


def _kind(kind: Any) -> tuple[str, tuple[str, ...]]:
    if kind is bool:
        return "switch", ("true", "false")
    if get_origin(kind) is Literal:
        return "choice", tuple(map(str, get_args(kind)))
    if kind in (int, float):
        return "number", ()
    if get_origin(kind) in (Union, UnionType):
        return "text", ()
    return "text", ()


def _helps(kind: type[Settings]) -> dict[str, str]:
    """What the docstrings of a class and of those that it builds on say under ``Attributes``, by name."""
    told: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        lines = (base.__doc__ or "").partition("Attributes:")[2].splitlines()
        names: list[str] = []
        for line in lines:
            if found := re.fullmatch(r" {8}([\w, ]+): (.*)", line):
                names = found[1].split(", ")
                told.update(dict.fromkeys(names, found[2]))
            elif names and line.startswith(" " * 12):
                told.update({name: f"{told[name]} {line.strip()}" for name in names})
    return {name: _plain(text) for name, text in told.items()}


def _plain(text: str) -> str:
    """Help without the marks of the documentation."""
    return re.sub(r":\w+:`~?([^`]+)`", r"\1", text).replace("``", "")


def _inside(tree: Mapping[str, Any], path: str) -> Any:
    value: Any = tree
    for part in path.split("."):
        value = value[part]
    return value
