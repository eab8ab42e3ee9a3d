"""Labels for a folder of any size, by one process or several, and again after a kill.

Pictures are taken in fixed batches in the order of their paths. A batch is segmented together, its files are written,
and then it is committed; a run that was killed goes on with the batches that are missing. Batches stay the same, so
the network sees the same pictures together, and the labels are those of a run that was never killed.
"""

import csv
import io
import os
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import chain, islice
from pathlib import Path, PurePosixPath
from typing import Any

from wordmask import segmenters
from wordmask.console.notices import notices
from wordmask.console.progress import CountAhead, Progress
from wordmask.corrections import Corrections
from wordmask.files import atomic_write
from wordmask.labelling.claim import claim, settle_precision
from wordmask.labelling.corrected import CorrectedLabels, corrections_for
from wordmask.labelling.features import FOLDER, path_of, told_of_room
from wordmask.labelling.fingerprints_kept import KeptFingerprints
from wordmask.labelling.formats import LabelFormat, load_format
from wordmask.labelling.ledger import Entry, Ledger, Row, explained
from wordmask.labelling.parts import PER_SHARD, LabelTask, LoadWorker, check_labelled, spread, take_parts, tasks_of
from wordmask.labelling.places import ResultNames
from wordmask.labelling.review import write_review
from wordmask.labelling.settings import LabelError
from wordmask.labelling.worker import Job, ProcessWorker, Worker, Writer, prepare_process
from wordmask.methods import check_method
from wordmask.pictures.image_files import ImageReadError, find_images, warn_left_out
from wordmask.pictures.left_out import LEFT_OUT, write_left_out
from wordmask.runs.claim import STATE, check_claim, claimed
from wordmask.runs.crew import Crew
from wordmask.runs.processes import shared_out
from wordmask.segmenters.base import Segmenter, asked

VERB = "label"
FOLDERS_REMEMBERED = 16
"""Of results, while those of the pictures are looked for: a walk comes back to the folders above."""


@dataclass(frozen=True)
class Labels:
    """What a run came to."""

    pictures: int
    instances: int
    left_out: int
    seconds: float
    new: int
    """Pictures that this run labelled; the others were done before."""
    vanished: int = 0
    """Of the pictures, those that are no longer in the folder, and whose labels are kept."""
    passed_over: dict[str, int] = field(default_factory=dict)
    """Files that look like pictures or films and are not read: their endings, and how many there were."""
    corrected: int = 0
    """Of the pictures, those whose labels a person's corrections have changed."""
    rejected: int = 0
    """Pictures that were labelled, and that a person rejected: they are in no export."""


def warn(note: str) -> None:
    """Warn with a note, where nobody asked to be told."""
    warnings.warn(note, UserWarning, stacklevel=3)


