"""Error maps pixel by pixel, the order of the worst tiles, and sheets that hold what they show."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from lpd.classes import BCSS, ClassScheme, TissueClass
from lpd.errors import RunError
from lpd.evaluation.pictures import (
    error_map,
    mask_picture,
    predicted_maps,
    worst_tiles,
    write_error_maps,
    write_sheet,
)
from lpd.evaluation.report import measure
from lpd.evaluation.tile_scores import TileScore
from lpd.model.scoring import default_calibration


def test_wrong_pixels_have_the_predicted_colour_and_right_ones_are_grey():
    picture = np.full((2, 2, 3), (200, 100, 60), np.uint8)
    truth = np.array([[0, 1], [4, 255]], np.uint8)
    predicted = np.array([[0, 2], [3, 3]], np.uint8)
    found = error_map(picture, truth, predicted, BCSS)
    assert found[0, 0].tolist() == [round(255 - 0.6 * (255 - 120))] * 3
    assert found[0, 1].tolist() == [0, 0, 255]  # called lymphocytes
    assert found[1, 0].tolist() == found[1, 1].tolist()  # background and unlabelled: not judged, grey as well
    assert len(set(found[1, 0].tolist())) == 1


def test_what_is_not_judged_is_striped():
    picture, truth = np.zeros((24, 24, 3), np.uint8), np.full((24, 24), 255, np.uint8)
    found = error_map(picture, truth, np.zeros_like(truth), BCSS)
    assert len(np.unique(found)) == 2
    assert len(np.unique(mask_picture(truth, BCSS))) == 2
    assert mask_picture(np.array([[3, 4]], np.uint8), BCSS).tolist() == [[[153, 0, 255], [255, 255, 255]]]


def test_the_worst_come_first_and_unscored_tiles_never():
    def tile(right: int, wrong: int) -> TileScore:
        return TileScore("", "", np.array([[right, wrong], [0, 0]]))

    tiles = [tile(9, 1), tile(0, 0), tile(1, 9), tile(5, 5)]
    assert worst_tiles(tiles) == [2, 3, 0]
    assert worst_tiles(tiles, 1) == [2]


def test_pictures_show_the_scored_maps(network, tiles, spec, tmp_path):
    calibration = default_calibration(network.config)
    scored = measure(network, tiles, spec, tiles.info.scheme, calibration, flip=True).tiles
    maps = dict(predicted_maps(network, tiles, spec, calibration, flip=True))
    for index, score in enumerate(scored):
        truth = tiles.mask(index)
        assert score.counts[0, 2] == ((truth == 0) & (maps[index] == 2)).sum()
    told = []
    write_error_maps(tmp_path / "errors", tiles, iter(maps.items()), lambda done, total: told.append((done, total)))
    assert {p.name for p in (tmp_path / "errors").iterdir()} == {f"{i:02d}.png" for i in range(19)}
    assert told[-1] == (19, 19)
    for index in (0, 18):
        picture = np.asarray(Image.open(tmp_path / "errors" / f"{index:02d}.png"))
        truth = tiles.mask(index)
        wrong = (truth != maps[index]) & (truth < 3)
        colours = tiles.info.scheme.palette()
        assert (picture[wrong] == colours[maps[index][wrong]]).all()
        grey = (picture[..., 0] == picture[..., 1]) & (picture[..., 1] == picture[..., 2])
        assert (grey == ~wrong).all()


def test_a_sheet_shows_every_panel_pixel_by_pixel(network, write_tiles, spec, tmp_path):
    tiles = write_tiles(tmp_path, 2, 224)
    calibration = default_calibration(network.config)
    scored = measure(network, tiles, spec, tiles.info.scheme, calibration).tiles
    maps = dict(predicted_maps(network, tiles, spec, calibration))
    write_sheet(tmp_path / "worst.png", tiles, iter(maps.items()), scored)
    sheet = np.asarray(Image.open(tmp_path / "worst.png"))[..., :3]
    assert sheet.shape == (34 + 2 * 258 + 40, 4 * 232 + 8, 3)
    for index in range(2):
        top = 34 + index * 258 + 26
        rows = sheet[top : top + 224]
        scheme = tiles.info.scheme
        panels = (
            tiles.images([index])[0],
            mask_picture(tiles.mask(index), scheme),
            mask_picture(maps[index], scheme),
            error_map(tiles.images([index])[0], tiles.mask(index), maps[index], scheme),
        )
        for column, panel in enumerate(panels):
            left = 8 + column * 232
            np.testing.assert_array_equal(rows[:, left : left + 224], panel)


def test_many_classes_and_odd_names_fit(tiles, tmp_path):
    classes = tuple(TissueClass(f"a long code {i}", "x", (i, 2 * i, 255 - i)) for i in range(20))
    tiles_of_many = type(tiles)(tiles.info, "valid", tiles.files[:1])
    tiles_of_many.info = type(tiles.info)("many", 1.0, ClassScheme(classes), 20)
    tiles_of_many.mask = lambda index: np.zeros((64, 64), np.uint8)
    score = TileScore("$x_{1}$ " + 80 * "n" + ".png", "g", np.eye(20, dtype=int))
    write_sheet(tmp_path / "worst.png", tiles_of_many, iter([(0, np.zeros((64, 64), np.uint8))]), [score])
    with Image.open(tmp_path / "worst.png") as sheet:
        assert sheet.height == 34 + 258 + 18 + 22 * 5


def test_a_full_folder_is_one_sentence(tiles, tmp_path):
    (tmp_path / "errors").touch()
    with pytest.raises(RunError, match=r"cannot write .*errors"):
        write_error_maps(tmp_path / "errors", tiles, iter([(0, np.zeros((64, 64), np.uint8))]))
