"""Publishing: a training's checkpoint among the models, with a card that says what it is made of and how it scored."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lpd.errors import ConfigError, LpdError
from lpd.model.header import CheckpointInfo, read_info
from lpd.recipe.config import TrainConfig
from lpd.recipe.run_files import BEST, LAST
from lpd.recipe.settings_file import to_yaml
from lpd.runs import replacing
from viewers.train.records import Training

Which = Literal["last", "best"]
_FILES: Mapping[str, str] = {"last": LAST, "best": BEST}
_GATES = (
    "*Predicted*: the network says by itself how likely each class is in a tile, as on slides. *Oracle* is told the "
    "true label, *none* leaves the gate open; both are for comparison only."
)
#: Of two people who ask for one name at once, the second is told that it is taken.
_ONE_AT_A_TIME = threading.Lock()
_DISCLAIMER = "**Research use only. Not a medical device.**"


@dataclass(frozen=True)
class Publication:
    """What a person says of a model: one line or paragraph each."""

    name: str
    which: Which
    licence: str = ""
    use: str = ""
    author: str = ""


def publish(training: Training, wish: Publication, models: Path) -> CheckpointInfo:
    """Copy a checkpoint into the models' folder and write its card beside it; nothing that is there is replaced.

    Raises:
        LpdError: the training has no such checkpoint, a model has the name, or the folder cannot be written.
        CheckpointError: the checkpoint cannot be read.
    """
    source = training.folder / _FILES[wish.which]
    if not source.is_file():
        why = "only a training that scores itself has one" if wish.which == "best" else "it has not saved itself yet"
        raise LpdError(f"training {training.name} has no {wish.which} checkpoint: {why}")
    read_info(source)  # a damaged one is named by its own name
    target, card = models / f"{wish.name}.safetensors", models / f"{wish.name}.md"
    with _ONE_AT_A_TIME:
        if target.exists() or card.exists():
            raise LpdError(f"there is a model or card {wish.name} already: choose another name")
        try:
            with replacing(target) as temporary:
                shutil.copyfile(source, temporary)  # of a training at work: the card is of what was copied
                text = write_card(training, wish, read_info(temporary))
                with replacing(card) as written:
                    written.write_text(text, encoding="utf-8")
        except OSError as error:
            raise LpdError(f"the model {wish.name} cannot be written ({error.strerror}): check the disk") from error
        finally:
            if not target.exists():
                card.unlink(missing_ok=True)
    return read_info(target)


def write_card(training: Training, wish: Publication, info: CheckpointInfo) -> str:
    """The card as Markdown."""
    parts = [f"# {wish.name}", _DISCLAIMER, _what(info), _use(wish), "## Data", _data(info), _start(info)]
    parts += ["## How it was made", _how(training, wish, info), _settings(info), "## Scores", _scores(info)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _what(info: CheckpointInfo) -> str:
    classes = ", ".join(f"{c.name} ({c.code})" for c in info.classes.classes)
    size, mpp = info.input.tile_px, info.input.mpp
    tiles = f"tiles of {size} × {size} px at {mpp:g} µm/px"
    return f"Segments {classes}. Trained on {tiles}, of which only the labels were seen."


def _use(wish: Publication) -> str:
    use = wish.use.strip() or "Not stated. Look at its scores, and at slides of your own, before relying on it."
    licence = wish.licence.strip() or "not stated"
    by = f"\n\nPublished by {wish.author}." if wish.author else ""
    return f"Intended use: {use}\n\nLicence of this model: {licence}.{by}"


def _data(info: CheckpointInfo) -> str:
    data = info.training.get("data", {})
    return (
        f"{data.get('name', 'not stated')}: {data.get('tiles', '?')} training tiles, fingerprint (names and sizes) "
        f"`{data.get('fingerprint', '?')}`. Licence of the data: {data.get('licence', 'not stated')}."
    )


def _start(info: CheckpointInfo) -> str:
    weights = info.training.get("encoder_weights", {})
    file = weights.get("file", "not stated")
    if file == "none":
        return f"The encoder {info.model.encoder} started untrained."
    digest = f" (sha256 `{str(weights['sha256'])[:16]}…`)" if weights.get("sha256") else ""
    said = str(weights.get("notice", ""))
    notice = f" {said[0].upper()}{said[1:]}." if said else ""
    return f"The encoder {info.model.encoder} started from `{file}`{digest}.{notice}"


def _how(training: Training, wish: Publication, info: CheckpointInfo) -> str:
    told, versions = info.training, ", ".join(f"{name} {version}" for name, version in info.versions.items())
    kind = "the averaged weights at the end of the schedule, or where it was stopped"
    if wish.which == "best":
        kind = "the weights that scored highest on the valid split, which flatters small splits"
    count = f"{info.model.prototypes_per_class} {info.prototype_source} prototypes a class"
    took = f"{told.get('steps', '?')} steps in {told.get('seconds', '?')} s"
    raw = {*info.calibration.gate_gain} == {1.0} and {*info.calibration.gate_bias} == {0.0}
    gate = " Its gate is not calibrated: the training ended before." if raw else ""
    return f"Training {training.name}: {took}; {count}; {versions}. The file holds {kind}.{gate}"


def _settings(info: CheckpointInfo) -> str:
    """As the checkpoint says them: files by their bare names."""
    try:
        text = to_yaml(TrainConfig.from_dict(info.training["settings"]))
    except (ConfigError, KeyError, TypeError):  # of another lpd
        return ""
    return f"```yaml\n{text.rstrip()}\n```"


def _scores(info: CheckpointInfo) -> str:
    valid = info.scores.get("valid")
    if not isinstance(valid, Mapping):
        has_valid = info.training.get("valid") is not None
        ended = "the training ended before it had scored this checkpoint"
        return f"It was not scored: {ended if has_valid else 'the data set has no valid split'}."
    codes = info.classes.codes
    head = ["gate", "mIoU", "mDice", *(f"IoU {code}" for code in codes)]
    rows = [head, ["---"] * len(head)]
    for gate, protocols in valid["gates"].items():
        scores = protocols["ignored"]
        numbers = (scores["miou"], scores.get("mdice"), *(scores["iou"].get(code) for code in codes))
        rows.append([gate, *map(_percent, numbers)])
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    data = valid.get("data", {})
    on = f"On {data.get('tiles', '?')} tiles of `{data.get('split', 'valid')}`, in per cent, background ignored:"
    return f"{on}\n\n{table}\n\n{_GATES}"


def _percent(value: Any) -> str:
    return f"{100 * value:.1f}" if isinstance(value, int | float) else ""
