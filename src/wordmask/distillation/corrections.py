"""Truths among pseudo-masks: what a person accepted or mended takes their place, and counts more.

A run that uses any is not annotation-free any more, and says so.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as settings

from wordmask.collection.references import ImageRef
from wordmask.corrections import REJECTED, Correction, Corrections
from wordmask.distillation.filters import Candidate, Filter
from wordmask.distillation.known_masks import SEEN, picture_digest
from wordmask.distillation.records import DistillationError, MaskRecord, MaskTable, encode_mask, write_masks
from wordmask.fingerprints import file_digest
from wordmask.runs.parts import Say, write_part
from wordmask.text_files import counted, read_json

WEIGHT = 4
"""How often a truth is learnt from while each pseudo-mask is once: a choice, and no measurement."""
USED, SHARD = "used.json", "corrected_{:05d}.arrow"
RECORDS_PER_SHARD = 512
NOT_THERE = "a person saw none"


@settings(frozen=True, config=ConfigDict(extra="forbid"))
class CorrectionSettings:
    """file: what a person corrected, of the review or of another tool; without it the run is annotation-free.

    weight: how often a truth is learnt from, while each pseudo-mask is once; 1 for none before others.
    """

    file: str | None = None
    weight: Annotated[int, Field(ge=1, le=1000)] = WEIGHT


@dataclass(frozen=True)
class Used:
    """What a run took of its corrections. pictures: those that gave a truth. truths: of names in them.

    rejected: pictures left out. unknown: corrected pictures that are not in the collection. others: names of a person's
    masks that are none of the run's.
    """

    pictures: int
    truths: int
    rejected: int
    unknown: int
    weight: int
    others: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        corrections: Corrections,
        taken: Collection[str],
        truths: int,
        weight: int,
        *,
        there: Iterable[str | None],
        names: Iterable[str],
    ) -> "Used":
        """taken, there: content hashes of pictures that gave a truth, and of those that are there. names: the run's."""
        gone = {each.fingerprint for each in corrections if each.verdict == REJECTED}
        return cls(
            pictures=len(taken),
            truths=truths,
            rejected=len(gone),
            unknown=len(corrections.by_fingerprint.keys() - gone - set(there)),
            weight=weight,
            others=tuple(sorted({name for each in corrections for name in each.names} - set(names))),
        )

    @classmethod
    def read(cls, folder: Path) -> "Used":
        told = read_json(folder / USED)
        return cls(**{**told, "others": tuple(told["others"])})

    def write(self, folder: Path) -> None:
        with write_part(folder / USED) as file:
            file.write(json.dumps(asdict(self)).encode())

    @property
    def note(self) -> str:
        """As "not annotation-free any more: 12 pictures corrected (weight 4), 3 rejected"."""
        said = f"{counted(self.pictures, 'picture')} corrected (weight {self.weight})"
        return f"not annotation-free any more: {said}" + (f", {self.rejected} rejected" if self.rejected else "")


def rejecting(corrections: Corrections) -> Filter:
    """Return what keeps rejected pictures out of archives; only one that is called as a rejected one is read."""
    digests = {each.fingerprint for each in corrections if each.verdict == REJECTED}
    names = {_last(each.picture) for each in corrections if each.verdict == REJECTED}
    return Filter("rejected by a person", partial(_is_rejected, digests, names), of_picture=True)


def _is_rejected(digests: Collection[str], names: Collection[str], candidate: Candidate, _: object) -> bool:
    ref = candidate.ref
    if ref is None or _last(ref.member or ref.path) not in names:
        return False
    return picture_digest(ref, candidate.root) in digests