def label_folder(
    job: Job,
    *,
    segmenter: Segmenter | None = None,
    writer: Writer | None = None,
    workers: int = 1,
    batch_size: int = 8,
    on_bad: Callable[[ImageReadError], None] = warn_left_out,
    on_progress: Progress = lambda done, total: None,
    on_note: Callable[[str], None] = warn,
    prune: bool = False,
    corrections: Path | None = None,
    crew: Crew | None = None,
    per_shard: int = PER_SHARD,
    merge: bool = False,
) -> Labels:
    """Label every picture below `job.folder` into `job.out`; with several `workers`, each loads its own segmenter.

    writer: what writes the labels in place of a segmenter, which is not loaded then.
    prune: drop the labels of pictures that are no longer there, which are kept otherwise. corrections: a file of the
    review's or of another tool; by default `corrections.json` in `job.out`, if it is there. crew: who
    labels, shards of `per_shard` pictures each. merge: label nothing, only join what shares have labelled.
    """
    start = time.perf_counter()
    out, state = job.out, job.out / STATE
    check_places(job)
    said, note_of_them = corrections_for(out, job.folder, corrections)
    fingerprints = KeptFingerprints(state / "fingerprints.json", job.folder)
    corrected = CorrectedLabels(state, said, fingerprints)
    given = [name for name in corrected.names if name not in job.vocabulary.names]
    files = load_format(out, [*job.vocabulary.names, *given], job.settings)
    check_work(job, loads=segmenter is None and writer is None)
    check_claim(out, VERB, error=LabelError)  # before anything is loaded
    is_new = not (state / "ledger.sqlite").exists()
    first = _first_picture(job) if is_new else None
    if writer is None:
        for_itself = segmenter is None and (workers > 1 or crew is not None or merge)
        job, segmenter = _prepared(job, segmenter, for_itself, first, on_note)
    with ExitStack() as stack:
        stack.enter_context(claimed(out, VERB, sweeps=(*files.folders, FOLDER), error=LabelError))
        stack.enter_context(explained(state / "ledger.sqlite"))
        ledger = Ledger(state / "ledger.sqlite")
        stack.callback(ledger.close)
        relabelled: set[str] = set()

        def on_row(row: Row) -> None:
            _tell_of_bad(job, on_bad, row)
            if row.picture in corrected:
                relabelled.add(row.picture)

        new = take_parts(ledger, out, on_row)
        claim(state / "settings.json", job, batch_size, has_labels=ledger.has_labels)
        vanished = _look_for_vanished(job, ledger, on_note, prune=prune) if ledger.has_rows else 0
        if note_of_them:
            on_note(note_of_them)
        if corrected.unknown:
            on_note(f"{corrected.unknown} corrections are of pictures that are not in {job.folder}, or have changed")
        corrected.take_back(files, ledger)
        taken = frozenset[str]() if prune or not vanished else ledger.names_of_vanished()
        walk = Walk(job, files, ledger, taken, corrected, relabelled)
        if crew is not None:
            tasks = walk.tasks(batch_size, per_shard, on_bad)
            with CountAhead(pictures_found(job)) as counted:
                report = partial(_report, on_progress, counted)
                new += spread(tasks, LoadWorker(job), ledger, crew, on_row, report, on_note)
        if merge or crew is not None:
            ledger.forget_passed()
            check_labelled(walk.entries(on_bad if merge else lambda _: None), ledger, out, batch_size)
        else:
            new += walk.label(segmenter, writer, workers, batch_size, on_bad, on_progress)
        if walk.lost:
            on_note(f"the {walk.what} of {walk.lost} pictures that were done were gone: they have been made anew")
        for name in ledger.gone():
            for file in (*files.files_of(name), path_of(out, name)):
                file.unlink(missing_ok=True)
        ledger.clear_gone()
        corrected.apply(files, ledger, job.folder, walk.relabelled)
        pictures, instances, left_out, rejected, note = _finish(job, files, ledger, corrected, said, fingerprints)
        endings = Counter(PurePosixPath(picture).suffix.lower() for picture, _ in ledger.passed_over())
    if not pictures and not rejected:
        raise LabelError(
            f"none of {left_out} pictures in {job.folder} could be read; {out / 'left-out.txt'} says why"
            if left_out
            else f"no pictures found in {job.folder}"
        )
    if note:
        on_note(note)
    seconds = round(time.perf_counter() - start, 2)
    passed_over = dict(sorted(endings.items()))
    return Labels(pictures, instances, left_out, seconds, new, vanished, passed_over, corrected.changed, rejected)


def _prepared(
    job: Job, segmenter: Segmenter | None, for_itself: bool, first: Path | None, on_note: Callable[[str], None]
) -> tuple[Job, Segmenter | None]:
    """Return a job that says what it computes with, and the segmenter unless workers load their own (`for_itself`).
    first: a picture of a run that has not begun.
    """
    job, segmenter, told = settle_precision(job, segmenter)
    if told:
        on_note(told)
    keeps = job.keep != "nothing"
    if segmenter is None and first is not None and (keeps or not for_itself):
        segmenter = segmenters.load(**job.load)  # one that cannot begin leaves nothing behind
    if keeps and segmenter is not None and first is not None:
        with suppress(ImageReadError):  # another one may be read; this one is left out in its turn
            on_note(told_of_room(segmenter, first, job.out, job.max_pixels))
    return job, None if for_itself else segmenter


def check_places(job: Job) -> None:
    folder, out = job.folder.resolve(), job.out.resolve()
    if out == folder:
        raise LabelError(f"--out {job.out} is the folder of the pictures themselves: choose another")
    if folder.is_relative_to(out):
        raise LabelError(
            f"--out {job.out} holds the folder of the pictures, {job.folder}, and what lies in --out is taken for a "
            "result, not for a picture: choose another"
        )


