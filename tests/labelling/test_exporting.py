"""A label set becomes a tile set: names, pixels, split, masks, what stops it; the check and the loader read it."""

from __future__ import annotations

import csv
import json
import os
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

from lpd.classes import BCSS, NOT_COMPUTED
from lpd.cli import main
from lpd.data.check import check_dataset
from lpd.data.tiles import TileSet
from lpd.errors import DatasetError
from lpd.inference.meta import ResultMeta
from lpd.inference.store import ResultStore
from lpd.labelling.exporting import Export, StoppedError, write_dataset
from lpd.labelling.splitting import file_names, label_digits, make_plan, translated
from lpd.review.review import Review
from lpd.slide.opening import open_slide
from lpd.slide.region import Region
from tests.labelling.conftest import CLASSES, STR, TUM, a_slide, tick, write_slide


@pytest.fixture
def slides(tmp_path):
    """Two slides by name."""
    (tmp_path / "slides").mkdir()
    return {name: write_slide(tmp_path / "slides" / f"{name}.png", seed) for seed, name in enumerate(("one", "two"))}


def label_both(labelling, slides):
    for slide in slides.values():
        tick(labelling, (0, 0), TUM, slide=slide)
        tick(labelling, (1, 0), STR, slide=slide)
        tick(labelling, (2, 3), ("TUM", "STR"), slide=slide, proposed="unlike anything")
        tick(labelling, (3, 3), (), slide=slide)


def reviewed(folder, slide):
    """A review of a result of 320 × 200 mask pixels, twice as coarse as the slide: the left 100 px painted stroma."""
    store = ResultStore.create(folder, ResultMeta(slide.name, slide.fingerprint, 640, 400, 0.5, 1.0, BCSS, "m", "0"))
    store.write_mask(0, 0, np.zeros((200, 320), np.uint8))
    store.commit(Region(0, 0, 640, 400))
    store.finish()
    review = Review(ResultStore.open(folder))
    review.paint("Ada", [(0, -100), (0, 500)], 100, 1, since=0)  # 100 µm: 200 level-0 pixels to the right of x = 0
    return review


def export(labelling, out, tmp_path, reviews=(), **more):
    by_slide = {review.store.meta.slide_fingerprint: [review] for review in reviews}
    plan = make_plan(labelling, by_slide, more.pop("held_out", None))
    opened = {s.fingerprint: tmp_path / "slides" / f"{s.name}.png" for s in labelling.slides.values()}
    wish = Export(labelling, plan, by_slide, lambda s: open_slide(opened[s.fingerprint], mpp=s.mpp), "CC0", "Ada")
    return write_dataset(wish, out, **more)


def test_tiles_are_the_slides_own_pixels_named_by_place_and_label(labelling, slides, tmp_path):
    label_both(labelling, slides)
    out = tmp_path / "data" / "kidney"
    summary = export(labelling, out, tmp_path)
    assert (summary.train, summary.valid) == (8, 0)
    names = sorted(path.name for path in (out / "train").iterdir())
    assert names[:4] == ["one_x0_y0[10].png", "one_x128_y192[11].png", "one_x192_y192[00].png", "one_x64_y0[01].png"]
    with open_slide(tmp_path / "slides" / "one.png", mpp=0.5) as slide:
        expected = slide.read(Region(128, 192, 64, 64), (32, 32))
    np.testing.assert_array_equal(np.asarray(Image.open(out / "train" / "one_x128_y192[11].png")), expected)
    check = check_dataset(out)
    assert check.errors == ()
    assert (check.mpp, check.classes) == (1.0, ("TUM", "STR"))  # nobody ticked LYM
    tiles = TileSet.open(out, "train")
    assert (len(tiles), tiles.tile_px, tiles.info.licence, tiles.info.scheme.classes) == (
        8,
        32,
        "CC0",
        CLASSES.classes[:2],
    )
    rows = list(csv.DictReader((out / "provenance.csv").read_text(encoding="utf-8").splitlines()))
    row = next(row for row in rows if row["file"] == "train/one_x128_y192[11].png")
    said = {
        "slide": "one",
        "x_l0": "128",
        "side_l0": "64",
        "label": "TUM STR",
        "author": "Ada",
        "proposed": "unlike anything",
    }
    assert {key: row[key] for key in said} == said
    assert row["fingerprint"] == slides["one"].fingerprint
    assert json.loads((out / "provenance.json").read_text())["classes_left_out"] == ["LYM"]
    assert list(out.parent.iterdir()) == [out]


