"""The n best rows for every name, exactly, in one pass over embeddings of any number.

The similarity of a row is the cosine in double precision of the embedding as stored, which depends on nothing but the
row and the phrase; rows of equal similarity are in the order of their numbers. So an archive does not depend on how
the rows are cut into blocks and shards, or on the matrix product that a machine has.

Single precision finds the candidates: what it says is within `slack` of the truth, and whoever is within twice that
of the n-th best is kept until the truth is computed.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from wordmask.collection.embedding_folder import EmbeddingFolder
from wordmask.collection.references import CollectionError
from wordmask.names.text_embeddings import TextEmbedder
from wordmask.names.vocabulary import Vocabulary

BLOCK_BYTES = 2 * 2**20
"""Of embeddings, or of their products, that are looked at together: a core's cache holds it."""
RESCORED_ROWS = 4096
HALF_TO_SINGLE = np.float32(2.0**112)
"""The exponents of half and single floats count from 15 and from 127."""
HALF_BITS = np.int32(-0x70002000)
"""Sign, exponent and fraction of a half float that has been widened to 32 bits and shifted by 13."""
PAST_HALF = np.float32(2.0**32)
"""The square of what an infinity or NaN becomes when its bits are read as a number's."""

Place = tuple[float, int]
"""In a name's ranking: a similarity, and the row that has it."""
HEAD: Place = (np.inf, -1)


@dataclass(frozen=True)
class Queries:
    """What is searched for: a name has one phrase or several, and a picture is as like it as the best one."""

    vectors: np.ndarray  # (P, D) float64
    firsts: np.ndarray  # (K,) the first phrase of every name; those of one name lie side by side

    @classmethod
    def of(cls, vectors: np.ndarray, owner: Sequence[int] | np.ndarray) -> "Queries":
        """vectors (P, D) of any length; owner (P,): the name of each, in order."""
        wide = np.asarray(vectors, dtype=np.float64)
        return cls(wide / np.linalg.norm(wide, axis=1, keepdims=True), np.unique(owner, return_index=True)[1])

    def __len__(self) -> int:
        return len(self.firsts)

    def pick(self, names: Sequence[int]) -> "Queries":
        """Return some of the names."""
        parts = [self.vectors[self._phrases(name)] for name in names]
        owner = [i for i, part in enumerate(parts) for _ in part]
        return Queries(np.concatenate(parts), np.unique(owner, return_index=True)[1])

    def exact(self, embeddings: np.ndarray, name: int) -> np.ndarray:
        """Cosines of rows (n, D) with one name (n,): float64, each from its own row alone."""
        rows = embeddings.astype(np.float64)
        length = np.sqrt((rows * rows).sum(axis=1))
        best = np.full(len(rows), -np.inf)
        with np.errstate(divide="ignore", invalid="ignore"):
            for phrase in self.vectors[self._phrases(name)]:
                best = np.fmax(best, (rows * phrase).sum(axis=1) / length)
        return best

    def likeness(self, directions: np.ndarray) -> np.ndarray:
        """Of rows (n, D) of length 1 with every name: (n, K)."""
        similar: np.ndarray = np.maximum.reduceat(directions @ self.vectors.T, self.firsts, axis=1)
        return similar

    def _phrases(self, name: int) -> slice:
        last = self.firsts[name + 1] if name + 1 < len(self.firsts) else len(self.vectors)
        return slice(int(self.firsts[name]), int(last))


def queries_of(vocabulary: Vocabulary, embedder: TextEmbedder, folder: EmbeddingFolder) -> Queries:
    """Embed a vocabulary in the space of a collection's embeddings."""
    own = getattr(embedder.encoder, "name", None)
    if folder.clip is not None and own is not None and folder.clip != own:
        raise CollectionError(
            f"{folder.folder} holds embeddings of {folder.clip}, not of {own}: choose the CLIP that they were made with"
        )
    text = embedder(vocabulary)
    if text.vectors.shape[1] != folder.dimension:
        raise CollectionError(
            f"{folder.folder} holds embeddings of {folder.dimension} numbers, but this CLIP's have "
            f"{text.vectors.shape[1]}: choose the CLIP that they were made with"
        )
    return Queries.of(text.vectors.cpu().numpy(), text.owner.cpu().numpy())


@dataclass(frozen=True)
class Best:
    """Of every name, the best rows and their similarities, best first."""

    most: int
    rows: tuple[np.ndarray, ...]  # of int64
    similarities: tuple[np.ndarray, ...]  # of float64

    def merge(self, other: "Best") -> "Best":
        """Return the best of both, which must not share rows. Associative: parts may be joined in any grouping and
        order.
        """
        pairs = [
            _ordered(np.concatenate(rows), np.concatenate(values), self.most)
            for rows, values in zip(
                zip(self.rows, other.rows, strict=True),
                zip(self.similarities, other.similarities, strict=True),
                strict=True,
            )
        ]
        return Best(self.most, tuple(rows for rows, _ in pairs), tuple(values for _, values in pairs))


