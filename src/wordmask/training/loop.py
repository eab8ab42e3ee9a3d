"""One loop for all that learns without labels: FOUND, SelfMask, CLIP-DINOiser's heads, Talk2DINO's mapper.

The pictures are a folder, or a training file; crops depend on the seed and the step alone.
"""

import json
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass as settings
from torch import Tensor, nn

from wordmask.compute import TrainingPrecision
from wordmask.console.progress import Progress
from wordmask.pictures.prefetch import ahead
from wordmask.training.allocation import keep_freed_memory
from wordmask.training.checkpoints import load_checkpoint, save_checkpoint
from wordmask.training.crops import blurred, centre_crop, scaled_crop
from wordmask.training.errors import TrainingError
from wordmask.training.logs import RunLog
from wordmask.training.order import seen_at
from wordmask.training.pictures import Pictures
from wordmask.training.team import Team

logger = logging.getLogger(__name__)

MOST_THREADS = 4
"""So many batches are cut, each in a thread, while the network learns from the one before."""
FREE = ("pictures", "out", "device", "threads", "workers", "save_every", "log_every")
"""Settings that may change while a run goes on."""

Share = Annotated[float, Field(ge=0, le=1)]
Scale = tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]


@settings(frozen=True)
class PicturesTraining:
    """pictures: a folder, or a training file (`training.pictures`); of these `most_pictures` at most,
    chosen by the seed. out: the run's folder.

    precision: bf16 makes the large products at half precision; what is learnt stays whole. threads: of the processor,
    None for torch's own choice. workers: processes, where a recipe has work for several.

    crop: the side of the squares that the network sees. scale: pictures are resized by a random factor in this range
    and a random square is cut; None takes the middle square. flip, blur: how often.
    """

    verb: ClassVar[str] = ""
    """The command that trains so; presets are known by it."""

    pictures: Path
    out: Path
    seed: int = 0
    device: str = "auto"
    most_pictures: Annotated[int, Field(ge=1)] | None = None
    precision: TrainingPrecision = "fp32"
    threads: Annotated[int, Field(ge=1)] | None = None
    workers: Annotated[int, Field(ge=1)] = 1
    crop: Annotated[int, Field(ge=16)] = 224
    scale: Scale | None = None
    flip: Share = 0.0
    blur: Share = 0.0
    batch: Annotated[int, Field(ge=1)] = 8
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    save_every: Annotated[int, Field(ge=1)] = 100
    log_every: Annotated[int, Field(ge=1)] = 10

    def open_pictures(self) -> Pictures:
        return Pictures(self.pictures, self.most_pictures, self.seed)

    def identity(self, pictures: Pictures) -> str:
        """Return what must be equal for a run to go on from a checkpoint."""
        told = TypeAdapter(type(self)).dump_python(self, mode="json")
        kept = {name: value for name, value in told.items() if name not in FREE}
        return f"{type(self).__name__} {json.dumps(kept, sort_keys=True)} on {pictures.fingerprint}"


@dataclass(frozen=True)
class Crops:
    images: Tensor  # (B, 3, S, S) uint8
    masks: Tensor | None  # (B, S, S) bool
    places: tuple[int, ...] = ()
    """Which of all the crops of a training these are: what is left to chance about one depends on its place."""


MaskOf = Callable[[int, np.ndarray], np.ndarray]
"""A picture's number and pixels -> its mask (H, W) bool."""


def crops_at(
    step: int,
    pictures: Pictures,
    settings: PicturesTraining,
    mask_of: MaskOf | None = None,
    share: slice = slice(None),
) -> Crops:
    """Return the batch of one step, or a share of it: every picture once an epoch, and the same batch in every run of
    these settings.
    """
    places = np.arange(step * settings.batch, (step + 1) * settings.batch)[share]
    images, masks = [], []
    for place, number in zip(places, seen_at(places, len(pictures), settings.seed), strict=True):
        chance = np.random.default_rng((settings.seed, int(place)))
        index, image = pictures.readable(int(number))
        mask = mask_of(index, image) if mask_of else None
        if settings.scale is None:
            crop, beside = centre_crop(image, mask, settings.crop)
        else:
            crop, beside = scaled_crop(image, mask, settings.crop, settings.scale, chance)
        if chance.random() < settings.flip:
            crop, beside = crop.flip(-1), None if beside is None else beside.flip(-1)
        if chance.random() < settings.blur:
            crop = blurred(crop, chance)
        images.append(crop)
        if beside is not None:
            masks.append(beside)
    return Crops(torch.stack(images), torch.stack(masks) if masks else None, tuple(places.tolist()))


