"""From words to settings: presets, YAML files and dotted overrides, each on top of the one before."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from lpd.config import Settings
from lpd.errors import ConfigError
from lpd.recipe.config import TrainConfig
from lpd.recipe.presets import PRESETS


def read_config(preset: str = "default", file: Path | None = None, overrides: Sequence[str] = ()) -> TrainConfig:
    """Settings from a preset, then a YAML file, then overrides.

    Args:
        preset: a name in ``PRESETS``.
        file: YAML with any part of the settings, such as the ``config.yaml`` of an earlier run.
        overrides: ``optimizer.epochs=4`` and the like; values are YAML.

    Raises:
        ConfigError: a preset, key or value is unknown or wrong, or the file cannot be read.
    """
    if preset not in PRESETS:
        raise ConfigError(f"there is no preset {preset!r}: choose one of {', '.join(PRESETS)}")
    tree = merged(PRESETS[preset].values, _read_yaml(file) if file else {})
    tree = _overridden(tree, overrides)
    for missing in ("name", "weights"):
        if not tree.get("encoder", {}).get(missing):
            raise ConfigError(
                f"encoder.{missing} is not set: say encoder.name=… (mit_b0 to mit_b5, or a timm model) and "
                "encoder.weights=FILE (a local file; nothing is downloaded) or encoder.weights=none"
            )
    return TrainConfig.from_dict(tree)


def changed(config: TrainConfig, *overrides: str) -> TrainConfig:
    """The same settings but for ``overrides``, such as ``optimizer.epochs=4``.

    Raises:
        ConfigError: a key or value is unknown or wrong.
    """
    return TrainConfig.from_dict(_overridden(config.to_dict(), overrides))


def to_yaml(config: Settings) -> str:
    """Settings as YAML that :func:`read_config` reads again."""
    tree = _readable(config.to_dict())
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)


def merged(below: Mapping[str, Any], above: Mapping[str, Any], kind: type[Settings] = TrainConfig) -> dict[str, Any]:
    """Nested settings with those of ``above`` on top; every key is checked against ``kind``.

    Raises:
        ConfigError: ``above`` has a key that is no setting, or a value where a group of settings belongs.
    """
    return _merged(below, above, kind, "")


def _merged(below: Mapping[str, Any], above: Mapping[str, Any], kind: type[Settings], prefix: str) -> dict[str, Any]:
    kinds = get_type_hints(kind)
    names = [f.name for f in dataclasses.fields(kind)]
    tree = dict(below)
    for name, value in above.items():
        if name not in names:
            close = difflib.get_close_matches(str(name), names, n=1)
            hint = f"did you mean {prefix}{close[0]}?" if close else f"there are {', '.join(prefix + n for n in names)}"
            raise ConfigError(f"there is no setting {prefix}{name}: {hint}")
        inner = kinds[name]
        if isinstance(inner, type) and issubclass(inner, Settings):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{prefix}{name} is a group of settings, not {value!r}: name one of them")
            value = _merged(tree.get(name, {}), value, inner, f"{prefix}{name}.")
        tree[name] = value
    return tree


def _overridden(tree: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    for override in overrides:
        path, equals, text = override.partition("=")
        if not equals:
            raise ConfigError(f"{override!r} is no setting: write it as name=value, for example optimizer.epochs=4")
        tree = merged(tree, _branch(path.split("."), _yaml(text, override)))
    return dict(tree)


def _readable(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Pairs of options as the mapping that people write."""
    readable = {k: _readable(v) if isinstance(v, Mapping) else v for k, v in tree.items()}
    return {**readable, "options": dict(readable["options"])} if "options" in readable else readable


def _branch(path: Sequence[str], value: Any) -> dict[str, Any]:
    return {path[0]: _branch(path[1:], value) if len(path) > 1 else value}


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = _yaml(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"settings {path} cannot be read ({error}): check the path") from error
    if content is not None and not isinstance(content, dict):
        raise ConfigError(f"settings {path} hold a {type(content).__name__}: write 'group: {{name: value}}' entries")
    return content or {}


def _yaml(text: str, where: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # a SafeLoader
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError) as error:  # the last two of single values
        raise ConfigError(f"{where} is not YAML ({str(error).splitlines()[0]}): correct or quote it") from error


class _Loader(yaml.SafeLoader):
    """YAML as people mean it: 1e-4 is a number, and off is a word."""


_BOOL, _FLOAT = "tag:yaml.org,2002:bool", "tag:yaml.org,2002:float"
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _BOOL]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOL, re.compile(r"(?:true|false)$", re.IGNORECASE), list("tTfF"))
_Loader.add_implicit_resolver(_FLOAT, re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789"))
