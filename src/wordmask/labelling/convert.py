"""Labels made of labels: in other formats, with other names, thresholds and areas, and no network runs.

What the masks alone tell (formats, names, larger parts) is made of the ledger. Other questions are asked of features
that were kept, for which only words are read. Either way the files are those of a run from nothing with the same
options, and a run that was stopped goes on.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from wordmask import segmenters
from wordmask.console.progress import Progress
from wordmask.corrections import Corrections
from wordmask.labelling.changes import Before, Changes, asked_again, settings_of, vocabulary_of
from wordmask.labelling.corrected import corrections_for
from wordmask.labelling.features import Features, has_features, loaded_with
from wordmask.labelling.ledger import Entry, Ledger, Row, explained
from wordmask.labelling.run import Labels, label_folder, warn
from wordmask.labelling.settings import LabelError
from wordmask.labelling.worker import Answer, Job, Question, Writer
from wordmask.masks.segmentation import Segmentation, label_type
from wordmask.pictures.image_files import ImageReadError, find_images, warn_left_out
from wordmask.runs.claim import STATE
from wordmask.segmenters.base import Segmenter
from wordmask.text_files import counted

WHOLE = ("voc", "png")
"""Formats that say something of every pixel."""


def convert_labels(
    old: Path,
    out: Path,
    changes: Changes,
    *,
    segmenter: Segmenter | None = None,
    device: str = "auto",
    on_bad: Callable[[ImageReadError], None] = warn_left_out,
    on_progress: Progress = lambda done, total: None,
    on_note: Callable[[str], None] = warn,
) -> Labels:
    """Make labels in `out` of those in `old`. segmenter: that of the features, where it is not to be loaded anew."""
    before = Before(old)
    if out.resolve() == old.resolve():
        raise LabelError(f"--out {out} is the folder of the labels themselves: choose another")
    vocabulary = vocabulary_of(before, changes)
    settings = settings_of(before, changes)
    again = asked_again(before, changes, vocabulary, settings)
    inherited = {key: before.told.get(key) for key in ("segmenter", "files", "version")}
    if changes.drop:
        inherited["dropped"] = sorted(changes.drop)
    contrast = before.contrast if changes.contrast is None else changes.contrast
    if again:
        if changes.drop:
            raise LabelError(f"--drop takes masks away, and {again} asks again: give --names without what is to go")
        if not has_features(old):
            raise LabelError(f"{again} needs features, which {old} has not kept: {_way_to_features(before)}")
        if contrast is None:
            raise LabelError(f"{again} asks again, and {old} raced against a file of concepts: give it as --contrast")
    else:
        inherited["contrast"] = before.told["contrast"]
    folder = before.folder if changes.folder is None else changes.folder
    job = Job(
        folder=folder,
        out=out,
        vocabulary=vocabulary,
        settings=settings,
        load={},
        max_pixels=before.max_pixels,
        fill=True,  # what room there is to be, the vocabulary has
        contrast=contrast if contrast is not None else "none",
        inherited=inherited,
    )
    ledger_file = old / STATE / "ledger.sqlite"
    if not ledger_file.exists():
        raise LabelError(f"{old} holds no labels yet: run `wordmask label` to its end first")
    with explained(ledger_file), closing(Ledger(ledger_file, read_only=True)) as ledger:
        writer: Converting
        if again:
            segmenter = segmenter or segmenters.load(**{**loaded_with(old), "device": device})
            writer = FromFeatures(job, before, ledger, segmenter)
        else:
            writer = FromMasks(job, before, ledger, changes)
        if before.told.get("only"):  # of the others of the folder nothing was asked
            job = replace(job, only=ledger.pictures_in(folder))
        _tell_of_gone(folder, ledger, on_note)
        labels = label_folder(
            job,
            writer=writer,
            batch_size=before.batch_size,
            on_bad=on_bad,
            on_progress=on_progress,
            on_note=on_note,
            prune=False,
            corrections=_corrections(old, folder, changes),
        )
    if writer.new or writer.changed:
        on_note(
            f"left out: {counted(writer.new, 'new picture')}, and {writer.changed} changed since {old} was made; "
            "`wordmask label` there labels both, and the same conversion then goes on"
        )
    return labels


class Converting(Writer):
    """Writes labels of pictures that have some. new, changed: how many have none, or are others than those were of."""

    def __init__(self, job: Job, before: Before, ledger: Ledger):
        super().__init__(job)
        self.before, self.ledger = before, ledger
        self.new = self.changed = 0

    def answers(self, entries: Mapping[str, Entry], on_bad: Callable[[ImageReadError], None]) -> Iterator[Answer]:
        for source, entry in entries.items():
            found = self.ledger.found(entry.picture)
            try:
                if found is None:
                    self.new += 1
                    raise LabelError(f"was not there when {self.before.out} was made")
                stamp, row = found
                if row.error is not None and stamp == entry.stamp:
                    raise LabelError(row.error)
                answer = self.answer(source, entry, stamp, row)
            except LabelError as error:
                on_bad(ImageReadError(source, str(error)))
                continue
            yield answer

    @abstractmethod
    def answer(self, source: str, entry: Entry, stamp: str, row: Row) -> Answer:
        """Return what there is to write of a picture that was labelled, or tried, when it was in a state."""

    def refuse_changed(self) -> LabelError:
        self.changed += 1
        return LabelError(f"has changed since {self.before.out} was made")


class FromMasks(Converting):
    def __init__(self, job: Job, before: Before, ledger: Ledger, changes: Changes):
        super().__init__(job, before, ledger)
        self._needs_specks = bool({*WHOLE} & {*job.settings.formats})
        names = before.vocabulary.names
        renamed = [(changes.rename or {}).get(name, name) for name in names]
        self._labels = {
            name: None if name in changes.drop else job.vocabulary.names.index(new)
            for name, new in zip(names, renamed, strict=True)
        }

    def answer(self, source: str, entry: Entry, stamp: str, row: Row) -> Answer:
        if stamp != entry.stamp:
            raise self.refuse_changed()
        if row.specks is None and self._needs_specks:
            raise LabelError("was labelled by a version that kept no names of small parts, which voc and png need")
        names, background = self.job.vocabulary.names, self.job.vocabulary.background
        labels = np.full(row.size, background or 0, label_type(len(names)))
        scores = np.ones(row.size, np.float32) if all(part.score is not None for part in row.parts) else None
        for name, counts in row.specks or ():
            self._paste(labels, name, counts)
        for part in row.parts:
            mask = self._paste(labels, part.name, part.rle)
            if scores is not None and part.score is not None:
                scores[mask] = part.score  # so that its mean is the same again
        return Answer(source, Segmentation(labels, list(names), scores, source=source), row.unsure)

    def _paste(self, labels: np.ndarray, name: str, counts: str) -> np.ndarray:
        mask = coco_mask.decode({"size": list(labels.shape), "counts": counts}).astype(bool)
        label = self._labels[name]
        labels[mask] = self.job.vocabulary.background if label is None else label
        return mask


class FromFeatures(Converting):
    def __init__(self, job: Job, before: Before, ledger: Ledger, segmenter: Segmenter):
        super().__init__(job, before, ledger)
        self._features = Features(before.out, segmenter)
        self._features.check()
        self._ask = Question(job, segmenter)

    def answer(self, source: str, entry: Entry, stamp: str, row: Row) -> Answer:
        if row.error is not None:  # it has changed since it could not be read
            raise self.refuse_changed()
        try:
            seen = self._features.see(row.name, entry, Path(source), self.job.max_pixels)
        except LabelError:
            self.changed += stamp != entry.stamp
            raise
        return Answer(source, self._ask(seen))


def _corrections(old: Path, folder: Path, changes: Changes) -> Corrections:
    """Return what a person said of the labels, with the names that these have now."""
    said = corrections_for(old, folder, None)
    now = tuple(each.renamed(changes.rename or {}, changes.drop) for each in said.corrections.pictures)
    return Corrections(now, (said.note,) if said.note else ())


def _way_to_features(before: Before) -> str:
    return f"the command that made it keeps them, if it is started again with --keep-features --out {before.out}"


def _tell_of_gone(folder: Path, ledger: Ledger, on_note: Callable[[str], None]) -> None:
    gone, _ = ledger.compare(
        picture.relative_to(folder).as_posix() for picture in find_images(folder, lambda _: None, lambda _: None)
    )
    if gone:
        on_note(f"left out: {counted(gone, 'labelled picture')}, no longer found in {folder}")
