"""The protocol of SCLIP and its descendants against slow steps in NumPy, with a reading of CLIP that is short."""

import numpy as np
import pytest
import torch

from support import plain_last_block, plain_patch_cosines, plain_vit
from support.plain_windows import TOLERANCE, picture
from support.small_clip import HEADS, LAYERS, NATIVE, PATCH, small_clip
from wordmask.encoders.clip_dense import CLEARCLIP
from wordmask.encoders.grid import DINO_POSITIONS, to_maps
from wordmask.names.vocabulary import Vocabulary
from wordmask.pictures.reduced import Reduced
from wordmask.segmenters import patch_cosines
from wordmask.segmenters.patch_cosines import PatchCosines, PatchCosineSettings

SHAPE = {"patch": PATCH, "native": NATIVE, "heads": HEADS, "layers": LAYERS}
PHRASES = ["sky", "wall", "tree", "person", "bus", "traffic light"]
OWNER = [0, 0, 0, 1, 1, 2]
NAMES = Vocabulary.of(
    {"background": {"instead": ["sky", "wall", "tree"]}, "person": ["bus"], "traffic light": None},
)
SMALL = {"templates": "photo", "shorter_side": None, "window": 32, "stride": 16}


class Read(PatchCosines):
    method = "read"
    Settings = PatchCosineSettings

    def features(self, windows):
        tokens = self.clip.run(windows, positions=DINO_POSITIONS)
        return to_maps(self.clip.vit.read(tokens, CLEARCLIP), tokens.grid)


@pytest.fixture(scope="module")
def clip():
    return small_clip()


def segmenter(clip, **changes):
    return Read(clip, PatchCosineSettings(**{**SMALL, **changes}))


