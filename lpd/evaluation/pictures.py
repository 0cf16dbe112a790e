"""Where a model errs, as pictures: error maps of tiles, and a sheet of the worst ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

from lpd.classes import NOT_COMPUTED, ClassScheme
from lpd.config import Calibration, InputSpec
from lpd.data.tiles import TileSet
from lpd.evaluation.files import written
from lpd.evaluation.tile_scores import TileScore
from lpd.evaluation.tiles import class_map, gated_scores, tile_logits
from lpd.model.network import LPDNet

Pixels = npt.NDArray[np.uint8]

#: How many tiles the sheet of the worst shows.
WORST = 8
_PANELS = ("picture", "truth", "prediction", "errors")
_SMALLEST_PANEL_PX, _LARGEST_PANEL_PX, _GAP_PX = 224, 320, 8
_STRIPE_PX = 6
_STRIPES = ((236, 236, 236), (206, 206, 206))  # what is not judged; classes are never striped
_FADED = 0.25  # how much of the picture is left where nothing is judged
_DPI = 100
_COLUMNS = 5  # of the legend
_INK = "#222222"


def error_map(picture: Pixels, truth: Pixels, predicted: Pixels, scheme: ClassScheme) -> Pixels:
    """Colour what is wrong: right pixels show the picture in light grey, wrong ones the predicted class's colour.

    Args:
        picture: (H, W, 3) uint8 RGB.
        truth: (H, W) mask values; what is background or not labelled is striped, for it is not judged.
        predicted: (H, W) classes.
        scheme: their colours.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    grey = np.repeat(picture.mean(2, keepdims=True), 3, axis=2)
    light = 255 - 0.6 * (255 - grey)  # dark nuclei must not be taken for a dark class
    judged = truth < scheme.count
    shown = np.where(((truth != predicted) & judged)[..., None], scheme.palette()[predicted], light)
    dimmed = _FADED * grey + (1 - _FADED) * _stripes(truth.shape)
    return np.where(judged[..., None], shown, dimmed).round().astype(np.uint8)


def mask_picture(mask: Pixels, scheme: ClassScheme) -> Pixels:
    """(H, W, 3) uint8 RGB of (H, W) mask values in the colours of their classes; striped where nobody labelled."""
    colours = np.zeros((256, 3), dtype=np.uint8)
    colours[: scheme.count + 1] = scheme.palette()
    return np.where((mask == NOT_COMPUTED)[..., None], _stripes(mask.shape), colours[mask]).astype(np.uint8)


