"""`corrections.json`: what it holds, and how it is read and written.

    {"format": "wordmask corrections", "version": 1, "pictures": [
      {"picture": "below/a.jpg", "fingerprint": "<SHA-256 of the file>", "size": [H, W],
       "verdict": "accepted" | "rejected" | null,
       "masks": [{"name": "cat", "was": "dog", "verdict": "accepted" | "rejected" | null, "counts": "<COCO's>"}]}]}

A picture is known by its fingerprint; its path only says where it was. `accepted` means that the masks which are not
rejected are all there is to see of the names; `rejected`, that nothing is to be made of the picture. `was` is there
where a mask was renamed. `counts` are COCO's compressed run lengths, which a mask is known by.
"""

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from wordmask.corrections.run_lengths import lengths_of, mask_of
from wordmask.errors import WordmaskError
from wordmask.files import atomic_write
from wordmask.fingerprints import digest_of
from wordmask.names.vocabulary import BACKGROUND, Vocabulary, VocabularyError
from wordmask.text_files import TextFileError, counted, read_json, shown

FILE_NAME = "corrections.json"
FORMAT, VERSION = "wordmask corrections", 1
ACCEPTED, REJECTED = "accepted", "rejected"
VERDICTS = (ACCEPTED, REJECTED, None)
MOST_BYTES = 2**28
MOST_SIDE = 2**17
MOST_PATH = 4096
_FINGERPRINT = re.compile("[0-9a-f]{64}")


class CorrectionsError(WordmaskError):
    """Corrections that cannot be read, or do not fit: names the file, the picture, and what is wrong."""


@dataclass(frozen=True)
class MaskVerdict:
    """What is said of a mask. name: the right one. was: what it was called before it was renamed."""

    name: str
    counts: str
    verdict: str | None = None
    was: str | None = None

    @classmethod
    def from_json(cls, told: Any, size: tuple[int, int]) -> "MaskVerdict":
        """Raise ValueError for what is no mask of a picture (H, W)."""
        found = cls(
            _name(told["name"]), told["counts"], _verdict(told), None if told.get("was") is None else told["was"]
        )
        if not isinstance(found.counts, str) or not isinstance(found.was, str | None):
            raise ValueError("counts and was are texts")
        lengths_of(found.counts, size)
        return found

    def to_json(self) -> dict[str, Any]:
        renamed = {} if self.was is None else {"was": self.was}
        return {"name": self.name, **renamed, "verdict": self.verdict, "counts": self.counts}


@dataclass(frozen=True)
class Correction:
    """What is said of a picture."""

    picture: str
    fingerprint: str
    size: tuple[int, int]  # (H, W)
    verdict: str | None = None
    masks: tuple[MaskVerdict, ...] = ()

    @classmethod
    def from_json(cls, told: Any) -> "Correction":
        """Raise ValueError for what is none."""
        height, width = told["size"]
        if not all(type(side) is int and 0 < side <= MOST_SIDE for side in (height, width)):
            raise ValueError(f"size {shown(told['size'])} is not that of a picture")
        picture, fingerprint = told["picture"], told["fingerprint"]
        if not isinstance(picture, str) or not 0 < len(picture) <= MOST_PATH:
            raise ValueError("picture is no path")
        if not isinstance(fingerprint, str) or not _FINGERPRINT.fullmatch(fingerprint):
            raise ValueError("fingerprint is no SHA-256")
        masks = tuple(MaskVerdict.from_json(mask, (height, width)) for mask in told["masks"])
        return cls(picture, fingerprint, (height, width), _verdict(told), masks)

    def to_json(self) -> dict[str, Any]:
        return {
            "picture": self.picture,
            "fingerprint": self.fingerprint,
            "size": list(self.size),
            "verdict": self.verdict,
            "masks": [mask.to_json() for mask in self.masks],
        }

    @property
    def says_something(self) -> bool:
        return self.verdict is not None or any(mask.verdict for mask in self.masks)

    @property
    def names(self) -> list[str]:
        """Those that a person's masks bear, each once."""
        return list(dict.fromkeys(mask.name for mask in self.masks if self.holds(mask)))

    def holds(self, mask: MaskVerdict) -> bool:
        """Return whether a person said that this mask is right, by itself or with the whole picture."""
        return mask.verdict == ACCEPTED or (mask.verdict is None and self.verdict == ACCEPTED)

    def renamed(self, rename: Mapping[str, str], dropped: Collection[str]) -> "Correction":
        """Return the same of labels in which some names are others, and masks of some are no more."""

        def other(mask: MaskVerdict) -> MaskVerdict:
            name, was = rename.get(mask.name, mask.name), None if mask.was is None else rename.get(mask.was, mask.was)
            verdict = REJECTED if mask.name in dropped else mask.verdict
            return replace(mask, name=name, was=None if was == name else was, verdict=verdict)

        return replace(self, masks=tuple(map(other, self.masks)))

    def truth_of(self, name: str) -> np.ndarray | None:
        """Return where a name is, (H, W) bool, all False for nowhere; None where nobody has settled that.

        It is settled in an accepted picture, and where each of the name's masks has a verdict of its own.
        """
        own = [mask for mask in self.masks if name in (mask.name, mask.was)]
        if self.verdict != ACCEPTED and (not own or any(mask.verdict is None for mask in own)):
            return None
        truth = np.zeros(self.size, bool)
        for mask in own:
            if mask.name == name and self.holds(mask):
                truth |= mask_of(lengths_of(mask.counts, self.size), self.size)
        return truth


