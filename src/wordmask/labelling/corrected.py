"""Labels as a person corrected them: rejected pictures and masks left out, others renamed, and masks mended elsewhere.

The ledger keeps what the segmenter said. What is written differs from it in the pictures that somebody corrected, whose
own files are made anew from the ledger's masks; a correction that is taken back has its picture labelled again.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from wordmask.corrections import (
    ACCEPTED,
    FILE_NAME,
    REJECTED,
    Correction,
    Corrections,
    read_corrections,
    write_corrections,
)
from wordmask.corrections.reading import corrections_from
from wordmask.corrections.run_lengths import lengths_of, mask_of
from wordmask.files import atomic_write
from wordmask.fingerprints import short_digest_of
from wordmask.labelling.fingerprints_kept import KeptFingerprints
from wordmask.labelling.formats import LabelFormat, Labelled
from wordmask.labelling.ledger import Entry, Ledger, Row
from wordmask.masks.instances import Instance, Part, part_of
from wordmask.masks.segmentation import Segmentation
from wordmask.names.vocabulary import BACKGROUND
from wordmask.runs.claim import STATE
from wordmask.text_files import counted, read_json

STATE_FILE = "corrected.json"
"""In the run's own folder: a picture -> a digest of its correction, and its row, or null where it was rejected."""
BROUGHT = "brought.json"
"""There, too: what was brought last into `corrections.json` from elsewhere."""
MOST_BYTES = 2**30


@dataclass(frozen=True)
class Said:
    """What labels are corrected by, and what is to be said of it. brought: of that, what comes from elsewhere."""

    corrections: Corrections
    note: str | None = None
    brought: Corrections | None = None

    def lay(self, out: Path) -> None:
        """Write what was brought into the file beside the labels, where the review and later runs find it."""
        if self.brought is None:
            return
        together = joined(*_beside(out), self.brought)  # anew: somebody may review them meanwhile
        for path, now in ((out / FILE_NAME, together), (out / STATE / BROUGHT, self.brought)):
            if now.digest != _read(path).digest:
                write_corrections(path, now)


def corrections_for(out: Path, folder: Path, given: Path | Corrections | None) -> Said:
    """Return what is said beside labels, and what is given from elsewhere: that holds unless somebody said otherwise
    beside the labels since.
    """
    path = out / FILE_NAME
    if given is None or (isinstance(given, Path) and given.resolve() == path.resolve()):
        if given is None and not path.is_file():
            return Said(Corrections())
        found = corrections_from(path, folder)
        return Said(found, "; ".join([f"{path}: {found.summary}", *found.notes]))
    brought = given if isinstance(given, Corrections) else corrections_from(given, folder)
    notes = [*brought.notes] if isinstance(given, Corrections) else [f"{given}: {brought.summary}", *brought.notes]
    own, before = _beside(out)
    said = joined(own, before, brought)
    if said.digest != own.digest:
        notes += [f"kept in {path}"]
    elif not brought:
        notes += [f"{path}: {own.summary}"] if own else []
    others = [each for each in brought if said.by_fingerprint.get(each.fingerprint) != each]
    if others:
        way_out = f"`wordmask label corrections FILE --images {folder} --add-to {path} --out {path}`"
        notes += [f"{path} says otherwise of {counted(len(others), 'picture')}, and holds; {way_out} has FILE's hold"]
    return Said(said, "; ".join(notes) or None, brought)


def joined(own: Corrections, before: Corrections, now: Corrections) -> Corrections:
    """Return what `now` says of each picture, but where `own` says otherwise than `before`, of which it was made; in
    the order of a file.
    """
    mine, then, new = (each.by_fingerprint for each in (own, before, now))
    pictures = dict.fromkeys([*new, *mine])
    found = ((new if mine.get(key) == then.get(key) else mine).get(key) for key in pictures)
    return Corrections(tuple(sorted((each for each in found if each is not None), key=lambda each: each.picture)))


def _beside(out: Path) -> tuple[Corrections, Corrections]:
    """Return what is said beside labels, and what of it was brought there last: nothing, where the file was deleted."""
    if not (out / FILE_NAME).is_file():
        return Corrections(), Corrections()
    return _read(out / FILE_NAME), _read(out / STATE / BROUGHT)


def _read(path: Path) -> Corrections:
    return read_corrections(path) if path.is_file() else Corrections()


@dataclass(frozen=True)
class Applied:
    """A corrected picture. row: None where it was rejected."""

    digest: str
    row: Row | None


