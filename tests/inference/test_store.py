"""The result store: what is written is read, overviews are bounded, readers see whole panels, faults are sentences."""

from __future__ import annotations

import errno
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

from lpd.errors import ResultError, ShapeError
from lpd.inference.changes import ChangeLog, Changes
from lpd.inference.meta import ResultMeta
from lpd.inference.pyramid import Pyramid, level_count
from lpd.inference.store import ResultStore, remove_result
from lpd.slide.region import Region

from .conftest import SCHEME

WIDTH, HEIGHT = 2001, 1403


def make_meta(**changes: object) -> ResultMeta:
    values: dict[str, object] = {
        "slide_name": "a",
        "slide_fingerprint": "f00d",
        "width_l0": WIDTH,
        "height_l0": HEIGHT,
        "slide_mpp": 0.5,
        "mask_mpp": 0.998,
        "classes": SCHEME,
        "checkpoint_name": "colours",
        "checkpoint_digest": "sha256:00",
        "notice": "not for patients",
        "region": Region(1, 2, 3, 4),
        "settings": {"stride_px": 112},
        "origin_l0": (70, 9),
    }
    return ResultMeta(**{**values, **changes})  # type: ignore[arg-type]  # a table of fields


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore.create(tmp_path / "result", make_meta())


def random_mask(store: ResultStore) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 4, store.mask_shape, dtype=np.uint8)


def test_meta_survives_the_disk(store: ResultStore):
    assert ResultStore.open(store.folder).meta == store.meta == make_meta()
    assert make_meta(region=None) == ResultMeta.from_dict(json.loads(json.dumps(make_meta(region=None).to_dict())))
    older = {k: v for k, v in make_meta().to_dict().items() if k != "origin_l0"}
    assert ResultMeta.from_dict(older) == make_meta(origin_l0=(0, 0))
    assert store.meta.mask_size == (1003, 703)  # 2001 / 1.996 = 1002.5, 1403 / 1.996 = 702.9
    assert store.meta.score_size == (251, 176)
    assert store.mask_shape == (703, 1003)


def test_what_is_written_in_blocks_is_read_back(store: ResultStore):
    mask = random_mask(store)
    for y in range(0, 703, 111):
        for x in range(0, 1003, 97):
            store.write_mask(x, y, mask[y : y + 111, x : x + 97])
    np.testing.assert_array_equal(store.read_mask_px(0, 0, (1003, 703)), mask)
    assert (store.read_mask_px(-4, 700, (10, 10))[3:] == 255).all()
    part = store.read_mask_px(-4, 700, (10, 10))
    np.testing.assert_array_equal(part[:3, 4:], mask[700:, :6])
    assert (part[:, :4] == 255).all()
    for level in range(3):  # every coarser level has grown along
        array = zarr.open_group(str(store.folder / "result.zarr" / "labels" / "mask"), mode="r")[str(level)]
        np.testing.assert_array_equal(array[:], mask[:: 2**level, :: 2**level])


