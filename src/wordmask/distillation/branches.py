"""Runs that differ in a setting or two, as those of an ablation do, and make but once what they have in common.

A stage's record says what it was made from. Where another run has made the stage of the very same things, its files are
linked; where another has looked at some of the same pictures in the same way, their masks are taken.
"""

import json
import math
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from wordmask.distillation.archive import Archive
from wordmask.distillation.config import Run
from wordmask.distillation.curation import Entry
from wordmask.distillation.pipeline import Pipeline
from wordmask.distillation.pseudo_masks import make_masks
from wordmask.distillation.records import ImageRef, MaskRecord, MaskTable, write_masks
from wordmask.distillation.stages import Report, Stage, Stages, Teller, read_record, write_record
from wordmask.files import atomic_write

OF_ITS_OWN = "report"
"""The stage that tells of its own run."""
KNOWN, KNOWN_MASKS = "known.json", "masks_known.arrow"
THE_ARCHIVE = "the archive"
"""The one input in which stages may differ whose masks of single pictures are the same."""


class Reached(Exception):
    """The last stage that was asked for is done."""


class Branch(Pipeline):
    """A run that takes from other runs what they have made already. lenders: their folders, in order of preference."""

    def __init__(self, run: Run, teller: Teller | None = None, *, lenders: Sequence[Path] = ()):
        super().__init__(run, teller)
        self.lenders = [lender for lender in lenders if lender.resolve() != run.out]
        self._sharing = SharingStages(run.out, self.stages.teller, leads=self.stages.leads, lenders=self.lenders)
        self.stages = self._sharing

    def run_to(self, last: str) -> None:
        """As far as a stage, that one included. The run can be gone on with later."""
        self._sharing.last = last
        try:
            with suppress(Reached):
                self.run_all()
        finally:
            self._sharing.last = None

    def _masks_stage(self) -> Stage:
        stage = super()._masks_stage()

        def make(report: Report) -> None:
            settled = stage.folder / KNOWN
            if not settled.exists():
                self._take_masks(stage)
            known = {ImageRef(*ref) for ref in json.loads(settled.read_text())}
            rest = PartOfArchive(self.archive.path, without=known)
            make_masks(rest, self.saliency, stage.folder, self.config.masks, progress=report)

        return replace(stage, make=make)

    def _take_masks(self, stage: Stage) -> None:
        """Write what is known already as a shard of its own; after that, no more is taken, so that a run that goes on
        looks at the same pictures in the same blocks."""
        archive = self.archive
        entries = [entry for name in archive.names for entry in archive.entries(name)]
        known = self._known_masks(stage, {entry.image for entry in entries})
        taken = [_as_of(entry, known[entry.image]) for entry in entries if entry.image in known]
        if taken:
            write_masks(stage.folder / KNOWN_MASKS, taken, root=archive.root, names=archive.names)
            self.say(f"masks: those of {len(known)} pictures are taken from other runs")
        refs = [[ref.path, ref.member, ref.offset, ref.length] for ref in known]
        with atomic_write(stage.folder / KNOWN) as file:
            file.write(json.dumps(refs).encode())

    def _known_masks(self, stage: Stage, wanted: set[ImageRef]) -> dict[ImageRef, MaskRecord]:
        found: dict[ImageRef, MaskRecord] = {}
        for lender in self.lenders:
            record = read_record(lender, stage.name)
            if record is None or not record.done or _but_archive(record.inputs) != _but_archive(dict(stage.inputs)):
                continue
            table = MaskTable(lender / stage.name)
            if table.root == self.archive.root:
                found |= {mask.image: mask for mask in table if mask.image in wanted and mask.image not in found}
        return found


class SharingStages(Stages):
    """Stages that look first whether another run has done the same."""

    def __init__(self, run: Path, teller: Teller, *, leads: bool, lenders: Sequence[Path]):
        super().__init__(run, teller, leads=leads)
        self.lenders = lenders
        self.last: str | None = None
        """After which there is no more to be done for now."""

    def run_stage(self, stage: Stage) -> str:
        if self.leads and stage.name != OF_ITS_OWN and not self._is_done(stage):
            lender = next((lender for lender in self.lenders if _has_made(lender, stage)), None)
            if lender is not None:
                self._take_over(stage, lender)
        digest = super().run_stage(stage)
        if stage.name == self.last:
            raise Reached
        return digest

    def _is_done(self, stage: Stage) -> bool:
        record = read_record(self.run, stage.name)
        return record is not None and record.done and record.inputs == dict(stage.inputs)

    def _take_over(self, stage: Stage, lender: Path) -> None:
        """The record comes last: without it, a stage that was half taken over is begun again."""
        record = read_record(lender, stage.name)
        assert record is not None
        shutil.rmtree(stage.folder, ignore_errors=True)
        source = lender / stage.folder.name
        shared = {str(source / name) for name in record.outputs}
        shutil.copytree(source, stage.folder, copy_function=partial(_link_or_copy, shared))
        write_record(self.run, stage.name, record)
        self.teller.say(f"{stage.name}: taken over from {lender.name}, which made the same")


class PartOfArchive(Archive):
    """An archive but for some pictures."""

    def __init__(self, path: Path, *, without: set[ImageRef]):
        super().__init__(path)
        self._without = without

    def entries(self, name: str) -> list[Entry]:
        return [entry for entry in super().entries(name) if entry.image not in self._without]


def _has_made(lender: Path, stage: Stage) -> bool:
    """Of the same inputs, to the end, and nobody has changed it since."""
    record = read_record(lender, stage.name)
    if record is None or not record.done or record.inputs != dict(stage.inputs):
        return False
    for name, (size, changed, _) in record.outputs.items():
        try:
            status = (lender / stage.folder.name / name).stat()
        except OSError:
            return False
        if (status.st_size, status.st_mtime_ns) != (size, changed):
            return False
    return True


def _link_or_copy(shared: set[str], source: str, target: str) -> None:
    """Outputs are never written in place, so that two runs may share them; logs are. Where the disk has no links, a
    copy does as well."""
    if source in shared:
        with suppress(OSError):
            os.link(source, target)
            return
    shutil.copy2(source, target)


def _but_archive(inputs: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in inputs.items() if key != THE_ARCHIVE}


def _as_of(entry: Entry, mask: MaskRecord) -> MaskRecord:
    """A picture's mask in its place of another archive."""
    similarity = math.nan if entry.similarity is None else entry.similarity
    return replace(mask, name=entry.name, rank=entry.rank, similarity=similarity)
