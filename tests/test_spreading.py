"""LPOSS and class denoising as options of every method that scores patches of windows by any names."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import wordmask
from support.plain_windows import TOLERANCE, picture, settings
from support.small_clip import small_clip
from support.small_dino import small_dino
from wordmask.methods import MethodError, methods_of
from wordmask.names.vocabulary import Vocabulary
from wordmask.pictures.images import to_tensor
from wordmask.refinement.lposs import Lposs, LpossParameters, PatchGraph, PixelGraph
from wordmask.segmenters.base import SegmenterError
from wordmask.segmenters.maskclip import MaskClip
from wordmask.segmenters.open_vocabulary import staying

NAMES = ["dog", "traffic light", "grass"]
PARAMETERS = LpossParameters(neighbours=9)
KEEP = 1 - PARAMETERS.alpha


@pytest.fixture(scope="module")
def clip():
    return small_clip()


def segmenter(clip, refine="lposs", *, patch=8, **changes):
    made = MaskClip(clip, settings(refine=refine, **changes))
    made.lposs = Lposs(small_dino(patch, 32 // patch), pixels=refine == "lposs+", parameters=PARAMETERS)
    return made


def merged(plan, maps, cell):
    """Windows' maps (n, K, h, w) as pixels (K, H, W), window by window."""
    total = torch.zeros(maps.shape[1], plan.height, plan.width, dtype=torch.float64)
    count = torch.zeros(plan.height, plan.width)
    for box, window in zip(plan.boxes, maps, strict=True):
        fine = (window.shape[-2] * cell, window.shape[-1] * cell)
        pixels = F.interpolate(window[None].double(), size=fine, mode="bilinear")[0]
        place = slice(box.top, box.bottom), slice(box.left, box.right)
        total[:, *place] += pixels[:, : box.bottom - box.top, : box.right - box.left]
        count[place] += 1
    return total / count


def spread_by_the_book(made, image, patch=8):
    """MaskCLIP's probabilities of every window, on one graph of all of them, back to pixels: (K, H, W)."""
    plan, pixels = made.sliding.plan(*image.shape[:2]), to_tensor(image)
    text = made.embed(Vocabulary.of(NAMES))
    scores = torch.cat([made.score(made.read(window[None]), text) for window in plan.cut(pixels)])
    values = torch.cat([made.lposs.dino(window[None]).value_maps() for window in plan.cut(pixels)])
    if patch != 8:
        scores = F.interpolate(scores, size=values.shape[-2:], mode="bilinear")
    graph = PatchGraph(values, plan, patch, PARAMETERS)
    return merged(plan, KEEP * graph.solve(scores), patch)


@pytest.mark.parametrize("size", [(32, 32), (48, 72)])
@pytest.mark.parametrize("patch", [8, 16, 4])
def test_patches_of_all_windows_share_what_they_know(clip, size, patch):
    made, image = segmenter(clip, patch=patch), picture(*size)
    expected = spread_by_the_book(made, image, patch).numpy() if patch != 16 else None
    result = made.segment(image, NAMES, fill=True)
    if expected is None:  # a coarser grid is read at its own centres, where four patches meet
        text = made.embed(Vocabulary.of(NAMES))
        plan = made.sliding.plan(*size)
        scores = torch.cat([made.score(made.read(w[None]), text) for w in plan.cut(to_tensor(image))])
        values = torch.cat([made.lposs.dino(w[None]).value_maps() for w in plan.cut(to_tensor(image))])
        means = F.avg_pool2d(scores, 2)
        expected = merged(plan, KEEP * PatchGraph(values, plan, 16, PARAMETERS).solve(means), 16).numpy()
    assert np.abs(result.scores - expected.max(axis=0)).max() < TOLERANCE
    ordered = np.sort(expected, axis=0)
    clear = ordered[-1] - ordered[-2] > 1e-5
    assert np.array_equal(result.labels[clear], expected.argmax(axis=0)[clear])
    plain = MaskClip(clip, settings()).segment(image, NAMES, fill=True)
    assert (plain.labels != result.labels).any()


def test_pixels_share_what_they_know_after_the_patches(clip):
    made, image = segmenter(clip, "lposs+"), picture(48, 72) // 32 * 32
    before = spread_by_the_book(made, image).float()
    expected = KEEP * PixelGraph(to_tensor(image), PARAMETERS).solve(before)
    result = made.segment(image, NAMES, fill=True)
    assert np.abs(result.scores - expected.amax(dim=0).numpy()).max() < TOLERANCE
    assert np.abs(expected - before).max() > 1e-3


