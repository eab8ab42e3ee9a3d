"""Few names race against concepts: what those win is background, nobody sees them, and benchmarks know none of it."""

import json
import tarfile
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from support.painted import Painted
from support.small_clip import small_clip
from wordmask.benchmarks.names import class_names
from wordmask.collection import captions
from wordmask.collection.captions import WordCounts, as_file, count_words
from wordmask.collection.references import CollectionError
from wordmask.collection.tars import captions_in, pictures_in
from wordmask.names.contrast import FEW, MOST, Concepts, ContrastError, read_concepts, rivals, shipped, singular
from wordmask.names.prompts import templates
from wordmask.names.text_embeddings import TextEmbedder, TextEmbeddings, far_from_names
from wordmask.names.vocabulary import RIVAL, Rivals, Vocabulary
from wordmask.segmenters.base import SegmenterError, contrasted
from wordmask.segmenters.clearclip import ClearClip
from wordmask.segmenters.clip_diy import ClipDiy, ClipDiySettings
from wordmask.segmenters.maskclip import MaskClip, MaskClipSettings
from wordmask.segmenters.naclip import NaClip
from wordmask.segmenters.sclip import Sclip

TABLE = Concepts({"dog": ("grass", "cat", "ball"), "cat": ("sofa", "dog"), "red car": ("road",)}, {"hound": "dog"})


class Choosing(Painted):
    """Every name scores by its own colour; one that knows words."""

    concepts = Concepts({"red": ("blue",)})
    background_words = ("background", "green")


def picture():
    """Red on the left, blue on the right, of equal strength; the rest black."""
    image = np.zeros((4, 12, 3), np.uint8)
    image[:, :4, 0], image[:, 4:8, 2] = 200, 250
    return image


# What is raced against


def test_concepts_of_several_names_come_in_turns_without_the_names_themselves():
    vocabulary = Vocabulary.of(["dog", "cats", "background"])
    assert TABLE.against(vocabulary) == ("grass", "sofa", "ball")
    assert TABLE.of("Hounds") == TABLE.of("dog") == TABLE.of("an old dog")
    assert TABLE.of("bird") == ()
    assert TABLE.of("hot dog car") == ()


def test_many_names_are_rivals_enough():
    names = ["dog", *(f"name {i}" for i in range(FEW - 1))]
    assert TABLE.against(Vocabulary.of(names))
    assert TABLE.against(Vocabulary.of([*names, "one more"])) == ()
    long = Concepts({"dog": tuple(f"word {i}" for i in range(90))})
    assert len(rivals("auto", Vocabulary.of(["dog"]).with_room(), usual=long).words) == 1 + MOST


def test_a_method_that_sees_objects_races_against_no_grounds():
    names = Vocabulary.of(["dog"]).with_room()
    told = {"usual": TABLE, "grounds": ("grass", "sky")}
    assert rivals("auto", names, **told).words == ("background", "grass", "cat", "ball")
    assert rivals("auto", names, **told, sees_objects=True).words == ("cat", "ball")  # "background" would win things
    assert rivals("auto", names, **told, reads_background=True).words == ("grass", "cat", "ball")
    assert rivals("none", names, **told) == rivals("auto", names, usual=None) == Rivals()
    assert rivals(["sky", "background"], names, **told, sees_objects=True) == Rivals(("sky",))


def test_a_single_name_races_by_itself_only_where_that_is_known_to_help():
    one, two = Vocabulary.of(["dog"]).with_room(), Vocabulary.of(["dog", "ship"]).with_room()
    told = {"usual": TABLE, "races_alone": False}
    assert rivals("auto", one, **told) == Rivals()
    assert rivals("auto", two, **told).words == rivals("concepts", one, **told).words
    assert rivals(TABLE, one, **told).words == ("background", "grass", "cat", "ball")
    assert rivals("concepts", one, usual=None) == Rivals()

    segmenter = MaskClip(small_clip(), MaskClipSettings(templates="photo", shorter_side=32, window=32, stride=16))
    assert segmenter.rivals("auto", one) == Rivals()
    segmenter.given_concepts = Concepts({"dog": ("green",)})  # a service's own
    assert segmenter.rivals("auto", one).words == ("background", "green")
    assert segmenter.rivals("none", one) == Rivals()


