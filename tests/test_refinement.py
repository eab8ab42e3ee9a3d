"""Refinement of the names' scores: PAMR against its formulas, and what every segmenter makes of it."""

import tracemalloc

import numpy as np
import pytest
import torch

from support import plain_clip_diy, plain_pamr, tiny_student
from support.plain_windows import bilinear, picture, settings
from support.small_clip import small_clip
from wordmask.methods import MethodError
from wordmask.names.vocabulary import Vocabulary
from wordmask.pictures.windows import SlidingWindows, merge_argmax, merge_maps
from wordmask.refinement import by_name as refinement
from wordmask.refinement import pamr as pamr_module
from wordmask.refinement.bilateral_solver import BilateralGrid
from wordmask.refinement.by_name import refine_names, working_size
from wordmask.refinement.pamr import PamrParameters, PixelAffinity, pamr
from wordmask.segmenters import load
from wordmask.segmenters.clip_diy import ClipDiy
from wordmask.segmenters.maskclip import MaskClip
from wordmask.segmenters.namedmask import NamedMask, NamedMaskSettings

NAMES = ["dog", "traffic light", "grass"]
SMALL = PamrParameters(iterations=3, dilations=(1, 3))


@pytest.fixture(scope="module")
def clip():
    return small_clip()


def two_halves(height, width, noise=0):
    """Dark on the left, light on the right."""
    image = np.zeros((height, width, 3), np.uint8) + 60
    image[:, width // 2 :] = 200
    wobble = np.random.default_rng(0).integers(-noise, noise + 1, image.shape)
    return (image + wobble).astype(np.uint8)


def as_tensor(image):
    return torch.from_numpy(image).permute(2, 0, 1).double()


def pamr_of(image, maps):
    """`maps`: (K, H, W), tensor or array."""
    return pamr(as_tensor(image).float() / 255, torch.as_tensor(maps)).numpy()


@pytest.mark.parametrize(
    ("size", "parameters"), [((7, 12), SMALL), ((13, 9), SMALL), ((1, 5), SMALL), ((16, 11), PamrParameters(2))]
)
@pytest.mark.parametrize("strip", [1, 2**20])
def test_pamr_equals_its_formulas_however_it_is_cut_into_strips(monkeypatch, size, parameters, strip):
    monkeypatch.setattr(pamr_module, "STRIP_NUMBERS", {"cpu": strip})
    image = picture(*size)
    maps = np.random.default_rng(1).random((4, *size))
    refined = pamr(as_tensor(image), torch.from_numpy(maps), parameters)
    expected = plain_pamr.pamr(image.astype(float), maps, parameters.iterations, parameters.dilations)
    assert np.abs(refined.numpy() - expected).max() < 1e-10
    single = pamr(as_tensor(image).float(), torch.from_numpy(maps).float(), parameters)
    assert np.abs(single.numpy() - expected).max() < 1e-5


def test_pamr_of_a_plain_colour_is_a_plain_mean():
    image = torch.full((3, 5, 5), 0.5)
    maps = torch.zeros(1, 5, 5)
    maps[0, 2, 2] = 8
    once = pamr(image, maps, PamrParameters(1, (1,)))
    assert torch.allclose(once[0, 1:4, 1:4], torch.tensor([[1.0, 1, 1], [1, 0, 1], [1, 1, 1]]))


def test_pamr_s_weights_do_not_hang_on_the_scale_of_colours():
    image = as_tensor(picture(9, 9))
    assert torch.allclose(PixelAffinity(image, SMALL).weights, PixelAffinity(image / 255, SMALL).weights, atol=1e-6)
    with pytest.raises(ValueError, match="not of this picture"):
        PixelAffinity(image, SMALL).refine(torch.rand(2, 9, 8))


def test_pamr_keeps_a_sum_of_one_and_leaves_its_input_alone():
    maps = torch.rand(5, 20, 24).softmax(dim=0)
    before = maps.clone()
    refined = pamr(as_tensor(picture(20, 24)).float(), maps)
    assert torch.allclose(refined.sum(dim=0), torch.ones(20, 24), atol=1e-5)
    assert torch.equal(maps, before)


@pytest.mark.parametrize("how", ["pamr", "solver"])
def test_a_coarse_border_moves_to_the_picture_s_edge(how):
    image = two_halves(64, 96, noise=6)
    truth = np.zeros((64, 96), int)
    truth[:, 48:] = 1
    soft = torch.linspace(0, 1, 96).expand(64, 96).sub(0.55).mul(12).sigmoid()  # the border five pixels too far right
    maps = torch.stack([1 - soft, soft])
    before = maps.argmax(dim=0).numpy()
    after, scores = refine_names(image, before, lambda which, size: maps[which], how)
    assert (before != truth).mean() > 0.04
    assert (after != truth).mean() < 0.25 * (before != truth).mean()
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()


def test_the_solver_solves_for_every_name_by_itself():
    image = two_halves(30, 40, noise=10)
    maps = torch.rand(3, 30, 40, generator=torch.Generator().manual_seed(0)).softmax(dim=0)
    labels, scores = refine_names(image, maps.argmax(dim=0).numpy(), lambda which, size: maps[which], "solver")
    solved = np.stack([BilateralGrid(image).solve(own.double().numpy()) for own in maps])
    assert np.array_equal(labels, solved.argmax(axis=0))
    assert np.abs(scores - solved.max(axis=0)).max() < 1e-6


def test_only_names_that_are_there_are_refined_a_few_at_a_time(monkeypatch):
    monkeypatch.setattr(refinement, "NAMES_TOGETHER", 4)
    image, there, asked = picture(24, 32), np.array([3, 500, 501, 777, 999]), []
    labels = np.random.default_rng(0).choice(there, (24, 32))
    scores = torch.rand(1000, 24, 32, generator=torch.Generator().manual_seed(0))
    found, sure = refine_names(image, labels, lambda which, size: asked.append(which) or scores[which], "pamr")
    assert asked == [[3, 500, 501, 777], [999]]
    refined = pamr_of(image, scores[there])
    assert np.array_equal(found, there[refined.argmax(axis=0)])
    assert np.allclose(sure, refined.max(axis=0))


def test_a_large_picture_is_refined_at_a_bounded_size():
    assert working_size(480, 640) == (480, 640)
    height, width = working_size(4000, 6000)
    assert height * width <= refinement.MOST_PIXELS
    assert width / height == pytest.approx(1.5, abs=0.01)
    assert working_size(1, 10_000_000) == working_size(10_000_000, 1)[::-1] == (1, refinement.MOST_PIXELS)


def test_memory_is_bounded_for_a_thousand_names_on_a_large_picture(monkeypatch):
    monkeypatch.setattr(refinement, "MOST_PIXELS", 2**10)
    image, asked = np.zeros((600, 800, 3), np.uint8), []
    labels = np.arange(600 * 800).reshape(600, 800) % 40

    def maps_of(which, size):
        asked.append(len(which) * size[0] * size[1])
        return torch.rand(len(which), *size)

    tracemalloc.start()
    refine_names(image, labels, maps_of, "pamr")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert max(asked) <= refinement.NAMES_TOGETHER * 2**10
    assert peak < 50 * 600 * 800  # NumPy's: a few arrays of the picture's size, whatever the number of names


@pytest.mark.parametrize("size", [(50, 70), (32, 90), (96, 40)])
def test_merged_maps_are_what_is_compared(size):
    plan = SlidingWindows(45, 61, 32, 16)
    maps = torch.rand(len(plan), 5, 4, 4)
    merged = merge_maps(plan, maps, 8, size)
    labels, scores = merge_argmax(plan, maps, 8, size)
    assert merged.shape == (5, *size)
    assert torch.allclose(merged.amax(dim=0), scores, atol=1e-5)
    assert (merged.argmax(dim=0) == labels).float().mean() > 0.99
    pixels = torch.nn.functional.interpolate(maps, scale_factor=8, mode="bilinear")
    whole = plan.merge(pixels[..., :32, :32])
    expected = bilinear(whole.permute(1, 2, 0).double().numpy(), size)
    assert np.abs(merged.permute(1, 2, 0).numpy() - expected).max() < 1e-5


def refined(clip, size, names=NAMES, **changes):
    return MaskClip(clip, settings(**changes)).segment(picture(*size), names, fill=True)


@pytest.mark.parametrize("how", ["pamr", "solver"])
def test_a_segmenter_refines_the_scores_that_it_would_compare(clip, how):
    image = picture(48, 64)
    plain, own = refined(clip, (48, 64)), refined(clip, (48, 64), refine=how)
    assert not np.array_equal(plain.labels, own.labels)
    seen = MaskClip(clip, settings()).look(image)
    maps = seen._score(seen._segmenter.embed(Vocabulary.of(NAMES)))
    labels, scores = refine_names(
        image, plain.labels, lambda which, size: merge_maps(seen._plan, maps[:, which], 8, size), how
    )
    assert np.array_equal(own.labels, labels)
    assert np.allclose(own.scores, scores)


def test_background_is_where_no_refined_score_reaches_the_threshold(clip):
    plain = refined(clip, (48, 64), ["dog", "grass"], refine="pamr")
    own = refined(clip, (48, 64), ["dog", "background", "grass"], refine="pamr", background_threshold=0.6)
    expected = np.where(plain.scores < 0.6, 1, np.where(plain.labels == 1, 2, 0))
    assert 0 < (expected == 1).mean() < 1
    assert np.array_equal(own.labels, expected)


@pytest.mark.parametrize("how", ["pamr", "solver"])
@pytest.mark.parametrize("size", [(1, 1), (16, 16), (1, 200), (300, 20)])
def test_odd_sizes_are_refined(clip, how, size):
    result = refined(clip, size, refine=how)
    assert result.labels.shape == size
    assert np.isfinite(result.scores).all()


def test_a_refinement_that_there_is_not_is_named():
    with pytest.raises(MethodError, match="refine='crf' cannot be used: input should be one of none, pamr, solver"):
        load("maskclip", refine="crf")


@pytest.mark.parametrize("objectness", [None, plain_clip_diy.ramp])
def test_clip_diy_refines_its_probabilities(clip, objectness):
    names, image = plain_clip_diy.NAMES, picture(40, 60)
    method = ClipDiy(clip, plain_clip_diy.settings(refine="pamr"), objectness=objectness)
    own = method.segment(image, names, fill=True)
    guide = None if objectness is None else objectness([image])[0].astype(float)
    maps = plain_clip_diy.by_the_book(clip, image, (40, 60), names, (32, 16), objectness=guide)
    present = np.unique(maps.argmax(axis=-1))
    expected = pamr(as_tensor(image) / 255, torch.from_numpy(maps[..., present]).permute(2, 0, 1)).numpy()
    assert np.abs(own.scores - expected.max(axis=0)).max() < 1e-5
    ordered = np.sort(expected, axis=0)
    clear = ordered[-1] - ordered[-2] > 1e-5 if len(present) > 1 else np.ones((40, 60), bool)
    assert clear.mean() > 0.9
    assert np.array_equal(own.labels[clear], present[expected.argmax(axis=0)][clear])


@pytest.mark.parametrize("names", [["dog", "cat"], ["cat", "background"]])
def test_a_student_refines_its_classes_probabilities(names):
    student, image = tiny_student.tiny_student(), tiny_student.picture(1)
    plain, refining = (
        NamedMask(student, NamedMaskSettings(refine=how), device="cpu", precision="fp32") for how in ("none", "pamr")
    )
    logits = tiny_student.expected_logits(refining, image)  # of background, dog, cat, sofa
    meaning = np.array([1, 1, 0, 1]) if "background" in names else np.array([0, 1])
    logits = logits if "background" in names else logits[[1, 2]]
    present = np.unique(logits.argmax(dim=0))
    expected = pamr_of(image, logits.softmax(dim=0)[present])
    result = refining.segment(image, names, fill=True)
    assert np.array_equal(result.labels, meaning[present[expected.argmax(axis=0)]])
    assert np.abs(result.scores - expected.max(axis=0)).max() < 1e-5
    assert not np.array_equal(result.labels, plain.segment(image, names, fill=True).labels)
