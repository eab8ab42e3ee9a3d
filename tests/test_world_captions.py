"""Captions of the picture world say only what is there, and leave out as much as they are told to."""

from itertools import chain

import numpy as np
import pytest

from wordmask_world import NAMES, STUFF, SYNONYMS, THINGS, caption_names, draw_scene
from wordmask_world.drawing.captions import LEAVE_OUT, WORDINGS, Seen, plural, write_captions
from wordmask_world.drawing.dice import Dice


@pytest.fixture(scope="module")
def scenes():
    return [draw_scene(seed, 64) for seed in range(200)]


def _told(leave_out, seen, stuff=(), relations=(), count=400):
    captions = [write_captions(Dice(seed), seen, stuff, relations, leave_out) for seed in range(count)]
    return list(chain.from_iterable(captions))


def _said(scenes):
    """Of every thing and caption, whether it is named."""
    return [name in caption_names(caption) for scene in scenes for caption in scene.captions for name in scene.things]


_THREE = [Seen("dog", "brown", 0.1, 0.2), Seen("tv monitor", "red", 0.2, 0.5), Seen("cup", "blue", 0.02, 0.8)]


def test_every_picture_has_several_wordings_that_mention_only_what_is_there(scenes):
    for scene in scenes:
        assert len(scene.captions) == WORDINGS
        for caption in scene.captions:
            assert caption.strip()
            assert caption_names(caption) <= {*scene.things, *scene.stuff}, caption
    assert np.mean([len(set(scene.captions)) for scene in scenes]) > 3.5


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.35])
def test_things_are_left_out_at_the_set_rate(rate):
    captions = _told(rate, _THREE, ("grass",))
    for thing in _THREE:
        missing = np.mean([thing.name not in caption_names(caption) for caption in captions])
        assert missing == pytest.approx(rate, abs=0.035)


def test_scenes_leave_out_as_much_as_their_setting_says(scenes):
    def with_rate(rate):
        return [draw_scene(seed, 32, kind="multi", leave_out=rate) for seed in range(80)]

    assert np.mean(_said(with_rate(0.0))) == 1
    assert np.mean(_said(with_rate(0.4))) == pytest.approx(0.6, abs=0.05)
    assert np.mean(_said(scenes)) == pytest.approx(1 - LEAVE_OUT, abs=0.03)


def test_words_do_not_change_the_picture():
    quiet, full = (draw_scene(7, 48, kind="multi", leave_out=rate) for rate in (1.0, 0.0))
    np.testing.assert_array_equal(quiet.image, full.image)
    assert quiet.captions != full.captions


def test_some_captions_name_stuff_and_some_do_not(scenes):
    named = [bool(caption_names(caption) & set(STUFF)) for scene in scenes for caption in scene.captions]
    assert 0.3 < np.mean(named) < 0.8


def test_captions_use_names_synonyms_plurals_colours_and_places():
    words = set(" ".join(_told(0.1, [*_THREE, Seen("dog", "white", 0.05, 0.9)], ("sky", "grass"))).split())
    told = {"dogs", "puppies", "hounds", "two", "tv", "television", "mug", "red", "sky", "grass", "meadow", "photo"}
    assert words >= told
    single = " ".join(_told(0.1, _THREE[:1]))
    for words_together in ("a brown dog", "a puppy", "on the left", "a photo of a dog"):
        assert words_together in single


def test_relations_are_told_the_right_way_round():
    seen = [Seen("horse", "brown", 0.2, 0.5), Seen("person", "red", 0.1, 0.5)]
    told = " ".join(_told(0, seen, relations=[("person", "on", "horse")], count=80))
    assert "a person on a horse" in told
    assert "a horse on a person" not in told


@pytest.mark.parametrize(
    ("caption", "names"),
    [
        ("a photo of a dog", {"dog"}),
        ("Two PUPPIES and a kitten on the lawn", {"dog", "cat", "grass"}),
        ("a motorbike, a bike and a TV", {"motorbike", "bicycle", "tv monitor"}),
        ("a plant on a dining table", {"potted plant", "table"}),
        ("people before a brick wall", {"person", "brick"}),
        ("a woman on a pony", {"person", "horse"}),
        ("a hotdog in a carpark", set()),
        ("a picture of nothing", set()),
        ("", set()),
    ],
)
def test_names_are_read_from_the_text_alone(caption, names):
    assert caption_names(caption) == names


def test_every_word_stands_for_one_name():
    words_of = {name: (name, *SYNONYMS.get(name, ())) for name in NAMES}
    words = list(chain.from_iterable(words_of.values()))
    words += [plural(word) for name in THINGS for word in words_of[name] if plural(word) != word]
    assert len(set(words)) == len(words)
    assert set(SYNONYMS) <= set(NAMES)
    for name, own in words_of.items():
        for word in own:
            assert caption_names(f"a photo of {word} here") == {name}