@pytest.mark.parametrize(("kind", "hears"), [(Sclip, True), (ClearClip, False), (NaClip, False)])
def test_patches_that_cannot_be_told_from_grounds_race_against_none_where_a_threshold_makes_room(kind, hears):
    small = {"templates": "photo", "shorter_side": 32, "window": 32, "stride": 16}
    name = Vocabulary.of(["dog"]).with_room()
    plain = kind(small_clip(), kind.Settings(**small))
    rejecting = kind(small_clip(), kind.Settings(**small, background_threshold=0.5))
    grounds = len(plain.embed.encoder.grounds)
    assert len(plain.background_words) == 1 + grounds
    assert not plain.races_alone
    assert (len(rejecting.background_words) > 1, rejecting.races_alone) == (hears, not hears)
    asked = contrasted(name, "auto", rejecting)
    assert asked.rivals is not None
    race = {*asked.all_phrases, *asked.rivals.words}
    assert {"sea", "sky", "river"} <= race if hears else "river" not in race and "cat" in race


@pytest.mark.parametrize("objectness", [None, lambda images: [np.ones(image.shape[:2]) for image in images]])
def test_clip_diy_s_objects_are_the_one_name_that_is_asked_for(objectness):
    one, two = Vocabulary.of(["dog"]).with_room(), Vocabulary.of(["dog", "ship"]).with_room()
    segmenter = ClipDiy(small_clip(), ClipDiySettings(templates="photo"), objectness=objectness)
    assert segmenter.rivals("auto", one) == Rivals()
    assert "cat" in segmenter.rivals("concepts", one).words
    assert "cat" in segmenter.rivals("auto", two).words


def test_words_that_mean_nothing_or_a_name_are_refused():
    names = Vocabulary.of({"dog": ["hound"]}).with_room()
    for given in ("much", [], None, 3):
        with pytest.raises(ContrastError, match='"auto", "concepts", "none", a list of words or a file'):
            rivals(given, names, usual=TABLE)
    with pytest.raises(ContrastError, match="'Hound' is a name and a contrast"):
        rivals(["Hound"], names, usual=TABLE)


def test_what_is_too_near_a_name_leaves_the_race():
    def lying(*shares):
        """Rivals with these cosines to the name, each for the rest in a direction of its own; the name comes first."""
        size = 1 + len(shares)
        rows = [torch.eye(size)[0]]
        rows += [
            share * torch.eye(size)[0] + (1 - share**2) ** 0.5 * torch.eye(size)[1 + i]
            for i, share in enumerate(shares)
        ]
        return torch.stack(rows)

    is_name = torch.tensor([True, False, False, False, False])
    doubtful = torch.tensor([False, True, True, True, False])
    assert far_from_names(lying(0.1, 0.9, 0.2, 0.95), is_name, doubtful).tolist() == [True, True, False, True, True]
    # Where all texts lie close together, near is what is closer still: here 0.6 of the way from 0.66 to 1.
    close = lying(0.8, 0.81, 0.84, 0.99)
    assert far_from_names(close, is_name, doubtful).all()
    assert not far_from_names(lying(0.8, 0.81, 0.9, 0.9), is_name, doubtful)[3]


def test_phrases_that_are_too_near_are_not_read_for_the_background():
    class Words:
        text_fingerprint, embedding_size, grounds = "words", 4, ()

        def encode_text(self, prompts):
            known = {"dog": (9, 1, 0, 0), "hound": (9, 0, 1, 0), "sky": (0, 9, 0, 1), "road": (0, 0, 9, 1)}
            return torch.tensor([known.get(prompt, (0, 0, 0, 9)) for prompt in prompts], dtype=torch.float32)

    embed = TextEmbedder(Words(), templates("plain"))
    doubtful = frozenset({"hound", "road"})
    merged = Vocabulary(("dog", "background"), (("dog",), ("background", "sky", "hound", "road")), Rivals((), doubtful))
    assert embed(merged).owner.tolist() == [0, 1, 1, 1]
    hidden = Vocabulary(
        ("dog", "background"), (("dog",), ("background",)), Rivals(("background", "hound", "road"), doubtful)
    )
    assert embed(hidden.racing()).owner.tolist() == [0, 1, 2, 2]
    assert len(embed(replace(merged, rivals=None)).vectors) == 5


def test_rivals_may_be_held_apart_less_those_that_are_too_near():
    asked = replace(Vocabulary.of({"dog": ["hound"], "background": None}), rivals=Rivals(("sky", "road"))).racing()
    owner = torch.tensor([0, 0, 1, 2, 2])
    text = TextEmbeddings(asked, torch.eye(5), owner)
    apart = text.rivals_apart()
    assert apart.owner.tolist() == [0, 0, 1, 2, 3]
    features = torch.tensor([0.1, 0.2, 0.3, 0.5, 0.4])[None, :, None, None]
    cosines = apart.cosines(features).flatten() * features.norm()
    assert torch.allclose(cosines, torch.tensor([0.2, 0.3, 0.5, 0.4]))
    fewer = TextEmbeddings(asked, torch.eye(5)[:3], owner[:3]).rivals_apart()  # all of them were too near
    assert len(fewer.vocabulary) == 2
    plain = TextEmbeddings(Vocabulary.of(["dog"]), torch.eye(5)[:1], owner[:1])
    assert plain.rivals_apart() is plain