def put_truths(
    table: MaskTable, corrections: Corrections, seen: Mapping[ImageRef, str | None], out: Path, weight: int
) -> Used:
    """Write masks again with truths in the place of what was found in their pictures, each `weight` times.

    Pictures that are in no archive of a name that a person found in them are added to it; rejected ones go. A name that
    a person did not find in an accepted picture has its mask there set aside. seen: content hashes of the table's
    pictures.
    """
    by_digest = corrections.by_fingerprint
    taken: set[str] = set()
    truths = 0
    gone = {digest for digest, each in by_digest.items() if each.verdict == REJECTED}
    refs = _refs(table, corrections, seen)

    def records() -> Iterator[MaskRecord]:
        nonlocal truths
        for name in table.names:
            there: set[str | None] = set()
            rank = -1
            for row in table.rows(name, usable=False).tolist():
                record: MaskRecord = table[row]
                rank, digest = record.rank, seen.get(record.image)
                there.add(digest)
                if digest in gone:
                    continue
                correction = None if digest is None else by_digest.get(digest)
                truth = None if correction is None else correction.truth_of(name)
                if correction is None or truth is None:
                    yield record
                    continue
                taken.add(correction.fingerprint)
                truths += 1
                yield from _true(record, truth, weight)
            for digest, correction in by_digest.items():
                if digest in there or digest in gone or digest not in refs or name not in correction.names:
                    continue
                truth = correction.truth_of(name)
                if truth is None or not truth.any():
                    continue
                taken.add(digest)
                truths += 1
                rank += 1
                blank = MaskRecord(name, rank, refs[digest], encode_mask(truth), 1.0, float("nan"))
                yield from _true(blank, truth, weight)

    for number, block in enumerate(_blocks(records(), RECORDS_PER_SHARD)):
        write_masks(out / SHARD.format(number), block, root=table.root, names=table.names)
    used = Used.of(corrections, taken, truths, weight, there=refs, names=table.names)
    used.write(out)
    return used


def seen_pictures(masks: Path) -> dict[ImageRef, str | None]:
    """Return the content hashes of pictures, as they stand beside the shards of masks."""
    told = [each for path in sorted(masks.glob(f"*{SEEN}")) for each in read_json(path)]
    return {ImageRef(*place): digest for *place, digest in told}


def _true(record: MaskRecord, truth: np.ndarray, weight: int) -> Iterator[MaskRecord]:
    if not truth.any():
        yield replace(record, usable=False, trouble=NOT_THERE)
        return
    if tuple(record.rle["size"]) != truth.shape:
        raise DistillationError(
            f"{record.image}: the correction is of {truth.shape[1]} x {truth.shape[0]} pixels, the picture has "
            f"{record.rle['size'][1]} x {record.rle['size'][0]}: correct it again"
        )
    made = replace(record, rle=encode_mask(truth), score=1.0, usable=True, trouble="")
    for _ in range(weight):
        yield made


def _refs(table: MaskTable, corrections: Corrections, seen: Mapping[ImageRef, str | None]) -> dict[str, ImageRef]:
    """Return where corrected pictures are: in the table, or below its root where they were corrected."""
    refs = {digest: ref for ref, digest in seen.items() if digest is not None}
    found = {}
    for each in corrections:
        if each.fingerprint in refs:
            found[each.fingerprint] = refs[each.fingerprint]
        elif _is_at(table.root, each):
            found[each.fingerprint] = ImageRef(each.picture)
    return found


def _is_at(root: Path, correction: Correction) -> bool:
    file = root / correction.picture
    try:
        inside = file.resolve().is_relative_to(root.resolve())
        return inside and file.is_file() and file_digest(file) == correction.fingerprint
    except (OSError, ValueError):
        return False


def _last(path: str) -> str:
    return path.rpartition("/")[2]


def _blocks(records: Iterable[MaskRecord], size: int) -> Iterator[list[MaskRecord]]:
    block: list[MaskRecord] = []
    for record in records:
        block.append(record)
        if len(block) == size:
            yield block
            block = []
    if block:
        yield block


def tell(used: Used, say: Say) -> None:
    """Say what became of the corrections."""
    say(used.note)
    if used.unknown:
        say(f"corrections: {used.unknown} of pictures that are not in the collection, or have changed")
    if used.others:
        say(f"corrections: masks of {', '.join(used.others[:10])} teach nothing: they are none of the run's names")
