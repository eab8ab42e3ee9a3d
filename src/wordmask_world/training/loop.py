"""One training loop for all the world's models: stages of pictures, averaged weights, checkpoints, a log."""

import copy
import json
import logging
import math
import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from wordmask.compute import AUTO
from wordmask.console.progress import Progress
from wordmask.training.allocation import keep_freed_memory
from wordmask.training.checkpoints import (
    CHECKPOINT,
    CheckpointError,
    load_checkpoint,
    read_checkpoint,
    save_checkpoint,
)
from wordmask.training.errors import TrainingError
from wordmask.training.logs import RunLog
from wordmask_world.training.batches import Batch, Batches, Stage
from wordmask_world.training.data import HELD_OUT_SEED, VALIDATION_SEED, TrainingPictures
from wordmask_world.training.optimisers import Optimisers
from wordmask_world.training.precision import Precision, fastest_precision

logger = logging.getLogger(__name__)

AVERAGE_WARM_UP = 10.0
"""The average's decay after n steps is at most (1 + n) / (10 + n): the first weights are soon forgotten."""
LARGEST_GRADIENT = 1.0
"""Longer gradients are shortened to this norm."""


_FREE = ("device", "threads", "precision", "check_every", "save_every", "log_every")
"""Settings that may change while a run goes on; so may all paths."""


@dataclass(frozen=True)
class TrainingSettings:
    """pictures: the file of training pictures, made by `write_array`. out: the folder of the run's checkpoint and log.

    average: decay of the running average of the weights, per step. check_every: steps between figures on validation
    pictures; save_every: steps between checkpoints. threads: of the processor, None for torch's own choice.
    start: a run of the same kind of model, with whose averaged weights this one begins. precision: "auto" is what steps
    are faster in where a run begins, which it goes on in.
    """

    pictures: Path
    out: Path
    stages: tuple[Stage, ...]
    start: Path | None = None
    seed: int = 0
    device: str = "auto"
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    threads: Annotated[int, Field(ge=1)] | None = None
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    warm_up: Annotated[float, Field(ge=0, lt=1)] = 0.05
    average: Annotated[float, Field(ge=0, lt=1)] = 0.995
    check_every: Annotated[int, Field(ge=1)] = 500
    save_every: Annotated[int, Field(ge=1)] = 200
    log_every: Annotated[int, Field(ge=1)] = 20

    @property
    def steps(self) -> int:
        return sum(stage.steps for stage in self.stages)

    def identity(self, pictures: TrainingPictures) -> str:
        """What must be equal for a run to go on from a checkpoint."""
        told = TypeAdapter(type(self)).dump_python(self)
        told = {name: value for name, value in told.items() if name not in _FREE and not isinstance(value, Path)}
        return f"{json.dumps(told, sort_keys=True)} on pictures {pictures.settings}"


class Recipe(nn.Module):
    """What a model learns from a batch. All that a run must remember is among its parameters and buffers."""

    captioned: bool = True
    """Whether it reads captions."""
    least_size: int = 0
    """Crops of pictures are at least this large, even where the stage's size is less."""

    @abstractmethod
    def losses(self, batch: Batch, progress: float) -> Mapping[str, Tensor]:
        """Named parts; their sum is made small. `progress` goes from 0 to 1."""

    def after_step(self, progress: float) -> None:
        """What follows a step of the optimiser: a momentum teacher moves."""

    @abstractmethod
    def figures(self, first_seed: int) -> dict[str, float]:
        """How good the model is on pictures from a seed on. Called on the averaged copy, in eval mode."""


def choose_device(device: str) -> torch.device:
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def learning_rate_at(step: int, settings: TrainingSettings) -> float:
    """For the step with this number, from 0: linear warm-up, then half a cosine, anew where a stage asks for it."""
    highest, length, begun, seen = settings.learning_rate, 0, 0, 0
    for stage in settings.stages:
        if stage.learning_rate is not None:
            if step < seen:
                break
            highest, length, begun = stage.learning_rate, 0, seen
        length += stage.steps
        seen += stage.steps
    progress = (step + 1 - begun) / length
    if progress < settings.warm_up:
        return highest * progress / settings.warm_up
    return highest * 0.5 * (1 + math.cos(math.pi * (progress - settings.warm_up) / (1 - settings.warm_up)))