def test_slides_with_reviewed_masks_may_be_held_out_and_score(labelling, slides, tmp_path):
    label_both(labelling, slides)
    review = reviewed(tmp_path / "result", slides["two"])
    out = tmp_path / "kidney"
    summary = export(labelling, out, tmp_path, [review])
    # Tiles are 64 px wide, the paint reaches 200: columns 0 to 2, none of the fourth's half; six rows of tiles.
    assert (summary.train, summary.valid) == (4, 18)
    assert all(path.name.startswith("one_") for path in (out / "train").iterdir())
    check = check_dataset(out)
    assert check.errors == ()
    valid = TileSet.open(out, "valid")
    assert len(valid) == 18
    assert set(np.unique(np.concatenate([valid.mask(i).ravel() for i in range(18)]))) <= {1, NOT_COMPUTED}
    assert valid.mask(0)[8:24, 8:24].tolist() == [[1] * 16] * 16
    assert "18 tiles with reviewed masks score the training. These show Stroma." in _notes(out)
    nobody = export(labelling, tmp_path / "all", tmp_path, [review], held_out=())
    assert (nobody.train, nobody.valid) == (8, 0)
    with pytest.raises(DatasetError, match="one cannot be held out to score on: scores need masks"):
        make_plan(labelling, {}, [slides["one"].fingerprint])


def _notes(out):
    return " ".join(json.loads((out / "provenance.json").read_text())["notes"])


def test_a_slide_that_alone_shows_a_class_is_not_held_out(labelling, slides, tmp_path):
    label_both(labelling, slides)
    review = reviewed(tmp_path / "result", slides["two"])
    by_slide = {slides["two"].fingerprint: [review]}
    assert [part.held_out for part in make_plan(labelling, by_slide).parts] == [False, True]
    tick(labelling, (5, 5), TUM, slide=slides["two"])  # five of nine tiles are more than half
    assert [part.held_out for part in make_plan(labelling, by_slide).parts] == [False, False]
    tick(labelling, (5, 5), TUM, slide=slides["one"])
    assert [part.held_out for part in make_plan(labelling, by_slide).parts] == [False, True]
    tick(labelling, (5, 5), ("LYM",), slide=slides["two"])
    plan = make_plan(labelling, by_slide)
    assert not any(part.held_out for part in plan.parts)
    assert plan.notes == ("No slide is held out: the training has no scores (only the losses show).",)


def test_what_cannot_be_learnt_is_said(labelling):
    assert "no tile is labelled yet" in make_plan(labelling, {}).problem
    tick(labelling, (0, 0), ())
    assert make_plan(labelling, {}).problem == "no training tile shows any class: tick some that do"
    tick(labelling, (0, 0), TUM)
    assert make_plan(labelling, {}).problem.startswith("all 1 training tiles show TUM")
    tick(labelling, (1, 0), STR)
    plan = make_plan(labelling, {})
    assert (plan.problem, plan.left_out, plan.train) == ("", ("LYM",), 2)
    assert plan.notes[-1].startswith("All training tiles are of one slide")
    assert [label_digits(t, plan.classes) for _, t in plan.parts[0].ticks] == ["10", "01"]


def test_files_of_two_slides_never_begin_alike():
    from dataclasses import replace

    first, second = a_slide("aaaaaaaa", "Fall 1/2"), a_slide("bbbbbbbb", "fall-1-2")
    assert file_names([first, second]) == {"aaaaaaaa": "Fall-1-2-aaaaaa", "bbbbbbbb": "fall-1-2-bbbbbb"}
    assert file_names([replace(first, name="§[1]")]) == {"aaaaaaaa": "1"}
    assert file_names([replace(first, name="日本")]) == {"aaaaaaaa": "slide"}


def test_mask_values_go_by_code_and_unknown_classes_are_not_judged():
    said = np.array([[0, 1, 2, 3, 4, 255]], np.uint8)  # BCSS: TUM STR LYM NEC background
    assert translated(said, BCSS, CLASSES).tolist() == [[0, 1, 2, 255, 3, 255]]


def test_copies_are_left_out_and_contradicting_ones_altogether(labelling, slides, tmp_path):
    pixels = np.asarray(Image.open(tmp_path / "slides" / "one.png")).copy()
    pixels[:, 64:128] = pixels[:, :64]
    pixels[64:128, :64] = pixels[:64, :64]
    Image.fromarray(pixels).save(tmp_path / "slides" / "one.png")
    with open_slide(tmp_path / "slides" / "one.png", mpp=0.5) as slide:
        changed = a_slide(slide.fingerprint, "one")
    for cell, classes in (((0, 0), TUM), ((1, 0), TUM), ((0, 1), TUM), ((0, 2), TUM), ((1, 2), STR), ((5, 5), STR)):
        tick(labelling, cell, classes, slide=changed)
    summary = export(labelling, tmp_path / "set", tmp_path)
    assert (summary.train, summary.copies, summary.contradicting) == (2, 2, 2)
    assert check_dataset(tmp_path / "set").errors == ()


