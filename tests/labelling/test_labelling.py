"""What people tick: said, changed, taken back, by several at once, read again, damaged."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from lpd.errors import ConfigError, DatasetError, OutdatedError
from lpd.labelling.labelling import Labelling, Wish
from lpd.labelling.log import MOST_CELLS, LabelScheme
from tests.labelling.conftest import CLASSES, STR, TUM, a_slide, tick


def said(labelling: Labelling) -> dict:
    return {cell: found.classes for cell, found in labelling.tiles("f0").items()}


def edit(labelling, kind, cells, classes=(), author="Ada"):
    labelling.edit(author, Wish(a_slide(), tuple(cells), kind, classes, since=labelling.refresh()))


def test_classes_are_set_added_removed_and_cleared(labelling):
    tick(labelling, (1, 2), ("STR", "TUM"))
    assert said(labelling) == {(1, 2): ("TUM", "STR")}  # in the order of the classes
    edit(labelling, "add", [(1, 2), (3, 0)], ("LYM",))
    assert said(labelling) == {(1, 2): ("TUM", "STR", "LYM"), (3, 0): ("LYM",)}
    edit(labelling, "remove", [(1, 2), (3, 0), (4, 4)], ("LYM",))
    assert said(labelling) == {(1, 2): ("TUM", "STR")}  # without any class left there is no label
    tick(labelling, (5, 5), ())
    assert said(labelling)[5, 5] == ()  # "none of them" is one
    assert labelling.counts()["f0"] == {"TUM": 1, "STR": 1, "LYM": 0, "": 1, "tiles": 2}
    edit(labelling, "clear", [(1, 2), (5, 5)])
    assert said(labelling) == {}


def test_all_of_it_is_there_for_whoever_opens_the_folder_next(labelling):
    tick(labelling, (0, 0), TUM, proposed="model unsure: TUM .51 / STR .47")
    again = Labelling(labelling.folder)
    found = again.tiles("f0")[0, 0]
    assert (found.classes, found.author, found.proposed) == (TUM, "Ada", "model unsure: TUM .51 / STR .47")
    assert again.scheme == replace(labelling.scheme, created=again.scheme.created)
    assert again.slides == {"f0": a_slide()}
    tick(again, (1, 0), STR)
    assert labelling.refresh() == again.refresh() == 3  # a line about the slide, two edits
    assert said(labelling) == {(0, 0): TUM, (1, 0): STR}
    assert set(labelling.changed("f0", 2)) == {(1, 0)}


def test_undo_takes_back_ones_own_last_edit_and_leaves_what_others_said_later(labelling):
    edit(labelling, "add", [(0, 0), (1, 0)], TUM, "Ada")
    edit(labelling, "add", [(0, 0)], STR, "Ben")
    labelling.undo("Ada")
    assert said(labelling) == {(0, 0): STR}
    labelling.undo("Ben")
    assert said(labelling) == {}
    with pytest.raises(DatasetError, match="there is nothing of Ada to undo"):
        labelling.undo("Ada")
    assert Labelling(labelling.folder).tiles("f0") == {}


def test_nobody_overwrites_what_they_have_not_seen(labelling):
    tick(labelling, (0, 0), TUM)
    seen = labelling.refresh()
    tick(labelling, (0, 0), STR, author="Ben")
    with pytest.raises(OutdatedError, match="Ben has labelled this tile meanwhile"):
        labelling.edit("Ada", Wish(a_slide(), ((0, 0),), "set", TUM, since=seen))
    labelling.edit("Ada", Wish(a_slide(), ((0, 1),), "set", TUM, since=seen))  # another tile
    assert said(labelling) == {(0, 0): STR, (0, 1): TUM}


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        (Wish(a_slide(), ((0, 0),), "set", ("XXX",)), "no class 'XXX': the set has TUM, STR, LYM"),
        (Wish(a_slide(), ((10, 0),), "set", TUM), "no tile in column 10, row 0: the slide has 10 × 6 tiles"),
        (Wish(a_slide(), (), "set", TUM), "0 tiles at once"),
        (Wish(a_slide(), ((0, 0),) * (MOST_CELLS + 1), "set", TUM), "4,097 tiles at once are not 1 to 4,096"),
        (Wish(a_slide(), ((0, 0),), "undo"), "no class 'undo'"),
    ],
)
def test_what_cannot_be_said_is_refused_and_changes_nothing(labelling, wish, says):
    with pytest.raises(ConfigError, match=says):
        labelling.edit("Ada", wish)
    assert labelling.refresh() == 0


def test_a_slide_keeps_the_grid_that_it_was_labelled_on(labelling):
    tick(labelling, (0, 0), TUM)
    with pytest.raises(ConfigError, match=r"case-1 was labelled at 0\.5 µm/px, and is of 0\.25 µm/px now"):
        labelling.edit("Ada", Wish(replace(a_slide(), mpp=0.25), ((0, 0),), "set", STR, since=9))
    tick(labelling, (0, 0), STR, slide=replace(a_slide(), name="renamed"))
    assert said(labelling) == {(0, 0): STR}


def test_half_a_line_was_never_said_and_a_damaged_one_is_named(labelling):
    tick(labelling, (0, 0), TUM)
    whole = labelling.log_path.read_bytes()
    labelling.log_path.write_bytes(whole + b'{"revision": 3, "id"')
    again = Labelling(labelling.folder)
    tick(again, (1, 1), STR)
    assert said(Labelling(labelling.folder)) == {(0, 0): TUM, (1, 1): STR}
    labelling.log_path.write_bytes(whole + b"[]\n")
    with pytest.raises(DatasetError, match=r"line 4 of one/labels\.jsonl is damaged"):
        Labelling(labelling.folder)
    last = json.loads(whole.splitlines()[-1])
    for wrong in ({"classes": ["XXX"]}, {"revision": 7}, {"cells": []}, {"kind": "undo"}, {"slide": "zz"}):
        line = json.dumps({**last, "revision": 3, **wrong}).encode()
        labelling.log_path.write_bytes(whole + line + b"\n")
        with pytest.raises(DatasetError, match="is damaged"):
            Labelling(labelling.folder)


def test_a_full_disk_leaves_the_log_as_it_was(labelling, monkeypatch):
    tick(labelling, (0, 0), TUM)
    before = labelling.log_path.read_bytes()

    def full(_number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lpd.append_only.os.fsync", full)
    with pytest.raises(DatasetError, match="No space left on device"):
        tick(labelling, (1, 0), TUM)
    assert labelling.log_path.read_bytes() == before
    assert said(labelling) == {(0, 0): TUM}


@pytest.mark.parametrize(
    "wrong", [{"name": " "}, {"mpp": 0.001}, {"mpp": float("nan")}, {"tile_px": 100}, {"mpp": 0.5}]
)
def test_sets_that_cannot_be_are_refused(wrong):
    with pytest.raises(ConfigError):
        LabelScheme(**{"name": "a", "classes": CLASSES, "mpp": 1.0, "tile_px": 32, **wrong})


def test_a_folder_holds_one_set(labelling, tmp_path):
    with pytest.raises(DatasetError, match="holds a label set already"):
        Labelling.create(labelling.folder, labelling.scheme)
    with pytest.raises(DatasetError, match="holds no label set"):
        Labelling(tmp_path)
