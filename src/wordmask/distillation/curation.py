"""Down every name's ranking, past the pictures that filters drop, until its archive is full.

However many pictures that takes, the memory is that of a block of candidates, of a stretch of the rankings, and of the
pictures kept: a ranking that is used up is searched for again, from where it ended.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from wordmask.collection.archive import Counts, Entry
from wordmask.collection.embedding_folder import EmbeddingFolder
from wordmask.collection.references import ImageRef
from wordmask.collection.search import Best, Place, Queries, rows_with_direction, search
from wordmask.console.progress import Progress
from wordmask.distillation.filters import Candidate, Filter, Look

NAMES_TOGETHER = 50
"""Names whose candidates are looked at side by side, as reading the metadata of a shard serves them all."""
CANDIDATES_TOGETHER = 2**15
"""Of all those names: their metadata are in memory at once."""
RANKS_TOGETHER = 2**21
"""Of all names: rows and similarities that one search may find, where their archives alone do not need more."""
SPARE = 0.25
"""Candidates beyond the archive's size in the first search, for those that filters drop."""
LEAST_SPARE = 16
MORE = 4
"""How many times as many are asked for where those were not enough."""

Found = tuple[np.ndarray, np.ndarray]
"""Rows and their similarities, best first."""


class Looks:
    """What was found of the pictures of some rows, in arrays, as there may be millions."""

    def __init__(
        self, rows: np.ndarray | None = None, sizes: np.ndarray | None = None, dropped_by: np.ndarray | None = None
    ):
        """rows (n,), in ascending order; sizes (n, 2), of -1 where there is none; dropped_by (n,): labels."""
        self._rows = np.zeros(0, np.int64) if rows is None else rows
        self._sizes, self._dropped_by = sizes, dropped_by

    def of(self, row: int) -> Look | None:
        place = int(np.searchsorted(self._rows, row))
        if self._sizes is None or self._dropped_by is None or place == len(self._rows) or self._rows[place] != row:
            return None
        height, width = self._sizes[place].tolist()
        return Look(None if height < 0 else (height, width), str(self._dropped_by[place]))


@dataclass(frozen=True)
class Finder:
    """Who finds the best rows and looks at their pictures for `curate`; here the search is one pass, and pictures are
    looked at as their turn comes.
    """

    folder: EmbeddingFolder
    queries: Queries

    def best(self, names: Sequence[int], most: int, after: Sequence[Place | None]) -> Best:
        return search(self.folder, self.queries.pick(names), most, after=after)

    def look(self, rows: np.ndarray) -> Looks:
        """Look at the pictures of these rows ahead of their turn, or at none."""
        return Looks()


class Walk:
    """One name's way down its ranking."""

    def __init__(self, name: str, size: int, filters: Sequence[Filter]):
        self.name, self.size, self.filters = name, size, filters
        self.kept: list[Entry] = []
        self.directions: list[np.ndarray] = []
        """Of those kept, while some filter compares candidates with them."""
        self.reached: Place | None = None
        self.ended = False
        self.dropped: Counter[str] = Counter({each.label: 0 for each in filters})
        self._looked_at = 0
        self._rest_dropped_by: str | None = None
        self._seen: set[ImageRef] = set()

    @property
    def compares(self) -> bool:
        return any(each.compares for each in self.filters)

    def look(self, candidate: Candidate) -> None:
        self.reached = (candidate.similarity, candidate.row)
        self._looked_at += 1
        dropper = next((each for each in self.filters if each.drop(candidate, self.directions)), None)
        if dropper is not None:
            self.dropped[dropper.label] += 1
            if dropper.ends:
                self.ended, self._rest_dropped_by = True, dropper.label
        elif candidate.ref in self._seen:
            self.dropped["listed twice"] += 1
        else:
            self._keep(candidate)

    def _keep(self, candidate: Candidate) -> None:
        assert candidate.ref is not None  # the filter "unreadable" has seen to that
        assert candidate.size is not None
        self._seen.add(candidate.ref)
        rank = len(self.kept)
        self.kept.append(Entry(self.name, rank, candidate.ref, candidate.size, candidate.similarity, candidate.row))
        if self.compares:
            self.directions.append(candidate.vector.copy())  # a view would keep its whole block
        self.ended = len(self.kept) == self.size

    def counts(self, ranked: Callable[[], int]) -> Counts:
        """ranked: how many pictures the whole ranking has."""
        looked_at, dropped = self._looked_at, dict(self.dropped)
        if self._rest_dropped_by is not None:
            dropped[self._rest_dropped_by] += ranked() - looked_at
            looked_at = ranked()
        return Counts(looked_at, len(self.kept), dropped)


