"""Refinement on slides: the same mask for any panel, region or interruption; borders snap to edges of colour."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from lpd.errors import SlideError
from lpd.evaluation.refining import refine
from lpd.inference import refining
from lpd.inference.frame import Box
from lpd.inference.refining import Refinement, refinement_of
from lpd.inference.settings import SegmentSettings
from lpd.inference.wanted import BoxPixels, Wanted
from lpd.refinement.crf import CrfSettings, refine_crf
from lpd.refinement.pamr import PamrSettings, refine_pamr
from lpd.runs import Run, request_stop
from lpd.slide.polygon import Polygon
from lpd.slide.region import Region
from lpd.slide.slide import Slide

from .conftest import ColourBackend, Segment, all_scores, paint_slide, whole_mask
from .test_going_on import begin, levels_of
from .test_joining import middles_inside

BACKGROUND = 3
LEFT = Polygon((((310.51, 100.13), (380.07, 120.29), (340.17, 300.31)),), "Left")
RIGHT = Polygon((((300.33, 140.13), (555.41, 90.07), (540.29, 470.17), (400.3, 350.7)),), "Right")  # off the slide, too
SMALL_PAMR = PamrSettings(iterations=4, dilations=(1, 3, 6))
SMALL_CRF = CrfSettings(iterations=2, bilateral_sigma_xy=30, bilateral_sigma_rgb=60)


def small_pamr(images: Tensor, probabilities: Tensor) -> Tensor:
    return refine_pamr(images, probabilities, SMALL_PAMR)


def small_crf(images: Tensor, probabilities: Tensor) -> Tensor:
    return refine_crf(images, probabilities, SMALL_CRF)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refinements of short reach in small blocks, so that the painted slide holds several of them."""
    ways = {"pamr": Refinement(small_pamr, 128, SMALL_PAMR.reach_px), "crf": Refinement(small_crf, 128, 32)}
    monkeypatch.setattr(refining, "_REFINEMENTS", ways)


class BlurredBackend(ColourBackend):
    """The colour rule seen through a fog: each cell answers for the 9 × 9 cells around it, so borders are vague."""

    def logits(self, windows):
        pixel, presence = super().logits(windows)
        blurred = torch.nn.functional.avg_pool2d(torch.nn.functional.pad(pixel, (4,) * 4, mode="replicate"), 9, 1)
        return blurred / 4, presence


@pytest.fixture
def foggy(backend: ColourBackend) -> BlurredBackend:
    return BlurredBackend(backend.info.path)


def test_nothing_is_refined_unless_it_is_asked_for():
    assert SegmentSettings().refinement == "none"
    assert refinement_of("none") is None


def test_the_parameters_are_those_that_evaluation_scores():
    for name, function in (("pamr", refine_pamr), ("crf", refine_crf)):
        found = refinement_of(name)
        assert found is not None
        assert found.refine is function
    assert refinement_of("pamr").halo_px == 10 * 24  # steps times the longest of them


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", ["pamr", "crf"])
def test_panels_batches_and_threads_change_nothing(segment: Segment, foggy, name):
    first, summary = segment(using=foggy, refinement=name)
    plain, _ = segment(using=foggy)
    expected, scores = whole_mask(first), all_scores(first)
    assert 0.002 < (expected != whole_mask(plain)).mean() < 0.5
    assert summary.tissue_mm2 == pytest.approx((expected < BACKGROUND).sum() / 1e6)
    for choices in ({"panel_px": 64}, {"panel_px": 96, "batch_size": 1}, {"panel_px": 2000, "reader_threads": 5}):
        store, _ = segment(using=foggy, refinement=name, **choices)
        np.testing.assert_array_equal(whole_mask(store), expected)
        np.testing.assert_array_equal(all_scores(store), scores)


@pytest.mark.usefixtures("quick")
def test_glass_stays_background_and_stored_scores_stay_unrefined(segment: Segment, foggy):
    plain, _ = segment(using=foggy)
    refined, _ = segment(using=foggy, refinement="pamr")
    np.testing.assert_array_equal(whole_mask(plain) == BACKGROUND, whole_mask(refined) == BACKGROUND)
    np.testing.assert_array_equal(all_scores(plain), all_scores(refined))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", ["pamr", "crf"])