def test_a_resized_picture_is_spread_as_it_was_looked_at(clip):
    result = segmenter(clip, "lposs+", shorter_side=32).segment(picture(50, 70), NAMES, fill=True)
    assert result.labels.shape == (50, 70)


def test_results_do_not_depend_on_the_company(clip):
    made = segmenter(clip)
    images = [picture(48, 64), picture(32, 32, 1), picture(20, 26, 2), picture(48, 64, 3)]
    alone = [made.segment(image, NAMES, fill=True) for image in images]
    for one, other in zip(alone, made.segment_many(images, NAMES, batch_size=4, fill=True), strict=True):
        assert np.abs(one.scores - other.scores).max() < TOLERANCE


def test_a_dino_is_loaded_where_it_is_asked_for_and_nowhere_else(clip):
    plain, spreading = (
        wordmask.load("maskclip", preset="world", device="cpu", precision="fp32", **said)
        for said in ({}, {"refine": "lposs"})
    )
    assert list(plain.networks) == ["clip"]
    assert list(spreading.networks) == ["clip", "refine_dino"]
    assert spreading.lposs.parameters.sharpness == spreading.settings.refine_sharpness == 100
    with pytest.raises(SegmenterError, match="lposs.* not loaded"):
        MaskClip(clip, settings(refine="lposs")).look(picture(32, 32))


@pytest.mark.parametrize("method", ["namedmask", "clip-diy", "selfmask-clip"])
def test_methods_without_patches_of_windows_refuse_it(method):
    with pytest.raises(MethodError, match="refine='lposs' cannot be used: input should be one of none, pamr, solver"):
        wordmask.load(method, preset="world", refine="lposs")
    assert {"lposs", "lposs+"} < set(methods_of("refinement"))


def test_names_stay_by_their_best_score_and_background_always():
    best = torch.tensor([0.7, 0.4, 0.5, 0.1])
    assert staying(best, 0.5, None, is_rejecting=False).tolist() == [0, 2]
    assert staying(best, 0.5, 3, is_rejecting=False).tolist() == [0, 2, 3]
    assert staying(best, 0.9, 3, is_rejecting=False).tolist() == [3]
    assert staying(best, 0.9, None, is_rejecting=True).tolist() == []
    assert staying(best, 0.9, None, is_rejecting=False).tolist() == [0, 1, 2, 3]


def pixel_scores(clip, image, names):
    made = MaskClip(clip, settings())
    plan, text = made.sliding.plan(*image.shape[:2]), made.embed(Vocabulary.of(names))
    return merged(plan, torch.cat([made.score(made.read(w[None]), text) for w in plan.cut(to_tensor(image))]), 8)


def test_names_that_are_sure_nowhere_lose_their_pixels_to_the_others(clip):
    names = [*NAMES, "cat", "sofa"]
    image = picture(48, 72)
    scores = pixel_scores(clip, image, names)
    best = scores.amax(dim=(1, 2))
    least = float(best.sort().values[2:4].mean())  # three leave
    stay = (best >= least).nonzero()[:, 0]
    assert set(scores.argmax(dim=0).unique().tolist()) - set(stay.tolist()), "nobody who leaves has a pixel"
    result = MaskClip(clip, settings(denoise=least)).segment(image, names, fill=True)
    assert result.names == names
    assert np.array_equal(result.labels, stay[scores[stay].argmax(dim=0)].numpy())
    assert np.abs(result.scores - scores[stay].amax(dim=0).numpy()).max() < TOLERANCE


def test_where_no_name_is_sure_there_is_background_or_else_all_stay(clip, monkeypatch):
    monkeypatch.setattr("wordmask.segmenters.maskclip.COSINE_SCALE", 10)
    image = picture(48, 72)
    unsure = MaskClip(clip, settings(denoise=1.0))
    assert (unsure.segment(image, ["dog", "background", "grass"]).labels == 1).all()
    plain = MaskClip(clip, settings())
    assert np.array_equal(unsure.segment(image, NAMES, fill=True).labels, plain.segment(image, NAMES, fill=True).labels)
    rejecting = MaskClip(clip, settings(denoise=1.0, background_threshold=0.0))
    assert (rejecting.segment(image, ["dog", "background", "grass"]).labels == 1).all()


def test_a_name_that_leaves_is_not_found_by_a_refinement_either(clip):
    names, image = [*NAMES, "cat", "sofa"], picture(48, 72)
    best = pixel_scores(clip, image, names).amax(dim=(1, 2))
    least = float(best.sort().values[3:].mean())
    result = MaskClip(clip, settings(denoise=least, refine="pamr")).segment(image, names, fill=True)
    assert set(np.unique(result.labels)) == {int(best.argmax())}
