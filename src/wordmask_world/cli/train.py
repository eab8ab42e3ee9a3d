"""`wordmask world train-clip`, `train-dino`, `train-kinds`: from nothing to the shipped files, in one resumable run."""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wordmask.console import log_to_stderr, show
from wordmask.console.progress import progress_bar

if TYPE_CHECKING:
    from wordmask_world.training.plans import Machine

VERB, DRAWN = "world train", "pictures.json"
"""Both trainings may share a folder, and then the pictures in it."""

Out = Annotated[Path, typer.Option("--out", "-o", help="The folder of the run: pictures, checkpoints, logs, weights.")]
Plan = Annotated[str | None, typer.Option("--machine", help="cpu or accelerator; by default what there is.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the training.")]
Precision = Annotated[
    str, typer.Option(help="fp32, bf16, or auto: whichever steps are faster in, which is tried first.")
]


def train_clip(
    out: Out, machine: Plan = None, device: Device = "auto", precision: Precision = "auto", seed: Seed = 0
) -> None:
    """Train the world's small CLIP from captions alone: hours on two cores. A killed run goes on when started again.

    Example: `wordmask world train-clip --out runs/clip`
    """
    from pydantic import TypeAdapter

    from wordmask.runs.claim import claimed
    from wordmask_world.models import CLIP, CLIP_RESNET
    from wordmask_world.training import clip, clip_teacher
    from wordmask_world.training.plans import PLANS
    from wordmask_world.training.ship import ship_clip, ship_clip_teacher

    chosen, precision = _machine(machine), _one_of(("auto", "fp32", "bf16"), precision)
    with claimed(out, VERB, was_ours=_was_ours):
        plan, common = _begin(out, chosen, device, precision, seed)
        teaching = TypeAdapter(clip_teacher.ClipTeacherSettings).validate_python(
            {**common, "out": out / "teacher", **PLANS["clip-teacher"][plan]}
        )
        with progress_bar("training the teacher", teaching.steps) as progress:
            teacher, command = clip_teacher.train_clip_teacher(teaching, progress), _command("train-clip", plan, seed)
        ship_clip_teacher(teacher, teaching, out / "weights" / CLIP_RESNET, command=command)
        settings = TypeAdapter(clip.ClipSettings).validate_python(
            {**common, "out": out / "clip", "teacher": out / "teacher", **PLANS["clip"][plan]}
        )
        with progress_bar("training", settings.steps) as progress:
            student = clip.train_clip(settings, progress)
        ship_clip(student, settings, out / "weights" / CLIP, command=command)
        show(out / "weights")


def train_dino(
    out: Out,
    network: Annotated[str, typer.Option(help="vit, or resnet for segmenters' backbones.")] = "vit",
    machine: Plan = None,
    device: Device = "auto",
    precision: Precision = "auto",
    seed: Seed = 0,
) -> None:
    """Train the world's small DINO from pictures alone: hours on two cores. A killed run goes on when started again.

    Example: `wordmask world train-dino --network vit --out runs/dino`
    """
    if network not in ("vit", "resnet"):
        raise typer.BadParameter(f"--network is vit or resnet, not {network!r}")
    from pydantic import TypeAdapter

    from wordmask.runs.claim import claimed
    from wordmask_world.models import DINO, RESNET
    from wordmask_world.training import dino
    from wordmask_world.training.plans import PLANS
    from wordmask_world.training.ship import ship_dino

    chosen, precision = _machine(machine), _one_of(("auto", "fp32", "bf16"), precision)
    with claimed(out, VERB, was_ours=_was_ours):
        plan, common = _begin(out, chosen, device, precision, seed)
        settings = TypeAdapter(dino.DinoSettings).validate_python(
            {**common, "out": out / RESNET, **PLANS["resnet"][plan]}
        )
        with progress_bar("training the ResNet", settings.steps) as progress:
            model, name = dino.train_dino(settings, progress), RESNET
        if network == "vit":
            settings = TypeAdapter(dino.DinoSettings).validate_python(
                {**common, "out": out / DINO, "guide": out / RESNET, **PLANS["dino"][plan]}
            )
            with progress_bar("training the transformer", settings.steps) as progress:
                model, name = dino.train_dino(settings, progress), DINO
        ship_dino(
            model, settings, out / "weights" / name, command=_command(f"train-dino --network {network}", plan, seed)
        )
        show(out / "weights" / name)


