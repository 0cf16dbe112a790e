"""``lpd train``: train a network on image-level labels; the run folder gets checkpoints, metrics and state."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lpd.cli.arguments import add_settings, positive
from lpd.cli.progress import ReportingRun
from lpd.errors import ConfigError, LpdError
from lpd.inference.settings import DEVICES
from lpd.recipe.presets import PRESETS
from lpd.recipe.run_files import BANK
from lpd.runs import DeviceLine, Run

if TYPE_CHECKING:
    import torch

    from lpd.data.tiles import TileSet
    from lpd.recipe.config import TrainConfig
    from lpd.training.distribution import Distribution

T = TypeVar("T")

_EPILOG = """\
Settings come from --preset, on top of it --config, on top of that --set:
  lpd train --preset cpu --data tiles --out runs/first --set encoder.weights=mobilenetv2_100.safetensors loop.seed=1
encoder.weights is required: name a local file (nothing is downloaded), or say none to start from random weights on
purpose. --print-config shows all settings and trains nothing.

presets:
{presets}

The finished model is OUT/last.safetensors: averaged weights at the end of a fixed schedule. OUT/best.safetensors is
the one that scored highest on the valid split, which flatters small splits. OUT/config.yaml repeats the training.

Several processes share one training, one on each GPU or on some cores each; optimizer.batch_size stays that of all:
  OMP_NUM_THREADS=4 torchrun --standalone --nproc-per-node 2 -m lpd train --data tiles --out runs/first --set …"""


def add_parser(commands: Any) -> None:
    """Add the command's flags."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "train",
        help="train on tiles with image-level labels",
        description="Train a network on a tile set in BCSS-WSSS layout.",
        epilog=_EPILOG.format(presets="\n".join(f"  {n:<11} {p.purpose}" for n, p in PRESETS.items())),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="tile set: dataset.yaml, train/ and maybe valid/")
    parser.add_argument("--out", type=Path, required=True, help="run folder")
    add_settings(parser)
    parser.add_argument("--print-config", action="store_true", help="show the settings and stop")
    parser.add_argument("--device", choices=DEVICES, default="auto", help="where to train (default: auto)")
    parser.add_argument("--threads", type=positive, metavar="N", help="CPU threads (default: all cores)")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with the unfinished training in OUT, with its settings",
    )
    parser.add_argument("--force", action="store_true", help="replace a finished training in OUT")
    parser.add_argument(
        "--probe",
        action="store_true",
        help="do a few steps, write nothing, and print as JSON how long the training will take and what it needs",
    )
    parser.add_argument(
        "--build-bank",
        action="store_true",
        help=f"first cluster the tiles of one class alone into OUT/{BANK}, as lpd bank does, and take its prototypes",
    )
    parser.add_argument(
        "--queue",
        metavar="DIR",
        type=Path,
        help="wait for the device in the line of all commands that name this folder (an app: its results folder)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Train, and print where the checkpoint lies and what it scored.

    Under torchrun this is one of several processes; only the leading one prints.

    Returns:
        0, or 130 if the run was stopped (its checkpoint is saved all the same).
    """
    distribution = torchrun_distribution(os.environ)
    if distribution is None:
        return _train(args, None)
    from lpd.training.distribution import connected

    with connected(distribution):
        try:
            return _train(args, distribution)
        except LpdError as error:  # one of all processes; said in here, since torchrun ends all once the first is gone
            if distribution.leads:
                print(f"lpd {args.command}: {error}", file=sys.stderr)
            return 1


def torchrun_distribution(environ: Mapping[str, str]) -> Distribution | None:
    """Which process this is according to torchrun's variables; None without them, and for a single process.

    Raises:
        ConfigError: they are no numbers, or do not fit one another.
    """
    words = [environ.get(name, "") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")]
    if not all(words):
        return None
    from lpd.training.distribution import Distribution

    try:
        distribution = Distribution(*map(int, words))
    except ValueError as error:
        raise ConfigError(f"RANK, WORLD_SIZE and LOCAL_RANK are {', '.join(words)}: let torchrun set them") from error
    return distribution if distribution.world > 1 else None


@dataclass(frozen=True)
class _Task:
    """What the flags come down to, without torch."""

    config: TrainConfig
    tiles: TileSet
    valid: TileSet | None
    run: Run


def _train(args: argparse.Namespace, distribution: Distribution | None) -> int:
    if args.probe:
        return _probe(args)
    together = _together(distribution)
    task = together(partial(_task, args, leads=distribution is None or distribution.leads))
    if task is None:
        return 0
    with ExitStack() as stack:
        together(partial(stack.enter_context, task.run))
        # Torch comes in here, after the wait: a long line of trainings must not fill the memory.
        from lpd.inference.devices import choose_device, cpu_threads
        from lpd.training.distribution import Team
        from lpd.training.loop import train

        team = Team(distribution)
        device = team.together(lambda: team.own_device(choose_device(args.device)))
        if isinstance(task.run, ReportingRun):
            stack.enter_context(task.run.bar(args.out.name, "step"))
            if args.build_bank:
                _build_bank(args, task, device)
        stack.enter_context(cpu_threads(args.threads))
        summary = train(
            task.config,
            task.tiles,
            task.valid,
            task.run,
            device=device,
            replace=args.force,
            resume=args.resume,
            distribution=distribution,
        )
        if not summary.stopped:
            task.run.complete()
    if team.leads:
        print(f"{'stopped' if summary.stopped else 'finished'} after {summary.steps} steps: {summary.last}")
        if summary.report:
            _print_scores(summary.report)
    return 130 if summary.stopped else 0


def _probe(args: argparse.Namespace) -> int:
    """Measure, and print what was found as one line of JSON; OUT is not touched."""
    from lpd.data.tiles import TileSet, has_split
    from lpd.inference.devices import choose_device, cpu_threads
    from lpd.recipe.settings_file import read_config
    from lpd.training.probing import probe

    plain = ("prototypes.source=learnable",) if args.build_bank else ()  # which cost the same, and need no bank
    config = read_config(args.preset, _settings_file(args), (*args.settings, *plain))
    tiles = TileSet.open(args.data, "train")
    valid = TileSet.open(args.data, "valid") if has_split(args.data, "valid") else None
    with cpu_threads(args.threads):
        found = probe(config, tiles, valid, choose_device(args.device), clustering=args.build_bank)
        print(json.dumps(found.to_dict()))
    return 0


def _together(distribution: Distribution | None) -> Callable[[Callable[[], T]], T]:
    """How something is done that all processes do, see :meth:`lpd.training.distribution.Team.together`."""
    if distribution is None:
        return lambda work: work()
    from lpd.training.distribution import Team

    return Team(distribution).together


def _task(args: argparse.Namespace, *, leads: bool) -> _Task | None:
    """The task of this process, checked as far as files and flags go; None if the settings were only to be shown."""
    from lpd.data.tiles import TileSet, has_split
    from lpd.recipe.settings_file import read_config, to_yaml
    from lpd.training.unfinished import check_unfinished, check_untrained

    if args.force and args.resume:
        raise ConfigError("--force starts anew and --resume goes on: pass one of them")
    config = read_config(args.preset, _settings_file(args), (*_own_bank(args), *args.settings))
    if args.print_config:
        if leads:
            print(to_yaml(config))
        return None
    if args.resume:
        check_unfinished(args.out)
    elif not args.force and leads:
        check_untrained(args.out)
    tiles = TileSet.open(args.data, "train")
    if not leads:
        from lpd.training.distribution import FollowerRun

        return _Task(config, tiles, None, FollowerRun(args.out, "train"))
    valid = TileSet.open(args.data, "valid") if has_split(args.data, "valid") else None
    print(to_yaml(config))
    if valid is None:
        print(f"training without scores: {args.data} has no valid split", file=sys.stderr)
    if not args.queue:  # nobody waits: a device that is not there is said before a folder is made
        from lpd.inference.devices import choose_device

        choose_device(args.device)
    line = DeviceLine(args.queue, _kind(args.device)) if args.queue else None
    return _Task(config, tiles, valid, ReportingRun(args.out, "train", line=line))


def _kind(device: str) -> str:
    """The kind of a device, in whose line is waited.

    What ``auto`` is here a process of its own says: torch takes hundreds of MB, and whoever waits shall not hold them.

    Raises:
        ConfigError: torch cannot be loaded.
    """
    if device != "auto":
        return device
    if "torch" in sys.modules:
        from lpd.inference.devices import choose_device

        return choose_device("auto").type
    code = "from lpd.inference.devices import choose_device; print(choose_device('auto').type)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    asked = subprocess.run((sys.executable, "-c", code), env=environment, capture_output=True, text=True, check=False)
    if asked.returncode:
        said = asked.stderr.strip().splitlines() or ["it does not say why"]
        raise ConfigError(f"PyTorch cannot be loaded ({said[-1]}): install it anew")
    return asked.stdout.split()[-1]


def _own_bank(args: argparse.Namespace) -> tuple[str, ...]:
    """The settings that name the bank which the training builds."""
    if not args.build_bank:
        return ()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("--build-bank is for one process: make the bank with lpd bank, and name it in --set")
    given = any(word.startswith("prototypes.source=") for word in args.settings)
    source = () if given else ("prototypes.source=kmeans",)
    return (*source, f"prototypes.bank={json.dumps(str(args.out.resolve() / BANK), ensure_ascii=False)}")


def _build_bank(args: argparse.Namespace, task: _Task, device: torch.device) -> None:
    """Cluster the tiles into the bank that the settings name, unless it is there from before an interruption."""
    from lpd.model.bank import save_bank
    from lpd.training.banking import BankConfig, build_bank, load_bank_encoder

    path, config = args.out.resolve() / BANK, task.config
    if args.resume and path.exists():
        return
    task.run.say("clustering tiles into prototypes")
    wish = BankConfig(per_class=config.prototypes.per_class, seed=config.loop.seed)
    encoder, record = load_bank_encoder(config.encoder)
    spec = config.input_spec(task.tiles.info.mpp, task.tiles.tile_px)
    save_bank(path, build_bank(encoder, record, task.tiles, spec, wish, device=device))
    task.run.say("")


def _settings_file(args: argparse.Namespace) -> Path | None:
    """What --config names; where a training goes on and no setting is given, those that it began with."""
    from lpd.recipe.run_files import CONFIG

    given = args.config or args.settings or args.preset != "default"
    stored: Path = args.out / CONFIG
    return stored if args.resume and not given and stored.exists() else args.config


def _print_scores(report: Any) -> None:
    for gate, scores in report["gates"].items():
        tissue = scores["ignored"]
        classes = "  ".join(f"{code} {_percent(value)}" for code, value in tissue["iou"].items())
        print(f"valid mIoU {_percent(tissue['miou'])}  ({classes})  gate {gate}, background ignored")


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"
