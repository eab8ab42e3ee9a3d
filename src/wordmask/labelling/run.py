"""Labels for a folder of any size, by one process or several, and again after a kill.

Pictures are taken in fixed batches in the order of their paths. A batch is segmented together, its files are written,
and then it is committed; a run that was killed goes on with the batches that are missing. Batches stay the same, so
the network sees the same pictures together, and the labels are those of a run that was never killed.
"""

import csv
import io
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

from wordmask import segmenters
from wordmask.console.progress import CountAhead, Progress
from wordmask.corrections import Corrections
from wordmask.files import atomic_write
from wordmask.labelling.claim import claim, settle_precision
from wordmask.labelling.corrected import CorrectedLabels, corrections_for
from wordmask.labelling.features import FOLDER, path_of, told_of_room
from wordmask.labelling.fingerprints_kept import KeptFingerprints
from wordmask.labelling.formats import LabelFormat, load_format
from wordmask.labelling.ledger import Ledger, Row, explained
from wordmask.labelling.parts import PER_SHARD, LoadWorker, check_labelled, spread, take_parts
from wordmask.labelling.review import write_review
from wordmask.labelling.settings import LabelError
from wordmask.labelling.walk import Walk, pictures_found, tell_of_bad
from wordmask.labelling.worker import Job, Writer
from wordmask.methods import check_method
from wordmask.pictures.image_files import ONE_THAT_HOLDS_SOME, ImageReadError, warn_left_out
from wordmask.pictures.left_out import LEFT_OUT, write_left_out
from wordmask.runs.claim import STATE, check_claim, claimed
from wordmask.runs.crew import Crew
from wordmask.segmenters.base import Segmenter, asked
from wordmask.text_files import counted

VERB = "label"


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


def check_out(out: Path) -> None:
    """Raise, if labels may not be written there."""
    check_claim(out, VERB, error=LabelError)


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
    corrections: Path | Corrections | None = None,
    crew: Crew | None = None,
    per_shard: int = PER_SHARD,
    merge: bool = False,
) -> Labels:
    """Label every picture below `job.folder` into `job.out`; with several `workers`, each loads its own segmenter.

    writer: what writes the labels in place of a segmenter, which is not loaded then.
    prune: drop the labels of pictures that are no longer there, which are kept otherwise. corrections: a file of the
    review's or of another tool, kept in `corrections.json` in `job.out`; what is there holds in any case. crew: who
    labels, shards of `per_shard` pictures each. merge: label nothing, only join what shares have labelled.
    """
    start = time.perf_counter()
    out, state = job.out, job.out / STATE
    check_places(job)
    said = corrections_for(out, job.folder, corrections)
    fingerprints = KeptFingerprints(state / "fingerprints.json", job.folder)
    corrected = CorrectedLabels(state, said.corrections, fingerprints)
    given = [name for name in corrected.names if name not in job.vocabulary.names]
    files = load_format(out, [*job.vocabulary.names, *given], job.settings)
    check_work(job, loads=segmenter is None and writer is None)
    check_out(out)  # before anything is loaded
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
            tell_of_bad(job, on_bad, row)
            if row.picture in corrected:
                relabelled.add(row.picture)

        new = take_parts(ledger, out, on_row)
        claim(state / "settings.json", job, batch_size, has_labels=ledger.has_labels)
        vanished = _look_for_vanished(job, ledger, on_note, prune=prune) if ledger.has_rows else 0
        if said.note:
            on_note(said.note)
        said.lay(out)
        if corrected.unknown:
            on_note(f"no use for {counted(corrected.unknown, 'correction')}: not in {job.folder}, or changed since")
        corrected.take_back(files, ledger)
        taken = frozenset[str]() if prune or not vanished else ledger.names_of_vanished()
        walk = Walk(job, files, ledger, taken, corrected, relabelled)
        if crew is not None:
            tasks = walk.tasks(batch_size, per_shard, on_bad)
            with CountAhead(pictures_found(job)) as ahead:
                report = partial(_report, on_progress, ahead)
                new += spread(tasks, LoadWorker(job), ledger, crew, on_row, report, on_note)
        if merge or crew is not None:
            ledger.forget_passed()
            check_labelled(walk.entries(on_bad if merge else lambda _: None), ledger, out, batch_size)
        else:
            new += walk.label(segmenter, writer, workers, batch_size, on_bad, on_progress)
        if walk.lost:
            on_note(f"the {walk.what} of {counted(walk.lost, 'picture')} were gone, and have been made anew")
        for name in ledger.gone():
            for file in (*files.files_of(name), path_of(out, name)):
                file.unlink(missing_ok=True)
        ledger.clear_gone()
        corrected.apply(files, ledger, job.folder, walk.relabelled)
        pictures, instances, left_out, rejected, note = _finish(
            job, files, ledger, corrected, said.corrections, fingerprints
        )
        endings = Counter(PurePosixPath(picture).suffix.lower() for picture, _ in ledger.passed_over())
    if not pictures and not rejected:
        raise LabelError(
            f"no picture in {job.folder} could be read ({left_out} tried); {out / 'left-out.txt'} says why"
            if left_out
            else f"no pictures found in {job.folder}: {ONE_THAT_HOLDS_SOME}"
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
            f"no pictures found in {job.folder} (is its disk there?): the labels of {counted(vanished, 'picture')} are "
            "kept; --prune drops them"
        )
    if vanished:
        then = "dropped" if prune else "kept; --prune drops them"
        on_note(f"no longer found in {job.folder}: {counted(vanished, 'labelled picture')}; the labels are {then}")
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
        raise LabelError(f"no pictures found in {job.folder}: {ONE_THAT_HOLDS_SOME}")
    return first


def _report(on_progress: Progress, ahead: CountAhead, done: int, total: int | None) -> None:
    on_progress(done, ahead.total)


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
