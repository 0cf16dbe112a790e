"""Edits one after another against a plain array; logs that were cut off, damaged, or are another mask's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from lpd.errors import OutdatedError, ResultError
from lpd.inference.store import ResultStore
from lpd.review.review import Review
from lpd.slide.region import Region

from .conftest import SCALE, MakeStore, blobs


def said(review: Review) -> np.ndarray:
    height, width = review.store.mask_shape
    return review.read_px(0, 0, (width, height))


def dab(review: Review, author: str, x: int, y: int, value: int | None, radius: float = 12.0) -> np.ndarray:
    """Paint a disc in mask pixels; returns where it is."""
    review.paint(author, [(x * SCALE, y * SCALE)], radius, value, since=review.refresh())
    ys, xs = np.mgrid[0 : review.store.mask_shape[0], 0 : review.store.mask_shape[1]] + 0.5
    return np.hypot(xs - x, ys - y) <= radius


def test_edits_and_undos_add_up_as_on_an_array(make_store: MakeStore) -> None:
    mask = blobs(300, 700, 1, 60)
    review = Review(make_store(mask))
    rng = np.random.default_rng(1)
    history: list[tuple[str, np.ndarray, int]] = []

    def state(edits: list[tuple[str, np.ndarray, int]]) -> np.ndarray:
        out = np.full(mask.shape, 255, np.uint8)
        for _, where, value in edits:
            out[where] = value
        return out

    for step in range(24):
        author = ("anna", "ben")[step % 2]
        x, y = int(rng.integers(20, 680)), int(rng.integers(20, 280))
        if step % 5 == 4 and any(one == author for one, *_ in history):
            review.undo(author)
            last = max(number for number, one in enumerate(history) if one[0] == author)
            del history[last]
        elif step % 7 == 6:
            covered = np.hypot(*(np.mgrid[0:300, 0:700] + 0.5 - np.array([y, x])[:, None, None])) <= 25
            if (covered & (state(history) != 255)).any():
                where = dab(review, author, x, y, None, 25)
                history.append((author, where & (state(history) != 255), 255))
        else:
            value = int(rng.integers(0, 5))
            where = np.hypot(*(np.mgrid[0:300, 0:700] + 0.5 - np.array([y, x])[:, None, None])) <= 30
            if (where & (mask != 255)).any():
                dab(review, author, x, y, value, 30)
                history.append((author, where & (mask != 255), value))
        assert (said(review) == state(history)).all(), step
    expected = state(history)
    assert (review.corrected_px(0, 0, (700, 300)) == np.where(expected == 255, mask, expected)).all()
    assert (review.read_px(64, 32, (50, 60), 4) == expected[32 : 32 + 240 : 4, 64 : 64 + 200 : 4]).all()
    assert (review.read(Region(0, 0, 1400, 600), (700, 300)) == expected).all()
    counts = review.status().counts
    assert counts is not None
    assert counts.reviewed == ((mask < 4) & (expected != 255)).sum()
    assert counts.changed == ((expected != 255) & (expected != mask)).sum()
    assert counts.tissue == (mask < 4).sum()
    corrected = np.where(expected == 255, mask, expected)
    assert counts.corrected == tuple(np.bincount(corrected.ravel(), minlength=256).tolist())
    again = Review(ResultStore.open(review.store.folder))
    assert (said(again) == expected).all()
    assert {author.name for author in again.status().authors} == {name for name, *_ in history}


def test_what_was_taken_back_is_brought_back_where_it_stood(make_store: MakeStore) -> None:
    review = Review(make_store(np.ones((80, 200), np.uint8)))
    first, second = dab(review, "anna", 30, 40, 0), dab(review, "anna", 50, 40, 2)
    review.undo("anna")
    review.undo("anna")
    assert (said(review) == 255).all()
    assert review.last_undone_of("anna") == review.log.edits[0]
    assert review.last_undone_of("ben") is None
    bens = dab(review, "ben", 40, 40, 3, 5)
    for _ in range(2):
        review.redo("anna", since=review.refresh())
    expected = np.select([bens, second, first], [3, 2, 0], 255)  # what ben has said later stays above
    assert (said(review) == expected).all()
    with pytest.raises(ResultError, match="no edit of anna to bring back"):
        review.redo("anna", since=review.refresh())
    redone = review.log.edits[-1]
    assert (redone.kind, redone.author, redone.undoes) == ("redo", "anna", review.log.edits[2].id)
    assert redone.time >= review.log.edits[2].time
    shutil.rmtree(review.folder / "corrections.zarr")
    assert (said(Review(ResultStore.open(review.store.folder))) == expected).all()
    review.undo("anna")
    assert (said(review) == np.select([bens, first], [3, 0], 255)).all()
    dab(review, "anna", 150, 40, 0)
    assert review.last_undone_of("anna") is None  # a new edit is another story


def test_nothing_is_brought_back_that_its_author_has_not_seen(make_store: MakeStore) -> None:
    review = Review(make_store(np.ones((80, 200), np.uint8)))
    dab(review, "anna", 30, 40, 0)
    review.undo("anna")
    seen = review.refresh()
    dab(review, "ben", 150, 40, 2)  # far away
    dab(review, "ben", 40, 40, 3)
    with pytest.raises(OutdatedError, match="ben has corrected this place meanwhile"):
        review.redo("anna", since=seen)
    assert review.redo("anna", since=review.refresh()).kind == "redo"


def test_accept_and_relabel_a_region(make_store: MakeStore) -> None:
    mask = np.full((60, 80), 1, np.uint8)
    mask[10:30, 10:40] = 2
    before = mask.copy()
    review = Review(make_store(mask))
    accepted = review.judge("anna", (20 * SCALE, 20 * SCALE), None, since=0)
    assert (accepted.kind, accepted.value, accepted.code, accepted.pixels) == ("accept", 2, "LYM", 600)
    changed = review.judge("anna", (20 * SCALE, 20 * SCALE), 0, since=1)
    assert (changed.kind, changed.value) == ("relabel", 0)
    assert (said(review) == np.where(before == 2, 0, 255)).all()
    assert review.judge("anna", (20 * SCALE, 20 * SCALE), 0, since=2).kind == "accept"  # it has this class by now
    assert review.judge("anna", (0, 0), 4, since=3).code == "background"
    assert (ResultStore.open(review.store.folder).read_mask_px(0, 0, (80, 60)) == before).all(), (
        "the result is as it was"
    )


def test_nobody_overwrites_what_they_have_not_seen(make_store: MakeStore) -> None:
    store = make_store(np.ones((200, 200), np.uint8))
    one, other = Review(store), Review(ResultStore.open(store.folder))
    dab(one, "anna", 50, 50, 0)
    with pytest.raises(OutdatedError, match="anna has corrected this place meanwhile"):
        other.paint("ben", [(60 * SCALE, 50 * SCALE)], 12, 2, since=0)
    other.paint("ben", [(150 * SCALE, 150 * SCALE)], 12, 2, since=0)  # elsewhere nobody is in the way
    assert one.refresh() == 2
    assert one.changes(1) == (Region(276, 276, 48, 48),)
    with pytest.raises(ResultError, match="no edit of clara to undo"):
        one.undo("clara")
    assert one.undo("anna").kind == "undo"
    assert (said(other)[50, 50], said(other)[150, 150]) == (255, 2)


@pytest.mark.parametrize(
    ("points", "radius", "value", "reason"),
    [
        ([(0.0, 0.0)], 5, 5, "class 5 does not exist: this result has 4 classes and background"),
        ([(0.0, 0.0)], 5, -1, "class -1 does not exist"),
        ([(0.0, 0.0)], 4000, 1, "8,000 µm is too large: 4,096 µm is the largest"),
        ([(0.0, 0.0)], 0, 1, "too large"),
        ([(0.0, 0.0), (20000.0, 0.0)], 5, 1, "paint it in parts"),
        ([], 5, 1, "1 to 5,000 points, not 0"),
        ([(150.0, 100.0)], 5, 1, "nothing that has been computed"),
        ([(0.0, 0.0)], 5, None, "no correction lies under the eraser"),
    ],
)
def test_what_cannot_be_painted_is_refused_and_leaves_nothing(
    make_store: MakeStore, points: list[tuple[float, float]], radius: float, value: int | None, reason: str
) -> None:
    mask = np.ones((100, 100), np.uint8)
    mask[40:60, 65:85] = 255
    review = Review(make_store(mask))
    with pytest.raises(ResultError, match=reason):
        review.paint("anna", points, radius, value, since=0)
    assert review.refresh() == 0
    assert not review.log_path.exists()
    assert review.status().counts is None


def test_a_kill_at_any_byte_of_the_log_costs_the_last_edit_at_most(make_store: MakeStore) -> None:
    review = Review(make_store(np.ones((80, 80), np.uint8)))
    dab(review, "anna", 20, 20, 0)
    after_one, size = said(review), review.log_path.stat().st_size
    dab(review, "anna", 50, 50, 2)
    whole = review.log_path.read_bytes()
    for cut in (0, 10, whole.index(b"\n") + 1, size, size + 1, len(whole) - 1):
        review.log_path.write_bytes(whole[:cut])
        again = Review(ResultStore.open(review.store.folder))
        expected = after_one if cut >= size else np.full((80, 80), 255, np.uint8)
        assert (said(again) == expected).all(), cut
        dab(again, "ben", 60, 20, 3)  # and it goes on from there
        assert len(again.log_path.read_text().splitlines()) == again.refresh() + 1


def test_the_layer_is_made_again_from_the_log(make_store: MakeStore) -> None:
    review = Review(make_store(blobs(90, 90, 4, 3)))
    for x in (20, 40, 60):
        dab(review, "anna", x, 45, 1)
    review.undo("anna")
    expected, status = said(review), review.status()
    (review.folder / "state.json").write_text("{torn")
    assert (said(Review(ResultStore.open(review.store.folder))) == expected).all()
    state = json.loads((review.folder / "state.json").read_text())
    (review.folder / "state.json").write_text(json.dumps({**state, "applied": 2, "chunks": {}}))  # a kill before it
    again = Review(ResultStore.open(review.store.folder))
    assert (said(again) == expected).all()
    assert again.status() == status


def test_an_edit_that_cannot_be_carried_out_is_not_in_the_log(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    review = Review(make_store(np.ones((80, 80), np.uint8)))
    dab(review, "anna", 20, 20, 0)
    with monkeypatch.context() as full:
        full.setattr("lpd.inference.pyramid.Pyramid.write", lambda *_: (_ for _ in ()).throw(OSError(28, "No space")))
        with pytest.raises(ResultError, match=r"corrections\.zarr \(No space\): free some space"):
            dab(review, "anna", 50, 50, 0)
    assert review.refresh() == 1
    assert said(review)[20, 20] == 0
    assert said(review)[50, 50] == 255


def test_a_result_begun_anew_has_a_review_of_its_own(make_store: MakeStore, tmp_path: Path) -> None:
    old = Review(make_store(np.ones((80, 80), np.uint8)))
    dab(old, "anna", 20, 20, 0)
    new = Review(make_store(np.zeros((80, 80), np.uint8)))
    assert new.run != old.run
    assert new.refresh() == 0
    assert (said(new) == 255).all()
    assert new.earlier() == (old.run,)
    assert old.log_path.is_file()
    new.folder.mkdir(parents=True, exist_ok=True)
    new.log_path.write_bytes(old.log_path.read_bytes())
    with pytest.raises(ResultError, match="is the review of another mask: its run is"):
        Review(ResultStore.open(new.store.folder))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"box": [0, 0, 0, 5]}, "is not one of the mask"),
        ({"box": [60, 0, 100, 24]}, "is not one of the mask"),
        ({"value": 9}, "there is no class 9"),
        ({"value": None}, "does not give"),
        ({"kind": "undo", "value": None, "undoes": "x"}, "undoes 'x'"),
        ({"kind": "redo", "value": None}, "undoes ''"),
        ({"undoes": "x"}, "undoes nothing"),
        ({"kind": "guess"}, "does not follow"),
        ({"revision": 7}, "does not follow"),
        ({"more": 1}, "damaged"),
    ],
)
def test_a_damaged_log_is_named_by_its_line(make_store: MakeStore, change: dict[str, object], reason: str) -> None:
    review = Review(make_store(np.ones((80, 80), np.uint8)))
    dab(review, "anna", 20, 20, 0)
    head, edit = review.log_path.read_text().splitlines()
    review.log_path.write_text(f"{head}\n{json.dumps({**json.loads(edit), **change})}\n")
    with pytest.raises(ResultError, match=rf"line 2 of .*log\.jsonl is damaged .*{reason}|{reason}"):
        Review(ResultStore.open(review.store.folder))


def test_pixels_that_were_deleted_are_made_again_from_the_log(make_store: MakeStore) -> None:
    review = Review(make_store(blobs(200, 300, 5)))
    dab(review, "anna", 100, 100, 2)
    before = said(review)
    shutil.rmtree(review.folder / "corrections.zarr")
    again = Review(review.store)
    assert (before == 2).any()
    np.testing.assert_array_equal(said(again), before)
    assert again.status().counts == review.status().counts
