"""ResCLIP against its formulas, written out in loops, on a small CLIP with random weights."""

import numpy as np
import pytest
import torch

from support import plain_last_block, plain_resclip, plain_vit
from support.plain_windows import TOLERANCE, bilinear, picture, text_vectors
from support.small_clip import HEADS, LAYERS, NATIVE, PATCH, small_clip
from wordmask.names.vocabulary import Vocabulary
from wordmask.segmenters import resclip
from wordmask.segmenters.base import SegmenterError
from wordmask.segmenters.resclip import ResClip, ResClipSettings, of_patches, together

SHAPE = {"patch": PATCH, "native": NATIVE, "heads": HEADS, "layers": LAYERS}
SMALL = {"templates": "photo", "shorter_side": None, "window": 40, "stride": 24, "middle_blocks": (1, 3)}
PHRASES = ["person", "bus", "traffic light", "chair", "sky"]
NAMES = Vocabulary.of({"person": ["bus"], "traffic light": None, "background": {"instead": ["chair", "sky"]}})


@pytest.fixture(scope="module")
def clip():
    return small_clip()


def segmenter(clip, **changes):
    return ResClip(clip, ResClipSettings(**{**SMALL, **changes}))


def scored(own, windows, names=NAMES):
    with torch.inference_mode():
        return own.score(own.read(windows), own.embed(names))


def levels(*size, count=1, seed=3):
    """Windows as they come from pictures, in grey levels: dark at the left, and light in a corner."""
    windows = torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(seed))
    windows[..., : size[1] // 2] *= 0.2
    windows[..., : size[0] // 2, size[1] // 2 :] *= 0.3
    windows[..., : size[0] // 2, size[1] // 2 :] += 0.7
    return (255 * windows).round() / 255


@pytest.mark.parametrize("size", [(40, 40), (32, 48)])
@pytest.mark.parametrize("changes", [{}, {"feedback_threshold": 0.7, "scale": 60.0}, {"feedback_share": 0.3}])
def test_cosines_equal_the_formulas(clip, size, changes):
    own, window = segmenter(clip, **changes), levels(*size)
    expected, patches = plain_resclip.cosines(
        plain_vit.arrays_of(clip.model.visual),
        clip.statistics.normalise(window)[0].double().numpy(),
        window[0].double().numpy(),
        text_vectors(clip, PHRASES),
        own.settings,
        instead=3,
        **SHAPE,
    )
    found = scored(own, window)[0].numpy()
    assert np.abs(np.moveaxis(found, 0, -1) - expected).max() < TOLERANCE
    if changes.get("feedback_threshold"):
        assert 3 in patches, "some of the first answer is not probable enough"
        assert len(np.unique(patches)) > 1


def test_belonging_follows_straight_lines_within_a_label(monkeypatch):
    labels = torch.tensor([[0, 0, 1, 0, 0], [0, 1, 1, 0, 2], [0, 0, 0, 0, 2], [2, 2, 1, 1, 2]])
    expected = plain_resclip.belonging(labels.numpy())
    assert np.abs(together(labels).numpy() - expected).max() < TOLERANCE
    monkeypatch.setattr(resclip, "PAIRS_AT_ONCE", 100)  # a row at a time: the same
    assert np.abs(together(labels).numpy() - expected).max() < TOLERANCE
    assert torch.isfinite(together(torch.zeros(1, 1, dtype=torch.int64))).all()


def test_a_patch_has_the_label_of_most_of_its_pixels():
    labels = torch.tensor([[1, 1, 5, 5], [1, 2, 4, 4], [9, 9, 9, 9]])
    assert of_patches(labels, (1, 2), 2).tolist() == [[1, 4]]


def test_without_feedback_names_play_no_part_in_the_reading(clip):
    own, window = segmenter(clip, feedback_share=0.0), levels(32, 48)
    p, normal = plain_vit.arrays_of(clip.model.visual), clip.statistics.normalise(window)[0].double().numpy()
    outputs, grid = plain_last_block.blocks_of(p, normal, **SHAPE)
    expected = plain_resclip.last(p, own.settings, outputs, grid, LAYERS, HEADS)
    with torch.inference_mode():
        [features] = own.read(window)
    assert np.abs(features[0].numpy() - expected / np.linalg.norm(expected, axis=0)).max() < TOLERANCE


@pytest.mark.parametrize(
    "changes", [{"feedback_share": 0.0}, {"middle_share": 0.9}, {"middle_blocks": (1, 2)}, {"feedback_scale": 9.0}]
)
def test_every_part_says_something(clip, changes):
    window = levels(40, 40)
    usual, other = scored(segmenter(clip), window), scored(segmenter(clip, **changes), window)
    assert (usual - other).abs().max() > 10 * TOLERANCE


def test_the_scale_of_the_last_blend_changes_the_bias_alone(clip):
    """Features are normalised after ln_post: twice the values is not twice the same."""
    window = levels(40, 40)
    one, two = (scored(segmenter(clip, middle_scale=scale), window) for scale in (1.0, 2.0))
    assert (one - two).abs().max() > TOLERANCE


def test_a_whole_picture_goes_by_the_size_that_it_was_looked_at(clip):
    image, own = picture(50, 70), segmenter(clip, window=None)
    seen = own.look(image)
    text = own.embed(NAMES)
    with torch.inference_mode():
        maps = seen._score(text)
        ours = own.merge(seen._plan, maps, own.lie(seen._plan), text, None)._cosines(torch.arange(5), (20, 31))
    grid = np.moveaxis(maps[0].double().numpy(), 0, -1)
    expected = bilinear(bilinear(grid, (50, 70)), (20, 31))
    assert np.abs(np.moveaxis(ours.numpy(), 0, -1) - expected).max() < TOLERANCE


def test_a_window_does_not_depend_on_the_others_of_a_batch(clip):
    own, windows = segmenter(clip), levels(40, 48, count=3)
    together_, alone = scored(own, windows), torch.cat([scored(own, window[None]) for window in windows])
    assert torch.allclose(together_, alone, atol=TOLERANCE)


def test_other_names_are_answered_without_the_blocks_before_the_last(clip, monkeypatch):
    own, image = segmenter(clip), picture(48, 64)
    expected = [own.segment(image, names).labels for names in (["dog", "cat"], NAMES)]
    seen = own.look(image)
    monkeypatch.setattr(clip, "run", None)
    for names, labels in zip((["dog", "cat"], NAMES), expected, strict=True):
        assert np.array_equal(seen.segment(names).labels, labels)


@pytest.mark.parametrize("blocks", [(0, 2), (2, 2), (1, 4)])
def test_blocks_that_are_not_between_the_first_and_the_last_are_named(clip, blocks):
    with pytest.raises(SegmenterError, match="small has 4 blocks"):
        segmenter(clip, middle_blocks=blocks)
