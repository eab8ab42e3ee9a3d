"""What one process does: segment a batch of pictures and write their files."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from wordmask import segmenters
from wordmask.errors import WordmaskError
from wordmask.labelling.features import Features, path_of
from wordmask.labelling.formats import OF_A_NAME, LabelFormat, Labelled, load_format
from wordmask.labelling.ledger import Entry, Row
from wordmask.labelling.settings import LabelSettings
from wordmask.masks.instances import Instance, part_of
from wordmask.masks.run_lengths import encoded_labels
from wordmask.masks.segmentation import Segmentation
from wordmask.names.contrast import Contrast
from wordmask.names.vocabulary import BACKGROUND, Vocabulary
from wordmask.pictures.image_files import ImageReadError
from wordmask.segmenters.base import Seen, Segmenter, asked, contrasted


@dataclass(frozen=True)
class Job:
    """All that a process needs to know; it can be sent to one.

    fill: every pixel bears one of the names. Without it "background" is added, if it is not among them. contrast: what
    they race against then, see `Seen.segment`. keep: whether what the network saw is kept, and of numbers that say so
    with the same labels the halves. inherited: settings that are those of labels which these are converted from.
    only: which pictures, by their paths below the folder with /, each folder's together; by default all.
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
    keep: Literal["nothing", "features", "halves"] = "nothing"
    inherited: Mapping[str, Any] = field(default_factory=dict)
    only: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if not self.fill:
            object.__setattr__(self, "vocabulary", self.vocabulary.with_room())


@dataclass(frozen=True)
class Answer:
    """What is to be written of a picture.

    unsure: where it is not to be read off the scores. keep: writes what else is kept, before the labels.
    """

    source: str
    result: Segmentation
    unsure: float | None = None
    keep: Callable[[], None] | None = None


class Question:
    """Asks a picture that was seen for a job's names, among those that they race against, with its thresholds."""

    def __init__(self, job: Job, segmenter: Segmenter):
        self._settings = job.settings
        names = asked(job.vocabulary, True, job.settings.min_score, job.settings.drop_absent)
        self._names = contrasted(names, job.contrast, segmenter)

    def __call__(self, seen: Seen) -> Segmentation:
        settings = self._settings
        return seen.segment(  # what room there is to be, the vocabulary has
            self._names, fill=True, min_score=settings.min_score, drop_absent=settings.drop_absent
        )


class Writer(ABC):
    """Writes the files of batches of pictures; a subclass says what they show."""

    def __init__(self, job: Job):
        self.job = job
        self.format: LabelFormat = load_format(job.out, job.vocabulary.names, job.settings)

    @abstractmethod
    def answers(self, entries: Mapping[str, Entry], on_bad: Callable[[ImageReadError], None]) -> Iterator[Answer]:
        """Yield what there is to write of the pictures at some paths. The others are handed to `on_bad`."""

    def label(self, entries: Sequence[Entry]) -> list[Row]:
        """One row an entry, once its files are written."""
        by_source = {str(self.job.folder / entry.picture): entry for entry in entries}
        rows: dict[str, Row] = {}

        def on_bad(error: ImageReadError) -> None:
            rows[error.source] = _failed(by_source[error.source], error.reason)

        for answer in self.answers(by_source, on_bad):
            rows[answer.source] = self._write(by_source[answer.source], answer)
        return [rows[source] for source in by_source]

    def _write(self, entry: Entry, answer: Answer) -> Row:
        result = answer.result
        instances = result.instances(min_area=self.job.settings.min_area)
        try:
            if answer.keep is not None:
                answer.keep()
            kept = self.format.write_picture(Labelled(entry, Path(answer.source), result, instances))
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
        unsure = unsureness(result) if answer.unsure is None else answer.unsure
        return Row(entry.picture, entry.name, result.size, unsure, parts, specks=specks_of(result, instances))

    def _remove(self, name: str) -> None:
        for file in (*self.format.files_of(name), path_of(self.job.out, name)):
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)


class Worker(Writer):
    """Segments the pictures that it writes labels of."""

    def __init__(self, job: Job, segmenter: Segmenter | None = None):
        super().__init__(job)
        self.segmenter = segmenter if segmenter is not None else segmenters.load(**job.load)
        self._ask = Question(job, self.segmenter)
        self._features: Features | None = None
        if job.keep != "nothing":
            self._features = Features(job.out, self.segmenter, half=job.keep == "halves")
            self._features.claim(job.load)

    def answers(self, entries: Mapping[str, Entry], on_bad: Callable[[ImageReadError], None]) -> Iterator[Answer]:
        views = self.segmenter.view_many(
            list(entries), batch_size=len(entries), on_bad=on_bad, max_pixels=self.job.max_pixels
        )
        for seen in views:
            result = self._ask(seen)
            keep = None
            if self._features is not None:
                keep = partial(self._features.keep, entries[seen.source], seen, result, self._ask)
            yield Answer(seen.source, result, keep=keep)


def specks_of(result: Segmentation, instances: Sequence[Instance]) -> tuple[tuple[str, str], ...]:
    """Return names of pixels outside of all instances and of background, each with COCO's run lengths."""
    background = sum(area for name, area in result.pixels.items() if name.casefold() == BACKGROUND)
    if background + sum(instance.area for instance in instances) == result.labels.size:
        return ()
    none = len(result.names)
    rest = result.labels.astype(np.int32)
    for instance in instances:
        instance.paste_into(rest, none)
    for label, name in enumerate(result.names):
        if name.casefold() == BACKGROUND:
            rest[rest == label] = none
    codes = encoded_labels(rest)
    return tuple((result.names[label], codes[label]["counts"]) for label in sorted(codes) if label != none)


def unsureness(result: Segmentation) -> float:
    """One less the mean score of the pixels: 0 where the segmenter was sure of every pixel."""
    if result.scores is None:
        return 0.0
    return round(1 - float(result.scores.mean(dtype=np.float64)), 6)


def _failed(entry: Entry, reason: str) -> Row:
    return Row(entry.picture, entry.name, error=reason)