def test_nothing_is_there_until_it_is_whole(labelling, slides, tmp_path):
    label_both(labelling, slides)
    out = tmp_path / "data" / "set"
    with pytest.raises(StoppedError):
        export(labelling, out, tmp_path, progress=lambda _done, _total: True)
    (tmp_path / "slides" / "two.png").rename(tmp_path / "away.png")
    with pytest.raises(Exception, match=r"two\.png does not exist"):
        export(labelling, out, tmp_path)
    (tmp_path / "slides" / "one.png").rename(tmp_path / "slides" / "two.png")
    (tmp_path / "away.png").rename(tmp_path / "slides" / "one.png")
    with pytest.raises(DatasetError, match="one is not the slide that was labelled"):
        export(labelling, out, tmp_path)
    assert list(out.parent.iterdir()) == []


def test_what_a_killed_export_left_goes_an_hour_later_and_a_living_one_stays(labelling, slides, tmp_path):
    label_both(labelling, slides)
    dead, living = (tmp_path / "data" / f".unfinished-{name}" for name in ("dead", "living"))
    for folder in (dead, living):
        (folder / "train").mkdir(parents=True)
        os.utime(folder, (1e9, 1e9))
    os.utime(dead / "train", (1e9, 1e9))
    export(labelling, tmp_path / "data" / "set", tmp_path)
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [".unfinished-living", "set"]


def test_a_set_that_comes_while_another_is_written_stays(labelling, slides, tmp_path):
    """Of two people who choose one name, or of an export and a folder copied there."""
    label_both(labelling, slides)
    out = tmp_path / "set"

    def meanwhile(_done: int, _total: int) -> bool:
        out.mkdir(exist_ok=True)
        (out / "mine.txt").write_text("mine")
        return False

    for replaced, said in ((False, "exists already"), (True, "not made of a label set")):
        with pytest.raises(DatasetError, match=f"set .*{said}"):
            export(labelling, out, tmp_path, replace=replaced, progress=meanwhile)
        assert [path.name for path in out.iterdir()] == ["mine.txt"]
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
        (out / "mine.txt").unlink()
        out.rmdir()


def test_a_set_that_is_there_is_replaced_only_if_that_is_said(labelling, slides, tmp_path):
    label_both(labelling, slides)
    out = tmp_path / "set"
    export(labelling, out, tmp_path)
    tick(labelling, (8, 0), TUM, slide=slides["one"])
    with pytest.raises(DatasetError, match="set exists already"):
        export(labelling, out, tmp_path)
    assert len(list((out / "train").iterdir())) == 8
    with suppress(StoppedError):
        export(labelling, out, tmp_path, replace=True, progress=lambda _done, _total: True)
    assert len(list((out / "train").iterdir())) == 8
    export(labelling, out, tmp_path, replace=True)
    assert len(list((out / "train").iterdir())) == 9
    other = tmp_path / "others" / "bcss"
    other.mkdir(parents=True)
    with pytest.raises(DatasetError, match="others was not made of a label set"):
        export(labelling, other.parent, tmp_path, replace=True)
    assert other.is_dir()


def test_the_command_finds_renamed_slides_and_says_what_it_wrote(labelling, slides, tmp_path, capsys):
    label_both(labelling, slides)
    (tmp_path / "slides" / "two.png").rename(tmp_path / "slides" / "renamed.png")
    folder, out = str(labelling.folder), tmp_path / "set"
    assert main(["labels", "show", folder]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split() == ["all", "4", "4", "0", "2", "8"]
    run = ["labels", "export", folder, str(tmp_path / "slides"), "--out", str(out), "--run", str(tmp_path / "run")]
    assert main(run) == 0
    assert "8 training tiles (TUM 4  STR 4), 0 to score" in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "state.json").read_text())["state"] == "done"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lpd.runs.Run.stop_requested", lambda _self: True)
        assert main([*run, "--force"]) == 130
    assert json.loads((tmp_path / "run" / "state.json").read_text())["state"] == "cancelled"
    assert "the export was stopped: nothing was written" in capsys.readouterr().out
    assert main(run) == 1
    assert "set exists already" in capsys.readouterr().err
    assert main([*run[:3], str(tmp_path / "slides" / "one.png"), *run[4:], "--force"]) == 1
    assert "the slide two is not among the slides named" in capsys.readouterr().err