def test_the_shipped_table_knows_the_benchmarks_names_and_no_name_is_its_own_rival():
    table = shipped()
    assert not table.nearest
    for name, words in table.words.items():
        own = {name, *(other for other, of in table.same.items() if of == name)}
        assert not own & set(words), name
        assert len(set(words)) == len(words) >= 4, name
    for benchmark in ("voc", "coco-object", "cityscapes"):
        names = class_names(benchmark).without_background().names
        lacking = [name for name in names if not table.of(name)]
        assert not lacking, benchmark


# The race


def test_pixels_that_a_concept_wins_are_background_and_nobody_sees_it():
    plain = Choosing().segment(picture(), ["red"], contrast=["blue"])
    assert plain.names == ["red", "background"]
    assert plain.labels.max() == 1
    assert (plain.labels[:, :4] == 0).all()
    assert (plain.labels[:, 4:8] == 1).all()
    auto = Choosing().segment(picture(), ["red"])
    assert np.array_equal(auto.labels, plain.labels)
    both = Choosing().segment(picture(), ["blue", "red"], contrast=["green"], drop_absent=0.5)
    assert both.names == ["blue", "red", "background"]


def test_benchmarks_and_who_words_the_background_are_answered_without_concepts(monkeypatch):
    asked = []

    class Noting(Choosing):
        def look_many(self, images, sources):
            seen = super().look_many(images, sources)
            for own in seen:
                own._segmenter = self
                own.answer = lambda vocabulary, answer=own.answer: asked.append(vocabulary) or answer(vocabulary)
            return seen

    seen = Noting().look(picture())
    for names in (["red"], ["red", "background"], {"red": None, "background": ["green"]}):
        seen.segment(names, fill=True)
        assert asked.pop() == Vocabulary.of(names)
    seen.segment(["red", "background"])
    assert asked.pop().names == ("red", "background")
    seen.segment(["red"])
    assert asked[-1].phrases == (("red",), ("background", "green", "blue"))
    monkeypatch.setattr(Choosing, "background_words", ("background",))
    seen.segment(["red"])
    assert (asked[-1].names, asked[-1].phrases[-1]) == (("red", "background", RIVAL), ("background", "blue"))
    monkeypatch.undo()
    seen.segment(["red"], contrast="none")
    assert asked[-1].phrases == (("red",), ("background", "green"))
    seen.segment(["red", "background"], contrast=["blue"])
    assert asked[-1].phrases == (("red",), ("background",), ("background", "blue"))


def test_names_that_fill_a_picture_race_against_nothing_also_where_background_is_below_a_threshold():
    settings = MaskClipSettings(templates="photo", shorter_side=32, window=32, stride=16, background_threshold=0.3)
    segmenter = MaskClip(small_clip(), settings)
    for names in (["dog", "cat"], ["a thing", *segmenter.embed.encoder.grounds]):
        assert segmenter.segment(picture(), names, fill=True).names == names


def test_contrast_by_hand_needs_a_background_and_a_method_that_knows_words():
    with pytest.raises(SegmenterError, match="contrast needs a background"):
        Choosing().segment(picture(), ["red"], contrast=["blue"], fill=True)

    class Student(Painted):
        concepts = None

    with pytest.raises(SegmenterError, match="painted knows no words but its own names"):
        Student().segment(picture(), ["red"], contrast=["blue"])


def test_what_is_settled_stays():
    vocabulary = contrasted(Vocabulary.of(["red"]).with_room(), "auto", None)
    assert contrasted(vocabulary, ["green"], Choosing()) is vocabulary
    vocabulary = contrasted(Vocabulary.of(["red"]).with_room(), ["blue"], None)
    assert vocabulary.racing().racing() == vocabulary.racing() != vocabulary
    assert vocabulary.only([0, 1]).rivals == vocabulary.rivals


# Statistics of captions


def test_concepts_are_words_of_more_than_gamma_of_a_name_s_captions_the_most_frequent_first():
    counts = WordCounts(["traffic light"])
    lines = 6 * ["Two dogs on the grass"] + 5 * ["a dog with a ball"] + 8 * ["a red car by the traffic lights"]
    for line in lines:
        counts.add(line)
    found = counts.concepts(gamma=0.5)
    assert found == {
        "ball": ["dog"],
        "car": ["traffic light"],
        "dog": ["grass"],
        "grass": ["dog"],
        "traffic light": ["car"],
    }
    assert counts.concepts(gamma=0.4)["dog"] == ["grass", "ball"]
    assert (counts.captions, counts.alone["dog"]) == (19, 11)


