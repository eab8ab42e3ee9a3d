"""Phrases as vectors, computed once in a lifetime.

A phrase's embedding is the normalised mean of its normalised prompts. 80 templates make even a short vocabulary costly
on a CPU, so embeddings are kept on disk, keyed by the text tower's own weights, the templates and the phrase.
"""

import sqlite3
import threading
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wordmask.names.prompts import Templates, templates
from wordmask.names.vocabulary import RIVAL, Vocabulary
from wordmask.weights.cache import cache_dir

PHRASES_PER_BATCH = 64
"""Phrases embedded between two writes: what a kill can lose."""
PHRASES_IN_MEMORY = 20_000
"""The oldest beyond these are read from disk again: a service may be asked for any number of names."""
LOCK_SECONDS = 30.0
NEAR = 0.6
"""From which on a concept is no rival of a name but another word for it, or a part of it: see `far_from_names`. The
paper's is a cosine of 0.8 in its own CLIP. It is carried over as if words had a mean cosine of 0.5 there, which is an
assumption and was not measured."""


class TextEncoder(Protocol):
    """What is needed of CLIP here."""

    @property
    def text_fingerprint(self) -> str: ...
    @property
    def embedding_size(self) -> int: ...
    @property
    def grounds(self) -> tuple[str, ...]: ...
    def encode_text(self, prompts: Sequence[str]) -> Tensor: ...


@dataclass(frozen=True)
class TextEmbeddings:
    """A vocabulary in CLIP's space.

    has_background: whether what none of the names is will be told by a threshold.
    """

    vocabulary: Vocabulary
    vectors: Tensor  # (P, D) one for every phrase, L2-normalised
    owner: Tensor  # (P,) the label that each phrase stands for
    has_background: bool = False

    def rivals_apart(self) -> "TextEmbeddings":
        """Return the same with every rival as one more name at the end, where there is one name for all of them."""
        if not self.vocabulary.is_racing:
            return self
        first = len(self.vocabulary) - 1
        is_rival = self.owner == first  # the last phrases, less those that were too near a name
        count = int(is_rival.sum())
        owner = self.owner.clone()
        owner[is_rival] = torch.arange(first, first + count)
        names = (*self.vocabulary.names[:first], *[RIVAL] * count)
        phrases = (*self.vocabulary.phrases[:first], *[(RIVAL,)] * count)
        return replace(self, vocabulary=replace(self.vocabulary, names=names, phrases=phrases), owner=owner)

    def cosines(self, features: Tensor) -> Tensor:
        """Features (B, D, h, w) -> cosine with every name (B, K, h, w): that of its best phrase."""
        features = F.normalize(features, dim=1)
        cosines = torch.einsum("pd,bdhw->bphw", self.vectors.to(features), features)
        if len(self.vectors) == len(self.vocabulary):
            return cosines
        best = cosines.new_full((cosines.shape[0], len(self.vocabulary), *cosines.shape[2:]), -torch.inf)
        index = self.owner.to(cosines.device)[None, :, None, None].expand_as(cosines)
        return best.scatter_reduce(1, index, cosines, reduce="amax")


class TextEmbedder:
    """Reads vocabularies with one CLIP and one template set, through the cache on disk."""

    phrases_at_once = PHRASES_PER_BATCH

    def __init__(
        self,
        encoder: TextEncoder,
        sentences: Templates,
        *,
        cache: Path | None = None,
        embed: "Embed | None" = None,
    ):
        """embed: how prompts become a phrase's vector, where that is not as for CLIP. `encoder.text_fingerprint` must
        tell it apart.
        """
        self.encoder = encoder
        self.embed: Embed = embed or embed_phrases
        self.templates = sentences
        self.cache = PhraseCache(cache or cache_dir() / "text.sqlite")
        self._seen: dict[str, Tensor] = {}
        self._lock = threading.Lock()

    def __call__(self, vocabulary: Vocabulary) -> TextEmbeddings:
        found = self.read(vocabulary)
        assert found is not None  # nobody stops asking
        owner = torch.tensor([i for i, own in enumerate(vocabulary.phrases) for _ in own])
        vectors = torch.stack([found[p] for p in vocabulary.all_phrases])
        if vocabulary.rivals is not None and vocabulary.rivals.doubtful:
            unseen = {vocabulary.background, len(vocabulary) - 1 if vocabulary.is_racing else None}
            is_name = torch.tensor([label not in unseen for label in owner.tolist()])
            is_doubtful = torch.tensor([phrase in vocabulary.rivals.doubtful for phrase in vocabulary.all_phrases])
            races = far_from_names(vectors, is_name, is_doubtful & ~is_name)
            vectors, owner = vectors[races], owner[races]
        return TextEmbeddings(vocabulary, vectors, owner)

    def nearest(self, phrase: str, words: Sequence[str]) -> int:
        """Return the place of the word that is nearest to a phrase, each read in one sentence: words may be many."""
        names = tuple(dict.fromkeys((phrase, *words)))
        found = self._plain.read(Vocabulary(names, tuple((name,) for name in names)))
        assert found is not None
        return int((torch.stack([found[word] for word in words]) @ found[phrase]).argmax())

    @cached_property
    def _plain(self) -> "TextEmbedder":
        """What reads a phrase in one sentence. It stays, as every name is held against the same words."""
        return TextEmbedder(self.encoder, templates("photo"), cache=self.cache.path, embed=self.embed)

    def read(self, vocabulary: Vocabulary, is_wanted: Callable[[], bool] = lambda: True) -> dict[str, Tensor] | None:
        """Every phrase's vector, some phrases at a time; None as soon as they are wanted no longer. What was read until
        then is kept.
        """
        phrases = list(dict.fromkeys(vocabulary.racing().all_phrases))
        found = self._recall(phrases)
        missing = [p for p in phrases if p not in found]
        for start in range(0, len(missing), self.phrases_at_once):
            if not is_wanted():
                return None
            found |= self._learn(missing[start : start + self.phrases_at_once])
        return found

    def knows(self, vocabulary: Vocabulary) -> bool:
        """Return whether `read` would find all of it in memory."""
        phrases = set(vocabulary.racing().all_phrases)
        return len(self._in_memory(list(phrases))) == len(phrases)

    def _recall(self, phrases: Sequence[str]) -> dict[str, Tensor]:
        """From memory, and from disk."""
        found = self._in_memory(phrases)
        if missing := [p for p in phrases if p not in found]:
            size = self.encoder.embedding_size
            kept = {p: v for p, v in self.cache.get(self._space, missing).items() if len(v) == size}
            self._remember(kept)
            found |= kept
        return found

    def _learn(self, phrases: Sequence[str]) -> dict[str, Tensor]:
        vectors = self.embed(self.encoder, phrases, self.templates).cpu()
        found = dict(zip(phrases, vectors, strict=True))
        self.cache.put(self._space, found)
        self._remember(found)
        return found

    def _in_memory(self, phrases: Sequence[str]) -> dict[str, Tensor]:
        with self._lock:
            return {p: self._seen[p] for p in phrases if p in self._seen}

    def _remember(self, found: dict[str, Tensor]) -> None:
        with self._lock:
            self._seen.update(found)
            while len(self._seen) > PHRASES_IN_MEMORY:
                self._seen.pop(next(iter(self._seen)))

    @property
    def _space(self) -> str:
        return f"{self.encoder.text_fingerprint}/{self.templates.digest}"


