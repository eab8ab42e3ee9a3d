"""Things and stuff in one target: masks of archives on top of what a teacher says of the rest.

Saliency and experts draw a thing better than an open-vocabulary segmenter, and know nothing of stuff. And a mask of the
"boat" archive holds water: where names may race within it, the teacher parts them.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from wordmask.collection.references import ImageRef
from wordmask.console.progress import Progress
from wordmask.distillation.picture_shards import PICTURES_PER_SHARD
from wordmask.distillation.records import MaskTable
from wordmask.distillation.targets import Target, TargetTable, confidence_of, files_of, write_targets
from wordmask.runs.parts import Parts, Say, warn


def merge_targets(
    taught: TargetTable,
    things: MaskTable,
    out: Path,
    *,
    stuff: Collection[str],
    race: bool,
    least: float,
    progress: Progress | None = None,
    say: Say = warn,
) -> TargetTable:
    """Write `out/targets_NNNNN.arrow` and what is beside it: `taught`, picture by picture, with the usable masks of
    `things`. least: how sure the teacher must be to win a pixel of a mask.
    """
    label_of = {name: label for label, name in enumerate(taught.names, start=1)}
    rows: dict[ImageRef, list[int]] = {}
    for row, (image, usable) in enumerate(zip(things.images(), things.usable(), strict=True)):
        if usable:
            rows.setdefault(image, []).append(row)
    stuff_labels = {label_of[name] for name in stuff}
    parts = Parts(say)
    for number, first in enumerate(range(0, len(taught), PICTURES_PER_SHARD)):
        shard = out / f"targets_{number:05d}.arrow"
        last = min(first + PICTURES_PER_SHARD, len(taught))
        if not parts.whole(*files_of(shard)):
            targets = []
            for index in range(first, last):
                told = taught[index]
                records = [things[row] for row in rows.get(told.image, [])]
                claims = {label_of[record.name]: record.mask() for record in records}
                targets.append(merged(told, claims, stuff_labels, race=race, least=least))
            write_targets(shard, targets, first=first, root=taught.root, names=taught.names)
        if progress:
            progress(last, len(taught))
    return TargetTable(out)


def merged(
    told: Target, claims: Mapping[int, np.ndarray], stuff: Collection[int], *, race: bool, least: float
) -> Target:
    """Return one picture's target. told: by the teacher. claims: masks (H, W) bool of its archives by their labels.

    Beside masks the teacher's stuff and background count, and pixels that it gives to things are not known: saliency
    would have marked them, or it sees them wrongly. Without stuff, all beside masks is background, as in the paper. A
    mask bears its archive's name; where masks of several names lie on one another the teacher decides among these, or
    nothing is known. With `race`, every name that the teacher is sure of takes its pixels of a mask.
    """
    size = told.labels.shape
    masks = {label: mask for label, mask in claims.items() if mask.shape == size}
    sure = told.sure().copy()
    if stuff:
        unknown = (told.labels != 0) & ~np.isin(told.labels, list(stuff))
        labels = np.where(unknown, 0, told.labels).astype(told.labels.dtype)
    else:
        unknown, labels, sure[:] = np.zeros(size, bool), np.zeros_like(told.labels), 1.0
    claimed = np.zeros(size, np.int32)
    for mask in masks.values():
        claimed += mask
    labels[claimed > 1], unknown[claimed > 1] = 0, True
    for label, mask in masks.items():
        own = mask & ((claimed == 1) | (told.labels == label))
        labels[own], unknown[own], sure[own] = label, False, 1.0
    if race:
        wins = (claimed > 0) & (told.labels != 0) & (told.sure() >= least)
        labels[wins], unknown[wins], sure[wins] = told.labels[wins], False, told.sure()[wins]
    return replace(
        told, labels=labels, unknown=unknown if unknown.any() else None, confidence=confidence_of(sure, size)
    )
