"""MaskCLIP against its formulas, window by window and pixel by pixel, on a small CLIP with random weights."""

import numpy as np
import pytest
import torch

from support import plain_vit
from support.plain_windows import TOLERANCE, bilinear, picture, settings, starts, text_vectors
from support.small_clip import HEADS, LAYERS, NATIVE, PATCH, small_clip
from wordmask.compute import DeviceError
from wordmask.methods import MethodError
from wordmask.names.vocabulary import Vocabulary
from wordmask.pictures.images import to_tensor
from wordmask.segmenters import load
from wordmask.segmenters.maskclip import MaskClip, smooth_by_keys

NAMES = ["dog", "traffic light", "grass"]


@pytest.fixture(scope="module")
def clip():
    return small_clip()


def window_probabilities(clip, window, names, residual, smoothing):
    """One window (3, H, W) in [0, 1] -> (h, w, K), by the papers' equations."""
    values, keys, _ = plain_vit.maskclip_vit(
        plain_vit.arrays_of(clip.model.visual),
        clip.statistics.normalise(window).double().numpy(),
        patch=PATCH,
        native=NATIVE,
        heads=HEADS,
        layers=LAYERS,
        residual=residual,
    )
    features = np.moveaxis(values, 0, -1)
    features = features / np.linalg.norm(features, axis=-1, keepdims=True)
    probabilities = plain_vit.softmax(100 * features @ text_vectors(clip, names).T)
    if not smoothing:
        return probabilities
    keys = np.moveaxis(keys, 0, -1)
    keys = keys / np.linalg.norm(keys, axis=-1, keepdims=True)
    smoothed = np.zeros_like(probabilities)
    for i, j in np.ndindex(probabilities.shape[:2]):
        weights = np.einsum("c,ijc->ij", keys[i, j], keys)
        smoothed[i, j] = np.einsum("ij,ijk->k", weights, probabilities) / np.abs(weights).sum()
    return smoothed


def by_the_book(clip, image, names, *, residual=True, smoothing=False, window=32, stride=16):
    """The whole method, slowly: every window alone, averaged pixel by pixel."""
    tensor = to_tensor(image)
    height, width = tensor.shape[1:]
    total, count = np.zeros((height, width, len(names))), np.zeros((height, width, 1))
    for top in starts(height, window, stride):
        for left in starts(width, window, stride):
            cut = tensor[:, top : top + window, left : left + window]
            h, w = cut.shape[1:]
            grid = window_probabilities(clip, cut, names, residual, smoothing)
            pixels = bilinear(grid, (grid.shape[0] * PATCH, grid.shape[1] * PATCH))[:h, :w]
            total[top : top + h, left : left + w] += pixels
            count[top : top + h, left : left + w] += 1
    return total / count


@pytest.mark.parametrize("size", [(32, 32), (48, 72), (37, 90), (20, 26)])
@pytest.mark.parametrize(("residual", "smoothing"), [(True, False), (False, False), (True, True)])
def test_scores_equal_the_method_by_the_book(clip, size, residual, smoothing):
    segmenter = MaskClip(clip, settings(residual=residual, key_smoothing=smoothing))
    image = picture(*size)
    result = segmenter.segment(image, NAMES, fill=True)
    expected = by_the_book(clip, image, NAMES, residual=residual, smoothing=smoothing)
    assert result.labels.shape == size
    assert np.abs(result.scores - expected.max(axis=-1)).max() < TOLERANCE
    ordered = np.sort(expected, axis=-1)
    clear = ordered[..., -1] - ordered[..., -2] > 1e-4
    assert clear.mean() > 0.5
    assert np.array_equal(result.labels[clear], expected.argmax(axis=-1)[clear])


def test_a_resized_picture_comes_back_at_its_own_size(clip):
    image = picture(50, 70)
    result = MaskClip(clip, settings(shorter_side=32)).segment(image, NAMES, fill=True)
    small = np.moveaxis(to_tensor(image, (32, 45)).numpy(), 0, -1)
    inner = by_the_book(clip, np.rint(small * 255).astype(np.uint8), NAMES)
    expected = bilinear(inner, (50, 70))
    assert np.abs(result.scores - expected.max(axis=-1)).max() < TOLERANCE


def test_smoothing_averages_over_patches_with_like_keys():
    probabilities = torch.tensor([[[[1.0, 0.0, 0.0]], [[0.0, 1.0, 1.0]]]])  # (1, 2, 1, 3)
    keys = torch.tensor([[[[1.0, 1.0, 0.0]], [[0.0, 0.0, 1.0]]]])  # patches 0 and 1 alike, 2 apart
    smoothed = smooth_by_keys(probabilities, keys)
    assert torch.allclose(smoothed[0, :, 0], torch.tensor([[0.5, 0.5, 0.0], [0.5, 0.5, 1.0]]))