def crops_ahead(
    first: int,
    last: int,
    pictures: Pictures,
    settings: PicturesTraining,
    mask_of: MaskOf | None,
    share: slice = slice(None),
) -> Generator[Crops, None, None]:
    """Yield the batches of the steps from `first` to before `last`, cut ahead of their turn."""
    threads = min(MOST_THREADS, os.cpu_count() or 1)
    steps = range(first, last)
    return ahead(lambda step: crops_at(step, pictures, settings, mask_of, share), steps, threads=threads)


Batches = Callable[[int, int, slice], Generator[Any, None, None]]
"""A step, a later one and a process's share of a batch -> the batches from the one to before the other."""


class Objective(nn.Module, ABC):
    """A network and what it is to learn. Parameters that need no gradient are not saved."""

    teachers: tuple[str, ...] = ()
    """Fingerprints of the networks that it learns from or begins with."""

    def pace(self, name: str) -> float:
        """Return a parameter's learning rate, over that of the settings."""
        return 1.0

    @abstractmethod
    def losses(self, crops: Any, step: int) -> dict[str, Tensor]:
        """Named parts; their sum is made small. crops: `Crops`, or whatever else the batches of a training are."""


def train(
    objective: Objective,
    settings: PicturesTraining,
    pictures: Pictures,
    *,
    steps: int,
    rate: Callable[[int], float],
    mask_of: MaskOf | None = None,
    batches: Batches | None = None,
    progress: Progress | None = None,
    team: Team | None = None,
) -> None:
    """Run, or go on with, a training by AdamW. `rate` says by how much a step's learning rate is reduced.

    batches: where they are no crops of the pictures. team: the processes that share every batch. The first of them
    writes the files.
    """
    team = team or Team(settings.device)
    share = team.share(settings.batch)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    if team.device.type == "cpu":
        keep_freed_memory()
    objective.to(team.device).train()
    trained = {name: value for name, value in objective.named_parameters() if value.requires_grad}
    groups = [
        {"params": [value for name, value in trained.items() if objective.pace(name) == pace], "pace": pace}
        for pace in sorted({objective.pace(name) for name in trained})
    ]
    optimiser = torch.optim.AdamW(groups, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    identity = " ".join([settings.identity(pictures), f"for {steps} steps", *objective.teachers])
    done = 0
    if state := load_checkpoint(settings.out, run=identity):
        with torch.no_grad():
            for name, value in trained.items():
                value.copy_(state["trained"][name])
        optimiser.load_state_dict(state["optimiser"])
        done = state["step"]
        logger.info("going on at step %d of %d", done, steps)
    team.wait()  # nobody may find what the first writes next
    log = RunLog(settings.out, resume_at=done) if team.is_first else None
    if progress:
        progress(done, steps)
    coming = batches(done, steps, share) if batches else crops_ahead(done, steps, pictures, settings, mask_of, share)
    with closing(coming):
        for step, crops in enumerate(coming, start=done):
            reduced = rate(step)
            parts = _step(objective, optimiser, crops, step, settings, reduced, team)
            last = step + 1 == steps
            if log is not None and ((step + 1) % settings.log_every == 0 or last):
                told = {name: part.item() for name, part in parts.items()}
                log.write(step + 1, rate=reduced, loss=sum(told.values()), **told)
            if team.is_first and ((step + 1) % settings.save_every == 0 or last):
                weights = {name: value.detach().cpu() for name, value in trained.items()}
                state = {"run": identity, "step": step + 1, "trained": weights, "optimiser": optimiser.state_dict()}
                save_checkpoint(settings.out, state, last=last)
            if progress:
                progress(step + 1, steps)
    objective.eval()


def _step(
    objective: Objective,
    optimiser: torch.optim.Optimizer,
    crops: Any,
    step: int,
    settings: PicturesTraining,
    reduced: float,
    team: Team,
) -> dict[str, Tensor]:
    for group in optimiser.param_groups:
        group["lr"] = settings.learning_rate * reduced * group["pace"]
    parts = objective.losses(crops, step)
    told = {name: part.detach().clone() for name, part in parts.items()}
    team.average(told.values())
    loss = torch.stack(list(parts.values())).sum()
    if not all(torch.isfinite(part) for part in told.values()):
        raise TrainingError(f"{settings.out}: the loss at step {step + 1} is not finite; lower the learning rate")
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    team.average(value.grad for group in optimiser.param_groups for value in group["params"] if value.grad is not None)
    optimiser.step()
    return told
