"""What PAMR and the CRF share: edges, flat images, batches, extremes, sizes and refusals."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from lpd.errors import ShapeError
from lpd.refinement.crf import CrfSettings, refine_crf
from lpd.refinement.pamr import PamrSettings, refine_pamr

EDGE = 20
both = pytest.mark.parametrize("refine", [refine_pamr, refine_crf])


@both
def test_a_colour_edge_pulls_the_border_to_it(refine, two_colours, late_border):
    truth = (torch.arange(40) >= EDGE).expand(1, 32, 40)
    before = (late_border.argmax(1).bool() != truth).float().mean()
    after = (refine(two_colours, late_border, None).argmax(1).bool() != truth).float().mean()
    assert before == pytest.approx(4 / 40)
    assert after == 0


@both
def test_a_flat_image_leaves_uniform_labels(refine):
    given = torch.tensor([0.5, 0.3, 0.2])[None, :, None, None].expand(1, 3, 16, 18)
    refined = refine(torch.full((1, 3, 16, 18), 0.7), given, None)
    assert (refined.argmax(1) == 0).all()
    if refine is refine_pamr:  # an average of equal values; a CRF grows surer, and less so at the border
        torch.testing.assert_close(refined, given)


@both
def test_no_class_is_preferred_where_none_was(refine, patches):
    refined = refine(patches(0), torch.full((1, 4, 20, 24), 0.25), None)
    torch.testing.assert_close(refined, torch.full_like(refined, 0.25))


@both
def test_classes_may_be_numbered_otherwise(refine, patches, guesses):
    order = [2, 0, 1]
    expected = refine(patches(1), guesses(2), None)[:, order]
    torch.testing.assert_close(refine(patches(1), guesses(2)[:, order], None), expected, atol=1e-5, rtol=1e-4)


@both
def test_a_batch_is_its_images_one_by_one(refine, patches, guesses):
    images = torch.cat([patches(seed) for seed in range(3)])
    given = torch.cat([guesses(seed) for seed in range(3)])
    alone = torch.cat([refine(images[i : i + 1], given[i : i + 1], None) for i in range(3)])
    torch.testing.assert_close(refine(images, given, None), alone, atol=1e-6, rtol=0)


@both
def test_the_same_input_gives_the_same_output(refine, patches, guesses):
    assert torch.equal(refine(patches(3), guesses(3), None), refine(patches(3), guesses(3), None))


@both
def test_certain_probabilities_stay_finite_and_sum_to_one(refine, patches):
    logits = torch.tensor([1e30, 0.0, -1e30])[torch.randint(3, (1, 3, 20, 24), generator=torch.manual_seed(0))]
    refined = refine(patches(4), logits.softmax(1), None)
    assert refined.dtype == torch.float32
    assert refined.isfinite().all()
    torch.testing.assert_close(refined.sum(1), torch.ones(1, 20, 24))


@both
def test_one_pixel_and_one_class(refine):
    torch.testing.assert_close(refine(torch.rand(1, 3, 1, 1), torch.ones(1, 1, 1, 1), None), torch.ones(1, 1, 1, 1))


@both
def test_probabilities_take_the_size_of_the_image(refine, patches, guesses):
    small = guesses(5, height=5, width=6)
    large = functional.interpolate(small, (20, 24), mode="bilinear")
    torch.testing.assert_close(refine(patches(5), small, None), refine(patches(5), large, None))


@both
def test_half_precision_is_computed_in_single(refine, patches, guesses):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        refined = refine(patches(6), guesses(6).half(), None)
    assert refined.dtype == torch.float32
    torch.testing.assert_close(refined, refine(patches(6), guesses(6).half().float(), None))


@both
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_the_same_as_a_cpu_and_the_same_twice(refine, patches, guesses):
    once, again = (refine(patches(9).cuda(), guesses(9).cuda(), None) for _ in range(2))
    assert torch.equal(once, again)
    torch.testing.assert_close(once.cpu(), refine(patches(9), guesses(9), None), atol=1e-3, rtol=0)


@both
def test_nothing_is_written_into_the_inputs_and_no_gradient_is_kept(refine, patches, guesses):
    image, given = patches(7), guesses(7).requires_grad_()
    before = image.clone(), given.detach().clone()
    assert not refine(image, given, None).requires_grad
    assert torch.equal(image, before[0])
    assert torch.equal(given, before[1])


@pytest.mark.parametrize(
    ("refine", "settings"), [(refine_pamr, PamrSettings(iterations=0)), (refine_crf, CrfSettings(iterations=0))]
)
def test_no_iteration_changes_nothing(refine, settings, patches, guesses):
    torch.testing.assert_close(refine(patches(8), guesses(8), settings), guesses(8))


@both
@pytest.mark.parametrize(
    ("image_shape", "shape"),
    [
        ((3, 8, 8), (1, 2, 8, 8)),
        ((1, 1, 8, 8), (1, 2, 8, 8)),
        ((1, 8, 8, 3), (1, 2, 8, 8)),
        ((2, 3, 8, 8), (1, 2, 8, 8)),
        ((1, 3, 8, 8), (2, 8, 8)),
        ((1, 3, 8, 8), (1, 0, 8, 8)),
        ((1, 3, 0, 8), (1, 2, 8, 8)),
    ],
)
def test_other_shapes_are_refused(refine, image_shape, shape):
    with pytest.raises(ShapeError, match="images"):
        refine(torch.zeros(image_shape), torch.zeros(shape), None)


@both
def test_8_bit_images_are_refused(refine):
    with pytest.raises(ShapeError, match="divide 8-bit images by 255"):
        refine(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.zeros(1, 2, 8, 8), None)
