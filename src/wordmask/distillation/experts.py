"""Experts: binary segmenters, one for each name or each group of near names, that redraw their archive's masks.

Saliency knows no names, so its masks hold whatever stands out. What an archive's masks agree on is the thing that the
archive was searched for: a network that learns them all draws that, and leaves out the rest.
"""

import dataclasses
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from wordmask.console.progress import Progress
from wordmask.distillation.batches import Examples
from wordmask.distillation.records import DistillationError, MaskRecord, MaskTable, encode_mask, write_masks
from wordmask.distillation.student import RUN, is_done
from wordmask.distillation.training import SegmenterTraining, train
from wordmask.names.vocabulary import BACKGROUND, MAX_NAME_LENGTH, Vocabulary
from wordmask.pictures.image_files import ImageReadError
from wordmask.refinement.by_name import NameRefinement
from wordmask.runs.crew import Crew
from wordmask.runs.parts import Parts, Say, warn, write_part
from wordmask.runs.shards import run_shards
from wordmask.segmenters.deeplab import DeepLabV3Plus
from wordmask.segmenters.namedmask import NamedMask, NamedMaskSettings
from wordmask.segmenters.student_file import read_student, write_student
from wordmask.text_files import counted
from wordmask.weights.loading import read_metadata

EXPERT_FILE = "expert.safetensors"
MOST_ALONE = 100
"""Up to so many names have an expert each. The paper gives each of COCO's 80 its own, and groups from ImageNet-S300 on:
30 experts for 300 names, 90 for 919."""
READERS = 4
MASKS_PER_SHARD = 64
"""What a kill can lose of a group's masks while they are redrawn."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class ExpertSettings(SegmenterTraining):
    """5,000 steps of 8 pictures; 10,000 of 16 for ImageNet-S.

    groups: how many experts there are; by default one for each name, and beyond 100 names about one for every ten.
    pictures: how many are redrawn together. most_pixels: larger ones are looked at smaller. edges: what makes redrawn
    masks follow the picture's edges; the paper's experts have pictures large enough to need nothing.
    """

    steps: Annotated[int, Field(ge=1)] = 5_000
    batch: Annotated[int, Field(ge=2)] = 8
    most_pasted: Annotated[int, Field(ge=1)] = 1
    groups: Annotated[int, Field(ge=1)] | None = None
    pictures: Annotated[int, Field(ge=1)] = 16
    most_pixels: Annotated[int, Field(ge=1024)] = 4_000_000
    edges: NameRefinement = "none"


PRESETS = {
    "paper": ExpertSettings(),
    "imagenet-s": ExpertSettings(steps=10_000, batch=16),
}


def default_groups(names: int) -> int:
    return names if names <= MOST_ALONE else 10 * round(names / 100)


def group_names(names: Sequence[str], vectors: np.ndarray, groups: int | None, seed: int = 0) -> list[list[str]]:
    """Names that mean like things together, by k-means on their text embeddings (K, D); in the order of the names."""
    count = default_groups(len(names)) if groups is None else groups
    if count > len(names):
        raise DistillationError(
            f"{count} groups of {counted(len(names), 'name')}: ask for at most as many as there are names"
        )
    if count == len(names):
        return [[name] for name in names]
    from sklearn.cluster import KMeans

    vectors = np.asarray(vectors, dtype=np.float64)
    if vectors.shape[:1] != (len(names),):
        raise DistillationError(f"{counted(len(names), 'name')}, and embeddings of shape {vectors.shape} for them")
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    owner = KMeans(count, n_init=10, random_state=seed).fit_predict(vectors)
    together: dict[int, list[str]] = {}
    for name, group in zip(names, owner.tolist(), strict=True):
        together.setdefault(group, []).append(name)
    return list(together.values())


def train_expert(
    masks: MaskTable,
    names: Sequence[str],
    settings: ExpertSettings,
    out: Path,
    *,
    seed: int = 0,
    device: str = "auto",
    progress: Progress | None = None,
    say: Say = warn,
) -> Path:
    """Run, or go on with, the training of the expert for these names, on their archives alone; its file."""
    examples = Examples(masks, dict.fromkeys(names, 1))
    path = out / EXPERT_FILE
    if is_done(path, settings.identity(seed, examples), say):
        return path
    vocabulary = expert_vocabulary(names)

    def finish(network: DeepLabV3Plus, run: str) -> None:
        write_student(path, network, vocabulary, {RUN: run, "steps": str(settings.steps)}, write=write_part)

    train(2, examples, settings, out, seed=seed, device=device, finish=finish, progress=progress, say=say)
    return path


def train_experts(
    masks: MaskTable,
    groups: Sequence[Sequence[str]],
    settings: ExpertSettings,
    out: Path,
    *,
    seed: int = 0,
    device: str = "auto",
    progress: Progress | None = None,
    say: Say = warn,
    crew: Crew | None = None,
) -> None:
    """Train an expert for each group, in `out/NNN`. crew: who trains, one expert each; by default this process does."""
    tasks = [
        ExpertTask(out / f"{number:03d}", tuple(group), settings, seed, device) for number, group in enumerate(groups)
    ]
    run_shards(
        tasks,
        partial(Studio, masks) if crew else lambda: Studio(masks, say),
        is_made=lambda task: is_done(task.path, task.identity(masks), say),
        crew=crew,
        total=len(tasks) * settings.steps,
        progress=progress,
        say=say,
    )


class Studio:
    """What experts learn from and redraw."""

    def __init__(self, masks: MaskTable, say: Say = warn):
        self.masks, self.say = masks, say
        self._latest: tuple[RedrawTask, NamedMask] | None = None

    def segmenter(self, task: "RedrawTask") -> NamedMask:
        """Return the expert of a task, which is the one of the task before most of the time."""
        if self._latest is None or self._latest[0].expert != task.expert:
            self._latest = task, _segmenter(task.expert, task.settings, task.device)
        return self._latest[1]


@dataclasses.dataclass(frozen=True)
class ExpertTask:
    """An expert to be trained. What a kill costs, its checkpoints say."""

    out: Path
    names: tuple[str, ...]
    settings: ExpertSettings
    seed: int
    device: str

    @property
    def name(self) -> str:
        return f"the expert of {expert_vocabulary(self.names).names[1]}"

    @property
    def weight(self) -> int:
        return self.settings.steps

    @property
    def path(self) -> Path:
        return self.out / EXPERT_FILE

    def identity(self, masks: MaskTable) -> str:
        return self.settings.identity(self.seed, Examples(masks, dict.fromkeys(self.names, 1)))

    def make(self, studio: Studio, progress: Progress) -> None:
        own: dict[str, Any] = {"seed": self.seed, "device": self.device}
        train_expert(studio.masks, self.names, self.settings, self.out, progress=progress, say=studio.say, **own)


def take_expert(
    folders: Sequence[Path],
    masks: MaskTable,
    names: Sequence[str],
    settings: ExpertSettings,
    out: Path,
    *,
    seed: int,
    say: Say = warn,
) -> bool:
    """Move the expert that `train_expert` would end with, if one of these folders is its, to `out`."""
    if (out / EXPERT_FILE).exists():
        return False
    identity = settings.identity(seed, Examples(masks, dict.fromkeys(names, 1)))
    own = next((folder for folder in folders if _identity_of(folder / EXPERT_FILE) == identity), None)
    if own is None or not Parts(say).whole(own / EXPERT_FILE):
        return False
    shutil.rmtree(out, ignore_errors=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    own.rename(out)
    return True


def _identity_of(expert: Path) -> str | None:
    return read_metadata(expert).get(RUN) if expert.exists() else None


def expert_vocabulary(names: Sequence[str]) -> Vocabulary:
    """Background and the group, which answers to the name of each of its members."""
    told = " or ".join(names)
    if len(told) > MAX_NAME_LENGTH:
        told = f"{names[0]} and {len(names) - 1} more"
    return Vocabulary((BACKGROUND, told), ((BACKGROUND,), tuple(names)))


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
            redrawn.extend(_redraw(part, segmenter))
            progress(len(redrawn), len(self.rows))
        write_masks(self.shard, redrawn, root=masks.root, names=masks.names)


def _segmenter(expert: Path, settings: ExpertSettings, device: str) -> NamedMask:
    return NamedMask(
        read_student(expert),
        NamedMaskSettings(most_pixels=settings.most_pixels, refine=settings.edges),
        device=device,
        precision=settings.precision,
    )


def _redraw(part: Sequence[tuple[MaskRecord, np.ndarray | ImageReadError]], segmenter: NamedMask) -> list[MaskRecord]:
    there = [(record, image) for record, image in part if isinstance(image, np.ndarray)]
    seen = iter(segmenter.look_many([image for _, image in there], [str(record.image) for record, _ in there]))
    redrawn = []
    for record, image in part:
        if isinstance(image, ImageReadError):
            redrawn.append(replace(record, usable=False, trouble=image.reason))
        else:
            answer = next(seen).segment(segmenter.vocabulary, fill=True)
            redrawn.append(_redrawn(record, answer.labels == 1, answer.scores))
    return redrawn


def _redrawn(record: MaskRecord, mask: np.ndarray, sure: np.ndarray | None) -> MaskRecord:
    """score: how probable the expert thinks the mask's pixels to be, in the mean."""
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
