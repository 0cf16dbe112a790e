"""Model cards: what is measured is written by this file, what is known of the data stands in ``cards/``."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any, TypeAlias

from benchmarks.previews.previews import PREVIEWS, Preview, command_of
from benchmarks.previews.slides import HEIGHT, WIDTH
from lpd.evaluation.refining import ADAPT
from lpd.model.header import CheckpointInfo

#: Reports on ``valid`` by seed.
Reports: TypeAlias = Mapping[int, Mapping[str, Any]]
_CARDS = Path(__file__).parent / "cards"
_GATES, _BACKGROUNDS = ("predicted", "oracle", "none"), ("ignored", "tissue rule")


def card(
    name: str,
    info: CheckpointInfo,
    by_seed: Reports,
    more: Mapping[str, str],
    beside: Mapping[str, Mapping[str, Any]] | None = None,
) -> str:
    """The whole card.

    Args:
        name: of the preview; its text in ``cards/`` is that of its tile set.
        info: of the finished file, with its scores.
        by_seed: report on ``valid`` of every training, by seed.
        more: other text that ``cards/`` asks for by name.
        beside: reports on ``valid`` of the preview that this one was trained like, by what tells them apart.
    """
    text = Template((_CARDS / f"{PREVIEWS[name].data}.md").read_text(encoding="utf-8"))
    parts = [f"## Scores on `{split}`\n\n{_scores(info.scores[split], info.classes.codes)}" for split in info.scores]
    return text.substitute(
        name=info.path.stem,
        fingerprint=info.training["data"]["fingerprint"],
        licence=info.training["data"]["licence"],
        encoder=_encoder(info),
        made=_made(name, info),
        scores="\n\n".join(parts),
        seeds=_seeds(by_seed, info.classes.codes),
        beside=_beside(PREVIEWS[name], by_seed, beside, info.classes.codes) if beside else "",
        **more,
    )


def slides_section(name: str, table: str = "") -> str:
    """What the card says of whole slides: the table of their scores, what it is of, and what is to be said of it."""
    preview = PREVIEWS[name]
    if not preview.slides:
        return (
            "Not measured for this one: the card of the one with learnable prototypes says how that one does on them."
        )
    *seeds, last = map(str, preview.slides)
    head = (
        f"Phantom slides (`lpd phantom slide --size {WIDTH} {HEIGHT}`, seeds {', '.join(seeds)} and {last}, no case "
        "shared with the tiles), segmented as `lpd segment` does, as trained (`--no-adapt`) and with prototypes "
        "adapted to the slide (the default); glass and predicted background counted:"
    )
    return "\n\n".join(filter(None, (head, table, preview.slides_said)))


def _encoder(info: CheckpointInfo) -> str:
    weights = info.training["encoder_weights"]
    return f"`{weights['file']}` (sha256 `{weights['sha256'][:16]}…`)"


def _made(name: str, info: CheckpointInfo) -> str:
    training, versions = info.training, info.versions
    settings, losses = training["settings"], training["settings"]["losses"]
    schedule, clustered = settings["optimizer"], PREVIEWS[name].clustered
    shared = ", shared with other work" if clustered else ""
    made = (
        f"Seed {settings['loop']['seed']}, {training['steps']} steps, {training['seconds'] / 60:.0f} minutes on one "
        f"CPU core ({settings['loop']['precision']}{shared}); lpd {versions['lpd']}, torch {versions['torch']}, timm "
        f"{versions['timm']}."
    )
    source = " learnable prototypes per class" if not clustered else " clustered prototypes per class"
    bank = (
        " The prototypes are centroids: `lpd bank` embeds the training tiles that show one class alone by the encoder "
        "as it was loaded, and cosine k-means groups the embeddings of a class. They stay as they are, while encoder "
        "and adapters learn."
    )
    method = (
        f"K = {info.model.prototypes_per_class}{source}, merged by their {info.model.merge}; "
        f"L_cls on {len(info.model.scales)} scales plus {losses['pixels']['weight']:g} · L_pix, and from "
        f"{losses['start']:.0%} of the schedule on {losses['diversity']['weight']:g} · L_div; no L_sim. AdamW at "
        f"{schedule['learning_rate']:g} with linear decay, "
        + ("" if clustered else f"prototypes at {schedule['prototype_factor']:g} times the rate, ")
        + "square symmetries and mild stain jitter. The weights are the moving average at the end of the fixed "
        "schedule, not the best epoch. Training sees image-level labels only." + (bank if clustered else "")
    )
    calibration = (
        "Calibration: fitted once on the image-level labels of the training tiles, without augmentation and without "
        f"any mask; fusion weights {list(info.calibration.fusion_weights)} (fine to deep). The file stores kernels and "
        "matrices in half precision."
    )
    return f"{made}\n\n```\n{command_of(name)}\n```\n\n{method}\n\n{calibration}"


def _scores(report: Mapping[str, Any], codes: Sequence[str]) -> str:
    names = [*codes, "background"]
    head = ["gate", "background", "mIoU (tissue)", *(f"IoU {name}" for name in names)]
    rows = [[*head, "FwIoU (tissue)", "FwIoU with background", "accuracy"]]
    adapted = f"{_GATES[0]}, adapted"
    for gate in (_GATES[0], adapted, *_GATES[1:]):
        for background in _BACKGROUNDS:
            tables = report["refined"][ADAPT][_GATES[0]] if gate == adapted else report["gates"][gate]
            scores = tables[background]
            cells = [gate, background, f"**{_percent(scores['miou'])}**"]
            cells += [_percent(scores["iou"].get(name)) for name in names]
            rows.append([*cells, *(_percent(scores.get(k)) for k in ("fwiou", "fwiou_with_background", "accuracy"))])
    dice = report["gates"]["predicted"]["ignored"]["dice"]
    agree = ", ".join(f"{code} {_percent(report['label_accuracy'][code])} %" for code in codes)
    alike = ", ".join(f"scale {scale} {value:.3f}" for scale, value in report["jeffreys_similarity"].items())
    return (
        f"{_table(rows)}\n\nDice under the predicted gate, background ignored: "
        f"{', '.join(f'{code} {_percent(dice[code])}' for code in codes)}. The predicted gate agrees with the true "
        f"image label on {agree} of the tiles. Likeness of a class's prototypes inside its true regions (Jeffreys, "
        f"1 alike, 0 disjoint): {alike}."
    )


def _seeds(by_seed: Mapping[int, Mapping[str, Any]], codes: Sequence[str]) -> str:
    head = ["seed", *_GATES, "predicted, adapted", *(f"predicted {code}" for code in codes)]
    numbers = [_numbers(report, codes) for report in by_seed.values()]
    rows = [[str(seed), *(f"{x:.1f}" for x in row)] for seed, row in zip(by_seed, numbers, strict=True)]
    if len(rows) == 1:
        return f"{_table([head, *rows])}\n\nNo other seed was trained, so nothing is known of their spread."
    spread = [
        f"{statistics.mean(column):.1f} ± {statistics.stdev(column):.1f}" for column in zip(*numbers, strict=True)
    ]
    return _table([head, *rows, ["mean ± sd", *spread]])


def _beside(preview: Preview, by_seed: Reports, others: Mapping[str, Mapping[str, Any]], codes: Sequence[str]) -> str:
    """The section that compares clustered prototypes with learnable ones."""
    head = ["prototypes", *_GATES, "predicted, adapted", *(f"predicted {code}" for code in codes), "Jeffreys by scale"]
    first = next(iter(by_seed))
    rows = [(f"clustered, {preview.precision} (this file)", by_seed[first])]
    rows += [(f"learnable, {name}", report) for name, report in others.items()]
    cells = [[name, *(f"{x:.1f}" for x in _numbers(report, codes)), _alike(report)] for name, report in rows]
    again = "So the learnable one was trained once more as this one was."
    if not preview.retrained:
        again = "The learnable one was not trained once more in that way: what these two do is in the difference, too."
    text = (
        f"Trained alike (`{preview.data}-learnable-mobilenetv2_100`: same tiles, encoder, schedule, losses and seed "
        f"{first}), with two differences that are not the prototypes': this one was trained in {preview.precision} and "
        f"with another release of torch, the shipped learnable one in {PREVIEWS[preview.beside].precision}. {again} "
        f"{preview.beside_said}Same seed, `valid`, background ignored; the last column is how alike a class's "
        "prototypes are inside its true regions (Jeffreys, 1 alike, 0 disjoint), fine to deep:"
    )
    note = (
        "Nothing was settled by looking at clustered prototypes: the recipe is the learnable ones', which it may "
        "favour. One training each, on one small set of tiles: differences of a point or two mean nothing."
    )
    return f"\n\n## Beside learnable prototypes\n\n{text}\n\n{_table([head, *cells])}\n\n{note}"


def _numbers(report: Mapping[str, Any], codes: Sequence[str]) -> list[float]:
    """Percentages of a report's ``valid``: mIoU by gate, adapted, and the IoU of each class."""
    gates = {gate: report["gates"][gate]["ignored"] for gate in _GATES}
    found = [*(gates[gate]["miou"] for gate in _GATES), report["refined"][ADAPT][_GATES[0]]["ignored"]["miou"]]
    return [100 * value for value in (*found, *(gates["predicted"]["iou"][code] for code in codes))]


def _alike(report: Mapping[str, Any]) -> str:
    return ", ".join(f"{value:.3f}" for value in report["jeffreys_similarity"].values())


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