def curate(
    finder: Finder,
    names: Sequence[str],
    filters: Sequence[Filter],
    size: int,
    progress: Progress | None = None,
) -> Iterator[tuple[list[Entry], Counts]]:
    """For every name the best pictures that no filter drops, `size` of them if there are as many."""
    folder = finder.folder
    walks = [Walk(name, size, filters) for name in names]
    least = size + max(LEAST_SPARE, int(SPARE * size))
    most = least
    while left := [label for label, walk in enumerate(walks) if not walk.ended]:
        most = min(len(folder), max(least, min(most, RANKS_TOGETHER // len(left))))
        best = finder.best(left, most, [walks[label].reached for label in left])
        found = list(zip(best.rows, best.similarities, strict=True))
        looks = finder.look(np.unique(np.concatenate(best.rows)))
        for start in range(0, len(left), NAMES_TOGETHER):
            group = [walks[label] for label in left[start : start + NAMES_TOGETHER]]
            own = found[start : start + NAMES_TOGETHER]
            _walk_on(folder, group, own, looks)
            for walk, (rows, _) in zip(group, own, strict=True):
                walk.ended |= len(rows) < most or most == len(folder)
            if progress:
                progress(sum(walk.ended for walk in walks), len(walks))
        most *= MORE
    known: list[int] = []

    def ranked() -> int:
        if not known:
            known.append(rows_with_direction(folder))
        return known[0]

    for walk in walks:
        yield _with_best_names(walk.kept, folder, finder.queries, names), walk.counts(ranked)


def _walk_on(folder: EmbeddingFolder, walks: Sequence[Walk], found: Sequence[Found], looks: Looks) -> None:
    """As far as what was found goes, side by side and block by block."""
    for walk in walks:
        if walk.compares:
            walk.directions = list(_directions(folder, _rows(walk.kept)))
    start = 0
    while going := [
        (walk, own)
        for walk, own in zip(walks, found, strict=True)
        if not walk.ended and start < len(own[0])  # its ranking may be used up
    ]:
        stop = start + max(1, CANDIDATES_TOGETHER // len(going))
        parts = [(rows[start:stop], similarities[start:stop]) for _, (rows, similarities) in going]
        for (walk, _), candidates in zip(going, _candidates(folder, parts, looks), strict=True):
            for candidate in candidates:
                walk.look(candidate)
                if walk.ended:
                    break
        start = stop
    for walk in walks:
        walk.directions = []


def _candidates(folder: EmbeddingFolder, found: Sequence[Found], looks: Looks) -> Iterator[Iterator[Candidate]]:
    """Rows and similarities of some names, with what the collection tells of each row; one name after the other."""
    rows = np.unique(np.concatenate([own for own, _ in found]))
    told = folder.told(rows)
    refs = folder.references(told)
    known = {row: (told[i], refs[i]) for i, row in enumerate(rows.tolist())}
    for own, similarities in found:
        directions = _directions(folder, own)
        yield (
            Candidate(row, similarity, direction, *known[row], root=folder.root, look=looks.of(row))
            for row, similarity, direction in zip(own.tolist(), similarities.tolist(), directions, strict=True)
        )


def _directions(folder: EmbeddingFolder, rows: Sequence[int] | np.ndarray) -> np.ndarray:
    """(n, D) of length 1"""
    vectors = folder.vectors(rows)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def _rows(entries: Sequence[Entry]) -> list[int]:
    return [entry.row for entry in entries if entry.row is not None]


def _with_best_names(
    kept: Sequence[Entry], folder: EmbeddingFolder, queries: Queries, names: Sequence[str]
) -> list[Entry]:
    if not kept:
        return []
    likeness = queries.likeness(_directions(folder, _rows(kept)))  # (n, K)
    best = likeness.argmax(axis=1).tolist()
    return [replace(entry, best_name=names[label]) for entry, label in zip(kept, best, strict=True)]