def _look_for_vanished(job: Job, ledger: Ledger, on_note: Callable[[str], None], *, prune: bool) -> int:
    """Say what is no longer there before anything is done. Labels are dropped only if they are to be; how many are
    kept without a picture.
    """
    unlisted: list[ImageReadError] = []
    found = (picture.relative_to(job.folder).as_posix() for picture in pictures_found(job, unlisted.append))
    # Those that were not chosen this time are not gone.
    vanished, there = ledger.compare(found if job.only is None else chain(found, ledger.pictures_in(job.folder)))
    if prune and unlisted:
        raise LabelError(f"--prune drops nothing while it cannot be told what is gone: {unlisted[0]}")
    if vanished and not there and not prune:
        raise LabelError(
            f"no pictures found in {job.folder} (is its disk there?): the labels of {vanished} pictures are kept; "
            "--prune drops them"
        )
    if vanished:
        then = "dropped" if prune else "kept; --prune drops them"
        on_note(f"{vanished} labelled pictures are no longer found in {job.folder}: their labels are {then}")
    ledger.forget_vanished(only_errors=not prune)
    return 0 if prune else vanished


def check_work(job: Job, *, loads: bool) -> None:
    """Refuse what cannot be done, before anything is loaded or any process is started for it."""
    asked(job.vocabulary, True, job.settings.min_score, job.settings.drop_absent)
    if loads:
        _check_method(job.load)


def _check_method(load: dict[str, Any]) -> None:
    settings = load.keys() - {"method", "preset", "weights", "device", "precision", "onnx", "correct"}
    check_method("segmenter", load["method"], preset=load.get("preset", "paper"), settings=sorted(settings))


def _first_picture(job: Job) -> Path:
    first = next(pictures_found(job), None)
    if first is None:
        raise LabelError(f"no pictures found in {job.folder}")
    return first


class Walk:
    """Through the folder, batch after batch. lost: pictures that were done, and whose label files were gone.

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
                    _tell_of_bad(self.job, on_bad, row)
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
            yield Entry(below.as_posix(), names.of(folder, below), f"{status.st_size} {status.st_mtime_ns}")

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


def _report(on_progress: Progress, counted: CountAhead, done: int, total: int | None) -> None:
    on_progress(done, counted.total)


def _tell_of_bad(job: Job, on_bad: Callable[[ImageReadError], None], row: Row) -> None:
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
    """Batches in their order, each with its rows."""
    if workers == 1 or segmenter is not None or writer is not None:
        for place, batch in batches:
            writer = writer or Worker(job, segmenter)
            yield place, batch, writer.label(batch)
        return
    shared = shared_out(batches, ProcessWorker(job), workers=workers, error=LabelError, prepare=prepare_process)
    with closing(shared) as labelled:
        for (place, batch), (rows, told) in labelled:
            notices.merge(told)
            yield place, batch, rows


def _finish(
    job: Job,
    files: LabelFormat,
    ledger: Ledger,
    corrected: CorrectedLabels,
    corrections: Corrections,
    fingerprints: KeptFingerprints,
) -> tuple[int, int, int, int, str | None]:
    def rows() -> Iterator[Row]:
        return corrected.rows(ledger.rows)

    note = files.finish(rows, job.folder)
    pictures = instances = 0
    with atomic_write(job.out / "masks.csv") as file:
        table = io.TextIOWrapper(file, "utf-8", errors="surrogateescape", newline="", write_through=True)
        writer = csv.writer(table)
        writer.writerow(["image", "name", "score", "area", "x", "y", "width", "height"])
        for row in rows():
            pictures += 1
            instances += len(row.parts)
            writer.writerows([row.picture, part.name, part.score, part.area, *part.box] for part in row.parts)
        table.detach()
    left_out = sum(1 for _ in ledger.failures())
    failures = ((row.picture, str(row.error)) for row in ledger.failures())
    write_left_out(job.out / LEFT_OUT, chain(failures, ledger.passed_over()))
    labelled, pictures_of = 0, Counter[str]()
    for row in ledger.rows():
        labelled += 1
        pictures_of.update({part.name for part in row.parts})
    write_review(
        job.out,
        job.folder,
        ledger,
        names=files.classes,
        pictures_of=pictures_of,
        labelled=labelled,
        most=job.settings.review,
        corrections=corrections,
        fingerprints=fingerprints,
    )
    fingerprints.keep()
    return pictures, instances, left_out, labelled - pictures, note
