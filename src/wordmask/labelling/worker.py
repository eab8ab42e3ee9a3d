"""What one process does: segment a batch of pictures and write their files."""

import contextlib
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wordmask import segmenters
from wordmask.console import quiet_log
from wordmask.console.notices import Taken, notices
from wordmask.errors import WordmaskError
from wordmask.labelling.formats import OF_A_NAME, LabelFormat, Labelled, load_format
from wordmask.labelling.ledger import Entry, Row
from wordmask.labelling.settings import LabelError, LabelSettings
from wordmask.masks.instances import part_of
from wordmask.masks.segmentation import Segmentation
from wordmask.names.contrast import Contrast
from wordmask.names.vocabulary import Vocabulary
from wordmask.pictures.image_files import ImageReadError
from wordmask.segmenters.base import Segmenter


@dataclass(frozen=True)
class Job:
    """All that a process needs to know; it can be sent to one.

    fill: every pixel bears one of the names. Without it "background" is added, if it is not among them. contrast: what
    they race against then, see `Seen.segment`.
    """

    folder: Path
    out: Path
    vocabulary: Vocabulary
    settings: LabelSettings
    load: dict[str, Any]
    max_pixels: int | None = None
    threads: int | None = None
    fill: bool = False
    contrast: Contrast = "auto"

    def __post_init__(self) -> None:
        if not self.fill:
            object.__setattr__(self, "vocabulary", self.vocabulary.with_room())


class Worker:
    def __init__(self, job: Job, segmenter: Segmenter | None = None):
        self.job = job
        self.segmenter = segmenter if segmenter is not None else segmenters.load(**job.load)
        self.format: LabelFormat = load_format(job.out, job.vocabulary.names, job.settings)

    def label(self, entries: Sequence[Entry]) -> list[Row]:
        """One row an entry, once its files are written."""
        by_source = {str(self.job.folder / entry.picture): entry for entry in entries}
        rows: dict[str, Row] = {}

        def on_bad(error: ImageReadError) -> None:
            rows[error.source] = _failed(by_source[error.source], error.reason)

        results = self.segmenter.segment_many(
            list(by_source),
            self.job.vocabulary,
            fill=True,  # what room there is to be, the vocabulary has
            contrast=self.job.contrast,
            min_score=self.job.settings.min_score,
            drop_absent=self.job.settings.drop_absent,
            batch_size=len(entries),
            on_bad=on_bad,
            max_pixels=self.job.max_pixels,
        )
        for result in results:
            source = str(result.source)
            rows[source] = self._write(by_source[source], Path(source), result)
        return [rows[source] for source in by_source]

    def _write(self, entry: Entry, source: Path, result: Segmentation) -> Row:
        instances = result.instances(min_area=self.job.settings.min_area)
        try:
            kept = self.format.write_picture(Labelled(entry, source, result, instances))
        except WordmaskError as error:
            return _failed(entry, str(error))
        except OSError as error:
            if error.errno not in OF_A_NAME:
                raise
            self._remove(entry.name)
            return _failed(entry, f"its labels cannot be called as it is ({str(error.strerror).lower()}); rename it")
        parts = tuple(
            part_of(instance, result.names, result.size, more) for instance, more in zip(instances, kept, strict=True)
        )
        return Row(entry.picture, entry.name, result.size, unsureness(result), parts)

    def _remove(self, name: str) -> None:
        for file in self.format.files_of(name):
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)


def unsureness(result: Segmentation) -> float:
    """One less the mean score of the pixels: 0 where the segmenter was sure of every pixel."""
    if result.scores is None:
        return 0.0
    return round(1 - float(result.scores.mean(dtype=np.float64)), 6)


def _failed(entry: Entry, reason: str) -> Row:
    return Row(entry.picture, entry.name, error=reason)


class ProcessWorker:
    """Labels batches in a process of a pool, which loads its segmenter at the first."""

    def __init__(self, job: Job):
        self.job = job
        self._worker: Worker | None = None

    def __call__(self, batch: tuple[int, Sequence[Entry]]) -> tuple[list[Row], Taken]:
        """Return the rows, and what is to be said once of such pictures."""
        try:
            self._worker = self._worker or self._begun()
        except (WordmaskError, OSError) as error:
            raise LabelError(str(error)) from None  # whatever its own class asks for, this one travels
        return self._worker.label(batch[1]), notices.taken()

    def _begun(self) -> Worker:
        import torch

        if self.job.threads is not None:
            torch.set_num_threads(self.job.threads)
        return Worker(self.job)


def prepare_process() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is sent to every process, and only the first is to act on it
    notices.counting = True  # the first process says it
    quiet_log()
