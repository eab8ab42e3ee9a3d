"""The student: one network for all names, distilled from their archives and the masks that nobody drew."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import nn

from wordmask.console.progress import Progress
from wordmask.distillation.batches import Examples, Samples
from wordmask.distillation.crowds import SIDES, Crowds, CrowdSides
from wordmask.distillation.head_student import FEATURES, HeadStudentSettings, train_head
from wordmask.distillation.records import DistillationError, MaskTable
from wordmask.distillation.training import Check, SegmenterTraining, train
from wordmask.names.vocabulary import BACKGROUND, Vocabulary
from wordmask.runs.parts import Parts, Say, warn, write_part
from wordmask.segmenters.base import Names
from wordmask.segmenters.namedmask import NOTE, PRESET, NamedMask
from wordmask.segmenters.student_file import Student, StudentNetwork, write_student
from wordmask.training.checkpoints import forget_checkpoints
from wordmask.weights.loading import read_metadata

if TYPE_CHECKING:
    from wordmask.benchmarks.datasets import Benchmark

STUDENT_FILE = "student.safetensors"
RUN = "run"
"""The key of a result's metadata that says which settings and masks it is of."""


FEATURES_WEIGHT = 30.0
"""Much, as background is easily learnt; where every pixel bears a name, there is nothing beside it."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class StudentSettings(SegmenterTraining):
    """20,000 steps of 16 pictures; 80,000 for ImageNet-S.

    kind: what the student is; a head on frozen encoders has other settings, `HeadStudentSettings`.
    vocabulary: "open" for a student that answers to any names, by CLIP's texts; `open_student`. temperature: by which
    it divides cosines, CLIP's own. features_weight: how much its teacher's features count, beside what is
    background; 0 for labels alone.
    crowds: the share of samples that are made of small pictures, and of pasted things that are small; without any,
    samples are the paper's. crowd_sides: how many of them lie along each side, one of these by lot.
    """

    kind: Literal["deeplab"] = "deeplab"
    vocabulary: Literal["closed", "open"] = "closed"
    temperature: Annotated[float, Field(gt=0, le=1)] = 0.01
    features_weight: Annotated[float, Field(ge=0)] = FEATURES_WEIGHT
    crowds: Annotated[float, Field(ge=0, le=1)] = 0.0
    crowd_sides: CrowdSides = SIDES

    def told(self) -> dict[str, Any]:
        unused = ("kind", *(() if self.vocabulary == "open" else OF_OPEN), *(() if self.crowds else OF_CROWDS))
        return {name: value for name, value in super().told().items() if name not in unused}


OF_CROWDS = ("crowds", "crowd_sides")
OF_OPEN = ("vocabulary", "temperature", "features_weight")
"""Settings that say nothing of a student with a vocabulary of its own."""
AnyStudentSettings = StudentSettings | HeadStudentSettings
PRESETS = {
    "paper": StudentSettings(),
    "imagenet-s": StudentSettings(steps=80_000),
}
HEADS = {
    "paper": HeadStudentSettings(),
    "imagenet-s": HeadStudentSettings(steps=8_000),
}
"""What a preset's student is where it is told to be of the kind `head`."""


def with_background(names: Names) -> Vocabulary:
    """Return the classes of a student: background, then the names in their order."""
    own = Vocabulary.of(names).without_background()
    return Vocabulary((BACKGROUND, *own.names), ((BACKGROUND,), *own.phrases))


def examples_of(masks: MaskTable, names: Names) -> Examples:
    """Return the usable masks of a student's names, with their labels."""
    return Examples(masks, {name: label for label, name in enumerate(with_background(names).names) if label > 0})


def train_student(
    masks: MaskTable | Examples,
    names: Names,
    settings: AnyStudentSettings,
    out: Path,
    *,
    seed: int = 0,
    device: str = "auto",
    progress: Progress | None = None,
    validation: "Benchmark | None" = None,
    preset: str | None = None,
    note: str | None = None,
    features: Path | None = None,
    say: Say = warn,
) -> Path:
    """Run, or go on with, the training of a student; its file, which says by which preset, and bears the note, if any.

    Figures on `validation` go to the log as it learns, and nothing is chosen by them: true labels only tell how good it
    is. masks: or other examples, whose labels are those of the names. features: the folder of what a head's encoders
    say, by default in `out`.
    """
    vocabulary = with_background(names)
    examples = masks if isinstance(masks, Examples) else examples_of(masks, names)
    path = out / STUDENT_FILE
    if is_done(path, settings.identity(seed, examples), say):
        return path

    def finish(network: StudentNetwork, run: str) -> None:
        write_student(path, network, vocabulary, told_of(settings, run, preset, note), write=write_part)

    def segmenter_of(network: StudentNetwork, device: torch.device) -> NamedMask:
        return NamedMask(Student(network, vocabulary, {}), device=device, precision="fp32")

    learn: Callable[..., None] = train
    if isinstance(settings, HeadStudentSettings):
        learn = partial(train_head, features=features or out / FEATURES)
    else:
        learn = partial(train, sampler=sampler_of(settings))
    learn(
        len(vocabulary),
        examples,
        settings,
        out,
        seed=seed,
        device=device,
        finish=finish,
        progress=progress,
        check=None if validation is None else check_on(validation, segmenter_of),
        say=say,
    )
    return path


def sampler_of(settings: StudentSettings) -> Callable[..., Samples]:
    """Return what a student's samples are made by."""
    if not settings.crowds:
        return Samples
    return partial(Crowds, crowds=settings.crowds, sides=settings.crowd_sides)


def is_done(path: Path, run: str, say: Say = warn) -> bool:
    """Return whether this very run ended here already. Its checkpoint is of no more use, if a kill has left one."""
    if not Parts(say).whole(path):
        path.unlink(missing_ok=True)
        return False
    told = read_metadata(path).get(RUN)
    if told != run:
        raise DistillationError(
            f"{path} was trained with other settings or masks ({told}); choose another folder, or delete it"
        )
    forget_checkpoints(path.parent)
    return True


def told_of(settings: AnyStudentSettings, run: str, preset: str | None, note: str | None) -> dict[str, str]:
    """Return what a student's file says of how it came about."""
    told = {RUN: run, "steps": str(settings.steps), PRESET: preset, NOTE: note}
    return {key: value for key, value in told.items() if value is not None}


def check_on(validation: "Benchmark", segmenter_of: Callable[[Any, torch.device], NamedMask]) -> Check:
    """Figures of a network, in percent, on pictures with true labels. segmenter_of: what makes a segmenter of it."""
    from copy import deepcopy

    from wordmask.benchmarks.evaluation import evaluate

    def check(network: nn.Module) -> Mapping[str, float]:
        report = evaluate(segmenter_of(deepcopy(network), next(network.parameters()).device), validation)
        return {"miou": report.miou, "pixel_accuracy": report.pixel_accuracy}

    return check