class CorrectedLabels:
    """What corrections make of the labels of one run."""

    def __init__(self, state: Path, corrections: Corrections, fingerprints: KeptFingerprints):
        self._path = state / STATE_FILE
        self._corrections: dict[str, Correction] = {}
        self.unknown = 0
        for correction in corrections:
            if fingerprints.of(correction.picture) == correction.fingerprint:
                self._corrections[correction.picture] = correction
            else:
                self.unknown += 1
        self._applied = applied_in(state)

    @property
    def names(self) -> list[str]:
        """Those that a person gave."""
        return list(dict.fromkeys(name for each in self._corrections.values() for name in each.names))

    @property
    def rejected(self) -> frozenset[str]:
        """Pictures of which nothing is written."""
        return frozenset(own for own, each in self._corrections.items() if each.verdict == REJECTED)

    @property
    def changed(self) -> int:
        """How many pictures are written otherwise than they were labelled."""
        return sum(own.row is not None for own in self._applied.values())

    def __contains__(self, picture: str) -> bool:
        return picture in self._corrections

    def take_back(self, files: LabelFormat, ledger: Ledger) -> None:
        """Remove the files of pictures that are no longer corrected, so that they are labelled again."""
        for picture in [own for own in self._applied if own not in self._corrections]:
            if (row := ledger.find(picture)) is not None:
                _remove(files, row)
            del self._applied[picture]

    def apply(self, files: LabelFormat, ledger: Ledger, folder: Path, relabelled: set[str]) -> None:
        """Write the files of corrected pictures anew. relabelled: those of them that this run has just labelled."""
        applied = {}
        for picture, correction in self._corrections.items():
            row = ledger.find(picture)
            if row is None:
                continue
            digest = short_digest_of(json.dumps([correction.to_json(), row.to_json(), files.names]))
            before = self._applied.get(picture)
            if before is not None and before.digest == digest and picture not in relabelled:
                applied[picture] = before
            elif correction.verdict == REJECTED:
                _remove(files, row)
                applied[picture] = Applied(digest, None)
            else:
                parts = corrected_parts(row, correction)
                if parts != list(row.parts) or before is not None:
                    specks = () if correction.verdict == ACCEPTED else row.specks or ()
                    own = replace(row, parts=tuple(parts))
                    applied[picture] = Applied(digest, _written(files, folder, own, specks))
        self._applied = applied
        told = {
            picture: {"digest": own.digest, "row": None if own.row is None else json.loads(own.row.to_json())}
            for picture, own in applied.items()
        }
        if told or self._path.exists():
            with atomic_write(self._path) as file:
                file.write(json.dumps(told).encode())

    def rows(self, rows: Callable[[], Iterator[Row]]) -> Iterator[Row]:
        """Yield rows as they are to be exported."""
        return as_corrected(rows(), self._applied)


def applied_in(state: Path) -> dict[str, Applied]:
    """Return the corrected pictures of labels, as the last run left them."""
    path = state / STATE_FILE
    told = read_json(path, most_bytes=MOST_BYTES) if path.exists() else {}
    return {
        picture: Applied(own["digest"], None if own["row"] is None else Row.from_json(json.dumps(own["row"])))
        for picture, own in told.items()
    }


def as_corrected(rows: Iterable[Row], applied: Mapping[str, Applied]) -> Iterator[Row]:
    """Yield rows with those of corrected pictures in their places, and none of rejected ones."""
    for row in rows:
        own = applied.get(row.picture)
        if own is None:
            yield row
        elif own.row is not None:
            yield own.row


def corrected_parts(row: Row, correction: Correction) -> list[Part]:
    """Return the masks that a picture has once it is corrected."""
    said = {mask.counts: mask for mask in correction.masks}
    complete = correction.verdict == ACCEPTED
    parts = []
    for part in row.parts:
        own = said.pop(part.rle, None)
        if own is None:
            parts += [] if complete else [part]
        elif own.verdict != REJECTED:
            parts.append(part if own.was is None else replace(part, name=own.name))
    for mask in said.values():  # mended elsewhere
        if correction.holds(mask):
            parts.append(_part(mask.name, mask.counts, row.size))
    return parts


def _remove(files: LabelFormat, row: Row) -> None:
    for file in files.files_of(row.name):
        file.unlink(missing_ok=True)


def _part(name: str, counts: str, size: tuple[int, int]) -> Part:
    instance = _instance(mask_of(lengths_of(counts, size), size), 0, None)
    return part_of(instance, [name], size)


def _instance(mask: np.ndarray, label: int, score: float | None) -> Instance:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return Instance(label, 0, 0, np.zeros((0, 0), bool), score)
    top, left = int(rows[0]), int(columns[0])
    return Instance(label, top, left, mask[top : rows[-1] + 1, left : columns[-1] + 1], score)


def _written(files: LabelFormat, folder: Path, row: Row, specks: Sequence[tuple[str, str]]) -> Row:
    """Write a picture's own files from its masks, the larger ones below the smaller. specks: names and run lengths of
    what is too small to be one.
    """
    names = files.names if any(name.casefold() == BACKGROUND for name in files.names) else [*files.names, BACKGROUND]
    ground = next(label for label, name in enumerate(names) if name.casefold() == BACKGROUND)
    labels = np.full(row.size, ground, np.min_scalar_type(len(names)))
    parts = sorted(row.parts, key=lambda part: -part.area)
    instances = [
        _instance(mask_of(lengths_of(part.rle, row.size), row.size), names.index(part.name), part.score)
        for part in parts
    ]
    for name, counts in specks:
        labels[mask_of(lengths_of(counts, row.size), row.size)] = names.index(name)
    for instance in instances:
        instance.paste_into(labels, instance.label)
    source = folder / row.picture
    segmentation = Segmentation(labels, list(names), source=str(source))
    more: Sequence[Any] = files.write_picture(
        Labelled(Entry(row.picture, row.name, ""), source, segmentation, instances)
    )
    return replace(row, parts=tuple(replace(part, more=own) for part, own in zip(parts, more, strict=True)))
