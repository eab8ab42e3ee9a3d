"""Through the folder, batch after batch: which pictures there are, which are done, and the labelling of the others."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import lru_cache
from itertools import islice
from pathlib import Path

from wordmask.console.notices import notices
from wordmask.console.progress import CountAhead, Progress
from wordmask.fingerprints import stamp_of
from wordmask.labelling.corrected import CorrectedLabels
from wordmask.labelling.features import path_of
from wordmask.labelling.formats import LabelFormat
from wordmask.labelling.ledger import Entry, Ledger, Row
from wordmask.labelling.parts import BatchTask, LabelTask, LoadWorker, tasks_of
from wordmask.labelling.places import ResultNames
from wordmask.labelling.settings import LabelError
from wordmask.labelling.worker import Job, Worker, Writer
from wordmask.pictures.image_files import ImageReadError, find_images
from wordmask.runs.crew import Processes, made_by_crew
from wordmask.runs.parts import warn
from wordmask.segmenters.base import Segmenter

FOLDERS_REMEMBERED = 16
"""Of results, while those of the pictures are looked for: a walk comes back to the folders above."""


class Walk:
    """Through the folder of a job. lost: pictures that were done, and whose label files were gone.

    relabelled: of the pictures that somebody corrected, those that were labelled now.
    """

    def __init__(
        self,
        job: Job,
        files: LabelFormat,
        ledger: Ledger,
        taken: frozenset[str],
        corrected: CorrectedLabels,
        relabelled: set[str],
    ):
        self.job, self.files, self.ledger, self.taken = job, files, ledger, taken
        self.lost = 0
        self.what = "label files" if job.keep == "nothing" else "label files or features"
        self.relabelled = relabelled
        self._corrected, self._rejected = corrected, corrected.rejected
        self._listing = lru_cache(maxsize=FOLDERS_REMEMBERED)(_listing)

    def label(
        self,
        segmenter: Segmenter | None,
        writer: Writer | None,
        workers: int,
        batch_size: int,
        on_bad: Callable[[ImageReadError], None],
        on_progress: Progress,
    ) -> int:
        """Label what is not done yet. Gives how many pictures that were."""
        new = done = 0
        self.ledger.forget_passed()
        with CountAhead(pictures_found(self.job)) as counted:

            def advance(more: int) -> None:
                nonlocal done
                done += more
                on_progress(done, counted.total)

            missing = self._missing(batch_size, on_bad, advance)
            for first, batch, rows in _labelled(self.job, segmenter, writer, workers, missing):
                self.ledger.add(batch, rows, first)
                new += len(batch)
                self.relabelled |= {row.picture for row in rows if row.picture in self._corrected}
                for row in rows:
                    tell_of_bad(self.job, on_bad, row)
                advance(len(batch))
        return new

    def tasks(
        self,
        batch_size: int,
        per_shard: int,
        on_bad: Callable[[ImageReadError], None],
        *,
        again: bool = True,
    ) -> Iterator[LabelTask]:
        """Yield all shards; what is done already is not in them. again: what could not be read is tried once more."""

        def is_done(batch: Sequence[Entry]) -> bool:
            if not self.ledger.has(batch, also_errors=not again):
                return False
            return all(self._has_files(entry) for entry in batch if self.ledger.has([entry]))

        return tasks_of(self.job.out, self.entries(on_bad), is_done, batch_size, per_shard)

    def _missing(
        self, batch_size: int, on_bad: Callable[[ImageReadError], None], advance: Callable[[int], None]
    ) -> Iterator[tuple[int, list[Entry]]]:
        place = 0
        entries = self.entries(on_bad)
        while batch := list(islice(entries, batch_size)):
            lost = 0
            if done := self.ledger.reach(batch, place):
                lost = sum(not self._has_files(entry) for entry in batch)
                self.lost += lost
            if done and not lost:
                advance(len(batch))
            else:
                yield place, batch
            place += len(batch)

    def entries(self, on_bad: Callable[[ImageReadError], None]) -> Iterator[Entry]:
        folder, names = self.job.folder, ResultNames(self.taken)
        for picture in pictures_found(self.job, on_bad, self._pass_over):
            try:
                status = picture.stat()
            except OSError as error:  # it went while we walked
                on_bad(ImageReadError(str(picture), f"cannot be read ({error.strerror})"))
                continue
            below = picture.relative_to(folder)
            yield Entry(below.as_posix(), names.of(folder, below), stamp_of(status))

    def _pass_over(self, error: ImageReadError) -> None:
        self.ledger.pass_over(Path(error.source).relative_to(self.job.folder).as_posix(), error.reason)

    def _has_files(self, entry: Entry) -> bool:
        if entry.picture in self._rejected:
            return True  # all that it is to have
        ways = self.files.made_of(entry.name, Path(entry.picture))
        features = path_of(self.job.out, entry.name)
        if self.job.keep != "nothing" and features.name not in self._listing(features.parent):
            return False
        return any(all(path.name in self._listing(path.parent) for path in made) for made in ways)


def tell_of_bad(job: Job, on_bad: Callable[[ImageReadError], None], row: Row) -> None:
    if row.error is not None:
        on_bad(ImageReadError(str(job.folder / row.picture), row.error))


def _listing(folder: Path) -> frozenset[str]:
    """Look into a folder of results once, and not once for every file."""
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()


def pictures_found(
    job: Job,
    on_bad: Callable[[ImageReadError], None] = lambda _: None,
    on_passed: Callable[[ImageReadError], None] = lambda _: None,
) -> Iterator[Path]:
    out = job.out.resolve()

    def is_result(path: Path) -> bool:
        return path.parent.resolve().is_relative_to(out)

    def pass_over(error: ImageReadError) -> None:
        if not is_result(Path(error.source)):
            on_passed(error)

    chosen = (job.folder / picture for picture in job.only or ())
    for picture in find_images(job.folder, on_bad, pass_over) if job.only is None else chosen:
        if not is_result(picture):
            yield picture


def _labelled(
    job: Job,
    segmenter: Segmenter | None,
    writer: Writer | None,
    workers: int,
    batches: Iterator[tuple[int, list[Entry]]],
) -> Iterator[tuple[int, list[Entry], list[Row]]]:
    """Yield batches with their rows; in their order, unless several processes label them."""
    if workers == 1 or segmenter is not None or writer is not None:
        for place, batch in batches:
            writer = writer or Worker(job, segmenter)
            yield place, batch, writer.label(batch)
        return
    tasks = (BatchTask(place, tuple(batch)) for place, batch in batches)
    crew = Processes(workers, threads=job.threads)
    with closing(made_by_crew(tasks, LoadWorker(job), crew, say=warn)) as labelled:
        for task, told, trouble in labelled:
            if trouble is not None:
                raise LabelError(f"{trouble} ({task.name}); what is done is kept, and the same command goes on")
            rows, noticed = told
            notices.merge(noticed)
            yield task.place, list(task.batch), rows