def search(
    folder: EmbeddingFolder,
    queries: Queries,
    most: int,
    shards: Iterable[int] | None = None,
    *,
    after: Sequence[Place | None] | None = None,
) -> Best:
    """Return the `most` best rows for every name, of all shards or of some. Rows of zeros and NaN are like nothing.

    after: of every name the place in its ranking behind which the rows are to be, None for the ranking's head.
    """
    block_rows = max(1, BLOCK_BYTES // (4 * max(folder.dimension, len(queries.vectors))))
    narrow = np.ascontiguousarray(queries.vectors.T.astype(np.float32))  # (D, P)
    slack = 4 * folder.dimension * 2.0**-24  # of cosines of single floats: a few units in the last place per term
    behind = [place or HEAD for place in after] if after is not None else [HEAD] * len(queries)
    running = [_Running(most, 2 * slack, ceiling) for ceiling, _ in behind]
    thresholds = np.full(len(queries), -np.inf, dtype=np.float32)
    for first, stored in folder.blocks(block_rows, shards):
        similar = _cosines(stored, narrow)  # (B, P)
        if len(queries.vectors) > len(queries):
            similar = np.maximum.reduceat(similar, queries.firsts, axis=1)  # (B, K)
        for name, places in _above(similar, thresholds):
            running[name].add(places + first, similar[places, name])
            thresholds[name] = running[name].threshold
    rows, similarities = [], []
    for name, each in enumerate(running):
        own, values = _exact(folder, queries, name, np.sort(each.candidates()))
        ceiling, last = behind[name]
        following = (values < ceiling) | ((values == ceiling) & (own > last))
        own, values = _ordered(own[following], values[following], most)
        rows.append(own)
        similarities.append(values)
    return Best(most, tuple(rows), tuple(similarities))


def rows_with_direction(folder: EmbeddingFolder) -> int:
    """Return how many rows a ranking of the whole collection has."""
    count = 0
    for _, stored in folder.blocks(max(1, BLOCK_BYTES // (8 * folder.dimension))):
        wide = stored.astype(np.float64)
        squares = np.einsum("bd,bd->b", wide, wide)
        count += int(np.count_nonzero((squares > 0) & np.isfinite(squares)))
    return count


def _cosines(stored: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Rows (B, D) with unit vectors (D, P), in single precision: (B, P), NaN where a row has no direction."""
    if stored.dtype == np.float16:
        # Eight times as fast as NumPy's own conversion, which is as slow as the matrix product.
        bits = stored.view(np.int16).astype(np.int32)
        bits <<= 13
        bits &= HALF_BITS
        block = bits.view(np.float32) * HALF_TO_SINGLE
    else:
        block = np.asarray(stored)
    squares = np.einsum("bd,bd->b", block, block)
    if stored.dtype == np.float16 and (odd := np.flatnonzero(squares >= PAST_HALF)).size:
        block[odd] = stored[odd]
        squares[odd] = np.einsum("bd,bd->b", block[odd], block[odd])
    with np.errstate(divide="ignore", invalid="ignore"):
        similar: np.ndarray = block @ vectors
        similar *= (1 / np.sqrt(squares))[:, None]
    return similar


def _above(similar: np.ndarray, thresholds: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Names, and for each the rows of the block that come into question. NaN never does."""
    places, names = np.divmod(np.flatnonzero(similar > thresholds), similar.shape[1])
    order = np.argsort(names, kind="stable")
    places, names = places[order], names[order]
    found, starts = np.unique(names, return_index=True)
    yield from zip(found.tolist(), np.split(places, starts[1:]), strict=False)


class _Running:
    """One name's candidates so far: of those surely below the ceiling the best, and all that are about as high."""

    def __init__(self, most: int, margin: float, ceiling: float):
        self.most, self.margin, self.ceiling = most, margin, ceiling
        self.threshold = -np.inf
        self._near: list[np.ndarray] = []
        self._rows: list[np.ndarray] = []
        self._values: list[np.ndarray] = []
        self._held = 0

    def add(self, rows: np.ndarray, values: np.ndarray) -> None:
        if self.ceiling < np.inf:
            self._near.append(rows[np.abs(values - self.ceiling) <= self.margin])
            below = values < self.ceiling - self.margin
            rows, values = rows[below], values[below]
        self._rows.append(rows)
        self._values.append(values)
        self._held += len(rows)
        if self._held >= 2 * self.most or (self._held >= self.most and self.threshold == -np.inf):
            self._tighten()

    def candidates(self) -> np.ndarray:
        if self._held >= self.most:
            self._tighten()
        return np.concatenate([*self._near, *self._rows, np.zeros(0, np.int64)])

    def _tighten(self) -> None:
        rows, values = np.concatenate(self._rows), np.concatenate(self._values)
        nth = np.partition(values, len(values) - self.most)[len(values) - self.most]
        self.threshold = float(nth) - self.margin
        kept = values >= self.threshold
        self._rows, self._values = [rows[kept]], [values[kept]]
        self._held = len(self._rows[0])


def _exact(folder: EmbeddingFolder, queries: Queries, name: int, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    parts = [rows[start : start + RESCORED_ROWS] for start in range(0, len(rows), RESCORED_ROWS)]
    values = [queries.exact(folder.vectors(part), name) for part in parts]
    return rows.astype(np.int64), np.concatenate([*values, np.zeros(0)])


def _ordered(rows: np.ndarray, values: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.lexsort((rows, -values))[:most]
    return rows[order], values[order]
