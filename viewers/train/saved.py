"""Settings of an earlier training or of a file, as the form shows them: the nearest preset and what differs from it."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lpd.errors import ConfigError
from lpd.recipe.config import FROM_SCRATCH
from lpd.recipe.presets import PRESETS
from lpd.recipe.settings_file import read_config
from viewers.train import form
from viewers.train.weights import Starts


def saved_settings(text: str, starts: Starts) -> dict[str, Any]:
    """What a YAML file of settings comes to.

    Returns:
        ``preset``, ``settings`` (texts by path, where they differ), ``start`` and ``tower`` (ids of weights), and
        ``notes``: what of it could not be taken over.

    Raises:
        ConfigError: it is no YAML, or has settings that there are not.
    """
    if form.LINKS.search(text):
        raise ConfigError("settings with YAML anchors (& and *) are not read: write the values out")
    with TemporaryDirectory(prefix="lpd-settings-") as folder:
        path = Path(folder) / "settings.yaml"
        path.write_text(text, encoding="utf-8")
        config = read_config("default", path)
    values, notes = form.texts(config), []
    preset = min(PRESETS, key=lambda name: len(form.overrides(name, values)))
    start = starts.of_value(config.encoder.weights)
    if start is None:
        notes.append(f"The weights {Path(config.encoder.weights).name} are not among those here: choose others.")
    tower = starts.of_value(config.losses.similarity.weights) if config.losses.similarity.weights else None
    if config.losses.similarity.weights and tower is None:
        notes.append(f"The tower {Path(config.losses.similarity.weights).name} is not here: choose another one.")
    return {
        "preset": preset,
        "settings": form.overrides(preset, values),
        "start": start.id if start else FROM_SCRATCH,
        "tower": tower.id if tower else "",
        "notes": notes,
    }