@pytest.mark.parametrize(
    ("region", "size"),
    [
        (Region(0, 0, WIDTH, HEIGHT), (1003, 703)),
        (Region(101, 51, 512, 512), (256, 256)),
        (Region(-300, 900, 1000, 1000), (256, 256)),
        (Region(40, 40, 20, 10), (200, 100)),
        (Region(1999, 1400, 2, 3), (1, 1)),
    ],
)
def test_reading_a_region_takes_the_mask_pixel_under_each_centre(store: ResultStore, region: Region, size):
    mask = random_mask(store)
    store.write_mask(0, 0, mask)
    out = store.read_mask(region, size)
    step = region.width_l0 / size[0] / 1.996
    if step >= 2:
        pytest.fail("this table is for reads from the finest level")
    for j in range(0, size[1], max(1, size[1] // 9)):
        for i in range(0, size[0], max(1, size[0] // 9)):
            x = int((region.x_l0 + (i + 0.5) * region.width_l0 / size[0]) // 1.996)
            y = int((region.y_l0 + (j + 0.5) * region.height_l0 / size[1]) // 1.996)
            inside = 0 <= x < 1003 and 0 <= y < 703
            assert out[j, i] == (mask[y, x] if inside else 255)


def test_an_overview_is_read_from_a_coarse_level(store: ResultStore, monkeypatch: pytest.MonkeyPatch):
    mask = np.zeros(store.mask_shape, dtype=np.uint8)
    mask[:, 500:] = 2
    store.write_mask(0, 0, mask)
    store.flush()
    reader = ResultStore.open(store.folder)
    touched: list[tuple[int, ...]] = []
    original = zarr.Array.__getitem__

    def counting(self, selection):
        out = original(self, selection)
        touched.append(np.shape(out))
        return out

    monkeypatch.setattr(zarr.Array, "__getitem__", counting)
    out = reader.read_mask(Region(0, 0, WIDTH, HEIGHT), (100, 70))
    assert set(np.unique(out[:, :49])) == {0}
    assert set(np.unique(out[:, 51:])) == {2}
    assert sum(int(np.prod(s)) for s in touched) <= 256 * 256  # of 703 × 1003


@pytest.mark.parametrize("step", [1, 2, 4, 8, 64, 3])
def test_every_nth_pixel_is_the_mask_s_own(store: ResultStore, step: int, monkeypatch: pytest.MonkeyPatch):
    mask = random_mask(store)
    store.write_mask(0, 0, mask)
    largest = 0
    original = zarr.Array.__getitem__

    def counting(self, selection):
        nonlocal largest
        out = original(self, selection)
        largest = max(largest, np.size(out))
        return out

    monkeypatch.setattr(zarr.Array, "__getitem__", counting)
    for x, y in ((0, 0), (64, 192), (5, 7)):
        part = mask[y::step, x::step]
        height, width = part.shape
        seen = store.read_mask_px(x, y, (width + 2, height + 1), step)
        np.testing.assert_array_equal(seen[:height, :width], part)
        assert (seen[height:] == 255).all()
        assert (seen[:, width:] == 255).all()
        if x != 5 and step in (1, 2, 4):  # the store's levels: coarse looks cost no more than what they show
            assert largest <= part.size
        largest = 0


def test_scores_of_one_class_at_a_quarter_of_the_resolution(store: ResultStore):
    scores = np.random.default_rng(6).integers(0, 255, (3, 176, 251), dtype=np.uint8)
    store.write_scores(0, 0, scores[:, :100])
    store.write_scores(0, 100, scores[:, 100:])
    region = Region(800, 400, 400, 240)
    out = store.read_scores(1, region, (100, 60))
    for j, i in ((0, 0), (59, 99), (30, 17)):
        x, y = int((800 + (i + 0.5) * 4) // 7.984), int((400 + (j + 0.5) * 4) // 7.984)
        assert out[j, i] == scores[1, y, x]
    with pytest.raises(ResultError, match="class 3 does not exist"):
        store.read_scores(3, region, (1, 1))


def test_scores_at_the_masks_own_pixels(store: ResultStore):
    scores = np.random.default_rng(7).integers(0, 255, (3, 176, 251), dtype=np.uint8)
    store.write_scores(0, 0, scores)
    large = np.kron(scores[2], np.ones((4, 4), np.uint8))
    for x, y, step in ((0, 0, 1), (2, 3, 1), (41, 30, 4), (900, 600, 7)):
        part = large[y : y + 20 * step : step, x : x + 30 * step : step]
        seen = store.read_scores_px(2, x, y, (30, 20), step)
        np.testing.assert_array_equal(seen[: part.shape[0], : part.shape[1]], part)
        assert (seen[part.shape[0] :] == 255).all()
        assert (seen[:, part.shape[1] :] == 255).all()


def test_not_computed_is_255_everywhere_at_first(store: ResultStore):
    assert (store.read_mask(Region(0, 0, WIDTH, HEIGHT), (50, 50)) == 255).all()
    assert (store.read_scores(0, Region(0, 0, WIDTH, HEIGHT), (50, 50)) == 255).all()
    assert store.changes() == Changes(store.changes().run, 0, (), False)
    assert store.changes().run


def test_changes_are_told_once_and_in_order(store: ResultStore):
    first, second = Region(0, 0, 10, 10), Region(10, 0, 10, 10)
    store.commit(first)
    reader = ResultStore.open(store.folder)
    run = reader.changes().run
    assert reader.changes(0, run) == Changes(run, 1, (first,), False)
    store.commit(second)
    store.flush()
    assert reader.changes(1, run) == Changes(run, 2, (second,), False)
    store.finish()
    assert reader.changes(2, run) == Changes(run, 3, (), True)
    assert reader.changes(0, run) == Changes(run, 3, (first, second), True)


def test_readers_hear_of_a_panel_when_its_pixels_are_on_the_disk(store: ResultStore):
    """Panels are written several at a time; one that is announced can be read by another process."""
    reader, values = ResultStore.open(store.folder), np.full((100, 100), 2, np.uint8)
    rects = [Region(200 * k, 0, 200, 200) for k in range(6)]
    seen = []
    for k in range(6):
        store.write_mask(100 * k, 0, values)
        store.commit(rects[k])
        seen.append(len(reader.changes().rects))
        assert (reader.read_mask_px(0, 0, (100 * seen[-1], 100)) == 2).all()
    assert seen[0] == 1  # the first at once
    assert seen[-1] < 6  # the others together, later
    store.flush()
    assert reader.changes().rects == tuple(rects)
    assert (reader.read_mask_px(0, 0, (600, 100)) == 2).all()


def test_a_log_that_does_not_fit_on_the_disk_ends_with_a_whole_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    log = ChangeLog(tmp_path / "changes.jsonl")
    log.start()
    log.append([Region(0, 0, 8, 8)])
    before = (tmp_path / "changes.jsonl").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda path, *_, **__: _Full(str(path), "ab"))
        with pytest.raises(OSError, match="space"):
            log.append([Region(8, 0, 8, 8), Region(16, 0, 8, 8)])
    assert (tmp_path / "changes.jsonl").read_bytes() == before
    log.append([Region(8, 0, 8, 8)])
    assert log.read().rects == (Region(0, 0, 8, 8), Region(8, 0, 8, 8))


class _Full(io.FileIO):
    """A file on a disk with room for ten bytes more."""

    def write(self, data) -> int:
        return super().write(bytes(data)[:10])


def test_a_line_that_is_still_being_written_is_not_seen(store: ResultStore):
    store.commit(Region(0, 0, 10, 10))
    path = store.folder / "changes.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + whole.splitlines()[-1][:-9])
    assert store.changes().revision == 1


def test_a_new_result_replaces_the_old_one_and_readers_start_anew(store: ResultStore):
    store.write_mask(0, 0, random_mask(store))
    for _ in range(5):
        store.commit(Region(0, 0, 10, 10))
    run = store.changes().run
    again = ResultStore.create(store.folder, make_meta(slide_name="b"))
    assert ResultStore.open(store.folder).meta.slide_name == "b"
    assert (again.read_mask_px(0, 0, (9, 9)) == 255).all()
    assert again.changes(5, run) == Changes(again.changes().run, 0, (), False)
    regions = tuple(Region(x, 5, 1, 1) for x in range(7))
    for region in regions:  # in the end more than before: their number cannot tell one run from the other
        again.commit(region)
        again.flush()
        assert again.changes(5, run).rects == regions[: region.x_l0 + 1]
    assert again.changes(5, again.changes().run).rects == regions[5:]
    assert sorted(p.name for p in store.folder.iterdir()) == ["changes.jsonl", "result.zarr"]


def test_missing_and_foreign_results_are_named(tmp_path: Path, store: ResultStore):
    with pytest.raises(ResultError, match="holds no result"):
        ResultStore.open(tmp_path / "nowhere")
    attributes = store.folder / "result.zarr" / ".zattrs"
    document = json.loads(attributes.read_text())
    for broken in ({}, {"lpd": {"version": 99}}, {"lpd": {**document["lpd"], "classes": 5}}, {"lpd": 3}, []):
        attributes.write_text(json.dumps(broken))
        with pytest.raises(ResultError, match=r"result\.zarr"):
            ResultStore.open(store.folder)
    attributes.write_text("{")
    with pytest.raises(ResultError, match="not a readable result"):
        ResultStore.open(store.folder)


def test_a_store_without_arrays_is_refused(store: ResultStore):
    for array in (store.folder / "result.zarr" / "labels" / "mask").glob("[0-9]"):
        (array / ".zarray").unlink()
    with pytest.raises(ResultError, match="not a readable result"):
        ResultStore.open(store.folder)


@pytest.mark.parametrize("where", [(-1, 0), (0, 700), (1000, 0)])
def test_a_block_outside_of_the_mask_is_refused(store: ResultStore, where):
    with pytest.raises(ShapeError, match="does not fit"):
        store.write_mask(*where, np.zeros((5, 5), dtype=np.uint8))
    with pytest.raises(ShapeError, match="does not fit"):
        store.write_scores(0, 0, np.zeros((2, 5, 5), dtype=np.uint8))


def test_a_full_disk_is_a_sentence(store: ResultStore, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Pyramid, "write", full)
    with pytest.raises(ResultError, match=r"cannot write to .*No space left on device.*free some space"):
        store.write_mask(0, 0, np.zeros((5, 5), dtype=np.uint8))


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultError, match="cannot write"):
        ResultStore.create(tmp_path / "file", make_meta())


def test_remove_result_takes_the_pixels_and_leaves_the_rest(store: ResultStore):
    (store.folder / "notes.txt").write_text("mine")
    remove_result(store.folder)
    assert [p.name for p in store.folder.iterdir()] == ["notes.txt"]
    remove_result(store.folder)


def test_attributes_follow_ome_ngff(store: ResultStore):
    root = store.folder / "result.zarr"
    image = json.loads((root / ".zattrs").read_text())
    label = json.loads((root / "labels" / "mask" / ".zattrs").read_text())
    assert json.loads((root / "labels" / ".zattrs").read_text()) == {"labels": ["mask"]}
    for attributes, folder, axes in ((image, root, "cyx"), (label, root / "labels" / "mask", "yx")):
        (multiscale,) = attributes["multiscales"]
        assert multiscale["version"] == "0.4"
        assert "".join(a["name"] for a in multiscale["axes"]) == axes
        sizes = []
        for dataset in multiscale["datasets"]:
            array = json.loads((folder / dataset["path"] / ".zarray").read_text())
            assert (array["zarr_format"], array["dimension_separator"], array["fill_value"]) == (2, "/", 255)
            transform, *_ = dataset["coordinateTransformations"]
            sizes.append([n * s for n, s in zip(array["shape"][-2:], transform["scale"][-2:], strict=True)])
        assert len(sizes) == level_count(*json.loads((folder / "0" / ".zarray").read_text())["shape"][-2:])
        for size in sizes:  # each level spans the slide: 1403 and 2001 px of 0.5 µm, and at most one of its own pixels
            assert 701.5 <= size[0] <= 701.5 + 0.998 * 4 * 2 ** len(sizes)
            assert 1000.5 <= size[1] <= 1000.5 + 0.998 * 4 * 2 ** len(sizes)
    assert label["image-label"]["colors"][0] == {"label-value": 0, "rgba": [255, 0, 0, 255]}
    assert [c["label"] for c in image["omero"]["channels"]] == ["Red", "Green", "Blue"]


_READER = """
import sys, time
from pathlib import Path
from lpd.inference.store import ResultStore
from lpd.slide.region import Region
assert "torch" not in sys.modules
store, since, run, seen = ResultStore.open(Path(sys.argv[1])), 0, "", 0
print("ready", flush=True)
deadline = time.monotonic() + 60
while time.monotonic() < deadline:
    news = store.changes(since, run)
    for rect in news.rects:
        # A panel that has been announced is wholly there, at both ends of the pyramid.
        value = seen % 4
        for size in ((128, 128), (16, 16)):
            part = store.read_mask(rect, size)
            assert (part == value).all(), (seen, size, set(part.ravel()))
        seen += 1
    since, run = news.revision, news.run
    if news.complete:
        break
print(seen)
"""


def test_another_process_reads_while_this_one_writes(tmp_path: Path):
    store = ResultStore.create(tmp_path / "r", make_meta(slide_mpp=1.0, mask_mpp=1.0, width_l0=1280, height_l0=640))
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", _READER, str(store.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
        for number in range(50):
            x, y = number % 10 * 128, number // 10 * 128
            store.write_mask(x, y, np.full((128, 128), number % 4, dtype=np.uint8))
            store.commit(Region(x, y, 128, 128))
            store.flush()
        store.finish()
        assert reader.stdout.read() == "50\n"
    assert reader.returncode == 0
