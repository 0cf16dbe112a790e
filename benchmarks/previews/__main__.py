"""``python -m benchmarks.previews``: train the shipped previews anew and write their files and cards."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.previews.card import Reports, card, slides_section
from benchmarks.previews.previews import PREVIEWS, Preview, settings_of
from benchmarks.previews.slides import slide_scores
from lpd.data.tiles import TileSet
from lpd.evaluation.files import write_text
from lpd.evaluation.refining import ADAPT
from lpd.evaluation.report import evaluate
from lpd.model.bank import save_bank
from lpd.model.checkpoint import load_checkpoint, save_checkpoint
from lpd.model.header import read_info
from lpd.recipe.run_files import RESUME
from lpd.runs import Run
from lpd.training.banking import BankConfig, build_bank, load_bank_encoder
from lpd.training.loop import train

_SHIPPED = Path(__file__).parents[2] / "checkpoints"


def main() -> None:
    """Train what is not trained yet, ship the first seed, tell of all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.previews", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with the tile sets")
    parser.add_argument("--encoder", type=Path, required=True, help="ImageNet weights of mobilenetv2_100")
    parser.add_argument("--work", type=Path, default=Path("runs/previews"), help="folder for runs")
    parser.add_argument("--out", type=Path, default=_SHIPPED, help="where files and cards go")
    parser.add_argument("--names", nargs="+", choices=tuple(PREVIEWS), default=list(PREVIEWS))
    args = parser.parse_args()
    for name in args.names:
        place = Place(args.data, args.encoder, args.work)
        runs = {seed: _trained(name, seed, place) for seed in PREVIEWS[name].seeds}
        reports = {seed: _report(path, args.data / PREVIEWS[name].data, "valid") for seed, path in runs.items()}
        _ship(name, runs[PREVIEWS[name].seeds[0]], reports, place, args.out)


@dataclasses.dataclass(frozen=True)
class Place:
    """Where things are: folder of the tile sets, file of the encoder's weights, folder for runs."""

    data: Path
    encoder: Path
    work: Path


def _trained(name: str, seed: int, place: Place, precision: str | None = None) -> Path:
    """The finished checkpoint of a training, of an earlier call if there is one; in its own precision or another."""
    out = place.work / "-".join([name, *([precision] if precision else []), str(seed)])
    last, resume = out / "last.safetensors", (out / RESUME).exists()
    if last.exists() and not resume:
        return last
    tiles = TileSet.open(place.data / PREVIEWS[name].data, "train")
    bank = _bank(name, seed, tiles, place) if PREVIEWS[name].clustered else None
    with Run(out, "train") as run:
        summary = train(settings_of(name, seed, place.encoder, bank, precision), tiles, None, run, resume=resume)
        if summary.stopped:  # what half a training scored is nobody's business
            raise SystemExit(f"stopped in {out}: the same command goes on from there")
        run.complete()
    return summary.last


def _bank(name: str, seed: int, tiles: TileSet, place: Place) -> Path:
    """The bank of a training, built as ``lpd bank`` does; that of an earlier call if there is one."""
    path = place.work / f"{name}-{seed}-bank.safetensors"
    if not path.exists():
        settings = settings_of(PREVIEWS[name].beside, seed, place.encoder)
        encoder, record = load_bank_encoder(settings.encoder)
        config = BankConfig(per_class=settings.prototypes.per_class, seed=seed)
        save_bank(path, build_bank(encoder, record, tiles, settings.input_spec(tiles.info.mpp, tiles.tile_px), config))
    return path


def _report(checkpoint: Path, folder: Path, split: str) -> dict[str, Any]:
    network, info = load_checkpoint(checkpoint)
    tiles = TileSet.open(folder, split)
    return evaluate(network, tiles, info.input, info.classes, info.calibration, refinements=[ADAPT])


def _ship(name: str, trained: Path, reports: Reports, place: Place, out: Path) -> None:
    preview = PREVIEWS[name]
    network, info = load_checkpoint(trained)
    scores = {split: _report(trained, place.data / preview.data, split) for split in preview.scored}
    path = out / f"{preview.data}-{info.prototype_source}-{info.model.encoder}.safetensors"
    save_checkpoint(path, network, dataclasses.replace(info, notice=preview.notice, scores=scores), dtype="float16")
    shipped = read_info(path)
    more = {"slides": slides_section(name, slide_scores(path, preview.slides) if preview.slides else "")}
    beside = _beside(preview, place, out) if preview.beside else {}
    write_text(path.with_suffix(".md"), card(name, shipped, reports, more, beside))


def _beside(own: Preview, place: Place, out: Path) -> dict[str, Mapping[str, Any]]:
    """Reports on ``valid`` of the preview that one is compared with: as shipped, and trained in its precision."""
    preview = PREVIEWS[own.beside]
    shipped = read_info(out / f"{preview.data}-{preview.source}-mobilenetv2_100.safetensors")
    found = {f"{preview.precision}, shipped": shipped.scores["valid"]}
    if own.retrained:
        again = _trained(own.beside, preview.seeds[0], place, own.precision)
        found[own.precision] = _report(again, place.data / preview.data, "valid")
    return found


if __name__ == "__main__":
    main()
