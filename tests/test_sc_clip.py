"""SC-CLIP against its formulas, written out in loops, on a small CLIP with random weights."""

import numpy as np
import pytest
import torch

from support import plain_patch_cosines, plain_sc_clip, plain_vit
from support.plain_windows import TOLERANCE, picture
from support.small_clip import HEADS, LAYERS, NATIVE, PATCH, small_clip
from wordmask.names.vocabulary import Vocabulary
from wordmask.segmenters.base import SegmenterError
from wordmask.segmenters.sc_clip import ScClip, ScClipSettings, anomalies_of, averaged, cosines_of, repaired

SHAPE = {"patch": PATCH, "native": NATIVE, "heads": HEADS, "layers": LAYERS}
SMALL = {
    **{"templates": "photo", "shorter_side": None, "window": 48, "stride": 24},
    **{"neighbours": 5, "anomalies": 0.1, "middle_block": 1, "low_block": 0, "levels": (0, 3)},
}


@pytest.fixture(scope="module")
def clip():
    return small_clip()


def segmenter(clip, **changes):
    return ScClip(clip, ScClipSettings(**{**SMALL, **changes}))


def by_the_book(own):
    tower = plain_vit.arrays_of(own.clip.model.visual)
    return lambda image: plain_sc_clip.read(tower, image, own.settings, **SHAPE)


def farthest(own, size, seed=0):
    """How far features of a picture are from those by the book."""
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(seed))
    expected = by_the_book(own)(own.clip.statistics.normalise(image)[0].double().numpy())
    with torch.inference_mode():
        return np.abs(own.features(image)[0].numpy() - expected).max()


@pytest.mark.parametrize("size", [(48, 48), (40, 72), (64, 24)])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"levels": (1, 2), "cls_share": 0.0},
        {"anomalies": 0.4, "similarity": -0.2},
        {"similarity": 0.97, "middle_block": 2},
    ],
)
def test_features_equal_the_formulas(clip, size, changes):
    assert farthest(segmenter(clip, **changes), size) < TOLERANCE


@pytest.mark.parametrize(
    "changes",
    [
        {"anomalies": 0.3},
        {"similarity": 0.99},
        {"cls_share": 0.5},
        {"levels": (1, 3)},
        {"low_block": 2},
        {"neighbours": 20},
    ],
)
def test_every_setting_says_something(clip, changes):
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        usual, other = (segmenter(clip, **settings).features(image) for settings in ({"anomalies": 0.1}, changes))
    assert (usual - other).abs().max() > 100 * TOLERANCE


def test_probabilities_equal_the_whole_method_by_the_book(clip):
    image, own = picture(60, 90), segmenter(clip, shorter_side=54)
    names = Vocabulary.of({"background": {"instead": ["sky", "wall"]}, "person": ["bus"], "traffic light": None})
    phrases = ["sky", "wall", "person", "bus", "traffic light"]
    cosines = plain_patch_cosines.cosines(
        clip, image, phrases, whole_patches(by_the_book(own)), resized=(54, 81), window=48, stride=24
    )
    _, expected = plain_patch_cosines.decide(cosines, [0, 0, 1, 1, 2])
    assert np.abs(own.segment(image, names).scores - expected.max(axis=-1)).max() < 2 * TOLERANCE


def whole_patches(read):
    return lambda image: read(image[:, : image.shape[1] // PATCH * PATCH, : image.shape[2] // PATCH * PATCH])


def test_a_window_does_not_depend_on_the_others_of_a_batch(clip):
    """Means, quantiles and neighbours are those of one window alone."""
    own = segmenter(clip)
    windows = torch.rand(3, 3, 48, 48, generator=torch.Generator().manual_seed(1))
    windows[1] *= 0.1
    with torch.inference_mode():
        together = own.features(windows)
        alone = torch.cat([own.features(window[None]) for window in windows])
    assert torch.allclose(together, alone, atol=TOLERANCE)


def test_anomalies_lie_in_the_sparsest_surroundings_by_their_own_reach():
    generator = np.random.default_rng(0)
    patches = generator.normal(size=(60, 8)) * generator.uniform(0.2, 3, (60, 1))
    found = anomalies_of(torch.from_numpy(patches), 6, 0.1).numpy()
    scores, textbook = plain_sc_clip.outlier_scores(patches, 6), plain_sc_clip.textbook_scores(patches, 6)
    assert np.array_equal(found, scores > np.quantile(scores, 0.9))
    assert not np.array_equal(found, textbook > np.quantile(textbook, 0.9)), "the textbook's factor finds others"
    assert found.sum() == 6


def test_a_window_of_one_patch_or_of_few_has_an_answer(clip):
    assert not anomalies_of(torch.rand(1, 4), 30, 0.05).any()
    assert anomalies_of(torch.tensor([[0.0], [1.0], [2.0], [4.0], [9.0]]), 2, 0.2).tolist() == [False] * 4 + [True]
    for size in ((8, 8), (8, 40)):
        assert np.isfinite(segmenter(clip).segment(picture(*size), ["dog", "sky"]).scores).all()


def test_no_window_breaks_where_all_patches_are_the_same():
    patches = torch.ones(16, 4)
    assert not anomalies_of(patches, 5, 0.1).any()
    assert torch.allclose(averaged(patches, cosines_of(patches), 0.4), patches, atol=TOLERANCE)


def test_an_anomaly_is_the_mean_of_its_sound_neighbours_and_stays_where_there_is_none():
    patches = torch.arange(12.0)[:, None].repeat(1, 2)  # a grid of 3 x 4
    anomalous = torch.zeros(12, dtype=torch.bool)
    anomalous[[0, 6]] = True
    mended = repaired(patches, anomalous, (3, 4))
    assert mended[0, 0] == (1 + 4 + 5) / 3
    assert mended[6, 0] == (1 + 2 + 3 + 5 + 7 + 9 + 10 + 11) / 8
    assert torch.equal(mended[~anomalous], patches[~anomalous])
    every = torch.ones(12, dtype=torch.bool)
    assert torch.equal(repaired(patches, every, (3, 4)), patches)


@pytest.mark.parametrize("changes", [{"middle_block": 3}, {"levels": (0, 4)}, {"low_block": 9}, {"levels": (2, 2)}])
def test_blocks_that_are_not_before_the_last_are_named(clip, changes):
    with pytest.raises(SegmenterError, match="small has 4 blocks"):
        segmenter(clip, **changes)
