"""Curation by shards: every round of it is a search by shards, and then a look at the pictures that were found.

Whether a picture is too small, unsafe or shows a face hangs on itself alone, so whoever has its shard of embeddings may
say so. Whether it is a near-duplicate hangs on all better pictures, of whatever shard: that is told in the walk down
the joined rankings, which opens no picture. So archives and counts are those of one process, to the last one.
"""

import io
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from wordmask.collection.embedding_folder import EmbeddingFolder
from wordmask.collection.references import CollectionError
from wordmask.collection.search import Best, Place, Queries
from wordmask.collection.search_shards import Searched, joined_parts, missing_parts, search_by_shards
from wordmask.console.progress import Progress
from wordmask.distillation.curation import CANDIDATES_TOGETHER, Finder, Looks
from wordmask.distillation.filters import Candidate, Filter, FilterSettings, filters_of
from wordmask.fingerprints import digest_of, digest_of_lines, file_digest, listing_digest
from wordmask.runs.crew import Crew
from wordmask.runs.parts import Say, warn, write_part
from wordmask.runs.shards import Share, run_shards
from wordmask.text_files import counted


class UnfinishedError(CollectionError):
    """Other shares have not made their parts of a round yet. missing: how many parts."""

    def __init__(self, missing: int, out: Path):
        super().__init__(f"{out}: {counted(missing, 'part')} still missing: make all shares, and then start them again")
        self.missing = missing


@dataclass(frozen=True)
class LookTask:
    """Pictures that were found in one shard of embeddings, to be looked at."""

    path: Path
    number: int
    rows: np.ndarray  # (n,)
    wanted: str

    @property
    def name(self) -> str:
        return f"the pictures found in shard {self.number}"

    @property
    def weight(self) -> int:
        return len(self.rows)

    def is_made(self) -> bool:
        try:
            with np.load(self.path, allow_pickle=False) as part:
                return bool(part["wanted"].item() == self.wanted)
        except (OSError, ValueError, LookupError, zipfile.BadZipFile):
            return False  # it is made anew

    def make(self, looker: "Looker", progress: Progress) -> None:
        sizes, dropped_by = np.full((len(self.rows), 2), -1), [""] * len(self.rows)
        for place, candidate in enumerate(looker.candidates(self.rows)):
            dropper = next((each for each in looker.filters if each.drops(candidate, ())), None)
            if dropper is not None:
                dropped_by[place] = dropper.label
            elif candidate.size is not None:
                sizes[place] = candidate.size
            progress(place + 1, len(self.rows))
        buffer = io.BytesIO()
        np.savez(buffer, wanted=np.array(self.wanted), sizes=sizes, dropped_by=np.array(dropped_by, dtype=str))
        with write_part(self.path) as file:
            file.write(buffer.getvalue())

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        with np.load(self.path, allow_pickle=False) as part:
            return part["sizes"], part["dropped_by"]


@dataclass(frozen=True)
class Looker:
    """Looks at pictures, by the filters that ask for nothing but those."""

    folder: EmbeddingFolder
    filters: Sequence[Filter]

    def candidates(self, rows: np.ndarray) -> Iterator[Candidate]:
        nowhere = np.zeros(0)
        for start in range(0, len(rows), CANDIDATES_TOGETHER):
            block = rows[start : start + CANDIDATES_TOGETHER]
            told = self.folder.told(block)
            refs = self.folder.references(told)
            for row, about, ref in zip(block.tolist(), told, refs, strict=True):
                yield Candidate(row, np.nan, nowhere, about, ref, root=self.folder.root)


@dataclass(frozen=True)
class LoadLooker:
    """Loads what looks at pictures, also in a process of its own. more: filters that can be sent there."""

    folder: EmbeddingFolder
    chosen: FilterSettings
    more: tuple[Filter, ...]

    def __call__(self) -> Looker:
        own = replace(self.chosen, duplicates=None, unsafe_names=(), least_similarity=None)
        return Looker(self.folder, [*self.more, *filters_of(own, self.folder, _no_phrases)])

    @property
    def mark(self) -> str:
        """Return what changes whenever something else may be found of a picture."""
        chosen = TypeAdapter(FilterSettings).dump_json(self.chosen).decode()
        faces = Path(self.chosen.faces or "").expanduser()
        detector = file_digest(faces) if faces.is_file() else ""
        return digest_of_lines([chosen, detector, str(self.folder.root), *(each.label for each in self.more)])


def _no_phrases(texts: Sequence[str]) -> np.ndarray:
    raise AssertionError(f"filters of pictures ask for no phrases, as {texts}")


class SharedFinder(Finder):
    """Finds and looks by shards, whose parts lie in `parts`. more: filters of pictures beside the chosen ones.

    makes: whether it makes parts that are missing, by a crew, or a share of them, or only joins.
    """

    def __init__(
        self,
        folder: EmbeddingFolder,
        queries: Queries,
        parts: Path,
        chosen: FilterSettings,
        *,
        more: Sequence[Filter] = (),
        crew: Crew | None = None,
        share: Share | None = None,
        makes: bool = True,
        progress: Progress | None = None,
        say: Say = warn,
    ):
        super().__init__(folder, queries)
        self.parts, self.crew, self.share, self.makes = parts, crew, share, makes
        self.load = LoadLooker(folder, chosen, tuple(more))
        self.progress, self.say = progress, say
        self._round = -1

    @property
    def _folder(self) -> Path:
        return self.parts / f"{self._round:02d}"

    def best(self, names: Sequence[int], most: int, after: Sequence[Place | None]) -> Best:
        self._round += 1
        searched = Searched(self.folder, self.queries.pick(names), most, tuple(after))
        if self.makes:
            how = {"crew": self.crew, "share": self.share, "progress": self.progress, "say": self.say}
            search_by_shards(searched, self._folder, **how)  # type: ignore[arg-type]
        self._check(missing_parts(searched, self._folder))
        return joined_parts(searched, self._folder)

    def look(self, rows: np.ndarray) -> Looks:
        tasks = list(self._look_tasks(rows))
        if self.makes:
            run_shards(
                tasks,
                self.load,
                is_made=LookTask.is_made,
                crew=self.crew,
                share=self.share,
                total=len(rows),
                progress=self.progress,
                say=self.say,
            )
        self._check([task.name for task in tasks if not task.is_made()])
        found = [task.read() for task in tasks]
        if not found:
            return Looks()
        return Looks(rows, np.concatenate([sizes for sizes, _ in found]), np.concatenate([why for _, why in found]))

    def _look_tasks(self, rows: np.ndarray) -> Iterator[LookTask]:
        """rows: in ascending order."""
        mark = self.load.mark
        for number, shard in enumerate(self.folder.shards):
            first, last = np.searchsorted(rows, [shard.first, shard.first + shard.rows])
            if own := rows[first:last].tolist():
                told = [mark, listing_digest([shard.embeddings, shard.metadata]), digest_of(repr(own))]
                path = self._folder / f"look_{number:05d}.npz"
                yield LookTask(path, number, rows[first:last], digest_of_lines(told))

    def _check(self, missing: Sequence[str]) -> None:
        if not missing:
            return
        if self.share is not None:
            raise UnfinishedError(len(missing), self.parts)
        raise CollectionError(
            f"{self.parts}: {counted(len(missing), 'part')} missing, as that of {missing[0]}: search, without --merge"
        )


def forget_parts(parts: Path) -> None:
    """Remove the parts of a search that is done."""
    if parts.exists():
        shutil.rmtree(parts)
