"""Truths in dense targets: what a teacher said of a picture gives way to what a person did."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from wordmask.console.progress import Progress
from wordmask.corrections import ACCEPTED, REJECTED, Correction, Corrections
from wordmask.distillation.corrections import Used
from wordmask.distillation.records import DistillationError
from wordmask.distillation.targets import STEPS, Target, TargetTable, write_targets

SHARD = "corrected_{:05d}.arrow"
TARGETS_PER_SHARD = 64


def put_truths_in_targets(
    targets: TargetTable, corrections: Corrections, out: Path, weight: int, *, progress: Progress | None = None
) -> Used:
    """Write targets again without rejected pictures, and corrected ones `weight` times with what a person saw."""
    block: list[Target] = []
    shards = first = truths = 0
    taken: set[str] = set()

    def write() -> None:
        nonlocal shards, first, block
        write_targets(out / SHARD.format(shards), block, first=first, root=targets.root, names=targets.names)
        shards, first, block = shards + 1, first + len(block), []

    for number in range(len(targets)):
        target = targets[number]
        correction = corrections.by_fingerprint.get(target.digest or "")
        if correction is None:
            block.append(target)
        elif correction.verdict != REJECTED:
            made, count = corrected(target, correction, targets.names)
            truths += count
            taken |= {correction.fingerprint} if count else set()
            block += [made] * (weight if count else 1)
        if len(block) >= TARGETS_PER_SHARD:
            write()
        if progress:
            progress(number + 1, len(targets))
    if block:
        write()
    if not shards:
        raise DistillationError(f"all pictures of {targets.folder} were rejected: nothing is left to learn from")
    used = Used.of(corrections, taken, truths, weight, there=targets.digests(), names=targets.names)
    used.write(out)
    return used


def corrected(target: Target, correction: Correction, names: tuple[str, ...]) -> tuple[Target, int]:
    """Return what is to be learnt of a picture now, and of how many names a person settled where they are.

    What bore a settled name and is not of it is background where the whole picture was accepted; else nobody knows
    what it is.
    """
    if correction.size != target.labels.shape:
        raise DistillationError(f"{target.image}: has another size than its correction: correct it again")
    whole = correction.verdict == ACCEPTED
    labels = target.labels.copy()
    sure = np.ceil(target.sure() * STEPS).astype(np.uint8)
    unknown = np.zeros(labels.shape, bool) if target.unknown is None or whole else target.unknown.copy()
    settled = {
        label: truth for label, name in enumerate(names, start=1) if (truth := correction.truth_of(name)) is not None
    }
    lost = np.isin(labels, list(settled))
    labels[lost] = 0
    unknown |= lost & (not whole)
    if whole:
        sure[:] = STEPS
    for label, truth in settled.items():
        labels[truth], sure[truth], unknown[truth] = label, STEPS, False
    return replace(target, labels=labels, confidence=sure, unknown=unknown), len(settled)