def test_memory_is_bounded_and_what_is_frequent_is_kept(monkeypatch):
    monkeypatch.setattr(captions, "MOST_PAIRS", 40)
    monkeypatch.setattr(captions, "MOST_SINGLE", 60)
    counts = WordCounts()
    letters = "abcdefghijklmnopqrstuvwxyz"
    for i in range(300):
        counts.add(f"dog grass q{letters[i % 26]}{letters[i // 26]}z")
        assert len(counts.pairs) <= 43
    assert counts.forgotten
    assert counts.pairs["dog", "grass"] == 300
    assert counts.concepts()["dog"][0] == "grass"


def shard(path, samples):
    with tarfile.open(path, "w") as tar:
        for name, content in samples.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, BytesIO(content))


def test_captions_come_of_json_or_text_and_the_file_is_read_back(tmp_path, command):
    (tmp_path / "shards").mkdir()
    samples = {}
    for i in range(6):
        samples |= {f"{i}.jpg": b"no picture", f"{i}.json": json.dumps({"caption": "a dog on grass"}).encode()}
    samples |= {f"t{i}.txt": b"a cat on a sofa" for i in range(6)}
    shard(tmp_path / "shards/0.tar", samples)
    out = tmp_path / "contrast.json"
    status, shown, err = command("contrast", "build", tmp_path / "shards", "--out", out)
    assert (status, shown.strip(), "12 captions" in err) == (0, str(out), True)
    found = read_concepts(out)
    assert found.words == {"cat": ("sofa",), "dog": ("grass",), "grass": ("dog",), "sofa": ("cat",)}
    assert found.nearest
    assert found.of("kitten", lambda phrase, words: words.index("cat")) == ("sofa",)
    assert as_file(count_words([tmp_path / "shards/0.tar"], ()), gamma=0.01, tars=[out])["captions"] == 12
    status, _, err = command("contrast", "build", tmp_path, "--out", out)  # as everywhere, a folder's own tars
    assert (status, "holds no webdataset tars" in err) == (1, True)
    shard(tmp_path / "empty.tar", {"0.jpg": b"no picture"})
    with pytest.raises(CollectionError, match="no captions"):
        count_words([tmp_path / "empty.tar"], ())
    (tmp_path / "mine.json").write_text('{"names": ["dog"]}')
    status, _, err = command("contrast", "build", tmp_path / "shards", "--out", tmp_path / "mine.json")
    assert (status, "choose another --out" in err) == (1, True)


@pytest.mark.parametrize(
    ("json_", "text", "caption"),
    [
        ({"caption": "of json"}, b"of text", "of json"),
        ({"caption": " "}, b"of text\n", "of text"),
        ({"caption": None}, b"of text", "of text"),
        ({"key": 1}, b"", None),
    ],
)
@pytest.mark.parametrize("text_first", [True, False])
def test_captions_are_the_same_with_pictures_and_without(tmp_path, json_, text, caption, text_first):
    samples = {"0.jpg": b"no picture", "0.json": json.dumps(json_).encode(), "0.txt": text}
    shard(tmp_path / "0.tar", dict(sorted(samples.items(), reverse=text_first)))
    assert [*captions_in(tmp_path / "0.tar")] == ([] if caption is None else [caption])
    assert [own.told.get("caption") for own in pictures_in(tmp_path / "0.tar", "0.tar")] == [caption]


@pytest.mark.parametrize(
    ("several", "one"),
    [
        ("dogs", "dog"),
        ("benches", "bench"),
        ("people", "person"),
        ("glass", "glass"),
        ("bus", "bus"),
        ("cities", "city"),
    ],
)
def test_several_are_counted_as_one(several, one):
    assert singular(several) == one


# Ways in


def test_the_command_line_takes_words_a_file_or_none(command, tmp_path):
    Image.fromarray(picture().repeat(16, 0).repeat(16, 1)).save(tmp_path / "a.png")
    (tmp_path / "c.json").write_text(json.dumps({"format": "wordmask contrast 1", "concepts": {"dog": ["cat"]}}))
    asked = ("segment", tmp_path / "a.png", "--names", "dog", "--preset", "world", "--method", "maskclip", "--json")
    for number, contrast in enumerate(("auto", "none", "cat, sofa", tmp_path / "c.json")):
        status, out, _ = command(*asked, "--contrast", contrast, "-o", tmp_path / f"out{number}")
        assert (status, json.loads(out)["names"]) == (0, ["dog", "background"])
    status, _, err = command(*asked, "--contrast", "dog", "-o", tmp_path / "out")
    assert (status, "is a name and a contrast" in err) == (1, True)
