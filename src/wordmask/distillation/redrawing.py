"""Masks as experts draw them: those of an archive, each at its picture's own size."""

import dataclasses
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from wordmask.console.progress import Progress
from wordmask.distillation.experts import ExpertSettings
from wordmask.distillation.records import MaskRecord, MaskTable, encode_mask, write_masks
from wordmask.pictures.image_files import ImageReadError
from wordmask.runs.crew import Crew
from wordmask.runs.parts import Parts, Say, warn
from wordmask.runs.shards import run_shards
from wordmask.segmenters.namedmask import NamedMask, NamedMaskSettings
from wordmask.segmenters.student_file import read_student

READERS = 4
MASKS_PER_SHARD = 64
"""What a kill can lose of a group's masks while they are redrawn."""


def refine(
    expert: Path,
    masks: MaskTable,
    names: Sequence[str],
    settings: ExpertSettings,
    stem: Path,
    *,
    device: str = "auto",
    progress: Progress | None = None,
    say: Say = warn,
) -> list[Path]:
    """Redraw every mask of these names, those that were set aside as well, at the picture's own size: shards
    `STEM_NNNNN.arrow`, each whole or not there, and left alone where it is there already.
    """
    tasks = redraw_tasks(expert, masks, names, settings, stem, device)
    redraw(tasks, masks, progress=progress, say=say)
    return [task.shard for task in tasks]


def redraw_tasks(
    expert: Path, masks: MaskTable, names: Sequence[str], settings: ExpertSettings, stem: Path, device: str = "auto"
) -> list["RedrawTask"]:
    """Return the shards that `refine` makes."""
    rows = np.concatenate([masks.rows(name, usable=False) for name in names])
    return [
        RedrawTask(
            stem.with_name(f"{stem.name}_{number:05d}.arrow"),
            rows[start : start + MASKS_PER_SHARD],
            expert,
            settings,
            device,
        )
        for number, start in enumerate(range(0, len(rows), MASKS_PER_SHARD))
    ]


def redraw(
    tasks: Sequence["RedrawTask"],
    masks: MaskTable,
    *,
    progress: Progress | None = None,
    say: Say = warn,
    crew: Crew | None = None,
) -> None:
    """Make those shards that are missing. crew: who does; by default this process."""
    parts = Parts(say)
    run_shards(
        tasks,
        partial(Studio, masks),
        is_made=lambda task: parts.whole(task.shard),
        crew=crew,
        total=sum(task.weight for task in tasks),
        progress=progress,
        say=say,
    )


class Studio:
    """What experts redraw."""

    def __init__(self, masks: MaskTable):
        self.masks = masks
        self._latest: tuple[RedrawTask, NamedMask] | None = None

    def segmenter(self, task: "RedrawTask") -> NamedMask:
        """Return the expert of a task, which is the one of the task before most of the time."""
        if self._latest is None or self._latest[0].expert != task.expert:
            self._latest = task, _segmenter(task.expert, task.settings, task.device)
        return self._latest[1]


@dataclasses.dataclass(frozen=True)
class RedrawTask:
    """A shard of masks to be redrawn. rows: which of the table's."""

    shard: Path
    rows: np.ndarray
    expert: Path
    settings: ExpertSettings
    device: str

    @property
    def name(self) -> str:
        return self.shard.stem

    @property
    def weight(self) -> int:
        return len(self.rows)

    def make(self, studio: Studio, progress: Progress) -> None:
        masks, redrawn = studio.masks, list[MaskRecord]()
        segmenter = studio.segmenter(self)
        for part in _read_ahead(masks, self.rows, self.settings.pictures):
            redrawn.extend(_redraw(part, segmenter, self.settings.keep))
            progress(len(redrawn), len(self.rows))
        write_masks(self.shard, redrawn, root=masks.root, names=masks.names)


def _segmenter(expert: Path, settings: ExpertSettings, device: str) -> NamedMask:
    return NamedMask(
        read_student(expert),
        NamedMaskSettings(most_pixels=settings.most_pixels, refine=settings.edges),
        device=device,
        precision=settings.precision,
    )


def _redraw(
    part: Sequence[tuple[MaskRecord, np.ndarray | ImageReadError]], segmenter: NamedMask, keep: str
) -> list[MaskRecord]:
    there = [(record, image) for record, image in part if isinstance(image, np.ndarray)]
    seen = iter(segmenter.look_many([image for _, image in there], [str(record.image) for record, _ in there]))
    redrawn = []
    for record, image in part:
        if isinstance(image, ImageReadError):
            redrawn.append(replace(record, usable=False, trouble=image.reason))
        else:
            answer = next(seen).segment(segmenter.vocabulary, fill=True)
            redrawn.append(_redrawn(record, answer.labels == 1, answer.scores, keep))
    return redrawn


def _redrawn(record: MaskRecord, mask: np.ndarray, sure: np.ndarray | None, keep: str) -> MaskRecord:
    """score: how probable the expert thinks the mask's pixels to be, in the mean. keep: nothing is kept of a mask that
    was set aside, or is of another picture that lay in this one's place.
    """
    if sure is not None:
        sure = np.where(mask, sure, 1 - sure)  # (H, W), of each pixel's being the thing
    if keep == "either" and record.usable and record.rle["size"] == list(mask.shape):
        mask = mask | record.mask()
    trouble = "empty" if not mask.any() else "full" if mask.all() else ""
    score = float(sure[mask].mean()) if sure is not None and mask.any() else 0.0
    return replace(record, rle=encode_mask(mask), score=score, usable=not trouble, trouble=trouble)


def _read_ahead(
    masks: MaskTable, rows: np.ndarray, count: int
) -> Iterator[list[tuple[MaskRecord, np.ndarray | ImageReadError]]]:
    """Yield records with their pictures, `count` at a time, while the next ones are being read."""

    def read(row: int) -> tuple[MaskRecord, np.ndarray | ImageReadError]:
        record: MaskRecord = masks[row]
        try:
            return record, masks.open_image(record.image)
        except ImageReadError as error:
            return record, error

    with ThreadPoolExecutor(READERS, "wordmask-refine") as pool:
        waiting = None
        for start in range(0, len(rows), count):
            following = [pool.submit(read, int(row)) for row in rows[start : start + count]]
            if waiting is not None:
                yield [future.result() for future in waiting]
            waiting = following
        if waiting is not None:
            yield [future.result() for future in waiting]
