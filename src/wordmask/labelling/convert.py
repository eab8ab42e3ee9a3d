"""Labels made of labels: in other formats, with other names, thresholds and areas, and no network runs.

What the masks alone tell (formats, names, larger parts) is made of the ledger. Other questions are asked of features
that were kept, for which only words are read. Either way the files are those of a run from nothing with the same
options, and a run that was stopped goes on.
"""

import re
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from pydantic import ValidationError

from wordmask import segmenters
from wordmask.console.progress import Progress
from wordmask.corrections import FILE_NAME
from wordmask.labelling.claim import BEFORE
from wordmask.labelling.features import Features, has_features, loaded_with
from wordmask.labelling.ledger import Entry, Ledger, Row, explained
from wordmask.labelling.run import Labels, label_folder, warn
from wordmask.labelling.settings import LabelError, LabelSettings, why_refused
from wordmask.labelling.worker import Answer, Job, Question, Writer
from wordmask.masks.segmentation import Segmentation, label_type
from wordmask.names.contrast import Contrast
from wordmask.names.vocabulary import BACKGROUND, Vocabulary
from wordmask.pictures.image_files import ImageReadError, find_images, warn_left_out
from wordmask.runs.claim import SETTINGS_OF_LABELS, STATE, read_marker
from wordmask.segmenters.base import Segmenter
from wordmask.text_files import read_json, shown

DIGEST = re.compile("[0-9a-f]{64}")
NEEDING_SCORES = ("min_score", "drop_absent")
WHOLE = ("voc", "png")
"""Formats that say something of every pixel."""


@dataclass(frozen=True)
class Changes:
    """What is to be otherwise; None leaves it as it was.

    settings: those of `LabelSettings`. names, fill, contrast: asked again, as `Seen.segment` has it. rename: old names
    to new ones, of the same masks. drop: names whose masks become background. folder: where the pictures are now.
    """

    settings: Mapping[str, Any]
    names: Vocabulary | None = None
    fill: bool = False
    contrast: Contrast | None = None
    rename: Mapping[str, str] | None = None
    drop: Sequence[str] = ()
    folder: Path | None = None


class Before:
    """The labels to convert, and what they were made with."""

    def __init__(self, out: Path):
        self.out = out
        path = out / STATE / SETTINGS_OF_LABELS
        marker = read_marker(out) if out.is_dir() else None
        if marker is None or marker.verb != "label" or not path.exists():
            raise LabelError(f"{out} holds no labels of `wordmask label`: give the --out of such a run")
        told = read_json(path, way_out="label anew")
        if not isinstance(told, dict):
            raise LabelError(f"{path} is damaged: label anew")
        self.told: dict[str, Any] = {**BEFORE, **told}
        try:
            self.vocabulary = Vocabulary(tuple(told["names"]), tuple(map(tuple, told["phrases"])))
            self.settings = LabelSettings(
                **{each.name: self.told[each.name] for each in fields(LabelSettings) if each.name in self.told}
            )
            self.folder = Path(told["folder"])
            self.batch_size, self.max_pixels = int(told["batch_size"]), int(told["max_pixels"])
        except (KeyError, TypeError, ValueError) as error:
            raise LabelError(f"{path} is damaged, or of a version too old: label anew") from error

    @property
    def contrast(self) -> Contrast | None:
        """What names raced against; None where only a digest of it is known."""
        told = self.told["contrast"]
        if not self.vocabulary.has_made_room and told == "none":
            return "auto"  # nothing was asked for, as nothing would have raced
        if isinstance(told, list):
            return tuple(told)
        return None if DIGEST.fullmatch(str(told)) else str(told)


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
    vocabulary = _vocabulary(before, changes)
    settings = _settings(before, changes)
    again = _asked_again(before, changes, vocabulary, settings)
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
            corrections=old / FILE_NAME if (old / FILE_NAME).is_file() and not (out / FILE_NAME).is_file() else None,
        )
    if writer.new or writer.changed:
        on_note(
            f"{writer.new} pictures are new and {writer.changed} have changed since {old} was made, and are left out: "
            f"`wordmask label` labels them there, and the same conversion goes on with them"
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


def _vocabulary(before: Before, changes: Changes) -> Vocabulary:
    was = before.vocabulary
    if changes.names is not None:
        if changes.rename or changes.drop:
            raise LabelError("--names asks for other names, and --rename and --drop are of those there are: give one")
        return changes.names if changes.fill else changes.names.with_room()
    rename = dict(changes.rename or {})
    for what, names in (("--rename", rename), ("--drop", changes.drop)):
        for name in names:
            if name not in was.names:
                raise LabelError(f"{what} {shown(name)}: {before.out} has no such name, but {shown(list(was.names))}")
            if name.casefold() == BACKGROUND:
                raise LabelError(f"{what} {shown(name)}: background stays what it is")
    if changes.drop and was.background is None:
        raise LabelError(f"--drop needs a background for its pixels, and {before.out} was filled with names")
    kept = [i for i, name in enumerate(was.names) if name not in changes.drop]
    is_made = [i for i in kept if not was.phrases[i]]
    entries = {rename.get(was.names[i], was.names[i]): {"instead": was.phrases[i]} for i in kept if i not in is_made}
    if not entries:
        raise LabelError("--drop leaves no name: keep one")
    if len(entries) + len(is_made) < len(kept) or any(new.casefold() == BACKGROUND for new in rename.values()):
        raise LabelError(
            "--rename gives a name that another has: to ask for both as one, give --names 'vehicle: [car, truck]'"
        )
    vocabulary = Vocabulary.of(entries)
    return vocabulary.with_room() if is_made and not changes.fill else vocabulary


def _settings(before: Before, changes: Changes) -> LabelSettings:
    try:
        return replace(before.settings, **changes.settings)
    except ValidationError as error:
        raise LabelError(why_refused(error)) from error


def _asked_again(before: Before, changes: Changes, vocabulary: Vocabulary, settings: LabelSettings) -> str | None:
    """Return the option for which names are to be asked for again, if any: masks alone do not tell it."""
    if changes.names is not None and vocabulary != before.vocabulary:
        return "--names"
    if changes.fill and before.vocabulary.has_made_room:
        return "--fill"
    if changes.contrast is not None and changes.contrast != before.contrast:
        return "--contrast"
    for name in NEEDING_SCORES:
        if getattr(settings, name) != getattr(before.settings, name):
            return f"--{name.replace('_', '-')}"
    if settings.min_area < before.settings.min_area:
        return f"--min-area below {before.settings.min_area}"
    return None


def _way_to_features(before: Before) -> str:
    return f"the command that made it keeps them, if it is started again with --keep-features --out {before.out}"


def _tell_of_gone(folder: Path, ledger: Ledger, on_note: Callable[[str], None]) -> None:
    gone, _ = ledger.compare(
        picture.relative_to(folder).as_posix() for picture in find_images(folder, lambda _: None, lambda _: None)
    )
    if gone:
        on_note(f"{gone} pictures that were labelled are no longer found in {folder}, and are left out")