def plain_read(clip):
    """What `Read` says of a picture, whole patches alone."""
    tower = plain_vit.arrays_of(clip.model.visual)

    def read(image):
        height, width = (side // PATCH * PATCH for side in image.shape[1:])
        return plain_last_block.read("clearclip", tower, image[:, :height, :width], **SHAPE)

    return read


def assert_as_planned(found, labels, names, within=TOLERANCE):
    """Labels agree but where two names are all but as good, and so do the probabilities of the best."""
    ordered = np.sort(names, axis=-1)
    clear = ordered[..., -1] - ordered[..., -2] > 1e-4
    assert clear.mean() > 0.5
    assert np.array_equal(found.labels[clear], labels[clear])
    return np.abs(found.scores - names.max(axis=-1))


@pytest.mark.parametrize("size", [(32, 32), (48, 72), (37, 90), (20, 26), (90, 33)])
@pytest.mark.parametrize("multiple", [None, 24, "patch"])
def test_probabilities_equal_the_protocol_by_the_book(clip, size, multiple):
    image = picture(*size)
    found = segmenter(clip, pad_multiple=multiple).segment(image, NAMES)
    own = plain_patch_cosines.cosines(
        clip, image, PHRASES, plain_read(clip), multiple=PATCH if multiple == "patch" else multiple
    )
    labels, names = plain_patch_cosines.decide(own, OWNER)
    assert assert_as_planned(found, labels, names).max() < TOLERANCE


def test_a_resized_picture_is_averaged_before_it_comes_back_to_its_size(clip):
    image = picture(50, 70)
    found = segmenter(clip, shorter_side=40, scale=65).segment(image, NAMES)
    own = plain_patch_cosines.cosines(clip, image, PHRASES, plain_read(clip), resized=(40, 56))
    assert assert_as_planned(found, *plain_patch_cosines.decide(own, OWNER, scale=65)).max() < TOLERANCE


def test_a_whole_picture_goes_from_patches_to_its_size_in_one_step(clip):
    image = picture(50, 70)
    found = segmenter(clip, shorter_side=36, window=None).segment(image, NAMES)
    own = plain_patch_cosines.cosines(clip, image, PHRASES, plain_read(clip), resized=(36, 50), window=None)
    assert assert_as_planned(found, *plain_patch_cosines.decide(own, OWNER)).max() < TOLERANCE


def test_a_picture_smaller_than_a_patch_is_padded_to_one(clip):
    found = segmenter(clip).segment(picture(5, 40), NAMES)
    assert found.labels.shape == (5, 40)
    assert np.isfinite(found.scores).all()


def test_padding_is_zero_after_the_normalisation(clip, monkeypatch):
    seen = []
    monkeypatch.setattr(Read, "features", lambda self, windows: seen.append(windows) or torch.zeros(1, 24, 6, 6))
    segmenter(clip, pad_multiple=48).look(picture(32, 31))
    normal = clip.statistics.normalise(seen[0])[0]
    assert normal.shape == (3, 48, 48)
    inside = torch.zeros(48, 48, dtype=torch.bool)
    inside[8:40, 8:39] = True
    assert (normal[:, ~inside] == 0).all()
    assert (normal[:, inside] != 0).any()


@pytest.mark.parametrize("scale", [40.0, 15.0])
def test_what_no_name_is_probable_enough_for_is_background(clip, scale):
    image = picture(48, 72)
    own = plain_patch_cosines.cosines(clip, image, PHRASES, plain_read(clip))
    _, names = plain_patch_cosines.decide(own, OWNER, scale=scale)
    threshold = float(np.median(names.max(axis=-1)))
    labels, _ = plain_patch_cosines.decide(own, OWNER, scale=scale, threshold=threshold)
    found = segmenter(clip, scale=scale, background_threshold=threshold).segment(image, NAMES)
    sure = np.abs(names.max(axis=-1) - threshold) > 1e-4
    assert (labels == 0).mean() > 0.2
    assert (labels != 0).any()
    assert (found.labels == labels)[sure].mean() > 0.999


def test_small_names_leave_the_race_and_their_pixels_go_to_the_next_best(clip):
    image = picture(48, 72, 5)
    own = plain_patch_cosines.cosines(clip, image, PHRASES, plain_read(clip))
    labels, _ = plain_patch_cosines.decide(own, OWNER)
    pixels = np.bincount(labels.ravel(), minlength=3)
    things = pixels[1:]
    area = float(things.min() / things.sum() + 0.01)  # the smaller of the two leaves
    assert things.min() > 0
    expected, names = plain_patch_cosines.decide(own, OWNER, area=area)
    found = segmenter(clip, area_threshold=area).segment(image, NAMES)
    assert assert_as_planned(found, expected, names).max() < TOLERANCE
    assert len(np.unique(found.labels)) == 2
    kept = segmenter(clip, area_threshold=area).segment(image, ["person", "traffic light"], fill=True)
    assert set(np.unique(kept.labels)) == {0, 1}, "without a background nothing is left out"


@pytest.mark.parametrize("size", [(24, 40), (32, 17)])
def test_pamr_works_on_cosines_guided_by_the_picture_as_it_was_looked_at(clip, size, monkeypatch):
    image = picture(*size)
    resized = (32, round(32 * size[1] / size[0])) if size[0] < size[1] else (60, 32)
    own = plain_patch_cosines.cosines(
        clip, image, PHRASES, plain_read(clip), resized=resized, refined=True, multiple=PATCH
    )
    labels, names = plain_patch_cosines.decide(own, OWNER, scale=4)
    options = {"shorter_side": 32, "pamr": True, "pad_multiple": "patch", "scale": 4}
    found = segmenter(clip, **options).segment(image, NAMES)
    assert assert_as_planned(found, labels, names).max() < TOLERANCE
    plain = segmenter(clip, **{**options, "pamr": False}).segment(image, NAMES)
    assert np.abs(plain.scores - found.scores).max() > 10 * TOLERANCE
    monkeypatch.setattr(patch_cosines, "NAMES_TOGETHER", 2)  # a few phrases at a time: the same
    again = segmenter(clip, **options).segment(image, NAMES)
    assert np.array_equal(again.labels, found.labels)
    np.testing.assert_allclose(again.scores, found.scores, atol=1e-6)


def test_pamr_needs_no_more_of_a_large_picture_than_is_looked_at(clip):
    own, image = segmenter(clip, shorter_side=32, pamr=True), picture(64, 80)
    small = own.reduce(image)
    assert isinstance(small, Reduced)
    [reduced] = own.look_many([small], ["photo"])
    assert np.array_equal(reduced.segment(NAMES).labels, own.segment(image, NAMES).labels)


def test_a_name_s_scores_are_the_best_of_its_phrases(clip):
    image = picture(40, 56)
    own = plain_patch_cosines.cosines(clip, image, PHRASES, plain_read(clip))
    _, names = plain_patch_cosines.decide(own, OWNER)
    one = segmenter(clip)
    seen = one.look(image)
    text = one.embed(NAMES)
    scores = one.merge(seen._plan, seen._score(text), one.lie(seen._plan), text, None).of([2, 1], (40, 56))
    assert np.abs(np.moveaxis(scores.numpy(), 0, -1) - names[..., [2, 1]]).max() < TOLERANCE


def test_refinement_by_name_still_leaves_background_to_the_unsure(clip):
    image = picture(48, 64)
    plain = segmenter(clip, background_threshold=0.99, scale=5).segment(image, NAMES)
    refined = segmenter(clip, background_threshold=0.99, scale=5, refine="pamr").segment(image, NAMES)
    assert not plain.labels.any()
    assert not refined.labels.any()


def test_made_room_is_read_as_what_lies_behind_things_threshold_or_not(clip):
    image = picture(48, 64)
    for threshold in (None, 0.4):
        own = segmenter(clip, background_threshold=threshold)
        made = own.segment(image, ["dog", "grass"])
        words = [word for word in own.background_words if word != "grass"]
        said = Vocabulary.of({"dog": None, "grass": None, "background": {"instead": words}})
        assert "sky" in words
        assert words[0] == "background"
        assert np.array_equal(made.labels, own.segment(image, said).labels)
        bare = own.segment(image, ["dog", "grass", "background"])
        assert not np.array_equal(bare.scores, made.scores), "a background that is named is that word alone"
    only = segmenter(clip).segment(image, ["background"])
    assert not only.labels.any()


def test_looking_once_answers_many_questions_without_the_network(clip, monkeypatch):
    own, image = segmenter(clip), picture(48, 64)
    expected = [own.segment(image, names).labels for names in (["dog", "cat"], NAMES)]
    seen = own.look(image)
    monkeypatch.setattr(Read, "features", None)
    for names, labels in zip((["dog", "cat"], NAMES), expected, strict=True):
        assert np.array_equal(seen.segment(names).labels, labels)


def test_results_do_not_depend_on_what_else_is_in_a_batch(clip):
    own = segmenter(clip, pad_multiple=16)
    images = [picture(48, 64), picture(32, 32, 1), picture(37, 90, 2), picture(48, 64, 3)]
    for alone, together in zip(
        [own.segment(image, NAMES) for image in images], own.segment_many(images, NAMES, batch_size=4), strict=True
    ):
        assert np.abs(alone.scores - together.scores).max() < TOLERANCE
        assert (alone.labels != together.labels).mean() < 1e-3


def test_a_thousand_names_on_a_large_picture_are_no_matter(clip):
    names = [f"thing {i}" for i in range(1000)]
    found = segmenter(clip, templates="plain", shorter_side=32).segment(picture(400, 300), names)
    assert found.labels.dtype == np.uint16
    assert 0 < found.scores.min() <= found.scores.max() < 1
