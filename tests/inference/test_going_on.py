"""A segmentation that was stopped or killed goes on where it was, and ends with the very same result."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from lpd.inference.changes import ChangeLog
from lpd.inference.pyramid import zarr
from lpd.inference.store import ResultStore
from lpd.runs import Run
from lpd.slide.region import Region

from .conftest import ColourBackend, Segment, all_scores, whole_mask

SMALL = {"window_px": 64, "stride_px": 32, "panel_px": 96, "adapt": False}


class Killed(BaseException):
    """Stands for a kill: nothing of the run's own is done any more, nor is anything written."""


def dying_after(batches: int, kind: type[ColourBackend] = ColourBackend) -> type[ColourBackend]:
    """A backend whose process ends after so many batches."""

    class Dying(kind):  # type: ignore[valid-type, misc]
        def logits(self, windows):
            if len(self.batches) >= batches:
                ResultStore.flush = lambda _: None
                raise Killed
            return super().logits(windows)

    return Dying


def begin(
    segment: Segment, backend: ColourBackend, folder: Path, batches: int, *, wait_s: float = 0.0, **choices: object
) -> None:
    """Run until it is killed; panels are written as they come, or so many seconds apart."""
    using = dying_after(batches, type(backend))(backend.info.path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lpd.inference.store._WAITS", 0)
        patch.setattr("lpd.inference.store._LEAST_WAIT_S", wait_s)
        patch.setattr(ResultStore, "flush", ResultStore.flush)  # which the kill ends, and this brings back
        with pytest.raises(Killed):
            segment(using=using, into=folder, **{**SMALL, "batch_size": 1, **choices})


def levels_of(store: ResultStore) -> list[np.ndarray]:
    """Every level of scores and mask, as they lie on disk."""
    found = []
    for path in ("result.zarr", "result.zarr/labels/mask"):
        group = zarr.open_group(str(store.folder / path), mode="r")
        found += [np.asarray(group[name][...]) for name in sorted(group.array_keys())]
    return found


def lines_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "changes.jsonl").read_text().splitlines()]


@pytest.fixture
def whole(segment: Segment) -> tuple[ResultStore, int, float]:
    store, summary = segment(**SMALL)
    return store, summary.windows, summary.tissue_mm2


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.97])
@pytest.mark.parametrize("region", [None, {"x_l0": 133, "y_l0": 77, "width_l0": 700, "height_l0": 560}])
def test_the_result_is_that_of_a_run_without_interruption(segment, backend, tmp_path, share, region):
    expected, straight = segment(**SMALL, region=region)
    begin(segment, backend, tmp_path / "killed", round(share * straight.windows), region=region)
    store, summary = segment(into=tmp_path / "killed", resume=True, **SMALL, region=region)
    for found, level in zip(levels_of(store), levels_of(expected), strict=True):
        assert np.array_equal(found, level)
    assert summary.tissue_mm2 == pytest.approx(straight.tissue_mm2)
    assert store.changes().complete
    assert summary.windows <= straight.windows


def test_most_of_what_was_done_is_not_done_again(segment, backend, tmp_path, whole):
    _, windows, tissue_mm2 = whole
    folder = tmp_path / "killed"
    begin(segment, backend, folder, windows - 6)
    before = ResultStore.open(folder).changes()
    store, summary = segment(into=folder, resume=True, **SMALL)
    assert 0.5 < summary.kept < 1
    assert summary.windows < 0.6 * windows
    assert summary.tissue_mm2 == pytest.approx(tissue_mm2)
    after = store.changes(before.revision, before.run)
    assert 0 < len(after.rects) < store.changes().revision  # readers go on with the same run
    assert [line["revision"] for line in lines_of(folder)[1:]] == list(range(1, after.revision + 1))


def test_settings_that_change_no_pixel_may_change(segment, backend, tmp_path, whole):
    folder = tmp_path / "killed"
    begin(segment, backend, folder, whole[1] - 6)
    store, summary = segment(
        into=folder, resume=True, **{**SMALL, "batch_size": 4, "reader_threads": 1, "panel_px": 128}
    )
    assert summary.kept > 0
    assert (whole_mask(store) == whole_mask(whole[0])).all()


@pytest.mark.parametrize("change", [{"stride_px": 64}, {"tissue": "all"}, {"adapt": True}, {"mpp": 0.51}])
def test_other_work_begins_anew(segment, backend, tmp_path, whole, change):
    folder = tmp_path / "killed"
    begin(segment, backend, folder, whole[1] - 6)
    store, summary = segment(into=folder, resume=True, **{**SMALL, **change})
    expected, _ = segment(**{**SMALL, **change})
    assert summary.kept == 0
    assert (whole_mask(store) == whole_mask(expected)).all()


def test_another_checkpoint_begins_anew(segment, backend, tmp_path, whole):
    folder = tmp_path / "killed"
    begin(segment, backend, folder, whole[1] - 6)
    backend.info.path.write_bytes(b"other weights")
    assert segment(into=folder, resume=True, **SMALL)[1].kept == 0


