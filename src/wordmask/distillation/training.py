"""One loop for experts and students: poly schedule, copy-paste batches, checkpoints, figures on the way.

A run that is killed and started again ends with the same weights, bit for bit on the CPU: a step depends on the seed,
its number and the state before it, and on nothing else.
"""

import contextlib
import logging
import multiprocessing
import os
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypeVar

import torch
import torch.nn.functional as F
from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from wordmask.console.progress import Progress
from wordmask.distillation.augmentations import Augmentation
from wordmask.distillation.batches import Batch, Examples, Samples, Source, stream
from wordmask.distillation.identities import start_identity
from wordmask.distillation.records import DistillationError
from wordmask.runs.parts import Say, warn
from wordmask.segmenters.deeplab import DeepLabSettings, DeepLabV3Plus, fill_backbone, told_of
from wordmask.text_files import counted
from wordmask.training.allocation import keep_freed_memory
from wordmask.training.checkpoints import forget_checkpoints, load_checkpoint, save_checkpoint
from wordmask.training.logs import RunLog
from wordmask.training.team import Team

logger = logging.getLogger(__name__)

Network = TypeVar("Network", bound=nn.Module)
Check = Callable[[Any], Mapping[str, float]]
"""A network in evaluation mode -> figures on pictures with true labels."""

MOST_WORKERS = 16
IGNORE, MANY_IGNORE = 255, 1000
"""The label of pixels that teach nothing, as on VOC, and as on ImageNet-S with its 919 names."""

_FREE = (
    "workers",
    "threads",
    "save_every",
    "log_every",
    "check_every",
    "groups",
    "pictures",
    "most_pixels",
    "edges",
    "keep",
)
"""Settings that may change while a run goes on: they change nothing, or only what comes before or after it."""


_AS_EVER = (
    *("network", "start", "augmentation", "steps", "batch", "accumulate", "most_pasted"),
    *("learning_rate", "backbone_rate"),
)
"""The order in which identities have always told settings; the others follow in theirs."""
_PLAIN = (("learn_at", "pixels"), ("far_steps", 0), ("crowd_sides", [2]))
"""Settings that came later, as all was before: then nothing is said of them."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Training:
    """What holds for all that learns here; figures are the paper's.

    batch: pictures a step, of all processes together; accumulate: each process takes its share in so many parts, for
    less memory. The gradient is that of the whole batch but for batch norm, whose statistics are those of a part (of
    all processes on CUDA, of one alone on the CPU) and move on with each. most_pasted: the paper's n_max, 1 for none.
    power, floor: of the poly schedule.
    precision: bf16 halves the memory on an accelerator. workers: that prepare pictures; None for none beside a CPU
    and up to 16 processes beside an accelerator. threads: of torch; None for its own choice.
    save_every, log_every, check_every: steps between checkpoints, lines of the log, and figures on a validation set.
    """

    augmentation: Augmentation = Augmentation()
    steps: Annotated[int, Field(ge=1)] = 20_000
    batch: Annotated[int, Field(ge=2)] = 16
    accumulate: Annotated[int, Field(ge=1)] = 1
    most_pasted: Annotated[int, Field(ge=1)] = 2
    learning_rate: Annotated[float, Field(gt=0)] = 5e-4
    weight_decay: Annotated[float, Field(ge=0)] = 2e-4
    power: Annotated[float, Field(ge=0)] = 0.9
    floor: Annotated[float, Field(ge=0)] = 1e-6
    precision: Literal["fp32", "bf16"] = "fp32"
    workers: Annotated[int, Field(ge=0)] | None = None
    threads: Annotated[int, Field(ge=1)] | None = None
    save_every: Annotated[int, Field(ge=1)] = 500
    log_every: Annotated[int, Field(ge=1)] = 20
    check_every: Annotated[int, Field(ge=1)] = 1000

    def identity(self, seed: int, examples: Examples) -> str:
        """Return what must be equal for a run to go on from a checkpoint, or to be done already."""
        return f"{type(self).__name__} {self.told()} seed {seed} on masks {examples.fingerprint}"

    def told(self) -> dict[str, Any]:
        """Return the settings that the outcome follows from."""
        told = TypeAdapter(type(self)).dump_python(self, mode="json")
        return {name: value for name, value in told.items() if name not in _FREE and (name, value) not in _PLAIN}


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class SegmenterTraining(Training):
    """What holds for experts, and for students that are of their kind.

    start: whose weights the network begins with, as `fill_backbone` takes them; None is for random ones. learn_at:
    where its answer is held against labels, at all "pixels" as in the paper, or at the middles of its own "cells",
    which takes less time. far_steps: so many steps at first look at pictures without the network's zoom, which takes
    less time, too. backbone_rate: 0 leaves the backbone as it is, its statistics too, which takes less time by far.
    """

    network: DeepLabSettings = DeepLabSettings()
    start: str | None = "dino-resnet50"
    backbone_rate: Annotated[float, Field(ge=0)] = 5e-5
    learn_at: Literal["pixels", "cells"] = "pixels"
    far_steps: Annotated[int, Field(ge=0)] = 0

    def told(self) -> dict[str, Any]:
        told = super().told() | {"start": start_identity(self.start), "network": told_of(self.network)}
        return {name: told[name] for name in dict.fromkeys((*_AS_EVER, *told))}


def ignore_label(classes: int) -> int:
    return IGNORE if classes <= IGNORE else max(MANY_IGNORE, classes)


def poly_rate(base: float, step: int, settings: Training) -> float:
    """Return the learning rate of a step, from `base` down to the floor."""
    return max(base * (1 - step / settings.steps) ** settings.power, settings.floor)


def seeded(seed: int, make: Callable[[], Network]) -> Network:
    """Return a network whose first weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def new_network(settings: SegmenterTraining, classes: int, seed: int) -> DeepLabV3Plus:
    network = seeded(seed, lambda: DeepLabV3Plus(classes, settings.network))
    network.learns_at_cells = settings.learn_at == "cells"
    if settings.start is not None:
        fill_backbone(network, settings.start)
    return network


