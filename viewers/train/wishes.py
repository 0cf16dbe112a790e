"""From what a person fills in to commands: names to paths, a wish to the runs that it comes to."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from lpd.errors import LpdError
from lpd.recipe.config import TrainConfig
from lpd.recipe.run_files import BANK
from lpd.recipe.settings_file import to_yaml
from viewers.train import form
from viewers.train.datasets import DataSets
from viewers.train.trainings import Wish
from viewers.train.weights import Starts

_Text = Annotated[str, Field(max_length=1000)]
#: So many trainings may be asked for at once.
_MOST_RUNS = 24
_UNTRAINED = (
    "clustered prototypes of an untrained encoder mean nothing: choose weights or a model for the encoder to start from"
)


class NewTraining(BaseModel):
    """What a person filled in.

    ``settings`` are texts by path, all of them or those that differ from the preset; ``start`` and ``tower`` are ids of
    weights. ``also`` names baselines to be trained alike; ``seeds`` and ``diversity`` make a run for each of their
    values.
    """

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(max_length=100)] = ""
    data: Annotated[str, Field(max_length=40)]
    preset: Annotated[str, Field(max_length=40)] = "default"
    start: Annotated[str, Field(max_length=200)] = "none"
    tower: Annotated[str, Field(max_length=200)] = ""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    settings: dict[_Text, _Text] = Field(default={}, max_length=100)
    also: list[Literal["kmeans", "linear"]] = Field(default=[], max_length=2)
    seeds: list[Annotated[int, Field(ge=0, lt=2**32)]] = Field(default=[], max_length=_MOST_RUNS)
    diversity: list[Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]] = Field(
        default=[], max_length=_MOST_RUNS
    )


@dataclass(frozen=True)
class Plan:
    """What a wish comes to: ``wishes`` is empty where ``problems`` (a sentence by field) hinder it."""

    wishes: tuple[Wish, ...] = ()
    config: TrainConfig | None = None
    problems: dict[str, str] = field(default_factory=dict)

    def describe(self, command: tuple[str, ...], runs: Path) -> dict[str, Any]:
        """As plain JSON for the page: the commands, ready to be typed, and all settings as YAML."""
        typed = [
            shlex.join((Path(command[0]).name, *command[1:], *wish.arguments, "--out", str(runs / wish.name)))
            for wish in self.wishes
        ]
        return {
            "problems": self.problems,
            "names": [wish.name for wish in self.wishes],
            "commands": typed,
            "yaml": to_yaml(self.config) if self.config else "",
        }


def plan(new: NewTraining, data_sets: DataSets, starts: Starts, queue: Path, user: str = "") -> Plan:
    """The trainings that somebody asks for, checked as far as that can be done without torch.

    Args:
        new: what was filled in.
        data_sets, starts: what its ids mean.
        queue: folder of the line for the device.
        user: who asks.

    Raises:
        NotFoundError: a data set or weights file is gone.
        LpdError: it would be more trainings than are started at once.
    """
    data = data_sets.get(new.data)
    files = _files(new, starts)
    config, problems = form.check(new.preset, new.settings, {**files, **_bank(new.settings)})
    if config is None:
        return Plan(problems=problems)
    variants = list(_variants(new, config.prototypes.source))
    if len(variants) > _MOST_RUNS:
        raise LpdError(f"these are {len(variants)} trainings: start {_MOST_RUNS} at a time at most")
    wishes = []
    for suffix, changes in variants:
        settings = {**new.settings, **changes}
        clustered = bool(_bank(settings))
        config_of_run, problems = form.check(new.preset, settings, {**files, **_bank(settings)})
        if config_of_run is None:
            return Plan(problems=problems)
        if clustered and not config_of_run.encoder.pretrained:
            return Plan(problems={"prototypes.source" if config.prototypes.clustered else "": _UNTRAINED})
        words = {**form.overrides(new.preset, settings), **files}
        if new.preset == "default" or "encoder.name" not in words:
            words = {"encoder.name": config_of_run.encoder.name, **words}
        flags = ["--data", str(data.path), "--preset", new.preset, "--device", new.device, "--queue", str(queue)]
        arguments = ("train", *flags, *(["--build-bank"] if clustered else []), "--set", *form.as_words(words))
        wishes.append(Wish(f"{new.name.strip()}{suffix}", data.relative, data.id, arguments, user))
    return Plan(tuple(wishes), config)


def _files(new: NewTraining, starts: Starts) -> dict[str, str]:
    """The settings that name files, with what goes with a model whose encoder is trained on."""
    start = starts.get(new.start)
    files = {"encoder.weights": form.quoted(start.value)}
    files |= {path: form.as_text(value) for path, value in start.settings.items()}
    if new.tower and new.tower != "none":
        files["losses.similarity.weights"] = form.quoted(starts.get(new.tower).value)
    return files


def _bank(settings: Mapping[str, str]) -> dict[str, str]:
    """The bank of clustered prototypes, which the training builds for itself; empty where it needs none."""
    clustered = settings.get("prototypes.source", "learnable").startswith("kmeans")
    return {"prototypes.bank": BANK} if clustered else {}


def _variants(new: NewTraining, source: str) -> Iterator[tuple[str, dict[str, str]]]:
    """What is added to the name of each run, and to its settings."""
    kinds: list[tuple[str, dict[str, str]]] = [("", {})]
    if "kmeans" in new.also and not source.startswith("kmeans"):
        kinds.append(("-kmeans", {"prototypes.source": "kmeans"}))
    if "linear" in new.also and source != "linear":
        plain = {"prototypes.source": "linear", "prototypes.per_class": "1", "losses.similarity.tower": "off"}
        kinds.append(("-linear", plain))
    for kind, own in kinds:
        sweep = new.diversity if kind != "-linear" else []  # one direction a class: nothing to keep apart
        for weight in dict.fromkeys(sweep) or (None,):
            for seed in dict.fromkeys(new.seeds) or (None,):
                name, changes = kind, dict(own)
                if weight is not None:
                    text = f"{weight:g}" if float(f"{weight:g}") == weight else repr(weight)
                    name, changes = f"{name}-div{text}", changes | {"losses.diversity.weight": text}
                if seed is not None:
                    name, changes = f"{name}-seed{seed}", changes | {"loop.seed": str(seed)}
                yield name, changes
