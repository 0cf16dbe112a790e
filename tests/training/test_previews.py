"""The sheet of previews shows the right tiles, in the colours of their classes, and lies whole in the run folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lpd.config import Calibration, InputSpec, ModelConfig
from lpd.data.tiles import TileSet
from lpd.errors import DatasetError, RunError, ShapeError
from lpd.evaluation.tiles import TileLogits, class_map, gated_scores, tile_logits
from lpd.model.network import LPDNet
from lpd.training import previews
from lpd.training.previews import forget_previews, preview_indices, preview_tiles, save_preview, validation_preview

SIDE = 224
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 160, 0), (0, 0, 255), (255, 255, 255)
SPEC = InputSpec(mpp=1.0, tile_px=SIDE)
PLAIN = Calibration((1.0,), (1.0, 1.0), (0.0, 0.0), (1.0, 1.0), (0.0, 0.0))


def write_tiles(folder: Path, codes: tuple[str, ...], masks: list[np.ndarray], pictures: list[np.ndarray]) -> TileSet:
    """A valid split; classes are green, blue and then shades of red."""
    colours = [list(c) for c in (GREEN, BLUE, *((120 + i, 0, 20) for i in range(120)))]
    entries = "".join(f"  - {{code: {c!r}, name: some, color: {colours[i]}}}\n" for i, c in enumerate(codes))
    for name, images in (("img", pictures), ("mask", masks)):
        (folder / "valid" / name).mkdir(parents=True)
        for index, image in enumerate(images):
            Image.fromarray(image).save(folder / "valid" / name / f"{index:03d}.png")
    (folder / "dataset.yaml").write_text(f"mpp: 1.0\nbackground: {len(codes)}\nclasses:\n{entries}")
    return TileSet.open(folder, "valid")


def plain_picture(colour: tuple[int, int, int], side: int = SIDE) -> np.ndarray:
    return np.full((side, side, 3), colour, np.uint8)


def halves(upper: int, lower: int, side: int = SIDE) -> np.ndarray:
    mask = np.full((side, side), upper, np.uint8)
    mask[side // 2 :] = lower
    return mask


def painted(mask: np.ndarray, colours: dict[int, tuple[int, int, int]]) -> np.ndarray:
    """Loop over the values of a mask: nothing of ours."""
    picture = np.zeros((*mask.shape, 3), np.uint8)
    for value, colour in colours.items():
        picture[mask == value] = colour
    return picture


def places(sheet: np.ndarray, panel: np.ndarray) -> list[tuple[int, int]]:
    """(y, x) of every place where the sheet shows exactly this panel."""
    height, width = panel.shape[:2]
    y_room, x_room = len(sheet) - height + 1, sheet.shape[1] - width + 1
    fits = np.ones((y_room, x_room), bool)
    for y, x in ((0, 0), (0, -1), (-1, 0), (-1, -1), (height // 2, width // 3)):  # few starts are left to compare
        there = sheet[y % height :, x % width :][:y_room, :x_room]
        fits &= (there == panel[y, x]).all(-1)
    starts = [(int(y), int(x)) for y, x in np.argwhere(fits)]
    return [(y, x) for y, x in starts if (sheet[y : y + height, x : x + width] == panel).all()]


@pytest.fixture
def known(tmp_path, monkeypatch):
    """One red tile: class 0 above, unlabelled below; the network says class 1 at left, surer downwards; glass at right.

    Returns the tiles and a function that draws their sheet.
    """
    tiles = write_tiles(tmp_path / "tiles", ("TUM", "STR"), [halves(0, 255)], [plain_picture(RED)])
    logits = torch.zeros(1, 2, SIDE, SIDE)
    logits[:, 1] = 0.4  # a score of 0.6
    logits[:, 1, SIDE // 2 :] = np.log(6)  # 6/7
    glass = np.zeros((SIDE, SIDE), bool)
    glass[:, 200:] = True

    def said(_network, shown, _spec, _calibration):
        yield TileLogits(range(len(shown)), logits, torch.full((1, 2), 50.0), None)

    monkeypatch.setattr(previews, "tile_logits", said)
    monkeypatch.setattr(previews, "glass_mask", lambda _tiles, _index: glass)

    def draw(**caption):
        return validation_preview(None, tiles, SPEC, tiles.info.scheme, PLAIN, [0], **caption)

    return draw


def test_picture_truth_prediction_and_confidence_lie_side_by_side(known):
    sheet = known()
    assert (sheet.dtype, sheet.ndim, sheet.shape[2]) == (np.uint8, 3, 3)
    ((top, picture_x),) = places(sheet, plain_picture(RED))
    expected = plain_picture(BLUE)
    expected[:, 200:] = WHITE
    ((prediction_y, prediction_x),) = places(sheet, expected)
    step, rest = divmod(prediction_x - picture_x, 2)
    assert (prediction_y, rest) == (top, 0)
    assert step > SIDE

    truth = sheet[top : top + SIDE, picture_x + step : picture_x + step + SIDE]
    assert (truth[: SIDE // 2] == GREEN).all()
    stripes = np.unique(truth[SIDE // 2 :].reshape(-1, 3), axis=0)
    assert len(stripes) == 2  # two greys, so that it is no class
    assert all(len({*colour}) == 1 and colour[0] < 250 for colour in stripes.tolist())

    confidence = sheet[top : top + SIDE, picture_x + 3 * step : picture_x + 3 * step + SIDE].astype(int)
    assert (confidence[:, 200:] == WHITE).all()
    unsure, sure = confidence[: SIDE // 2, :200].reshape(-1, 3), confidence[SIDE // 2 :, :200].reshape(-1, 3)
    assert (len(np.unique(unsure, axis=0)), len(np.unique(sure, axis=0))) == (1, 1)
    assert sum(unsure[0]) + 30 < sum(sure[0]) < 3 * 255 - 30


def test_confidence_grows_lighter_all_the_way():
    shades = previews._heat(np.linspace(0, 1, 101, dtype=np.float32)[None])[0].astype(float)
    luminance = shades @ (0.2126, 0.7152, 0.0722)  # of Rec. 709
    assert (np.diff(luminance) > -1).all()
    assert (np.diff(luminance[::10]) > 5).all()
    assert luminance[-1] < 230  # glass is lighter still


def test_the_caption_changes_nothing_but_itself(known):
    one, other = known(step=1, miou=0.573), known(step=1230, miou=0.6)
    assert one.shape == other.shape
    top = places(one, plain_picture(RED))[0][0]
    assert (one[:top] != other[:top]).any()
    assert (one[top:] == other[top:]).all()
    assert (known(step=1, miou=0.573) == one).all()
    assert known(miou=0.5).shape == known(step=1).shape == one.shape
    assert known(step=1, miou=None).shape == one.shape
    assert len(known()) < len(one)


def test_the_legend_names_what_is_shown_and_no_more(tmp_path, known):
    sheet = known()
    ((top, left),) = places(sheet, plain_picture(RED))
    legend, stripe = sheet[top + SIDE + 1 :], sheet[top + SIDE - 1, left + SIDE + 20]
    for colour in (GREEN, BLUE, stripe):
        assert (legend == colour).all(-1).sum() > 50
    labelled = write_tiles(tmp_path / "labelled", ("TUM", "STR"), [halves(0, 2)], [plain_picture(RED)])
    sheet = validation_preview(None, labelled, SPEC, labelled.info.scheme, PLAIN, [0])
    assert not (sheet[top + SIDE + 1 :] == stripe).all(-1).any()


def network_of(classes: int) -> LPDNet:
    torch.manual_seed(0)
    return LPDNet(ModelConfig("test_convnext", class_count=classes, prototype_dim=16)).eval()


def calibration_of(classes: int) -> Calibration:
    ones, zeros = (1.0,) * classes, (0.0,) * classes
    return Calibration((0.2, 0.4, 0.4), ones, zeros, ones, zeros)


def test_every_tile_is_shown_with_its_own_prediction(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (96, 96, 3)).astype(np.uint8) for _ in range(5)]
    tiles = write_tiles(tmp_path, ("TUM", "STR"), [halves(i % 2, 2, 96) for i in range(5)], pictures)
    network, calibration, spec = network_of(2), calibration_of(2), InputSpec(mpp=1.0, tile_px=96)
    monkeypatch.setattr(previews, "glass_mask", lambda _tiles, _index: np.zeros((96, 96), bool))
    (logits,) = tile_logits(network, tiles, spec, calibration)
    classes = class_map(gated_scores(logits, tiles.labels, calibration, "predicted"))
    assert 0.05 < classes[[4, 1, 2]].mean() < 0.95

    sheet = validation_preview(network, tiles, spec, tiles.info.scheme, calibration, [4, 1, 2])
    nearest = ((np.arange(SIDE) + 0.5) * 96 // SIDE).astype(int)
    found = []
    for index in (4, 1, 2):
        values = classes[index][nearest][:, nearest]
        found += places(sheet, painted(values, {0: GREEN, 1: BLUE}))
    (first, second, third) = found
    assert first[0] == second[0] < third[0]  # two in a row
    assert first[1] == third[1] < second[1]


def test_glass_is_what_the_tissue_rule_of_slides_finds(tmp_path):
    rng = np.random.default_rng(0)
    picture = np.full((SIDE, SIDE, 3), 244, np.uint8)
    picture[:, :112] = rng.normal((190, 90, 160), 25, (SIDE, 112, 3)).clip(0, 255)
    tiles = write_tiles(tmp_path, ("TUM", "STR"), [halves(0, 1)], [picture])
    sheet = validation_preview(network_of(2), tiles, SPEC, tiles.info.scheme, calibration_of(2), [0])
    ((top, left),) = places(sheet, picture)
    ((_, truth),) = places(sheet, painted(halves(0, 1), {0: GREEN, 1: BLUE}))
    prediction = sheet[top : top + SIDE, 2 * truth - left :][:, :SIDE]
    assert (prediction[20:-20, 140:-20] == WHITE).all()
    assert not (prediction[20:-20, 20:90] == WHITE).all(-1).any()


@pytest.mark.parametrize("side", [32, 512])
def test_the_sheet_is_as_large_whatever_the_size_of_the_tiles(tmp_path, side):
    mask = halves(0, 2, side)
    tiles = write_tiles(tmp_path, ("TUM", "STR"), [mask], [plain_picture(RED, side)])
    sample = previews._Sample(tiles.images([0])[0], tiles.mask(0), mask, np.ones((side, side), np.float32))
    panels = previews._panels(sample, tiles.info.scheme)
    assert {panel.size for panel in panels} == {(SIDE, SIDE)}
    assert (np.asarray(panels[0]) == RED).all()
    for panel in panels[1:3]:
        assert (np.asarray(panel) == painted(halves(0, 2), {0: GREEN, 2: WHITE})).all()


def test_many_classes_and_long_names_stay_on_the_sheet(tmp_path):
    codes = tuple(f"{'A very long name of a class ' * 8}{i}" if i % 2 else f"C{i}" for i in range(60))
    tiles = write_tiles(tmp_path, codes, [halves(0, 1)], [plain_picture(RED)])
    legend = previews._legend(tiles.info.scheme, False)
    placed, height = previews._place(legend, 600, 100)
    assert [entry for _, _, entry in placed] == legend
    lines = sorted({y for _, y, _ in placed})
    assert lines[0] == 100
    assert height == lines[-1] + (lines[1] - lines[0])
    panel = Image.new("RGB", (SIDE, SIDE), RED)
    sheet = np.asarray(previews._sheet([(panel,) * 4], legend, ""))
    assert (sheet[:, -20:] == WHITE).all()
    shown = {tuple(colour) for colour in sheet[SIDE:].reshape(-1, 3).tolist()}
    assert shown >= {tuple(colour) for colour in tiles.info.scheme.palette().tolist()}


def test_the_tiles_are_the_first_and_others_evenly_spread():
    assert preview_indices(70) == (0, 11, 23, 35, 46, 58)
    assert preview_indices(6) == (0, 1, 2, 3, 4, 5)
    assert preview_indices(4) == (0, 1, 2, 3)
    assert preview_indices(10, 2) == (0, 5)
    for count in range(1, 40):
        chosen = preview_indices(count)
        assert len(set(chosen)) == min(count, 6)
        assert chosen[0] == 0
        assert chosen[-1] < count


def test_the_best_and_the_worst_of_a_look_stand_beside_the_fixed_ones():
    nan = float("nan")
    scores = [0.9, 0.2, nan, 0.8, 0.1, 0.5, 0.7, 0.3]  # 0 and 4 are the fixed ones
    assert list(preview_tiles(scores, 6).items()) == [
        (0, ""),
        (4, ""),
        (3, "best, mIoU 80 %"),
        (6, "best, mIoU 70 %"),
        (1, "worst, mIoU 20 %"),
        (7, "worst, mIoU 30 %"),
    ]
    assert preview_tiles(scores, 8) == dict.fromkeys(range(8), "")  # all of them
    assert preview_tiles(scores, 2) == {0: "", 4: ""}
    assert list(preview_tiles([nan, 0.5, nan, nan], 3)) == [0, 1]


def test_what_a_tile_is_is_written_on_its_picture_alone(few_tiles):
    tiles = TileSet.open(few_tiles, "valid")
    spec = InputSpec(mpp=1.0, tile_px=128)
    arguments = (network_of(3), tiles, spec, tiles.info.scheme, calibration_of(3), [0, 1])
    plain, noted = (validation_preview(*arguments, notes=notes) for notes in ((), ("", "best")))
    rows, columns = np.nonzero((plain != noted).any(2))
    panel = plain.shape[1] // 2  # of the second tile; its picture comes first
    assert len(rows)
    assert panel < columns.min() <= columns.max() < panel + SIDE


def test_a_sheet_needs_a_tile_and_a_truth(few_tiles):
    train = TileSet.open(few_tiles, "train")
    arguments = (InputSpec(mpp=1.0, tile_px=128), train.info.scheme, calibration_of(3))
    with pytest.raises(ShapeError, match="at least one tile"):
        validation_preview(network_of(3), train, *arguments, [])
    with pytest.raises(DatasetError, match="has no mask"):
        validation_preview(network_of(3), train, *arguments, [0])


def picture_of(value: int) -> np.ndarray:
    return np.full((4, 6, 3), value, np.uint8)


def test_a_preview_is_a_png_named_by_its_step(tmp_path):
    path = save_preview(tmp_path, 123, picture_of(7))
    assert path == tmp_path / "previews" / "step-000123.png"
    assert (np.asarray(Image.open(path)) == picture_of(7)).all()
    assert save_preview(tmp_path, 1234567, picture_of(7)).name == "step-1234567.png"


def test_a_full_disk_leaves_the_preview_before(tmp_path, monkeypatch):
    path = save_preview(tmp_path, 1, picture_of(7))
    before = path.read_bytes()

    def full(_picture, path):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(RunError, match="No space left"):
        save_preview(tmp_path, 1, picture_of(8))
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_folder_that_was_thrown_away_stays_away(tmp_path):
    with pytest.raises(RunError, match="cannot write to"):
        save_preview(tmp_path / "gone", 1, picture_of(7))
    assert not (tmp_path / "gone").exists()


def test_previews_after_a_step_are_forgotten_and_nothing_else(tmp_path):
    forget_previews(tmp_path)  # there may be none
    for step in (9, 10, 11, 1234567):
        save_preview(tmp_path, step, picture_of(7))
    (tmp_path / "previews" / "step-best.png").write_bytes(b"mine")
    forget_previews(tmp_path, after=10)
    assert {p.name for p in (tmp_path / "previews").iterdir()} == {
        "step-000009.png",
        "step-000010.png",
        "step-best.png",
    }
    forget_previews(tmp_path)
    assert {p.name for p in (tmp_path / "previews").iterdir()} == {"step-best.png"}