def check_network(settings: Training | None) -> None:
    """Find out whether a network can be built, before stages that take hours."""
    if isinstance(settings, SegmenterTraining):
        with torch.random.fork_rng(devices=[]), torch.device("meta"):  # without its numbers
            DeepLabV3Plus(2, settings.network)


def train(
    classes: int,
    examples: Examples,
    settings: Training,
    out: Path,
    *,
    seed: int,
    device: str = "auto",
    finish: Callable[[Any, str], None],
    progress: Progress | None = None,
    check: Check | None = None,
    say: Say = warn,
    run: str | None = None,
    make: Callable[[], nn.Module] | None = None,
    sampler: Callable[..., Source] = Samples,
    loss: "Loss | None" = None,
) -> None:
    """Run, or go on with, a training whose checkpoint and log are in `out`. Labels of the examples are below
    `classes`; 0 is background. `finish` writes the result, and is told which run it is of; where several processes
    train, one of them does so.

    run, make, sampler, loss: what another kind of student is known by, begins with, learns from, and by what.
    """
    loss_of = loss or cross_entropy
    team = Team(device)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    if team.device.type == "cpu":
        keep_freed_memory()
    _check_shares(settings, team)
    run = run or settings.identity(seed, examples)
    network = _made(make, settings, classes, seed).to(team.device)
    network.to(memory_format=torch.channels_last)
    network = _bare(team.with_shared_statistics(network))
    kept = _kept(network, settings)
    optimiser = torch.optim.Adam(_groups(network, settings), weight_decay=settings.weight_decay, fused=True)
    done = 0
    if state := load_checkpoint(out, run=run, say=say):
        network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
        done = state["step"]
        logger.info("%s: going on at step %d of %d", out, done, settings.steps)
    log = RunLog(out, resume_at=done) if team.is_first else None
    samples = sampler(
        examples, settings.augmentation, most_pasted=settings.most_pasted, seed=seed, ignore=ignore_label(classes)
    )

    def look(step: int) -> None:
        """Figures on the validation set, by the first process, as long as they take."""
        if log is not None and check is not None and not log.tells(step, "held-out"):
            log.write(step, pictures="held-out", **check(network.eval()))
        team.wait()

    share = team.share(settings.batch)
    places = (range(step * settings.batch, (step + 1) * settings.batch)[share] for step in range(done, settings.steps))
    together = team.wrap(network)
    devices = [team.device] if team.device.type == "cuda" else []
    with (
        torch.random.fork_rng(devices=devices),
        contextlib.closing(_stream(samples, places, settings, team)) as batches,
    ):
        if done and _is_checked(done, settings, check):  # a kill may have come while they were taken
            look(done)
        for step, batch in enumerate(batches, start=done):
            for group in optimiser.param_groups:
                group["lr"] = poly_rate(group["base"], step, settings)
            torch.manual_seed((seed * 1_000_003 + step) * team.count + team.place)
            together.train()
            if kept is not None:
                kept.eval()
            if isinstance(settings, SegmenterTraining):
                network.learns_from_afar = step < settings.far_steps
            found = _gradients(together, batch, settings, team, samples.ignore, loss_of)
            if not torch.isfinite(found):
                raise DistillationError(
                    f"{out}: the loss at step {step + 1} is not finite; lower learning_rate, or take precision fp32"
                )
            optimiser.step()
            done = step + 1
            last = done == settings.steps
            is_checked = _is_checked(done, settings, check)
            if log is not None:
                if done % settings.log_every == 0 or last:
                    log.write(done, loss=found.item(), rate=optimiser.param_groups[-1]["lr"])
                if is_checked if last else done % settings.save_every == 0:  # before anything that takes its time
                    weights = {"network": network.state_dict(), "optimiser": optimiser.state_dict()}
                    save_checkpoint(out, {"run": run, "step": done, **weights})
            if is_checked:
                look(done)
            if progress is not None and team.is_first:
                progress(done, settings.steps)
    if team.is_first:
        finish(network.eval(), run)
        forget_checkpoints(out)
    team.wait()


def _is_checked(done: int, settings: Training, check: Check | None) -> bool:
    return check is not None and (done % settings.check_every == 0 or done == settings.steps)


