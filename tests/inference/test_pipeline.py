"""A whole run with a network that is a colour rule: the mask is known, and depends on nothing that it should not."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from lpd.config import ModelConfig
from lpd.errors import CheckpointError, ConfigError, MissingMppError, SlideError
from lpd.inference import devices
from lpd.inference.backend import NetworkBackend
from lpd.inference.blocks import BlockReader
from lpd.inference.frame import Box, MaskFrame
from lpd.inference.job import check_request
from lpd.inference.pipeline import segment_slide
from lpd.inference.settings import SegmentSettings
from lpd.inference.store import ResultStore
from lpd.model.network import LPDOutput
from lpd.runs import Run, read_state, request_stop
from lpd.slide.fine_tissue import FineTissue
from lpd.slide.opening import open_slide
from lpd.slide.region import Region
from lpd.slide.slide import Slide
from lpd.slide.tissue import TissueMask, tissue_mask

from .conftest import TILE_PX, ColourBackend, Segment, all_scores, paint_slide, whole_mask

BACKGROUND = 3


def test_each_tissue_pixel_gets_the_class_of_its_colour_and_glass_is_background(segment: Segment, tmp_path: Path):
    pixels = paint_slide(tmp_path / "again.png").astype(float)
    store, summary = segment()
    mask = whole_mask(store)
    assert mask.shape == (355, 465)
    halved = pixels[: 355 * 2, : 465 * 2].reshape(355, 2, 465, 2, 3).mean(axis=(1, 3))
    ranked = np.sort(halved, axis=2)
    with open_slide(tmp_path / "again.png", mpp=0.5) as slide:
        tissue = FineTissue(slide, tissue_mask(slide)).read(Region(0, 0, 930, 710), (465, 355))
    glass = (halved.min(axis=2) > 240)[:, :, None].repeat(3, 2).all(axis=2)
    # Blending looks 4 px around, so compare where the strongest channel leads clearly.
    clear = (ranked[:, :, 2] - ranked[:, :, 1] > 20) & tissue & ~glass
    assert clear.mean() > 0.2
    assert (mask == halved.argmax(axis=2))[clear].mean() > 0.995
    assert (mask[~tissue] == BACKGROUND).all()
    assert (mask[tissue] < BACKGROUND).all()
    cells = tissue[:352, :464].reshape(88, 4, 116, 4).any(axis=(1, 3))
    assert (all_scores(store)[:, :88, :116] > 0).any(axis=0).tolist() == cells.tolist()
    assert summary.tissue_mm2 == pytest.approx(tissue.sum() / 1e6)
    assert summary.windows == summary.planned_windows > 0
    assert store.changes().complete


def test_scores_are_probabilities_of_the_blended_colours(segment: Segment):
    store, _ = segment(tissue="all")
    scores = all_scores(store).astype(float)
    assert scores.max() <= 254
    glass_cell = scores[:, 2, 2]  # grey glass stands out in no channel: a third for each
    assert np.abs(glass_cell - 254 / 3).max() <= 1
    assert np.abs(scores.sum(0) - 254).max() <= 2  # every class may be there, so one of them is


def test_tissue_all_looks_everywhere_and_auto_skips_glass(segment: Segment):
    everything, all_summary = segment(tissue="all", window_px=64)
    _, auto_summary = segment(tissue="auto", window_px=64)
    assert auto_summary.windows < all_summary.windows
    mask = whole_mask(everything)
    assert (mask < BACKGROUND).all()


@pytest.mark.parametrize("mpp", [0.5, 0.53])
@pytest.mark.parametrize("region", [Region(300, 200, 351, 203), Region(0, 0, 64, 64), Region(925, 705, 5, 5)])
def test_a_region_is_a_crop_of_the_whole_and_nothing_else_is_written(segment: Segment, mpp: float, region: Region):
    whole, _ = segment(mpp=mpp)
    part, summary = segment(mpp=mpp, region=region, panel_px=100)
    box = part.meta.frame.to_mask(region)
    rows, columns = slice(box.y0, box.y1), slice(box.x0, box.x1)
    mask = whole_mask(part)
    np.testing.assert_array_equal(mask[rows, columns], whole_mask(whole)[rows, columns])
    mask[rows, columns] = 255
    assert (mask == 255).all()
    scores, expected = all_scores(part), all_scores(whole)
    cells = scores != 255
    assert cells[:, box.y0 // 4, box.x0 // 4].all()
    np.testing.assert_array_equal(scores[cells], expected[cells])
    assert cells[0].sum() == (-(-box.y1 // 4) - box.y0 // 4) * (-(-box.x1 // 4) - box.x0 // 4)
    assert part.changes().complete
    assert not summary.cancelled


@pytest.mark.parametrize("region", [Region(384, 128, 256, 256), Region(388, 132, 249, 249)])
def test_pixels_at_a_region_s_edge_know_the_cells_beyond(segment: Segment, backend: ColourBackend, region: Region):
    """Windows that do not overlap begin where the region ends: its last pixels lie between its last cell and theirs."""
    colours = backend.logits

    def restless(tiles):
        noise = np.random.default_rng(int(tiles.sum())).normal(0, 20, (len(tiles), 3, 16, 16))
        return colours(tiles)[0] + torch.from_numpy(noise.astype(np.float32)), colours(tiles)[1]

    backend.logits = restless  # type: ignore[method-assign]
    masks = [
        whole_mask(segment(tissue="all", window_px=64, stride_px=64, batch_size=1, region=part)[0])
        for part in (None, region)
    ]
    part = masks[1] != 255
    assert part.sum() >= 125 * 125
    np.testing.assert_array_equal(masks[1][part], masks[0][part])


def test_panels_batches_and_threads_change_nothing(segment: Segment):
    first, _ = segment()
    expected, scores = whole_mask(first), all_scores(first)
    for choices in ({"panel_px": 64}, {"panel_px": 2000, "batch_size": 1}, {"reader_threads": 5, "batch_size": 13}):
        store, _ = segment(**choices)
        np.testing.assert_array_equal(whole_mask(store), expected)
        np.testing.assert_array_equal(all_scores(store), scores)


def test_changes_cover_the_request_exactly_once(segment: Segment):
    store, _ = segment(panel_px=96)
    frame = store.meta.frame
    counts = np.zeros(store.mask_shape, dtype=int)
    for rect in store.changes().rects:
        box = frame.to_mask(rect)
        counts[box.y0 : box.y1, box.x0 : box.x1] += 1
    assert counts.min() == counts.max() == 1


def test_a_shifted_grid_gives_the_same_mask_but_for_pixels_on_borders(segment: Segment):
    masks = [whole_mask(segment(grid_offset_px=offset)[0]) for offset in (0, 32)]
    tissue = masks[0] != BACKGROUND
    assert (masks[0] == masks[1])[tissue].mean() > 0.995


def test_batches_always_have_the_same_size(segment: Segment, backend: ColourBackend):
    _, summary = segment(batch_size=9)
    assert set(backend.batches) == {9}
    assert summary.windows % 9
    assert len(backend.batches) == -(-summary.windows // 9)


def test_a_huge_batch_is_no_larger_than_the_work_and_a_usual_one_is_filled_up(segment: Segment, backend: ColourBackend):
    _, summary = segment(batch_size=4096)
    assert backend.batches == [max(5, summary.windows)]
    backend.batches.clear()
    for size in (None, 4, 4096):  # one window's answer must not depend on how much else is asked for
        _, summary = segment(batch_size=size, region=Region(400, 200, 4, 4))
        assert summary.windows <= 4
    assert backend.batches == [5, 4, 5]  # 192 px are seen: five of them hold as many pixels as four tiles of 224


@pytest.mark.parametrize("name", ["CMU-1-Small-Region.svs", "tcga-cr-7395-01a-01-ts1.svs"])
def test_on_a_real_slide_a_region_is_a_crop_of_a_larger_one(
    real_data: Path, backend: ColourBackend, tmp_path: Path, name
):
    masks = []
    for number, region in enumerate((Region(400, 300, 1200, 1200), Region(777, 801, 301, 255))):
        folder = tmp_path / str(number)
        settings = SegmentSettings(region=region, threads=1, panel_px=128 * (number + 1))
        with open_slide(real_data / "slides" / name, mpp=0.499) as slide, Run(folder, "segment") as run:
            segment_slide(slide, backend, folder, settings, run)
        masks.append(whole_mask(ResultStore.open(folder)))
    part = masks[1] != 255
    assert part.sum() == 151 * 128  # mask columns 387 to 537 and rows 399 to 526, of 2.004 px each
    np.testing.assert_array_equal(masks[0][part], masks[1][part])
    assert len(np.unique(masks[0][part])) > 1


class StoppingRun(Run):
    """A run that somebody stops once half of it is done."""

    def advance(self, done, total, unit="tiles"):
        if done >= total / 2:
            request_stop(self.folder)
        return super().advance(done, total, unit)


def test_a_stopped_run_leaves_a_readable_part(
    slide_path: Path, backend: ColourBackend, segment: Segment, tmp_path: Path
):
    folder = tmp_path / "stopped"
    settings = SegmentSettings(panel_px=64, threads=1)
    with open_slide(slide_path, mpp=0.5) as slide, StoppingRun(folder, "segment") as run:
        summary = segment_slide(slide, backend, folder, settings, run)
    assert summary.cancelled
    assert read_state(folder).state == "cancelled"
    store = ResultStore.open(folder)
    mask, whole = whole_mask(store), whole_mask(segment()[0])
    finished = mask != 255
    assert 0.1 < finished.mean() < 0.9
    np.testing.assert_array_equal(mask[finished], whole[finished])
    assert not store.changes().complete
    for rect in store.changes().rects:
        box = store.meta.frame.to_mask(rect)
        assert finished[box.y0 : box.y1, box.x0 : box.x1].all()
    assert not [t for t in threading.enumerate() if t.name.startswith("lpd-")]


def test_a_slide_that_breaks_on_the_way_is_one_error_and_no_thread_stays(
    slide_path: Path, backend: ColourBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    read = Slide.read

    def breaking(self, region, size):
        if size == (128, 128) and region.y_l0 >= 256:
            raise SlideError("painted.png is damaged at row 256")
        return read(self, region, size)

    monkeypatch.setattr("lpd.inference.blocks.BLOCK_PX", 128)
    monkeypatch.setattr(Slide, "read", breaking)
    folder = tmp_path / "broken"
    with (
        open_slide(slide_path, mpp=0.5) as slide,
        pytest.raises(SlideError, match="damaged at row 256"),
        Run(folder, "segment") as run,
    ):
        segment_slide(slide, backend, folder, SegmentSettings(panel_px=64, threads=1), run)
    state = read_state(folder)
    assert (state.state, state.message) == ("failed", "painted.png is damaged at row 256")
    assert not ResultStore.open(folder).changes().complete
    assert not [t for t in threading.enumerate() if t.name.startswith("lpd-")]


def test_a_slide_of_glass_is_background_without_a_look(backend: ColourBackend, tmp_path: Path, monkeypatch):
    from PIL import Image

    path = tmp_path / "glass.png"
    Image.fromarray(np.full((300, 400, 3), 244, dtype=np.uint8)).save(path)
    with open_slide(path, mpp=0.5) as slide, Run(tmp_path / "g", "segment") as run:
        summary = segment_slide(slide, backend, tmp_path / "g", SegmentSettings(threads=1), run)
    assert (summary.windows, summary.tissue_mm2, summary.cancelled) == (0, 0.0, False)
    store = ResultStore.open(tmp_path / "g")
    assert (whole_mask(store) == BACKGROUND).all()
    assert (all_scores(store) == 0).all()
    assert store.changes().complete
    assert backend.batches == []


@pytest.mark.parametrize(("width", "height"), [(2, 2), (40, 30), (TILE_PX * 2, TILE_PX * 2), (130, 7)])
def test_slides_smaller_than_a_window(backend: ColourBackend, tmp_path: Path, width: int, height: int):
    from PIL import Image

    path = tmp_path / "small.png"
    Image.fromarray(np.full((height, width, 3), (180, 60, 60), dtype=np.uint8)).save(path)
    with open_slide(path, mpp=0.5) as slide, Run(tmp_path / "s", "segment") as run:
        segment_slide(slide, backend, tmp_path / "s", SegmentSettings(tissue="all", threads=1), run)
    mask = whole_mask(ResultStore.open(tmp_path / "s"))
    assert mask.shape == (-(-height // 2), -(-width // 2))
    assert (mask == 0).all()


@pytest.mark.parametrize("mpp", [0.25, 0.4, 0.5, 1.0, 1.7])
@pytest.mark.parametrize(("width", "height"), [(301, 301), (1, 1), (1, 77), (333, 1)])
def test_the_last_column_and_row_of_an_odd_sized_slide_are_part_of_the_mask(
    backend: ColourBackend, tmp_path: Path, mpp: float, width: int, height: int
):
    from PIL import Image

    # The colour changes in the last level-0 pixels: the last mask pixels must show them, not an average with white.
    pixels = np.full((height, width, 3), (180, 60, 60), dtype=np.uint8)
    pixels[:, -20:] = (60, 60, 180)
    Image.fromarray(pixels).save(tmp_path / "odd.png")
    settings = SegmentSettings(tissue="all", threads=1)
    with open_slide(tmp_path / "odd.png", mpp=mpp) as slide, Run(tmp_path / "o", "segment") as run:
        summary = segment_slide(slide, backend, tmp_path / "o", settings, run)
    store = ResultStore.open(tmp_path / "o")
    mask = whole_mask(store)
    assert mask.shape == (int(np.ceil(height * mpp)), int(np.ceil(width * mpp)))
    assert (mask[:, -1] == 2).all()
    assert (mask < BACKGROUND).all()
    assert summary.tissue_mm2 == pytest.approx(mask.size / 1e6)
    assert (store.read_mask(Region(0, 0, width, height), (width, height)) < BACKGROUND).all()


@pytest.mark.parametrize("scale", [0.3, 1.996, 3.7, 300.1])
def test_no_pixel_of_the_mask_is_left_out_whatever_the_rounding_of_blocks(scale: float):
    for limit in range(1, 20_000, 97):
        frame = MaskFrame(limit, limit, scale)
        mask = TissueMask(np.ones((1, 1), dtype=np.bool_), limit, limit, None)
        last = frame.bounds.x1 - 1
        reader = BlockReader(mask.read, frame, np.array(False), 4)
        assert reader.read(Box(last, last, last + 1, last + 1)).all()


def test_a_slip_in_the_resolution_is_named(slide_path: Path, backend: ColourBackend):
    with (
        open_slide(slide_path, mpp=10) as slide,
        pytest.raises(
            ConfigError, match=r"painted\.png has 10 µm per pixel, but colours sees tissue at 1, .* with --mpp"
        ),
    ):
        check_request(slide, backend.info, SegmentSettings(), any_size=True)
    with open_slide(slide_path, mpp=4) as slide:
        check_request(slide, backend.info, SegmentSettings(), any_size=True)


def test_requests_are_checked_before_anything_happens(slide_path: Path, backend: ColourBackend, tmp_path: Path):
    with open_slide(slide_path) as slide, pytest.raises(MissingMppError, match="--mpp"):
        check_request(slide, backend.info, SegmentSettings(), any_size=True)
    with open_slide(slide_path, mpp=0.5) as slide:
        with pytest.raises(
            ConfigError, match=r"region 900 0 31 10 reaches outside of painted\.png, which is 930 x 710"
        ):
            check_request(slide, backend.info, SegmentSettings(region=Region(900, 0, 31, 10)), any_size=True)
        with pytest.raises(ConfigError, match="stride_px 30"):
            check_request(slide, backend.info, SegmentSettings(stride_px=30), any_size=True)
        run = Run(tmp_path / "never", "segment")
        with pytest.raises(ConfigError):
            segment_slide(slide, backend, tmp_path / "never", SegmentSettings(stride_px=30), run)
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_network_without_numbers_is_refused(bad):
    class Nothing(torch.nn.Module):
        encoder = torch.nn.Identity()

        def from_maps(self, images):
            logits = torch.zeros(len(images), 3, 16, 16)
            logits[0, 1, 2, 3] = bad
            return LPDOutput({}, {}, {3: logits}, {3: logits})

    class Info:
        path, input, calibration = "c.safetensors", ColourBackend(Path("c")).info.input, None
        model = ModelConfig("mobilenetv2_100", 3)

    backend = NetworkBackend(Nothing(), Info(), torch.device("cpu"))
    assert backend.any_size
    with pytest.raises(CheckpointError, match="no numbers"):
        backend.logits(np.zeros((1, 64, 64, 3), dtype=np.uint8))


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_named(name, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=f"device {name} is not available"):
        devices.choose_device(name)
    assert devices.choose_device("auto").type == "cpu"


def test_threads_are_set_for_the_block_only():
    before = torch.get_num_threads()
    with devices.cpu_threads(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_the_gate_is_the_mean_of_presence_over_one_tile_around_a_pixel(segment: Segment, backend: ColourBackend):
    """Red is present left of mask column 200, in every window alike; half a tile beyond, its gate is half shut."""

    def halves(windows):
        pixel, presence = ColourBackend.logits(backend, windows)
        pixel[:, 0], pixel[:, 1:] = 9.0, -9.0
        # What a window shows tells where it lies: the slide below has its column in every pixel.
        column = torch.from_numpy(windows[:, ::4, ::4, 0].astype(np.float32)) * 2
        presence[:, 0] = torch.where(column < 200, 10.0, -10.0)
        return pixel, presence

    backend.logits = halves  # type: ignore[method-assign]
    ramp = np.arange(930)[None, :, None] // 4
    store, _ = segment(tissue="all", pixels=np.broadcast_to(ramp, (710, 930, 3)).astype(np.uint8))
    scores = all_scores(store)[0, 40].astype(float) / 254
    cells = np.arange(len(scores)) * 4 + 2
    assert (scores[cells < 160] > 0.99).all()
    assert (scores[(cells > 240) & (cells < 400)] < 0.01).all()
    assert 0.2 < np.interp(200, cells, scores) < 0.8


def test_beyond_the_slide_the_network_sees_its_own_zero(segment: Segment, backend: ColourBackend):
    seen = []
    colours = backend.logits
    backend.logits = lambda windows: (seen.append(windows), colours(windows))[1]  # type: ignore[method-assign]
    segment(tissue="all", region=Region(0, 0, 8, 8), batch_size=1)
    assert (seen[0][0, :32] == 128).all()
    assert (seen[0][0, 32:, 32:] != 128).any()
