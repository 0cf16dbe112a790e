"""``lpd bank``: cluster the tiles of one class alone into prototypes, for trainings to take or compare with."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpd.cli.arguments import add_settings, positive
from lpd.cli.progress import progress_bar
from lpd.errors import ConfigError
from lpd.inference.settings import DEVICES
from lpd.runs import exists

if TYPE_CHECKING:
    from lpd.model.bank import BankInfo

_EPILOG = """\
Each train tile whose label names one class alone is embedded by the encoder (the mean of its deepest map); the
embeddings of a class are grouped by cosine k-means, and the directions of the groups are its prototypes. Nothing
is learnt. Settings are those of the training that shall take it, with prototypes.source kmeans or kmeans_init: the
bank uses its encoder, prototypes.per_class and loop.seed.
  lpd bank --data tiles --out bank.safetensors --preset cpu --set encoder.weights=mobilenetv2_100.safetensors"""


def add_parser(commands: Any) -> None:
    """Add the command's flags."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "bank",
        help="cluster tiles into a bank of prototypes",
        description="Cluster the tiles that show one class alone into prototypes of that class.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="tile set: dataset.yaml and train/")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.safetensors", help="the bank")
    add_settings(parser)
    parser.add_argument(
        "--patches", type=int, default=1, metavar="N", help="N × N embeddings of each tile (default: %(default)s)"
    )
    parser.add_argument("--device", choices=DEVICES, default="auto", help="where the encoder runs (default: auto)")
    parser.add_argument("--threads", type=positive, metavar="N", help="CPU threads (default: all cores)")
    parser.add_argument("--force", action="store_true", help="replace FILE.safetensors if it exists")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Build the bank, store it and print what is in it."""
    from lpd.data.tiles import TileSet
    from lpd.inference.devices import choose_device, cpu_threads
    from lpd.model.bank import save_bank
    from lpd.recipe.settings_file import read_config
    from lpd.training.banking import BankConfig, build_bank, load_bank_encoder

    _check_out(args.out, force=args.force)
    settings = read_config(args.preset, args.config, args.settings)
    config = BankConfig(per_class=settings.prototypes.per_class, patches=args.patches, seed=settings.loop.seed)
    device = choose_device(args.device)
    tiles = TileSet.open(args.data, "train")
    spec = settings.input_spec(tiles.info.mpp, tiles.tile_px)
    encoder, record = load_bank_encoder(settings.encoder)
    with progress_bar(args.data.name, "tile") as progress, cpu_threads(args.threads):
        bank = build_bank(encoder, record, tiles, spec, config, device=device, progress=progress)
    save_bank(args.out, bank)
    print(_table(bank.info))
    print(f"{bank.info.prototype_count} prototypes of length {bank.vectors.shape[1]} -> {args.out}")
    return 0


def _check_out(path: Path, *, force: bool) -> None:
    from lpd.evaluation.files import check_writable

    if path.suffix != ".safetensors":
        raise ConfigError(f"--out {path} must end in .safetensors")
    if exists(path) and not force:
        raise ConfigError(f"{path} exists: pass --force to replace it or another --out")
    check_writable(path.parent)


def _table(info: BankInfo) -> str:
    """One row a prototype: its members and how near they are; the class's own numbers stand in its first row."""
    width = max(len("class"), *map(len, info.codes))
    rows = [
        f"{'class':<{width}}  {'tiles':>6}  {'silhouette':>10}  {'prototype':>9}  {'members':>7}  {'mean cosine':>11}"
    ]
    for m in range(info.prototype_count):
        c, k = divmod(m, info.per_class)
        silhouette = info.silhouettes[c]
        known = "–" if silhouette is None else f"{silhouette:.3f}"
        head = f"{info.codes[c]:<{width}}  {info.tiles[c]:>6}  {known:>10}"
        rows.append(
            f"{head if k == 0 else ' ' * len(head)}  {k + 1:>9}  {info.members[m]:>7}  {info.cosines[m]:>11.3f}"
        )
    return "\n".join(rows)