class Loss(Protocol):
    """A part of the loss of a whole batch. output: the network's. labels (b, S, S) int64. beside: what the batch has
    beside them. counted: how many pixels of the whole batch teach something, i.e. are not `ignore`.
    """

    def __call__(
        self, output: Tensor, labels: Tensor, beside: Tensor | None, *, ignore: int, counted: Tensor
    ) -> Tensor: ...


def cross_entropy(output: Tensor, labels: Tensor, beside: Tensor | None, *, ignore: int, counted: Tensor) -> Tensor:
    """Return the share of some pictures in the mean over all pixels that teach something. Where the output has cells,
    each stands for the pixels of its own, by the one in its middle.
    """
    pixels, cells = labels.shape[-2:], output.shape[-2:]
    if cells != pixels:
        labels = at_cells(labels, cells)
        counted = counted * (cells.numel() / pixels.numel())
    return F.cross_entropy(output.float(), labels, ignore_index=ignore, reduction="sum") / counted


def at_cells(labels: Tensor, cells: Sequence[int]) -> Tensor:
    """(b, H, W) -> (b, h, w): the labels in the middles of so many cells."""
    rows, columns = (middles(count, length) for count, length in zip(cells, labels.shape[-2:], strict=True))
    return labels[:, rows[:, None], columns]


def middles(count: int, length: int) -> Tensor:
    """Return which of `length` pixels lie in the middle of `count` cells."""
    return ((torch.arange(count) + 0.5) * (length / count)).long()


def _gradients(
    together: nn.Module, batch: Batch, settings: Training, team: Team, ignore: int, loss_of: Loss = cross_entropy
) -> Tensor:
    """Leaves the gradient of the mean loss over all pixels of the whole batch that teach something, however the batch
    is shared; returns that mean.
    """
    counted = team.sum((batch.labels != ignore).sum().to(team.device)).clamp(min=1)
    for parameter in together.parameters():
        parameter.grad = None
    total = torch.zeros((), device=team.device)
    pieces = [
        [None] * settings.accumulate if own is None else own.chunk(settings.accumulate)
        for own in (batch.images, batch.labels, batch.beside, *batch.maps)
    ]
    parts = list(zip(*pieces, strict=True))
    statistics = _bare(together).statistics
    for number, (images, labels, beside, *maps) in enumerate(parts, start=1):
        images = statistics.normalise(images.to(team.device, non_blocking=True))
        labels = labels.to(team.device, non_blocking=True).long()
        with contextlib.nullcontext() if number == len(parts) else team.quietly(together):
            with torch.autocast(team.device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
                said = (each.to(team.device, non_blocking=True) for each in maps)
                logits = together(images.contiguous(memory_format=torch.channels_last), *said)
            beside = None if beside is None else beside.to(team.device, non_blocking=True)
            loss = loss_of(logits, labels, beside, ignore=ignore, counted=counted)
            (loss * team.count).backward()  # processes exchange the mean of their gradients
        total += loss.detach()
    return team.sum(total)


def _made(make: Callable[[], nn.Module] | None, settings: Training, classes: int, seed: int) -> nn.Module:
    if make is not None:
        return make()
    assert isinstance(settings, SegmenterTraining)
    return new_network(settings, classes, seed)


def _bare(network: nn.Module) -> Any:
    return getattr(network, "module", network)


def _kept(network: Any, settings: Training) -> nn.Module | None:
    """Return the backbone where it is not to learn."""
    if not isinstance(settings, SegmenterTraining) or settings.backbone_rate > 0:
        return None
    kept: nn.Module = network.backbone.requires_grad_(False)
    return kept


def _groups(network: nn.Module, settings: Training) -> list[dict[str, Any]]:
    """Return the backbone, which knows something already, and the head; or all that learns."""
    rates: tuple[tuple[nn.Module, float], ...] = ((network, settings.learning_rate),)
    if isinstance(network, DeepLabV3Plus) and isinstance(settings, SegmenterTraining):
        rates = ((network.backbone, settings.backbone_rate), (network.classifier, settings.learning_rate))
    return [{"params": list(part.parameters()), "lr": rate, "base": rate} for part, rate in rates]


def _stream(samples: Source, places: Iterable[range], settings: Training, team: Team) -> Generator[Batch, None, None]:
    """Yield the batches. An accelerator waits for nothing but pictures, so that processes make them."""
    workers = settings.workers
    if workers is None:
        workers = min(MOST_WORKERS, max(1, (os.cpu_count() or 1) // team.count)) if team.device.type != "cpu" else 0
    can_fork = "fork" in multiprocessing.get_all_start_methods() and team.device.type == "cuda"
    return stream(samples, places, workers, processes=can_fork and isinstance(samples, Samples))


def _check_shares(settings: Training, team: Team) -> None:
    parts = team.count * settings.accumulate
    if settings.batch % parts or settings.batch // parts < 2:
        raise DistillationError(
            f"batch={settings.batch} cannot be shared by {counted(team.count, 'process', 'processes')} in "
            f"{counted(settings.accumulate, 'part')} each, two pictures or more a part: take a multiple of {2 * parts}"
        )