def train_kinds(
    out: Out,
    pictures: Annotated[int, typer.Option(min=2, help="Unlabelled pictures to find kinds in.")] = 12_000,
    kinds: Annotated[int, typer.Option(min=2, help="How many kinds there are at most.")] = 512,
    steps: Annotated[int, typer.Option(min=1, help="Of the last round.")] = 4_500,
    batch: Annotated[int, typer.Option(min=2, help="Samples a step.")] = 16,
    start: Annotated[
        str | None, typer.Option(help="A network of kinds to go on from, by its address: one round, by what it sees.")
    ] = None,
    precision: Annotated[str, typer.Option(help="Of the training: fp32, or bf16 where it is faster.")] = "fp32",
    device: Device = "auto",
    seed: Seed = 0,
) -> None:
    """Train what the world's segmenters begin with, from pictures alone: kinds of things that nobody named. Hours on
    two cores. A killed run goes on when started again.

    Example: `wordmask world train-kinds --out runs/kinds`
    """
    precision = _one_of(("fp32", "bf16"), precision)
    from pydantic import TypeAdapter

    from wordmask.console.progress import OnStderr
    from wordmask.runs.claim import claimed
    from wordmask.segmenters.student_file import halve_student
    from wordmask_world.models import KINDS
    from wordmask_world.training.kinds import FRACTION, KindsSettings, train_kinds

    with claimed(out, VERB, was_ours=_was_ours):
        told: dict[str, Any] = {"pictures": pictures, "kinds": kinds, "steps": steps, "batch": batch}
        told |= {"precision": precision} | ({"start": start} if start else {})
        settings = TypeAdapter(KindsSettings).validate_python({**told, "out": out, "seed": seed, "device": device})
        network = train_kinds(settings, OnStderr())
        command = " ".join(f"--{key} {value}" for key, value in {**told, "seed": seed}.items())
        how = {"command": f"wordmask world train-kinds {command}"}
        halve_student(network, out / "weights" / f"{KINDS}.safetensors", how, fraction=FRACTION)
        show(out / "weights")


def _machine(name: str | None) -> "Machine | None":
    if name in (None, "cpu", "accelerator"):
        return name  # type: ignore[return-value]
    raise typer.BadParameter(f"--machine is cpu or accelerator, not {name!r}")


def _one_of(known: tuple[str, ...], precision: str) -> str:
    if precision in known:
        return precision
    raise typer.BadParameter(f"--precision is {' or '.join(known)}, not {precision!r}")


def _was_ours(out: Path) -> bool:
    from wordmask_world.files.marks import is_world

    return is_world(out / DRAWN)


def _begin(
    out: Path, machine: "Machine | None", device: str, precision: str, seed: int
) -> "tuple[Machine, dict[str, Any]]":
    """The plan to follow, and what all of its trainings share; the pictures are drawn here, once."""
    from wordmask_world.files.training_file import write_array
    from wordmask_world.training.loop import choose_device
    from wordmask_world.training.plans import MIXTURE, PICTURES

    log_to_stderr(logging.INFO)
    machine = machine or ("accelerator" if choose_device(device).type == "cuda" else "cpu")
    pictures = out / "pictures.npy"
    count = PICTURES[machine]
    with progress_bar("drawing", count) as progress:
        write_array(pictures, count, seed=0, kinds=MIXTURE, workers=os.cpu_count() or 1, progress=progress)
    return machine, {"pictures": pictures, "device": device, "precision": precision, "seed": seed}


def _command(verb: str, machine: "Machine", seed: int) -> str:
    return f"wordmask world {verb} --machine {machine} --seed {seed}"
