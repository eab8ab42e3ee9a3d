"""Prompts as the papers write them; phrases embedded once and kept."""

import sqlite3
import warnings
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from support.letters import Letters
from wordmask.names.prompts import PromptError, templates
from wordmask.names.text_embeddings import PhraseCache, TextEmbedder, TextEmbeddings
from wordmask.names.vocabulary import Vocabulary

DOG = Vocabulary.of(["dog"])


def embedder_of(encoder=None, prompts="photo", **options):
    return TextEmbedder(encoder or Letters(), templates(prompts), **options)


def embedded_by_hand(encoder, phrase, sentences):
    vectors = encoder.encode_text([s.format(phrase) for s in sentences]).double().numpy()
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    mean = vectors.mean(axis=0)
    return mean / np.linalg.norm(mean)


def test_template_sets_have_the_papers_sizes_and_sentences():
    assert len(templates("imagenet-80").sentences) == 80
    assert len(templates("imagenet-85").sentences) == 85
    assert templates("imagenet-85").sentences[:80] == templates("imagenet-80").sentences
    scene = ["there is a", "there is the", "this is a", "this is the", "this is one"]
    assert templates("imagenet-85").fill("dog")[-5:] == [f"{start} dog in the scene." for start in scene]
    assert templates("photo").fill("aeroplane") == ["a photo of an aeroplane"]
    assert templates("photo").fill("dog") == ["a photo of a dog"]
    assert templates("photo").fill("{0} {}") == ["a photo of a {0} {}"]  # braces are letters like others
    assert templates("photo-a").fill("aeroplane") == ["a photo of a aeroplane"]
    assert len({templates(n).digest for n in ("imagenet-80", "imagenet-85", "photo", "photo-a", "plain")}) == 5
    with pytest.raises(PromptError, match="'many'.*imagenet-80"):
        templates("many")


def test_an_embedding_is_the_normalised_mean_of_normalised_prompts():
    phrases = ["dog", "traffic light"]
    embeddings = embedder_of(prompts="imagenet-85")(Vocabulary.of(phrases))
    for vector, phrase in zip(embeddings.vectors, phrases, strict=True):
        expected = embedded_by_hand(Letters(), phrase, templates("imagenet-85").sentences)
        assert np.abs(vector.numpy() - expected).max() < 1e-6


def test_a_phrase_is_read_once_in_a_lifetime():
    embedded = embedder_of()(Vocabulary.of(["dog", "cat"]))
    second = Letters()
    embedder = embedder_of(second)
    again = embedder(Vocabulary.of({"cat": None, "bird": None, "dog": "hound"}))
    assert second.read == ["a photo of a bird", "a photo of a hound"]
    assert torch.equal(again.vectors[0], embedded.vectors[1])
    embedder(Vocabulary.of(["bird"]))
    assert len(second.read) == 2


def test_another_model_or_other_templates_never_share_a_vector():
    embedder_of()(Vocabulary.of(["apple"]))
    other, same = Letters(), Letters()
    other.text_fingerprint = "letters-2"
    embedder_of(other)(Vocabulary.of(["apple"]))
    assert other.read == ["a photo of an apple"]
    embedder_of(same, "photo-a")(Vocabulary.of(["apple"]))
    assert same.read == ["a photo of a apple"]


def test_a_name_scores_as_its_best_phrase():
    vocabulary = Vocabulary.of({"dog": ["puppy"], "cat": None})
    vectors = torch.nn.functional.normalize(torch.randn(3, 5, generator=torch.Generator().manual_seed(0)), dim=1)
    embeddings = TextEmbeddings(vocabulary, vectors, torch.tensor([0, 0, 1]))
    features = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(1))
    cosines = embeddings.cosines(features)
    assert cosines.shape == (2, 2, 3, 4)
    for b, i, j in [(0, 0, 0), (1, 2, 3)]:
        f = features[b, :, i, j] / features[b, :, i, j].norm()
        assert cosines[b, 0, i, j] == pytest.approx(max(f @ vectors[0], f @ vectors[1]).item(), abs=1e-6)
        assert cosines[b, 1, i, j] == pytest.approx((f @ vectors[2]).item(), abs=1e-6)


@pytest.mark.parametrize(
    ("cache", "says"),
    [
        ("in the way/text.sqlite", "text embeddings are not kept.*WORDMASK_CACHE"),
        ("x" * 300 + "/text.sqlite", "text embeddings are not kept"),
        ("in the way", "in the way.*remove the file if it is damaged"),
        ("full", "disk is full"),
    ],
    ids=["cannot be written", "cannot be looked at", "damaged", "full"],
)
def test_a_cache_that_does_not_serve_warns_once_and_changes_nothing(tmp_path, monkeypatch, cache, says):
    (tmp_path / "in the way").write_bytes(b"not a database" * 100)
    expected = embedder_of()(DOG)
    embedder = embedder_of(cache=tmp_path / cache)
    if cache == "full":
        full = Mock(side_effect=sqlite3.OperationalError("database or disk is full"))
        monkeypatch.setattr("wordmask.names.text_embeddings.sqlite3.connect", full)
    with pytest.warns(RuntimeWarning, match=says):
        assert torch.equal(embedder(DOG).vectors, expected.vectors)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        embedder(Vocabulary.of(["cat"]))


@pytest.mark.parametrize("damage", [b"", b"abc", np.zeros(5, "<f4").tobytes()])
def test_a_damaged_row_is_read_anew(tmp_path, damage):
    cache = tmp_path / "text.sqlite"
    whole = embedder_of(cache=cache)(DOG)
    with sqlite3.connect(cache) as db:
        db.execute("UPDATE phrases SET vector = ?", (damage,))
    db.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        assert torch.equal(embedder_of(cache=cache)(DOG).vectors, whole.vectors)


def test_a_phrase_that_is_no_unicode_does_not_cost_the_others_their_cache(tmp_path):
    cache = PhraseCache(tmp_path / "text.sqlite")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.put("space", {"\ud800": torch.ones(2), "dog": torch.ones(2)})
        assert list(cache.get("space", ["\udfff", "dog"])) == ["dog"]


def test_memory_does_not_grow_with_the_names_asked_for(monkeypatch):
    monkeypatch.setattr("wordmask.names.text_embeddings.PHRASES_IN_MEMORY", 10)
    embedder = embedder_of(prompts="plain")
    for i in range(10):
        embedder(Vocabulary.of([f"name {i} {j}" for j in range(5)]))
    assert len(embedder._seen) <= 10


def test_reading_stops_between_two_steps_and_keeps_what_was_read(tmp_path, monkeypatch):
    monkeypatch.setattr(TextEmbedder, "phrases_at_once", 2)
    encoder, names = Letters(), Vocabulary.of([*"abcde"])
    embedder = embedder_of(encoder, "plain", cache=tmp_path / "text.sqlite")
    assert embedder.read(names, lambda: len(encoder.read) < 4) is None
    assert encoder.read == [*"abcd"]
    assert embedder(names).vectors.shape == (5, 6)
    assert encoder.read == [*"abcde"]


def test_what_is_known_is_what_is_read_without_the_encoder(tmp_path):
    embedder = embedder_of(cache=tmp_path / "text.sqlite")
    assert not embedder.knows(DOG)
    embedder.read(DOG)
    assert embedder.knows(DOG)
    assert embedder.knows(Vocabulary(("dog", "hound"), (("dog",), ("dog",))))
    assert not embedder.knows(Vocabulary.of(["dog", "cat"]))