@pytest.mark.parametrize(("mpp", "region"), [(0.53, Region(300, 200, 351, 203)), (0.5, Region(925, 705, 5, 5))])
def test_a_region_is_a_crop_of_the_whole(segment: Segment, foggy, name, mpp: float, region: Region):
    small = {"window_px": 96, "stride_px": 64}
    whole, _ = segment(using=foggy, mpp=mpp, refinement=name, **small)
    part, summary = segment(using=foggy, mpp=mpp, refinement=name, region=region, panel_px=100, **small)
    box = part.meta.frame.to_mask(region)
    rows, columns = slice(box.y0, box.y1), slice(box.x0, box.x1)
    mask = whole_mask(part)
    np.testing.assert_array_equal(mask[rows, columns], whole_mask(whole)[rows, columns])
    mask[rows, columns] = 255
    assert (mask == 255).all()
    assert not summary.cancelled


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("name", "mpp", "panel_px"), [("pamr", 0.53, 96), ("crf", 0.5, 2000)])
def test_polygons_are_cut_out_of_the_whole_and_add_up_to_it(segment: Segment, foggy, tmp_path, name, mpp, panel_px):
    pixels = paint_slide(tmp_path / "small.png", 620, 380)
    choices = {"using": foggy, "mpp": mpp, "refinement": name, "window_px": 64, "stride_px": 32}
    whole, _ = segment(**choices, pixels=pixels)
    expected = whole_mask(whole)
    assert (expected != whole_mask(segment(**{**choices, "refinement": "none"})[0])).mean() > 0.001
    folder = tmp_path / "joined"
    for polygons in ([LEFT], [LEFT, RIGHT]):  # across a border of blocks, and in several of them
        drawn = [polygon.to_dict() for polygon in polygons]
        part, summary = segment(**choices, into=folder, resume=True, panel_px=panel_px, polygons=drawn)
        inside = middles_inside(part.mask_shape, 1 / mpp, *polygons)
        np.testing.assert_array_equal(whole_mask(part), np.where(inside, expected, 255))
    assert summary.kept > 0
    joined, _ = segment(**choices, into=folder, resume=True, panel_px=panel_px)
    for found, level in zip(levels_of(joined), levels_of(whole), strict=True):
        np.testing.assert_array_equal(found, level)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("share", [0.3, 0.6, 0.97])
@pytest.mark.parametrize("region", [None, {"x_l0": 133, "y_l0": 77, "width_l0": 700, "height_l0": 560}])
def test_a_run_that_goes_on_ends_like_one_straight_through(segment: Segment, backend, tmp_path, share, region):
    choices = {"window_px": 64, "stride_px": 32, "panel_px": 96, "adapt": False, "refinement": "pamr"}
    expected, straight = segment(**choices, region=region)
    begin(segment, backend, tmp_path / "killed", round(share * straight.windows), region=region, refinement="pamr")
    store, summary = segment(into=tmp_path / "killed", resume=True, **choices, region=region)
    for found, level in zip(levels_of(store), levels_of(expected), strict=True):
        np.testing.assert_array_equal(found, level)
    assert (summary.kept > 0) == (share > 0.5)
    assert summary.tissue_mm2 == pytest.approx(straight.tissue_mm2)
    assert store.changes().complete


@pytest.mark.parametrize("change", [{"refinement": "pamr"}, {"tta": True}])
def test_a_result_made_in_another_way_is_not_gone_on_with(segment: Segment, change):
    plain, _ = segment()
    _, summary = segment(into=plain.folder, resume=True, **change)
    assert summary.kept == 0


def test_changes_cover_the_request_exactly_once_row_by_row(segment: Segment, quick):
    store, _ = segment(refinement="pamr", panel_px=96)
    frame, last = store.meta.frame, 0
    counts = np.zeros(store.mask_shape, dtype=int)
    for rect in store.changes().rects:
        box = frame.to_mask(rect)
        counts[box.y0 : box.y1, box.x0 : box.x1] += 1
        assert box.y0 >= last
        last = box.y0
    assert counts.min() == counts.max() == 1


class StoppedWhileRefining(Run):
    """Somebody stops when all windows have been seen and the last blocks are being refined."""

    def advance(self, done, total, unit="tiles"):
        if done == total:
            request_stop(self.folder)
        return super().advance(done, total, unit)