def test_without_being_asked_it_begins_anew(segment, backend, tmp_path, whole):
    folder = tmp_path / "killed"
    begin(segment, backend, folder, whole[1] - 6)
    assert segment(into=folder, **SMALL)[1].kept == 0


def test_of_a_finished_result_nothing_is_computed_again(segment, whole):
    store, _, tissue_mm2 = whole
    scores = all_scores(store)
    again, summary = segment(into=store.folder, resume=True, **SMALL)
    assert (summary.windows, summary.kept, summary.cancelled) == (0, 1.0, False)
    assert summary.tissue_mm2 == pytest.approx(tissue_mm2)
    assert (all_scores(again) == scores).all()
    assert again.changes().complete


def test_panels_that_were_still_in_memory_are_computed_again(segment, backend, tmp_path, whole):
    store, windows, _ = whole
    begin(segment, backend, tmp_path / "r", windows - 6, wait_s=600)  # only the first panel gets to the disk
    assert len(ResultStore.open(tmp_path / "r").changes().rects) == 1
    again, _ = segment(into=tmp_path / "r", resume=True, **SMALL)
    for ours, theirs in zip(levels_of(again), levels_of(store), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_settings_that_did_not_exist_then_are_no_other_settings(segment, backend, tmp_path, whole):
    store, windows, _ = whole
    begin(segment, backend, tmp_path / "r", windows - 6)
    path = tmp_path / "r" / "result.zarr" / ".zattrs"
    document = json.loads(path.read_text())
    del document["lpd"]["settings"]["tta"], document["lpd"]["settings"]["refinement"]
    path.write_text(json.dumps(document))
    again, summary = segment(into=tmp_path / "r", resume=True, **SMALL)
    assert 0 < summary.kept < 1
    assert (whole_mask(again) == whole_mask(store)).all()


def test_a_line_that_a_kill_cut_is_written_again(tmp_path):
    log = ChangeLog(tmp_path / "changes.jsonl")
    log.start()
    log.append([Region(0, 0, 8, 8)])
    with (tmp_path / "changes.jsonl").open("ab") as file:
        file.write(b'{"revision": 2, "x_l')
    again = ChangeLog(tmp_path / "changes.jsonl")
    again.go_on()
    again.append([Region(8, 0, 8, 8)])
    assert [line.get("revision") for line in lines_of(tmp_path)] == [None, 1, 2]
    assert [rect.x_l0 for rect in again.read().rects] == [0, 8]


def test_a_stopped_run_goes_on_too(segment, tmp_path, whole):
    class Stopping(Run):
        asked = 0

        def stop_requested(self) -> bool:
            self.asked += 1
            return self.asked > 6

    _, summary = segment(run_kind=Stopping, into=tmp_path / "stopped", batch_size=4, **SMALL)
    assert summary.cancelled
    store, summary = segment(into=tmp_path / "stopped", resume=True, **SMALL)
    assert not summary.cancelled
    assert (whole_mask(store) == whole_mask(whole[0])).all()


def test_a_log_that_names_no_run_begins_anew(segment, backend, tmp_path, whole):
    folder = tmp_path / "killed"
    begin(segment, backend, folder, whole[1] - 6)
    (folder / "changes.jsonl").write_bytes(b'{"run": "ab')
    store, summary = segment(into=folder, resume=True, **SMALL)
    assert summary.kept == 0
    assert store.changes().complete


def test_large_batches_stay_as_large_when_it_goes_on(segment, backend, tmp_path, whole):
    """A network computes a window alike, to the last digit, only among equally many others."""
    folder = tmp_path / "killed"
    begin(segment, backend, folder, whole[1] - 6)
    later = ColourBackend(backend.info.path)
    segment(into=folder, resume=True, using=later, **{**SMALL, "batch_size": 1000})
    assert set(later.batches) == {whole[1]}


def test_what_the_choice_of_backend_rests_on_is_kept(segment, backend, tmp_path, whole):
    folder = tmp_path / "killed"
    begin(segment, backend, folder, whole[1] - 6)
    path = folder / "result.zarr" / ".zattrs"
    document = json.loads(path.read_text())
    document["lpd"]["trials"] = [{"backend": "openvino", "speed": 0.5, "agreement": 1.0, "failure": ""}]
    path.write_text(json.dumps(document))
    _, summary = segment(into=folder, resume=True, **SMALL)
    assert summary.kept > 0
    assert [(t.backend, t.speed, t.agreement) for t in summary.trials] == [("openvino", 0.5, 1.0)]


def test_a_result_that_lacks_an_overview_begins_anew(segment, backend, tmp_path, whole):
    folder = tmp_path / "killed"
    begin(segment, backend, folder, whole[1] - 6)
    missing = folder / "result.zarr" / "labels" / "mask" / "1"
    shutil.rmtree(missing)
    store, summary = segment(into=folder, resume=True, **SMALL)
    assert summary.kept == 0
    assert missing.exists()
    assert (whole_mask(store) == whole_mask(whole[0])).all()