def embed_phrases(encoder: TextEncoder, phrases: Sequence[str], templates: Templates) -> Tensor:
    """(P, D): every prompt's embedding is normalised, the templates are averaged, the mean is normalised."""
    prompts = [prompt for phrase in phrases for prompt in templates.fill(phrase)]
    vectors = F.normalize(encoder.encode_text(prompts), dim=-1)
    return F.normalize(vectors.unflatten(0, (len(phrases), -1)).mean(dim=1), dim=-1)


def far_from_names(vectors: Tensor, is_name: Tensor, is_doubtful: Tensor) -> Tensor:
    """Return which of the phrases race, (P,) bool: all but doubtful rivals that are too near a name.

    vectors (P, D), of length 1. Near is what has gone `NEAR` of the way from the mean cosine of rivals among themselves
    to 1: how close the texts of a CLIP lie together differs much, and the paper's 0.8 is of its own.
    """
    rivals, count = vectors[is_doubtful], int(is_doubtful.sum())
    races = torch.ones(len(vectors), dtype=torch.bool)
    if count < 2 or not is_name.any():
        return races
    among = rivals @ rivals.T
    mean = (among.sum() - among.diagonal().sum()) / (count * (count - 1))
    races[is_doubtful] = (rivals @ vectors[is_name].T).amax(dim=1) < mean + NEAR * (1 - mean)
    return races


Embed = Callable[[Any, Sequence[str], Templates], Tensor]
"""An encoder, phrases and templates -> (P, D), L2-normalised."""


class PhraseCache:
    """Embeddings on disk, in one SQLite file that several processes may share.

    A cache that cannot be read or written costs time, not results: it warns once and is left alone from then on.
    """

    def __init__(self, path: Path):
        self.path = path
        self._off = False

    def get(self, space: str, phrases: Sequence[str]) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        if self._off:
            return found
        try:
            if not self.path.exists():
                return found
            with closing(self._open()) as db:
                for phrase in filter(_can_be_kept, phrases):
                    row = db.execute(
                        "SELECT vector FROM phrases WHERE space = ? AND phrase = ?", (space, phrase)
                    ).fetchone()
                    if row is not None:
                        found[phrase] = torch.from_numpy(np.frombuffer(row[0], dtype="<f4").copy())
        except (sqlite3.Error, OSError, ValueError) as error:  # ValueError: a damaged row
            self._give_up(error)
            return {}
        return found

    def put(self, space: str, vectors: dict[str, Tensor]) -> None:
        if self._off:
            return
        rows = [
            (space, phrase, v.numpy().astype("<f4").tobytes()) for phrase, v in vectors.items() if _can_be_kept(phrase)
        ]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(self._open()) as db, db:
                db.executemany("INSERT OR REPLACE INTO phrases VALUES (?, ?, ?)", rows)
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=LOCK_SECONDS)
        db.execute(
            "CREATE TABLE IF NOT EXISTS phrases (space TEXT, phrase TEXT, vector BLOB, PRIMARY KEY (space, phrase))"
        )
        return db

    def _give_up(self, error: Exception) -> None:
        self._off = True
        warnings.warn(
            f"text embeddings are not kept: {self.path}: {error}. Results are the same, but every start reads the "
            "names anew; set WORDMASK_CACHE to a folder that can be written, or remove the file if it is damaged",
            RuntimeWarning,
            stacklevel=4,
        )


def _can_be_kept(phrase: str) -> bool:
    """SQLite keeps UTF-8, which has no lone surrogates."""
    return not any("\ud800" <= letter <= "\udfff" for letter in phrase)
