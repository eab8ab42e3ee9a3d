"""CLIP-DIY against its equations, window by window, on a small CLIP with random weights."""

import numpy as np
import pytest
import torch
from PIL import Image

from support.plain_clip_diy import NAMES, by_the_book, ramp, settings
from support.plain_windows import TOLERANCE, bilinear, picture
from support.small_clip import small_clip
from wordmask import load
from wordmask.names.text_embeddings import TextEmbeddings
from wordmask.names.vocabulary import Vocabulary
from wordmask.saliency.instances import InstanceSaliency
from wordmask.segmenters.base import SegmenterError
from wordmask.segmenters.clip_diy import ClipDiy, SeenAtScales


@pytest.fixture(scope="module")
def clip():
    return small_clip()


def scores_apart(result, expected):
    return np.abs(result.scores - expected.max(axis=-1)).max()


@pytest.mark.parametrize("size", [(40, 40), (40, 67), (61, 40)])
@pytest.mark.parametrize(("objectness", "positive"), [(None, False), (ramp, False), (ramp, True)])
def test_scores_equal_the_equations(clip, size, objectness, positive):
    image = picture(*size)
    result = ClipDiy(clip, settings(positive=positive), objectness=objectness).segment(image, NAMES, fill=True)
    guide = None if objectness is None else ramp([image])[0].astype(float)
    expected = by_the_book(clip, image, size, NAMES, (32, 16), objectness=guide, positive=positive)
    assert scores_apart(result, expected) < TOLERANCE
    ordered = np.sort(expected, axis=-1)
    clear = ordered[..., -1] - ordered[..., -2] > 1e-5
    assert clear.mean() > 0.9
    assert np.array_equal(result.labels[clear], expected.argmax(axis=-1)[clear])


def test_a_picture_of_another_size_comes_back_at_its_own(clip):
    image = picture(80, 120)
    inner = by_the_book(clip, image, (40, 60), NAMES, (32, 16))
    result = ClipDiy(clip, settings()).segment(image, NAMES, fill=True)
    assert scores_apart(result, bilinear(inner, (80, 120))) < TOLERANCE


def test_the_published_code_s_square_is_an_option(clip):
    image = picture(40, 80)
    inner = by_the_book(clip, image, (48, 48), NAMES, (32, 16))
    result = ClipDiy(clip, settings(square=48)).segment(image, NAMES, fill=True)
    assert scores_apart(result, bilinear(inner, (40, 80))) < TOLERANCE


def test_scales_may_be_any_sizes_with_any_weights(clip):
    image, chosen = picture(40, 60), settings(windows=(40, 24, 12), scale_weights=(1, 2, 5))
    result = ClipDiy(clip, chosen).segment(image, NAMES, fill=True)
    expected = by_the_book(clip, image, (40, 60), NAMES, (40, 24, 12), weights=[1 / 8, 2 / 8, 5 / 8])
    assert scores_apart(result, expected) < TOLERANCE
    with pytest.raises(SegmenterError, match="2 windows .* but 3 scale_weights"):
        ClipDiy(clip, settings(scale_weights=(1, 1, 1)))
    segmenter = load("clip-diy", preset="world", saliency="none", scale_weights=(3, 1, 1))
    assert segmenter.scale_weights == [0.6, 0.2, 0.2]


IMAGES = [picture(40, 60), picture(64, 40, 1), picture(40, 40, 2)]


def test_results_do_not_depend_on_batches_or_chunks(clip, monkeypatch):
    names = [f"thing {i}" for i in range(17)]
    segmenter = ClipDiy(clip, settings(), objectness=ramp)
    alone = [segmenter.segment(image, names, fill=True) for image in IMAGES]
    monkeypatch.setattr("wordmask.segmenters.clip_diy.WINDOWS_PER_PASS", 5)
    monkeypatch.setattr("wordmask.segmenters.clip_diy.MAP_BYTES", 4 * 40 * 60 * 3)
    together = list(segmenter.segment_many(IMAGES, names, batch_size=3, fill=True))
    for one, other in zip(alone, together, strict=True):
        assert np.abs(one.scores - other.scores).max() < TOLERANCE
        assert (one.labels == other.labels).mean() > 0.999


def test_new_names_cost_no_network(clip, monkeypatch):
    seen = ClipDiy(clip, settings()).look(picture(40, 60))
    monkeypatch.setattr(clip, "encode_image", None)
    assert seen.segment(["dog", "cat"], fill=True).names == ["dog", "cat"]


@pytest.mark.parametrize("size", [(16, 16), (1, 1), (20, 400)])
def test_odd_sizes_have_answers(clip, size):
    result = ClipDiy(clip, settings(longest_side=100), objectness=ramp).segment(picture(*size), NAMES, fill=True)
    assert result.labels.shape == size
    assert np.isfinite(result.scores).all()