def test_a_stop_while_blocks_are_refined_leaves_the_rest_for_later(segment: Segment, quick, tmp_path):
    choices = {"refinement": "pamr", "panel_px": 96}
    stopped, summary = segment(run_kind=StoppedWhileRefining, into=tmp_path / "stopped", **choices)
    assert summary.windows == summary.planned_windows
    assert summary.cancelled
    assert not stopped.changes().complete
    finished = whole_mask(stopped) != 255
    assert 0 < finished.mean() < 1
    store, summary = segment(into=tmp_path / "stopped", resume=True, **choices)
    assert not summary.cancelled
    np.testing.assert_array_equal(whole_mask(store), whole_mask(segment(**choices)[0]))


def test_a_small_slide_gets_what_evaluation_gives_a_tile(segment: Segment, foggy, monkeypatch):
    """Cells of 4 px that all pixels agree in, so that both enlarge the same scores."""
    tile = paint_slide(foggy.info.path.parent / "tile.png", 448, 448)
    seen = {}

    def remembering(images: Tensor, probabilities: Tensor) -> Tensor:
        seen.update(images=images, probabilities=probabilities)
        return refine("pamr", images, probabilities)

    monkeypatch.setitem(refining._REFINEMENTS, "pamr", Refinement(remembering, 512, 240))
    store, _ = segment(using=foggy, pixels=tile, mpp=1.0, tissue="all", refinement="pamr")
    assert torch.equal((seen["images"][0] * 255).round().permute(1, 2, 0), torch.from_numpy(tile).float())
    torch.testing.assert_close(seen["probabilities"].sum(1), torch.ones(1, 448, 448))
    expected = refine_pamr(seen["images"], seen["probabilities"])[0].argmax(0)
    np.testing.assert_array_equal(whole_mask(store), expected.numpy())


def two_colours(edge: int, width: int = 400, height: int = 300) -> np.ndarray:
    """Pink left of column ``edge``, violet from there on; red leads in the one, blue in the other."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[:, :edge], pixels[:, edge:] = (200, 120, 150), (120, 80, 190)
    return pixels


class LateBackend(ColourBackend):
    """Says red where red leads, but sees the picture 3 cells further left than it is, and vaguely."""

    def logits(self, windows):
        pixel, presence = super().logits(windows)
        late = torch.nn.functional.pad(pixel, (7, 1, 4, 4), mode="replicate")
        return torch.nn.functional.avg_pool2d(late, 9, 1)[..., : pixel.shape[3]] / 8, presence


@pytest.mark.parametrize("name", ["pamr", "crf"])
def test_borders_snap_to_the_edge_of_colour(segment: Segment, backend, name):
    edge = 190
    wrong = {}
    for way in ("none", name):
        late = LateBackend(backend.info.path)
        store, _ = segment(using=late, pixels=two_colours(edge), mpp=1.0, tissue="all", refinement=way)
        expected = np.where(np.arange(400) < edge, 0, 2)
        wrong[way] = int((whole_mask(store)[150] != expected).sum())
    assert wrong["none"] >= 8
    assert wrong[name] == 0


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("width", "height"), [(2, 2), (40, 30), (257, 131), (130, 7)])
def test_slides_of_any_size_are_covered(segment: Segment, foggy, width, height):
    pixels = two_colours(width // 2, width, height)
    store, summary = segment(using=foggy, pixels=pixels, mpp=1.0, tissue="all", refinement="pamr", window_px=64)
    assert whole_mask(store).shape == (height, width)
    assert (whole_mask(store) < BACKGROUND).all()
    assert not summary.cancelled


@pytest.mark.usefixtures("quick")
def test_of_a_tall_slide_only_the_rows_around_a_block_are_kept(segment: Segment, foggy, monkeypatch):
    monkeypatch.setitem(refining._REFINEMENTS, "crf", Refinement(lambda _images, given: given, 128, 32))
    kept: list[int] = []
    write = refining.RefiningWriter.write

    def watching(self, blended):
        write(self, blended)
        boxes = [box for box, _ in self._kept]
        kept.append(max(b.y1 for b in boxes) - min(b.y0 for b in boxes))

    monkeypatch.setattr(refining.RefiningWriter, "write", watching)
    pixels = two_colours(60, 128, 2000)
    segment(using=foggy, pixels=pixels, mpp=1.0, tissue="all", refinement="crf", panel_px=64, window_px=64)
    # A block and its halos, a row of blocks that waits for its own, and a row of panels at either end.
    assert max(kept) <= 2 * 128 + 2 * 32 + 3 * 64


@pytest.mark.usefixtures("quick")
def test_pixels_that_no_window_saw_say_nothing(segment: Segment, foggy):
    """Where tissue ends, the mask is what it is with glass looked at, but for the blur across the border."""
    some, _ = segment(using=foggy, refinement="pamr", window_px=64, stride_px=32)
    everything, _ = segment(using=foggy, refinement="pamr", window_px=64, stride_px=32, tissue="all")
    tissue = whole_mask(some) != BACKGROUND
    assert (whole_mask(some) == whole_mask(everything))[tissue].mean() > 0.99


@pytest.mark.parametrize("name", ["pamr", "crf"])
def test_where_one_class_leads_everywhere_refining_cannot_change_it(name):
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, 40, 50, generator=generator)
    scores = torch.rand(1, 3, 40, 50, generator=generator)
    scores[:, 1] = scores.amax(1) + 1e-3
    refined = refinement_of(name).refine(image, scores.softmax(1))
    assert (refined.argmax(1) == 1).all()


def test_a_block_of_one_class_is_not_read_again(segment: Segment, backend, monkeypatch):
    def refuse(*_tensors):
        raise AssertionError("refined")

    monkeypatch.setitem(refining._REFINEMENTS, "pamr", Refinement(refuse, 128, 32))
    store, _ = segment(pixels=two_colours(400), mpp=1.0, tissue="all", refinement="pamr")
    assert (whole_mask(store) == 0).all()


def test_blocks_lie_on_a_grid_of_their_own_and_depend_on_their_halo_inside_the_slide():
    way = Refinement(small_pamr, 128, 32)
    blocks = list(way.blocks(Wanted(BoxPixels(Box(130, 5, 300, 140)))))
    assert blocks == [Box(x, y, x + 128, y + 128) for y in (0, 128) for x in (128, 256)]
    assert way.depends_on(Box(130, 5, 300, 140), Box(0, 0, 390, 200)) == Box(96, 0, 390, 200)
    assert way.seen(blocks[0], Box(0, 0, 390, 200)) == Box(96, 0, 288, 160)


@pytest.mark.parametrize("reach_more", [0, -1])
def test_the_reach_of_pamr_is_exact(reach_more):
    """A pixel moved at the reach's distance can be felt, one beyond it cannot."""
    settings = PamrSettings(iterations=3, dilations=(1, 4))
    assert settings.reach_px == 12
    generator = torch.Generator().manual_seed(1)
    image, scores = torch.rand(1, 3, 1, 80, generator=generator), torch.rand(1, 2, 1, 80, generator=generator)
    changed = scores.clone()
    changed[..., 40 + settings.reach_px - reach_more] += 1
    both = [refine_pamr(image.double(), p.double(), settings)[..., 40] for p in (scores, changed)]
    assert torch.equal(*both) == (reach_more < 0)
    recoloured = image.clone()
    recoloured[..., 40 + settings.reach_px - reach_more] = 0
    same = torch.equal(both[0], refine_pamr(recoloured.double(), scores.double(), settings)[..., 40])
    assert same == (reach_more < 0)


