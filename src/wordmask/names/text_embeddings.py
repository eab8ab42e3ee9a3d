"""Phrases as vectors, computed once in a lifetime.

A phrase's embedding is the normalised mean of its normalised prompts. 80 templates make even a short vocabulary costly
on a CPU, so embeddings are kept on disk, keyed by the text tower's own weights, the templates and the phrase.
"""

import sqlite3
import threading
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wordmask.names.prompts import Templates
from wordmask.names.vocabulary import Vocabulary
from wordmask.weights.cache import cache_dir

PHRASES_PER_BATCH = 64
"""Phrases embedded between two writes: what a kill can lose."""
PHRASES_IN_MEMORY = 20_000
"""The oldest beyond these are read from disk again: a service may be asked for any number of names."""
LOCK_SECONDS = 30.0


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
    """A vocabulary in CLIP's space."""

    vocabulary: Vocabulary
    vectors: Tensor  # (P, D) one for every phrase, L2-normalised
    owner: Tensor  # (P,) the label that each phrase stands for

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

    def __init__(self, encoder: TextEncoder, templates: Templates, *, cache: Path | None = None):
        self.encoder = encoder
        self.templates = templates
        self.cache = PhraseCache(cache or cache_dir() / "text.sqlite")
        self._seen: dict[str, Tensor] = {}
        self._lock = threading.Lock()

    def __call__(self, vocabulary: Vocabulary) -> TextEmbeddings:
        found = self.read(vocabulary)
        assert found is not None  # nobody stops asking
        owner = [i for i, own in enumerate(vocabulary.phrases) for _ in own]
        return TextEmbeddings(vocabulary, torch.stack([found[p] for p in vocabulary.all_phrases]), torch.tensor(owner))

    def read(self, vocabulary: Vocabulary, is_wanted: Callable[[], bool] = lambda: True) -> dict[str, Tensor] | None:
        """Every phrase's vector, some phrases at a time; None as soon as they are wanted no longer. What was read until
        then is kept.
        """
        phrases = list(dict.fromkeys(vocabulary.all_phrases))
        found = self._recall(phrases)
        missing = [p for p in phrases if p not in found]
        for start in range(0, len(missing), self.phrases_at_once):
            if not is_wanted():
                return None
            found |= self._learn(missing[start : start + self.phrases_at_once])
        return found

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
        vectors = embed_phrases(self.encoder, phrases, self.templates).cpu()
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