def _stripes(shape: tuple[int, ...]) -> Pixels:
    rows, columns = np.indices(shape)
    return np.asarray(np.array(_STRIPES, dtype=np.uint8)[(rows + columns) // _STRIPE_PX % 2])


def predicted_maps(
    network: LPDNet, tiles: TileSet, spec: InputSpec, calibration: Calibration, *, flip: bool = False
) -> Iterator[tuple[int, Pixels]]:
    """Index and (H, W) classes of every tile under the predicted gate, unrefined: the map that tile scores are of."""
    for logits in tile_logits(network, tiles, spec, calibration, flip=flip):
        labels = tiles.labels[list(logits.indices)]
        yield from zip(logits.indices, class_map(gated_scores(logits, labels, calibration, "predicted")), strict=True)


def write_error_maps(
    folder: Path,
    tiles: TileSet,
    maps: Iterator[tuple[int, Pixels]],
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the error map of every tile as ``folder/<its file's name>``, one after the other.

    Args:
        folder: made if it is not there; files of the same names are replaced.
        tiles: what the maps are of.
        maps: see :func:`predicted_maps`.
        progress: told how many of how many are done.

    Raises:
        RunError: a file cannot be written.
    """
    for index, predicted in maps:
        picture = error_map(tiles.images([index])[0], tiles.mask(index), predicted, tiles.info.scheme)
        with written(folder / f"{tiles.files[index].image.stem}.png") as temporary:
            Image.fromarray(picture).save(temporary, format="PNG")
        if progress is not None:
            progress(index + 1, len(tiles))


def worst_tiles(scores: Sequence[TileScore], most: int = WORST) -> list[int]:
    """Indices of the tiles of lowest mean IoU, worst first, without those that have nothing to score."""
    known = [i for i, score in enumerate(scores) if not np.isnan(score.miou)]
    return sorted(known, key=lambda i: scores[i].miou)[:most]


def write_sheet(path: Path, tiles: TileSet, maps: Iterator[tuple[int, Pixels]], scores: Sequence[TileScore]) -> None:
    """Write picture, truth, prediction and errors of some tiles, one below the other, with names and scores.

    Args:
        path: a PNG.
        tiles: those to show, a handful, in order.
        maps: of these tiles, see :func:`predicted_maps`.
        scores: of these tiles.

    Raises:
        RunError: the file cannot be written.
    """
    rows = [_panels(tiles, index, predicted) for index, predicted in maps]
    captions = [f"{_short(s.name)}   mIoU {_percent(s.miou)}, right pixels {_percent(s.accuracy)}" for s in scores]
    figure = _page(rows, captions, tiles.info.scheme)
    with written(path) as temporary:
        figure.savefig(temporary, format="png", dpi=_DPI)


def _panels(tiles: TileSet, index: int, predicted: Pixels) -> list[Pixels]:
    picture, truth, scheme = tiles.images([index])[0], tiles.mask(index), tiles.info.scheme
    errors = error_map(picture, truth, predicted, scheme)
    side = min(max(tiles.tile_px, _SMALLEST_PANEL_PX), _LARGEST_PANEL_PX)
    smooth, plain = Image.Resampling.LANCZOS, Image.Resampling.NEAREST
    panels = ((picture, smooth), (mask_picture(truth, scheme), plain), (mask_picture(predicted, scheme), plain))
    return [np.asarray(Image.fromarray(panel).resize((side, side), way)) for panel, way in (*panels, (errors, plain))]


def _page(rows: list[list[Pixels]], captions: Sequence[str], scheme: ClassScheme) -> Figure:
    """Lengths are in px from the top; every panel is drawn pixel by pixel."""
    entries = _legend(scheme)
    side, caption_px, title_px, legend_px = rows[0][0].shape[0], 26, 34, 18 + 22 * math.ceil(len(entries) / _COLUMNS)
    step = side + caption_px + _GAP_PX
    width = len(_PANELS) * side + (len(_PANELS) + 1) * _GAP_PX
    height = title_px + len(rows) * step + legend_px
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="white")
    for row, (panels, caption) in enumerate(zip(rows, captions, strict=True)):
        top = title_px + row * step
        figure.text(_GAP_PX / width, 1 - (top + 0.7 * caption_px) / height, caption, color=_INK, fontsize=9)
        for column, panel in enumerate(panels):
            left = _GAP_PX + column * (side + _GAP_PX)
            figure.figimage(panel, left, height - top - caption_px - side, origin="upper")
    for column, title in enumerate(_PANELS):
        centre = (_GAP_PX + column * (side + _GAP_PX) + side / 2) / width
        figure.text(centre, 1 - 0.6 * title_px / height, title, color=_INK, ha="center", fontsize=10, weight="bold")
    figure.legend(handles=entries, loc="lower left", ncols=_COLUMNS, frameon=False, labelcolor=_INK)
    return figure


def _legend(scheme: ClassScheme) -> list[Patch]:
    colours = [tuple(channel / 255 for channel in colour) for colour in scheme.palette().tolist()]
    names = (*(_short(code, 16) for code in scheme.codes), "background")
    entries = [Patch(facecolor=c, edgecolor=_INK, label=n) for c, n in zip(colours, names, strict=True)]
    return [*entries, Patch(facecolor="#ececec", edgecolor="#999999", hatch="////", label="not judged")]


def _short(text: str, most: int = 60) -> str:
    # A dollar would start a formula.
    return (text if len(text) <= most else f"{text[: most - 1]}…").replace("$", r"\$")


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"
