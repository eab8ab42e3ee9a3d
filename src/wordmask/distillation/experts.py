"""Experts: binary segmenters, one for each name or each group of near names, that redraw their archive's masks.

Saliency knows no names, so its masks hold whatever stands out. What an archive's masks agree on is the thing that the
archive was searched for: a network that learns them all draws that, and leaves out the rest.
"""

import dataclasses
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from wordmask.console.progress import Progress
from wordmask.distillation.batches import Examples
from wordmask.distillation.records import DistillationError, MaskTable
from wordmask.distillation.student import RUN, is_done
from wordmask.distillation.training import SegmenterTraining, train
from wordmask.names.vocabulary import BACKGROUND, MAX_NAME_LENGTH, Vocabulary
from wordmask.refinement.by_name import NameRefinement
from wordmask.runs.crew import Crew
from wordmask.runs.parts import Say, warn, write_part
from wordmask.runs.shards import run_shards
from wordmask.segmenters.deeplab import DeepLabV3Plus
from wordmask.segmenters.student_file import write_student
from wordmask.text_files import counted
from wordmask.weights.loading import read_metadata

EXPERT_FILE = "expert.safetensors"
MOST_ALONE = 100
"""Up to so many names have an expert each. The paper gives each of COCO's 80 its own, and groups from ImageNet-S300 on:
30 experts for 300 names, 90 for 919."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class ExpertSettings(SegmenterTraining):
    """5,000 steps of 8 pictures; 10,000 of 16 for ImageNet-S.

    groups: how many experts there are; by default one for each name, and beyond 100 names about one for every ten.
    pictures: how many are redrawn together. most_pixels: larger ones are looked at smaller. edges: what makes redrawn
    masks follow the picture's edges; the paper's experts have pictures large enough to need nothing. keep: an expert's
    mask "redrawn" takes the place of saliency's, as in the paper, or the new one is whatever "either" of them holds.
    """

    steps: Annotated[int, Field(ge=1)] = 5_000
    batch: Annotated[int, Field(ge=2)] = 8
    most_pasted: Annotated[int, Field(ge=1)] = 1
    groups: Annotated[int, Field(ge=1)] | None = None
    pictures: Annotated[int, Field(ge=1)] = 16
    most_pixels: Annotated[int, Field(ge=1024)] = 4_000_000
    edges: NameRefinement = "none"
    keep: Literal["redrawn", "either"] = "redrawn"


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
        partial(Lesson, masks) if crew else lambda: Lesson(masks, say),
        is_made=lambda task: is_done(task.path, task.identity(masks), say),
        crew=crew,
        total=len(tasks) * settings.steps,
        progress=progress,
        say=say,
    )


@dataclasses.dataclass(frozen=True)
class Lesson:
    """What experts learn from."""

    masks: MaskTable
    say: Say = warn


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

    def make(self, lesson: Lesson, progress: Progress) -> None:
        own: dict[str, Any] = {"seed": self.seed, "device": self.device}
        train_expert(lesson.masks, self.names, self.settings, self.out, progress=progress, say=lesson.say, **own)


def take_expert(
    folders: Sequence[Path],
    masks: MaskTable,
    names: Sequence[str],
    settings: ExpertSettings,
    out: Path,
    *,
    seed: int,
) -> bool:
    """Move the expert that `train_expert` would end with, if one of these folders is its, to `out`. folders: of experts
    that are whole.
    """
    if (out / EXPERT_FILE).exists():
        return False
    identity = settings.identity(seed, Examples(masks, dict.fromkeys(names, 1)))
    own = next((folder for folder in folders if _identity_of(folder / EXPERT_FILE) == identity), None)
    if own is None:
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
