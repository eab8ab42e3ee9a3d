"""`wordmask world train-clip`, `train-dino`: from nothing to the shipped files, in one resumable run."""

import logging
import os
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from wordmask.console import log_to_stderr, show
from wordmask.console.progress import progress_bar
from wordmask.runs.claim import claimed
from wordmask.runs.collecting import is_world
from wordmask_world.files.training_file import write_array
from wordmask_world.models import CLIP, CLIP_RESNET, DINO, RESNET
from wordmask_world.training.clip import ClipSettings, train_clip
from wordmask_world.training.clip_teacher import ClipTeacherSettings, train_clip_teacher
from wordmask_world.training.dino import DinoSettings, train_dino
from wordmask_world.training.loop import choose_device
from wordmask_world.training.plans import MIXTURE, PICTURES, PLANS, Machine
from wordmask_world.training.ship import ship_clip, ship_clip_teacher, ship_dino

VERB, DRAWN = "world train", "pictures.json"
"""Both trainings may share a folder, and then the pictures in it."""


def clip(out: Path, *, machine: Machine | None, device: str, seed: int) -> None:
    """Pictures, a convolutional teacher from their captions, the vision transformer from both, the shipped files."""
    with claimed(out, VERB, was_ours=_was_ours):
        _clip(out, machine, device, seed)


def _clip(out: Path, machine: Machine | None, device: str, seed: int) -> None:
    machine, common = _begin(out, machine, device, seed)
    teaching = TypeAdapter(ClipTeacherSettings).validate_python(
        {**common, "out": out / "teacher", **PLANS["clip-teacher"][machine]}
    )
    with progress_bar("training the teacher", teaching.steps) as progress:
        teacher, command = train_clip_teacher(teaching, progress), _command("train-clip", machine, seed)
    ship_clip_teacher(teacher, teaching, out / "weights" / CLIP_RESNET, command=command)
    settings = TypeAdapter(ClipSettings).validate_python(
        {**common, "out": out / "clip", "teacher": out / "teacher", **PLANS["clip"][machine]}
    )
    with progress_bar("training", settings.steps) as progress:
        student = train_clip(settings, progress)
    ship_clip(student, settings, out / "weights" / CLIP, command=command)
    show(out / "weights")


def dino(out: Path, *, network: str, machine: Machine | None, device: str, seed: int) -> None:
    """Pictures, self-distillation of the ResNet on them alone, of the transformer that it guides, the shipped files."""
    with claimed(out, VERB, was_ours=_was_ours):
        _dino(out, network, machine, device, seed)


def _dino(out: Path, network: str, machine: Machine | None, device: str, seed: int) -> None:
    machine, common = _begin(out, machine, device, seed)
    settings = TypeAdapter(DinoSettings).validate_python({**common, "out": out / RESNET, **PLANS["resnet"][machine]})
    with progress_bar("training the ResNet", settings.steps) as progress:
        model, name = train_dino(settings, progress), RESNET
    if network == "vit":
        settings = TypeAdapter(DinoSettings).validate_python(
            {**common, "out": out / DINO, "guide": out / RESNET, **PLANS["dino"][machine]}
        )
        with progress_bar("training the transformer", settings.steps) as progress:
            model, name = train_dino(settings, progress), DINO
    ship_dino(
        model, settings, out / "weights" / name, command=_command(f"train-dino --network {network}", machine, seed)
    )
    show(out / "weights" / name)


def _was_ours(out: Path) -> bool:
    return is_world(out / DRAWN)


def _begin(out: Path, machine: Machine | None, device: str, seed: int) -> tuple[Machine, dict[str, Any]]:
    """The plan to follow, and what all of its trainings share; the pictures are drawn here, once."""
    log_to_stderr(logging.INFO)
    machine = machine or ("accelerator" if choose_device(device).type == "cuda" else "cpu")
    pictures = out / "pictures.npy"
    count = PICTURES[machine]
    with progress_bar("drawing", count) as progress:
        write_array(pictures, count, seed=0, kinds=MIXTURE, workers=os.cpu_count() or 1, progress=progress)
    return machine, {"pictures": pictures, "device": device, "seed": seed}


def _command(verb: str, machine: Machine, seed: int) -> str:
    return f"wordmask world {verb} --machine {machine} --seed {seed}"