def test_the_slide_is_read_once_for_network_and_refinement(segment: Segment, foggy, monkeypatch):
    reads: list[Region] = []
    read = Slide.read

    def counting(self, region, size):
        reads.append(region)
        return read(self, region, size)

    monkeypatch.setattr(Slide, "read", counting)
    segment(using=foggy, adapt=False)
    plain = len(reads)
    segment(using=foggy, adapt=False, refinement="pamr")
    assert len(reads) - plain <= plain


def test_a_slide_that_breaks_while_it_is_refined_is_one_error(segment: Segment, foggy, quick, monkeypatch):
    def breaking(_images, _probabilities):
        raise SlideError("damaged")

    monkeypatch.setitem(
        refining._REFINEMENTS, "pamr", dataclasses.replace(refining._REFINEMENTS["pamr"], refine=breaking)
    )
    with pytest.raises(SlideError):
        segment(using=foggy, refinement="pamr")


@pytest.mark.usefixtures("quick")
def test_that_windows_are_all_seen_and_blocks_are_not_is_said(segment: Segment, foggy):
    said: list[tuple[str, bool]] = []

    class Listening(Run):
        def say(self, message: str) -> None:
            said.append((message, self._state.progress.done == self._state.progress.total > 0))
            super().say(message)

    segment(using=foggy, refinement="pamr", run_kind=Listening)
    assert said[-2:] == [("refining the last part", True), ("", True)]
    said.clear()
    segment(using=foggy, run_kind=Listening)
    assert "refining the last part" not in [message for message, _ in said]