@pytest.mark.parametrize("size", [(40, 40), (40, 67), (160, 200)])
@pytest.mark.parametrize("together", [2, 1000])
def test_of_equal_names_the_earlier_wins_whatever_the_chunks(clip, monkeypatch, size, together):
    """Each name stands twice among others, at places that chunks part."""
    names, again = ([f"{word} {index}" for index in range(9)] for word in ("thing", "again"))
    segmenter = ClipDiy(clip, settings(), objectness=ramp)
    segmenter.embed(Vocabulary.of(names + again))
    for name, other in zip(names, again, strict=True):
        segmenter.embed._seen[other] = segmenter.embed._seen[name].clone()
    monkeypatch.setattr("wordmask.segmenters.clip_diy.MAP_BYTES", 4 * 40 * 40 * together)
    labels = segmenter.segment(picture(*size), names + again, fill=True).labels
    assert labels.max() < 9
    assert len(np.unique(labels)) > 1


@pytest.mark.parametrize("size", [(40, 40), (80, 100), (400, 400)])
@pytest.mark.parametrize("together", [1, 1000])
@pytest.mark.parametrize("least", [1e-4, 1e-7])
def test_the_better_name_wins_however_little_objectness_there_is(clip, monkeypatch, size, together, least):
    """A surer place elsewhere in the picture changes nothing about it."""
    cosines = torch.tensor([0.200, 0.205, 0.210, 0.210])
    vectors = torch.stack([cosines, (1 - cosines**2).sqrt()], dim=1)
    segmenter = ClipDiy(clip, settings(windows=(40,)))
    segmenter.embed = lambda vocabulary: TextEmbeddings(vocabulary, vectors, torch.arange(4))
    objectness = torch.full((40, 40), least)
    objectness[:, 30:] = 1
    monkeypatch.setattr("wordmask.segmenters.clip_diy.MAP_BYTES", 4 * 40 * 40 * together)
    seen = SeenAtScales(segmenter, picture(*size), "", (40, 40), [torch.tensor([[[1.0, 0.0]]])], objectness)
    result = seen.segment(["dog", "cat", "cow", "the same cow"], fill=True)
    assert (result.labels == 2).all()
    assert np.abs(result.scores[:, : size[1] // 2] - 0.25).max() < TOLERANCE


@pytest.mark.parametrize("windows", [(32,), (32, 16, 8), (16, 8)])
def test_every_row_of_the_papers_ablations_is_an_option(clip, windows):
    """Tables 2 to 4: scales by `windows`, objectness by `saliency`, or by any callable such as CutLER's instances."""
    instances = InstanceSaliency(lambda image: (np.ones((1, *image.shape[:2])), np.array([0.9])))
    for objectness in (None, ramp, instances.maps):
        segmenter = ClipDiy(clip, settings(windows=windows, shorter_side=32), objectness=objectness)
        assert np.isfinite(segmenter.segment(picture(32, 40), NAMES, fill=True).scores).all()


def test_windows_of_a_batch_go_through_clip_in_full_passes(clip, monkeypatch):
    passes, encode = [], clip.encode_image
    monkeypatch.setattr(clip, "encode_image", lambda images: passes.append(len(images)) or encode(images))
    monkeypatch.setattr("wordmask.segmenters.clip_diy.WINDOWS_PER_PASS", 10)
    ClipDiy(clip, settings()).look_many(IMAGES, ["", "", ""])
    assert passes[:-1] == [10] * (len(passes) - 1)
    assert len(passes) > 5
    assert 0 < passes[-1] <= 10


def test_windows_are_resized_as_pillow_does(clip):
    """CLIP's own preprocessing: at most a level of grey apart here and there."""
    image = picture(16, 16)
    seen = ClipDiy(clip, settings())._as_clip_sees(torch.from_numpy(image).permute(2, 0, 1)[None])
    pillow = np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BICUBIC))
    apart = np.abs(seen[0].permute(1, 2, 0).numpy().astype(int) - pillow)
    assert apart.max() <= 2
    assert apart.mean() < 0.05


def test_every_rival_races_alone_over_all_scales(clip):
    image, rivals = picture(40, 60), ["cat", "dog", "sofa", "car", "tree"]
    segmenter = ClipDiy(clip, settings(), objectness=ramp)
    names = ["grass", "background"]
    result = segmenter.segment(image, names, contrast=rivals)
    asked = [*names, *rivals]
    guide = ramp([image])[0].astype(float)
    expected = by_the_book(clip, image, (40, 60), asked, (32, 16), objectness=guide)
    ordered = np.sort(expected, axis=-1)
    clear = ordered[..., -1] - ordered[..., -2] > 1e-5
    won = expected.argmax(axis=-1)
    assert clear.mean() > 0.9
    assert np.array_equal(result.labels[clear], np.where(won == 0, 0, 1)[clear])
    assert result.names == names