def test_looking_once_answers_many_questions_without_the_network(clip, monkeypatch):
    segmenter, image = MaskClip(clip, settings()), picture(48, 64)
    questions = (["dog", "cat"], ["cat", "sofa", "dog"])
    expected = [segmenter.segment(image, names, fill=True).labels for names in questions]
    seen = segmenter.look(image)
    monkeypatch.setattr(segmenter.clip, "dense", None)
    for names, labels in zip(questions, expected, strict=True):
        assert np.array_equal(seen.segment(names, fill=True).labels, labels)


def test_background_is_a_prompt_unless_a_threshold_is_set(clip):
    image, names = picture(48, 64), ["dog", "background", "grass"]
    named = MaskClip(clip, settings()).segment(image, names, fill=True)
    assert np.array_equal(named.labels, by_the_book(clip, image, names).argmax(axis=-1))
    thresholded = MaskClip(clip, settings(background_threshold=0.6)).segment(image, names, fill=True)
    scores = by_the_book(clip, image, ["dog", "grass"])
    expected = np.where(scores.max(axis=-1) < 0.6, 1, np.where(scores.argmax(axis=-1) == 1, 2, 0))
    clear = np.abs(scores.max(axis=-1) - 0.6) > 1e-4
    assert 0 < (expected == 1).mean() < 1
    assert np.array_equal(thresholded.labels[clear], expected[clear])
    assert thresholded.names == names
    alone = MaskClip(clip, settings(background_threshold=0.25)).segment(picture(20, 20), ["background"], fill=True)
    assert (alone.labels == 0).all()


def test_results_do_not_depend_on_the_company_a_picture_keeps(clip):
    segmenter = MaskClip(clip, settings())
    images = [picture(48, 64), picture(32, 32, 1), picture(37, 90, 2), picture(48, 64, 3), picture(20, 26, 4)]
    alone = [segmenter.segment(image, NAMES, fill=True) for image in images]
    for batch_size in (1, 2, 5):
        together = list(segmenter.segment_many(images, NAMES, batch_size=batch_size, fill=True))
        for one, other in zip(alone, together, strict=True):
            assert np.abs(one.scores - other.scores).max() < TOLERANCE
            assert (one.labels != other.labels).mean() < 1e-3


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (1, 300), (400, 40)])
def test_odd_sizes_have_answers(clip, size):
    result = MaskClip(clip, settings()).segment(picture(*size), NAMES, fill=True)
    assert result.labels.shape == size
    assert np.isfinite(result.scores).all()


def test_a_thousand_names_are_no_matter(clip):
    names = [f"thing {i}" for i in range(1000)]
    result = MaskClip(clip, settings(templates="plain")).segment(picture(48, 64), names, fill=True)
    assert result.labels.dtype == np.uint16
    assert len(result.names) == 1000


def test_a_name_of_several_phrases_scores_as_the_best_of_them(clip):
    vocabulary = Vocabulary.of({"animal": {"instead": ["dog", "cat"]}, "grass": None})
    image = picture(32, 32)
    result = MaskClip(clip, settings()).segment(image, vocabulary, fill=True)
    features = clip.dense(to_tensor(image)[None]).values[0].permute(1, 2, 0).double().numpy()
    features /= np.linalg.norm(features, axis=-1, keepdims=True)
    dog, cat, grass = np.moveaxis(features @ text_vectors(clip, ["dog", "cat", "grass"]).T, -1, 0)
    grid = plain_vit.softmax(100 * np.stack([np.maximum(dog, cat), grass], axis=-1))
    assert np.abs(result.scores - bilinear(grid, (32, 32)).max(axis=-1)).max() < TOLERANCE
    assert result.names == ["animal", "grass"]


@pytest.mark.parametrize(
    ("method", "said", "says"),
    [
        ("sma", {}, "'sma'; choose one of maskclip, clip-diy, clip-dinoiser"),
        ("sam", {}, "'sam': it is a regions method"),
        ("maskclip", {"preset": "papr"}, "no preset 'papr'; choose one of paper, world"),
        ("maskclip", {"windw": 3}, "no setting 'windw'; did you mean window"),
        ("maskclip", {"stride": 0}, "stride=0 cannot be used: input should be greater than 0"),
        ("clip-diy", {"windows": 128}, r"windows=128 cannot be used: a list is wanted, such as windows=\[128\]"),
        ("maskclip", {"background_threshold": 1.5}, "background_threshold=1.5 cannot be used"),
        ("maskclip", {"device": "tpu9"}, "device 'tpu9' cannot be used.*try cpu"),
    ],
)
def test_settings_that_cannot_serve_are_named(method, said, says):
    with pytest.raises(DeviceError if "device" in said else MethodError, match=says):
        load(method, **said)
