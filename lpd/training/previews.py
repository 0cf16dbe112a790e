"""Previews: one sheet per validation of what the network makes of a few tiles: fixed ones, the best, the worst."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from lpd.classes import NOT_COMPUTED, ClassScheme
from lpd.config import Calibration, InputSpec
from lpd.data.tiles import TileSet
from lpd.errors import ShapeError
from lpd.evaluation.pictures import mask_picture
from lpd.evaluation.protocols import glass_mask
from lpd.evaluation.tiles import class_map, gated_scores, tile_logits
from lpd.model.network import LPDNet
from lpd.recipe.run_files import PREVIEWS
from lpd.runs import clear_temporaries, replacing
from lpd.training.metrics import writing

Pixels = npt.NDArray[np.uint8]

_PANELS = ("picture", "truth", "prediction", "confidence")

# Lengths in px of the sheet: of a panel, whatever the size of the tiles, and of what is around it.
_PANEL, _GAP, _BETWEEN, _MARGIN = 224, 8, 32, 24
_TEXT, _TITLE, _LINE, _SWATCH, _RAMP_WIDTH, _NOTE = 20, 24, 40, 20, 120, 18
_PAPER, _INK, _FRAME = (255, 255, 255), (40, 44, 52), (160, 164, 172)
#: Confidence from 0 to 1: ever lighter, so that it reads without colour, too, and never as light as glass.
_RAMP = ((20, 14, 54), (76, 30, 116), (148, 46, 122), (212, 76, 92), (240, 132, 52), (255, 214, 74))
_MOST_LETTERS = 24  # of a class code in the legend

Entry = tuple[Image.Image, str]


def preview_indices(count: int, most: int = 6) -> tuple[int, ...]:
    """Which of ``count`` tiles to show: the first and others evenly spread behind it, always the same ones."""
    shown = min(count, most)
    return tuple(i * count // shown for i in range(shown))


def preview_tiles(scores: Sequence[float], most: int = 6) -> dict[int, str]:
    """Which tiles to show at a look, and what is written on each.

    A third of the places is for the tiles of highest score at this look, a third for those of lowest, the rest for the
    same ones all along (see :func:`preview_indices`); all tiles, if they fit.

    Args:
        scores: mIoU of each tile, 0 to 1; NaN where nothing can be scored.
        most: places.

    Returns:
        By index, in the order to show them in, a word and the score; nothing for fixed ones.
    """
    extra = most // 3 if len(scores) > most else 0
    fixed = preview_indices(len(scores), most - 2 * extra)
    others = [i for i, score in enumerate(scores) if i not in fixed and not math.isnan(score)]
    ranked = sorted(others, key=lambda i: -scores[i])
    named = {i: f"best, mIoU {100 * scores[i]:.0f} %" for i in ranked[:extra]}
    named |= {i: f"worst, mIoU {100 * scores[i]:.0f} %" for i in reversed(ranked[extra:][-extra:] if extra else [])}
    return {**dict.fromkeys(fixed, ""), **named}


def validation_preview(
    network: LPDNet,
    tiles: TileSet,
    spec: InputSpec,
    scheme: ClassScheme,
    calibration: Calibration,
    indices: Sequence[int],
    *,
    step: int | None = None,
    miou: float | None = None,
    notes: Sequence[str] = (),
) -> Pixels:
    """Draw picture, truth, prediction and confidence of some tiles side by side, two tiles a row.

    The prediction is under the predicted gate, and glass where the slide tissue rule finds it; nothing is adapted.
    Confidence is the score of the class that won.

    Args:
        network: in evaluation mode.
        tiles: of a split with masks.
        spec: what the network expects to be fed.
        scheme: names and colours of the network's classes.
        calibration: of the network.
        indices: of the tiles, see :func:`preview_indices`; at least one.
        step: stated above the tiles, with ``miou`` (0 to 1), where they are known.
        notes: written on the picture of each tile, if there are any.

    Returns:
        (H, W, 3) uint8 RGB; its size depends on the number of tiles and of classes alone.

    Raises:
        ShapeError: there is no tile to show.
        DatasetError: a tile or mask cannot be read.
    """
    if not indices:
        raise ShapeError("a preview needs at least one tile")
    shown = TileSet(tiles.info, tiles.split, [tiles.files[i] for i in indices])
    samples = list(_samples(network, shown, spec, calibration))
    unlabelled = any((sample.truth == NOT_COMPUTED).any() for sample in samples)
    panels = [_panels(sample, scheme) for sample in samples]
    for (picture, *_), note in zip(panels, notes, strict=False):
        _write_on(picture, note)
    sheet = _sheet(panels, _legend(scheme, unlabelled), _caption(step, miou))
    return np.asarray(sheet)


def save_preview(folder: Path, step: int, picture: Pixels) -> Path:
    """Write a preview as a PNG into a run folder; a reader sees all of it or nothing.

    Args:
        folder: of the run; it exists.
        step: optimiser steps done; it names the file.
        picture: (H, W, 3) uint8 RGB.

    Raises:
        RunError: the disk is full or the folder gone.
    """
    path = folder / PREVIEWS / f"step-{step:06d}.png"
    with writing(folder):
        path.parent.mkdir(exist_ok=True)  # not its parents: a folder that a person threw away shall stay away
        with replacing(path) as temporary:
            Image.fromarray(picture).save(temporary)
    return path


def forget_previews(folder: Path, after: int = -1) -> None:
    """Delete the previews of a run that show steps after ``after``.

    Raises:
        RunError: one cannot be deleted.
    """
    with writing(folder):
        clear_temporaries(folder / PREVIEWS)
        for path in (folder / PREVIEWS).glob("step-*.png"):
            number = path.stem.removeprefix("step-")
            if number.isdigit() and int(number) > after:
                path.unlink()


@dataclass(frozen=True, eq=False)
class _Sample:
    """One tile of (H, W) px.

    Attributes:
        picture: (H, W, 3) uint8 RGB.
        truth, prediction: (H, W) mask values.
        confidence: (H, W) score of the winning class, 0 to 1.
    """

    picture: Pixels
    truth: Pixels
    prediction: Pixels
    confidence: npt.NDArray[np.float32]


def _samples(network: LPDNet, tiles: TileSet, spec: InputSpec, calibration: Calibration) -> Iterator[_Sample]:
    for logits in tile_logits(network, tiles, spec, calibration):
        scores = gated_scores(logits, tiles.labels[list(logits.indices)], calibration, "predicted")
        winners, confidences = class_map(scores), scores.amax(1).exp().cpu().numpy()
        for index, winner, confidence in zip(logits.indices, winners, confidences, strict=True):
            glass = glass_mask(tiles, index)
            prediction = np.where(glass, np.uint8(tiles.info.scheme.background), winner)
            yield _Sample(tiles.images([index])[0], tiles.mask(index), prediction, confidence)


def _panels(sample: _Sample, scheme: ClassScheme) -> tuple[Image.Image, ...]:
    """The panels of a tile, in the order of ``_PANELS``."""
    heat = _heat(sample.confidence)
    heat[sample.prediction == scheme.background] = scheme.background_color  # nobody asked the network
    return (
        Image.fromarray(sample.picture).resize((_PANEL, _PANEL), Image.Resampling.LANCZOS),
        _mask_panel(sample.truth, scheme),
        _mask_panel(sample.prediction, scheme),
        Image.fromarray(heat).resize((_PANEL, _PANEL), Image.Resampling.NEAREST),
    )


def _write_on(picture: Image.Image, note: str) -> None:
    if not note:
        return
    pen, text = ImageDraw.Draw(picture), ImageFont.load_default(_NOTE)
    left, top, right, bottom = pen.textbbox((_GAP, _GAP), note, text)
    pen.rectangle((left - 4, top - 4, right + 4, bottom + 4), _PAPER)
    pen.text((_GAP, _GAP), note, _INK, text)


def _mask_panel(mask: Pixels, scheme: ClassScheme, side: int = _PANEL) -> Image.Image:
    # Enlarged before it is painted: stripes are of one width then, whatever the size of the tiles.
    values = np.asarray(Image.fromarray(mask).resize((side, side), Image.Resampling.NEAREST))
    return Image.fromarray(mask_picture(values, scheme))


def _heat(confidence: npt.NDArray[np.float32]) -> Pixels:
    """(H, W, 3) uint8 colours of (H, W) numbers from 0 to 1."""
    stops = np.linspace(0, 1, len(_RAMP))
    return np.stack([np.interp(confidence, stops, channel) for channel in np.transpose(_RAMP)], axis=-1).astype(
        np.uint8
    )


def _legend(scheme: ClassScheme, unlabelled: bool) -> list[Entry]:
    """A swatch and its meaning for everything that a sheet may show."""
    meanings = [(value, _short(code)) for value, code in enumerate((*scheme.codes, "background"))]
    meanings += [(NOT_COMPUTED, "not labelled")] if unlabelled else []
    ramp = _heat(np.tile(np.linspace(0, 1, _RAMP_WIDTH, dtype=np.float32), (_SWATCH, 1)))
    return [
        *((_mask_panel(np.full((1, 1), value, np.uint8), scheme, _SWATCH), text) for value, text in meanings),
        (Image.fromarray(ramp), "confidence, 0 to 1"),
    ]


def _short(code: str) -> str:
    return code if len(code) <= _MOST_LETTERS else f"{code[: _MOST_LETTERS - 1]}…"


def _caption(step: int | None, miou: float | None) -> str:
    parts = ["" if step is None else f"step {step}", "" if miou is None else f"mIoU {100 * miou:.1f} %"]
    return "   ".join(part for part in parts if part)


def _sheet(samples: Sequence[tuple[Image.Image, ...]], legend: Sequence[Entry], caption: str) -> Image.Image:
    across = min(2, len(samples))
    down = -(-len(samples) // across)
    block = len(_PANELS) * (_PANEL + _GAP) - _GAP
    width = 2 * _MARGIN + across * (block + _BETWEEN) - _BETWEEN
    top = _MARGIN // 2 + _LINE * (2 if caption else 1)
    bottom = top + down * (_PANEL + _GAP) - _GAP + _MARGIN // 2
    placed, height = _place(legend, width, bottom)

    sheet = Image.new("RGB", (width, height + _MARGIN // 2), _PAPER)
    pen = ImageDraw.Draw(sheet)
    text, title = ImageFont.load_default(_TEXT), ImageFont.load_default(_TITLE)
    pen.text((_MARGIN, _MARGIN // 2 + _LINE // 2), caption, _INK, title, "lm")
    for number, panels in enumerate(samples):
        row, column = divmod(number, across)
        for order, (panel, heading) in enumerate(zip(panels, _PANELS, strict=True)):
            x = _MARGIN + column * (block + _BETWEEN) + order * (_PANEL + _GAP)
            _paste(sheet, pen, panel, x, top + row * (_PANEL + _GAP))
            if row == 0:
                pen.text((x + _PANEL // 2, top - _LINE // 2), heading, _INK, text, "mm")
    for x, y, (swatch, meaning) in placed:
        _paste(sheet, pen, swatch, x, y + (_LINE - _SWATCH) // 2)
        pen.text((x + swatch.width + _GAP, y + _LINE // 2), meaning, _INK, text, "lm")
    return sheet


def _place(legend: Sequence[Entry], width: int, top: int) -> tuple[list[tuple[int, int, Entry]], int]:
    """Left and top of every entry, in lines that fit into ``width`` px, and where the last line ends."""
    font = ImageFont.load_default(_TEXT)
    placed, x, y = [], _MARGIN, top
    for swatch, meaning in legend:
        length = swatch.width + _GAP + round(font.getlength(meaning))
        if x > _MARGIN and x + length > width - _MARGIN:
            x, y = _MARGIN, y + _LINE
        placed.append((x, y, (swatch, meaning)))
        x += length + _BETWEEN
    return placed, y + _LINE


def _paste(sheet: Image.Image, pen: ImageDraw.ImageDraw, picture: Image.Image, x: int, y: int) -> None:
    sheet.paste(picture, (x, y))
    pen.rectangle((x - 1, y - 1, x + picture.width, y + picture.height), outline=_FRAME)
