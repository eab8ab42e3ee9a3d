"""Prompts as the papers write them; phrases embedded once and kept."""

import sqlite3
import warnings

import numpy as np
import pytest
import torch

from support.letters import Letters
from wordmask.names.prompts import PromptError, templates
from wordmask.names.text_embeddings import PhraseCache, TextEmbedder, TextEmbeddings
from wordmask.names.vocabulary import Vocabulary


def embedded_by_hand(encoder, phrase, sentences):
    vectors = encoder.encode_text([s.format(phrase) for s in sentences]).double().numpy()
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    mean = vectors.mean(axis=0)
    return mean / np.linalg.norm(mean)


def test_template_sets_have_the_papers_sizes_and_sentences():
    assert len(templates("imagenet-80").sentences) == 80
    assert len(templates("imagenet-85").sentences) == 85
    assert templates("imagenet-85").sentences[:80] == templates("imagenet-80").sentences
    assert templates("imagenet-85").fill("dog")[-5:] == [
        "there is a dog in the scene.",
        "there is the dog in the scene.",
        "this is a dog in the scene.",
        "this is the dog in the scene.",
        "this is one dog in the scene.",
    ]
    assert templates("photo").fill("aeroplane") == ["a photo of an aeroplane"]
    assert templates("photo").fill("dog") == ["a photo of a dog"]
    assert templates("photo-a").fill("aeroplane") == ["a photo of a aeroplane"]
    assert len({templates(n).digest for n in ("imagenet-80", "imagenet-85", "photo", "photo-a", "plain")}) == 5
    with pytest.raises(PromptError, match="'many'.*imagenet-80"):
        templates("many")


def test_a_phrase_s_braces_are_letters_like_others():
    assert templates("photo").fill("{0} {}") == ["a photo of a {0} {}"]


def test_an_embedding_is_the_normalised_mean_of_normalised_prompts():
    encoder = Letters()
    embedder = TextEmbedder(encoder, templates("imagenet-85"))
    embeddings = embedder(Vocabulary.of(["dog", "traffic light"]))
    for vector, phrase in zip(embeddings.vectors, ["dog", "traffic light"], strict=True):
        expected = embedded_by_hand(encoder, phrase, templates("imagenet-85").sentences)
        assert np.abs(vector.numpy() - expected).max() < 1e-6


def test_a_phrase_is_read_once_in_a_lifetime():
    first = Letters()
    embedded = TextEmbedder(first, templates("photo"))(Vocabulary.of(["dog", "cat"]))
    second = Letters()
    embedder = TextEmbedder(second, templates("photo"))
    again = embedder(Vocabulary.of({"cat": None, "bird": None, "dog": "hound"}))
    assert second.read == ["a photo of a bird", "a photo of a hound"]
    assert torch.equal(again.vectors[0], embedded.vectors[1])
    embedder(Vocabulary.of(["bird"]))
    assert len(second.read) == 2


def test_another_model_or_other_templates_never_share_a_vector():
    TextEmbedder(Letters(), templates("photo"))(Vocabulary.of(["apple"]))
    other = Letters()
    other.text_fingerprint = "letters-2"
    TextEmbedder(other, templates("photo"))(Vocabulary.of(["apple"]))
    assert other.read == ["a photo of an apple"]
    same = Letters()
    TextEmbedder(same, templates("photo-a"))(Vocabulary.of(["apple"]))
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


def test_a_cache_that_cannot_be_written_warns_once_and_changes_nothing(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    embedder = TextEmbedder(Letters(), templates("photo"), cache=blocked / "text.sqlite")
    with pytest.warns(RuntimeWarning, match="text embeddings are not kept.*WORDMASK_CACHE"):
        first = embedder(Vocabulary.of(["dog"]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        embedder(Vocabulary.of(["cat"]))
    assert torch.equal(first.vectors, TextEmbedder(Letters(), templates("photo"))(Vocabulary.of(["dog"])).vectors)


def test_a_full_disk_costs_the_cache_only(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise sqlite3.OperationalError("database or disk is full")

    embedder = TextEmbedder(Letters(), templates("photo"), cache=tmp_path / "text.sqlite")
    monkeypatch.setattr("wordmask.names.text_embeddings.sqlite3.connect", full)
    with pytest.warns(RuntimeWarning, match="disk is full"):
        assert embedder(Vocabulary.of(["dog"])).vectors.shape == (1, 6)


def test_a_damaged_cache_is_named_and_passed_by(tmp_path):
    damaged = tmp_path / "text.sqlite"
    damaged.write_bytes(b"not a database" * 100)
    with pytest.warns(RuntimeWarning, match=r"text\.sqlite.*remove the file if it is damaged"):
        embeddings = TextEmbedder(Letters(), templates("photo"), cache=damaged)(Vocabulary.of(["dog"]))
    assert embeddings.vectors.shape == (1, 6)


def test_a_cache_that_cannot_be_looked_at_is_passed_by(tmp_path):
    embedder = TextEmbedder(Letters(), templates("photo"), cache=tmp_path / ("x" * 300) / "text.sqlite")
    with pytest.warns(RuntimeWarning, match="text embeddings are not kept"):
        assert embedder(Vocabulary.of(["dog"])).vectors.shape == (1, 6)


@pytest.mark.parametrize("damage", [b"", b"abc", np.zeros(5, "<f4").tobytes()])
def test_a_damaged_row_is_read_anew(tmp_path, damage):
    cache = tmp_path / "text.sqlite"
    whole = TextEmbedder(Letters(), templates("photo"), cache=cache)(Vocabulary.of(["dog"]))
    with sqlite3.connect(cache) as db:
        db.execute("UPDATE phrases SET vector = ?", (damage,))
    db.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        again = TextEmbedder(Letters(), templates("photo"), cache=cache)(Vocabulary.of(["dog"]))
    assert torch.equal(again.vectors, whole.vectors)


def test_a_phrase_that_is_no_unicode_does_not_cost_the_others_their_cache(tmp_path):
    cache = PhraseCache(tmp_path / "text.sqlite")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.put("space", {"\ud800": torch.ones(2), "dog": torch.ones(2)})
        assert list(cache.get("space", ["\udfff", "dog"])) == ["dog"]


def test_memory_does_not_grow_with_the_names_asked_for(monkeypatch):
    monkeypatch.setattr("wordmask.names.text_embeddings.PHRASES_IN_MEMORY", 10)
    embedder = TextEmbedder(Letters(), templates("plain"))
    for i in range(10):
        embedder(Vocabulary.of([f"name {i} {j}" for j in range(5)]))
    assert len(embedder._seen) <= 10


def test_reading_stops_between_two_steps_and_keeps_what_was_read(tmp_path, monkeypatch):
    monkeypatch.setattr(TextEmbedder, "phrases_at_once", 2)
    encoder = Letters()
    embedder = TextEmbedder(encoder, templates("plain"), cache=tmp_path / "text.sqlite")
    names = Vocabulary.of(["a", "b", "c", "d", "e"])
    assert embedder.read(names, lambda: len(encoder.read) < 4) is None
    assert encoder.read == ["a", "b", "c", "d"]
    assert embedder(names).vectors.shape == (5, 6)
    assert encoder.read == ["a", "b", "c", "d", "e"]