@dataclass(frozen=True)
class Corrections:
    """Of a picture the last one holds. notes: what is to be said of how they were read."""

    pictures: tuple[Correction, ...] = ()
    notes: tuple[str, ...] = field(default=(), compare=False)

    def __len__(self) -> int:
        return len(self.by_fingerprint)

    def __iter__(self) -> Iterator[Correction]:
        return iter(self.by_fingerprint.values())

    @cached_property
    def by_fingerprint(self) -> dict[str, Correction]:
        return {each.fingerprint: each for each in self.pictures if each.says_something}

    @property
    def digest(self) -> str:
        """Changes whenever anything that is said does, and not with the order or the paths."""
        said = sorted((each.fingerprint, json.dumps({**each.to_json(), "picture": ""})) for each in self)
        return digest_of(json.dumps(said))

    @property
    def summary(self) -> str:
        """As "12 pictures corrected, 3 rejected"."""
        counts = Counter(each.verdict == REJECTED for each in self)
        said = [f"{counted(counts[False], 'picture')} corrected"]
        return ", ".join(said + ([f"{counts[True]} rejected"] if counts[True] else []))


def read_corrections(path: Path) -> Corrections:
    """Read `corrections.json`, which anybody may have written."""
    try:
        data = read_json(path, most_bytes=MOST_BYTES, way_out="save it from the review again")
    except TextFileError as error:
        raise CorrectionsError(str(error)) from error
    return parse_corrections(path, data)


def parse_corrections(path: Path, data: Any) -> Corrections:
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise CorrectionsError(f'{path}: is no file of corrections: it does not say "format": "{FORMAT}"')
    if data.get("version") != VERSION:
        raise CorrectionsError(
            f"{path}: is of version {shown(data.get('version'))}, and this wordmask reads {VERSION}: save it anew"
        )
    if not isinstance(data.get("pictures"), list):
        raise CorrectionsError(f"{path}: pictures is no list: save it anew, or mend it by hand")
    found = []
    for number, told in enumerate(data["pictures"]):
        try:
            found.append(Correction.from_json(told))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            where = shown(told.get("picture")) if isinstance(told, dict) else "no object"
            why = f"{error} is missing" if isinstance(error, KeyError) else error
            raise CorrectionsError(
                f"{path}: pictures[{number}] ({where}): {why}; mend it or take it out of the list"
            ) from error
    return Corrections(tuple(found))


def write_corrections(path: Path, corrections: Iterable[Correction]) -> None:
    """Write them whole, a picture a line, in the order of their paths."""
    ordered = sorted((each for each in corrections if each.says_something), key=lambda each: each.picture)
    with atomic_write(path) as file:
        head = json.dumps({"format": FORMAT, "version": VERSION})[:-1]
        file.write(f'{head}, "pictures": ['.encode())
        for index, each in enumerate(ordered):
            file.write((b",\n" if index else b"\n") + json.dumps(each.to_json()).encode())
        file.write(b"\n]}\n")


def _verdict(told: Any) -> str | None:
    verdict = told.get("verdict")
    if verdict not in VERDICTS:
        raise ValueError(f"verdict {shown(verdict)} is neither accepted, rejected nor null")
    return None if verdict is None else str(verdict)


def _name(told: Any) -> str:
    if not isinstance(told, str):
        raise ValueError(f"name {shown(told)} is no text")
    try:
        (name,) = Vocabulary.of([told]).names
    except VocabularyError as error:
        raise ValueError(str(error)) from error
    if name.casefold() == BACKGROUND:
        raise ValueError("a mask cannot be called background: reject it instead")
    return name
