"""Runs that differ in a setting or two, as those of an ablation do, and make but once what they have in common.

A stage's record says what it was made from. Where another run has made the stage of the very same things, its files are
linked; where another has looked at some of the same pictures in the same way, their masks are taken.
"""

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from wordmask.distillation.config import Run
from wordmask.distillation.pipeline import Pipeline
from wordmask.runs.stages import Console, Stage, Stages, read_record, write_record

OF_ITS_OWN = "report"
"""The stage that tells of its own run."""


class Reached(Exception):
    """The last stage that was asked for is done."""


class Branch(Pipeline):
    """A run that takes from other runs what they have made already. lenders: their folders, in order of preference."""

    def __init__(self, run: Run, console: Console | None = None, *, lenders: Sequence[Path] = ()):
        super().__init__(run, console)
        self.lenders = [lender for lender in lenders if lender.resolve() != run.out]
        self._sharing = SharingStages(run.out, self.stages.console, leads=self.stages.leads, lenders=self.lenders)
        self.stages = self._sharing

    def run_to(self, last: str) -> None:
        """As far as a stage, that one included. The run can be gone on with later."""
        self._sharing.last = last
        try:
            with suppress(Reached):
                self.run_all()
        finally:
            self._sharing.last = None

    def _other_masks(self) -> list[tuple[Path, dict[str, str]]]:
        records = [(lender / "masks", read_record(lender, "masks")) for lender in self.lenders]
        lent = [(folder, record.inputs) for folder, record in records if record is not None and record.done]
        return [*super()._other_masks(), *lent]


class SharingStages(Stages):
    """Stages that look first whether another run has done the same."""

    def __init__(self, run: Path, console: Console, *, leads: bool, lenders: Sequence[Path]):
        super().__init__(run, console, leads=leads)
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
        self.console.say(f"{stage.name}: taken over from {lender.name}, which made the same")


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
    copy does as well.
    """
    if source in shared:
        with suppress(OSError):
            os.link(source, target)
            return
    shutil.copy2(source, target)