def train(recipe: Recipe, settings: TrainingSettings, progress: Progress | None = None) -> Recipe:
    """Run, or go on with, a training; returns the averaged model. `progress` is told (steps done, of how many)."""
    device = choose_device(settings.device)
    if device.type == "cpu":
        keep_freed_memory()
    if settings.threads:
        torch.set_num_threads(settings.threads)
    pictures = TrainingPictures(settings.pictures)
    batches = Batches(pictures, seed=settings.seed, device=device)
    recipe = recipe.to(device)
    averaged = copy.deepcopy(recipe).requires_grad_(False)
    optimiser = Optimisers(recipe, weight_decay=settings.weight_decay)
    identity = settings.identity(pictures)
    done, precision = 0, None if settings.precision == AUTO else settings.precision
    if state := load_checkpoint(settings.out, run=identity):
        recipe.load_state_dict(state["recipe"])
        averaged.load_state_dict(state["averaged"])
        optimiser.load_state_dict(state["optimiser"])
        done, precision = state["step"], precision or state["precision"]
        logger.info("going on at step %d of %d", done, settings.steps)
    elif settings.start is not None:
        start_from(recipe, settings.start)
        start_from(averaged, settings.start)
    log = RunLog(settings.out, resume_at=done)

    def losses(recipe: Recipe, number: int, stage: Stage, step: int, precision: Precision) -> dict[str, Tensor]:
        torch.manual_seed(settings.seed * 1_000_003 + number)
        batch = batches.at(stage, step, number, captioned=recipe.captioned, least_size=recipe.least_size)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            return dict(recipe.losses(batch, number / settings.steps))

    def first_loss(recipe: Recipe, precision: Precision) -> Tensor:
        return _total(losses(recipe, 0, settings.stages[0], 0, precision))

    def save() -> None:
        save_checkpoint(
            settings.out,
            {
                "run": identity,
                "pictures": pictures.settings,
                "step": done,
                "precision": precision,
                "recipe": recipe.state_dict(),
                "averaged": averaged.state_dict(),
                "optimiser": optimiser.state_dict(),
            },
            last=done == settings.steps,
        )

    if precision is None:
        precision = fastest_precision(recipe, first_loss, device)
        save()  # a run that is killed before its first steps are kept goes on in the same
    logger.info("steps are taken in %s", precision)
    started, seen = time.monotonic(), 0
    if progress:
        progress(done, settings.steps)
    for number, stage, step in _remaining(settings.stages, done):
        share = number / settings.steps
        optimiser.set_learning_rate(learning_rate_at(number, settings))
        recipe.train()
        parts = losses(recipe, number, stage, step, precision)
        optimiser.zero_grad()
        _total(parts).backward()
        norm = torch.nn.utils.clip_grad_norm_((p for p in recipe.parameters() if p.requires_grad), LARGEST_GRADIENT)
        if not torch.isfinite(norm):
            raise TrainingError(
                f"{settings.out}: the gradient at step {number + 1} is not finite; "
                + ("go on from its checkpoint with --precision fp32, or " if precision == "bf16" else "")
                + "start anew with a lower learning rate"
            )
        optimiser.step()
        recipe.after_step(share)
        done = number + 1
        if progress:
            progress(done, settings.steps)
        _average(averaged, recipe, min(settings.average, (1 + done) / (AVERAGE_WARM_UP + done)))
        seen += stage.batch
        last = done == settings.steps
        if done % settings.log_every == 0 or last:
            speed = seen / (time.monotonic() - started)
            log.write(done, size=stage.size, speed=speed, **{name: part.item() for name, part in parts.items()})
        if last:
            log.write(done, pictures="held-out", **averaged.eval().figures(HELD_OUT_SEED))
        elif done % settings.check_every == 0:
            log.write(done, pictures="validation", **averaged.eval().figures(VALIDATION_SEED))
        if done % settings.save_every == 0 or last:
            save()
    return averaged.eval()


def start_from(recipe: nn.Module, run: Path) -> None:
    """Take the averaged weights of a run, finished or saved on the way."""
    try:
        recipe.load_state_dict(read_checkpoint(run / CHECKPOINT)["averaged"])
    except RuntimeError as error:
        raise CheckpointError(f"{run / CHECKPOINT} is of another model: {str(error).splitlines()[0]}") from error


def _remaining(stages: tuple[Stage, ...], done: int) -> Iterator[tuple[int, Stage, int]]:
    """(step of the run, stage, step of the stage) for every step that is still to do."""
    number = 0
    for stage in stages:
        for step in range(stage.steps):
            if number >= done:
                yield number, stage, step
            number += 1


def _total(parts: Mapping[str, Tensor]) -> Tensor:
    return torch.stack(list(parts.values())).sum()


@torch.no_grad()
def _average(averaged: nn.Module, recipe: nn.Module, decay: float) -> None:
    for mean, value in zip(averaged.state_dict().values(), recipe.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)
