"""Search by shards: of each the best rows of every name, in a part of its own; the best of all are those of the parts.

Joining is associative, so the result is that of one pass, whoever searched what. It is worth it where embeddings are
hundreds of gigabytes, and reading them is what takes the time.
"""

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, reduce
from pathlib import Path

import numpy as np

from wordmask.collection.embedding_folder import EmbeddingFolder
from wordmask.collection.references import CollectionError
from wordmask.collection.search import Best, Place, Queries, search
from wordmask.console.progress import Progress
from wordmask.fingerprints import digest_of, digest_of_lines, listing_digest
from wordmask.runs.crew import Crew
from wordmask.runs.parts import Say, warn, write_part
from wordmask.runs.shards import Share, run_shards
from wordmask.text_files import counted


@dataclass(frozen=True)
class SearchTask:
    out: Path
    number: int
    rows: int
    wanted: str

    @property
    def name(self) -> str:
        return f"shard {self.number}"

    @property
    def weight(self) -> int:
        return self.rows

    @property
    def path(self) -> Path:
        return self.out / f"best_{self.number:05d}.npz"

    def is_made(self) -> bool:
        try:
            with np.load(self.path, allow_pickle=False) as part:
                return bool(part["wanted"].item() == self.wanted)
        except (OSError, ValueError, LookupError, zipfile.BadZipFile):
            return False  # it is made anew

    def make(self, searched: "Searched", progress: Progress) -> None:
        best = search(searched.folder, searched.queries, searched.most, [self.number], after=searched.after)
        buffer = io.BytesIO()
        np.savez(
            buffer,
            wanted=np.array(self.wanted),
            counts=np.array([len(rows) for rows in best.rows]),
            rows=np.concatenate([*best.rows, np.zeros(0, np.int64)]),
            similarities=np.concatenate([*best.similarities, np.zeros(0)]),
        )
        with write_part(self.path) as file:
            file.write(buffer.getvalue())

    def read(self, most: int) -> Best:
        with np.load(self.path, allow_pickle=False) as part:
            ends = np.cumsum(part["counts"])[:-1]
            return Best(most, tuple(np.split(part["rows"], ends)), tuple(np.split(part["similarities"], ends)))


@dataclass(frozen=True)
class Searched:
    """What is searched, and for what. after: as `search` takes it."""

    folder: EmbeddingFolder
    queries: Queries
    most: int
    after: tuple[Place | None, ...] | None = None

    @cached_property
    def mark(self) -> str:
        after = "" if self.after is None or not any(self.after) else repr(self.after)
        told = f"{self.most}{after}".encode()
        return digest_of(self.queries.vectors.tobytes() + self.queries.firsts.tobytes() + told)

    def tasks(self, out: Path) -> Iterator[SearchTask]:
        for number, shard in enumerate(self.folder.shards):
            wanted = digest_of_lines([self.mark, str(shard.first), listing_digest([shard.embeddings])])
            yield SearchTask(out, number, shard.rows, wanted)

    def __call__(self) -> "Searched":
        """Return itself, as what a worker loads."""
        return self


def search_by_shards(
    searched: Searched,
    out: Path,
    *,
    crew: Crew | None = None,
    share: Share | None = None,
    progress: Progress | None = None,
    say: Say = warn,
) -> None:
    """Search the shards whose parts are not in `out`, or those of a share."""
    run_shards(
        searched.tasks(out),
        searched,
        is_made=SearchTask.is_made,
        crew=crew,
        share=share,
        total=len(searched.folder),
        progress=progress,
        say=say,
    )


def missing_parts(searched: Searched, out: Path) -> list[str]:
    return [task.name for task in searched.tasks(out) if not task.is_made()]


def joined_parts(searched: Searched, out: Path) -> Best:
    """Return the best of all shards; two parts are in memory at a time."""
    if missing := missing_parts(searched, out):
        raise CollectionError(
            f"{out}: {counted(len(missing), 'part')} missing, as that of {missing[0]}: search, without --merge"
        )
    return reduce(Best.merge, (task.read(searched.most) for task in searched.tasks(out)))
