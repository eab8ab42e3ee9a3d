"""The verbs of the built-in picture world: `wordmask world make`, `wordmask world show`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

world = typer.Typer(
    name="world", help="The built-in picture world: make pictures of it, look at it.", no_args_is_help=True
)


@world.command()
def make(
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write: new, or one of `world make`.")],
    count: Annotated[int, typer.Option(min=1, help="How many pictures.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the first picture; each has the next.")] = 0,
    size: Annotated[str, typer.Option(help="Pixels: 128 for squares, or HEIGHTxWIDTH.")] = "128",
    kinds: Annotated[
        str | None, typer.Option(help="Only these kinds: single, multi, clutter, pairs, empty; parted by commas.")
    ] = None,
    shards: Annotated[bool, typer.Option("--shards", help="Write webdataset tars in place of folders.")] = False,
    labels: Annotated[bool, typer.Option("--labels", help="Put label maps into the tars too.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes that draw.")] = 2,
) -> None:
    """Draw pictures with captions and exact masks. Started again after a stop, it goes on where it was.

    Example: `wordmask world make --count 1000 --out pictures`
    """
    from wordmask.commands.world import make_pictures

    make_pictures(out, count, seed=seed, size=size, kinds=kinds, shards=shards, labels=labels, workers=workers)


@world.command()
def show(
    out: Annotated[Path, typer.Option("--out", "-o", help="The picture file to write.")] = Path("world.png"),
    count: Annotated[int, typer.Option(min=1, max=1000, help="How many pictures.")] = 24,
    seed: Annotated[int, typer.Option(min=0, help="Of the first picture.")] = 0,
    kind: Annotated[str | None, typer.Option(help="Only one kind: single, multi, clutter, pairs, empty.")] = None,
    size: Annotated[int, typer.Option(min=16, max=1024, help="Pixels on a side of each picture.")] = 128,
    labels: Annotated[bool, typer.Option("--labels", help="Put each picture's label map beside it.")] = False,
) -> None:
    """Write a contact sheet: many pictures on one page, each with a caption.

    Example: `wordmask world show --count 24 --labels --out world.png`
    """
    from wordmask.commands.world import show_pictures

    show_pictures(out, count, seed=seed, kind=kind, size=size, labels=labels)


@world.command()
def report(
    out: Annotated[Path, typer.Option("--out", "-o", help="The HTML file to write.")] = Path("world-report.html"),
    pictures: Annotated[int, typer.Option(min=1, help="Held-out pictures of each split.")] = 200,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
) -> None:
    """Measure the world's small models on held-out pictures, in figures and in pictures.

    Example: `wordmask world report --out world-report.html`
    """
    from wordmask.methods import pick_device
    from wordmask_world.report import run

    run(out, pictures=pictures, device=pick_device(device))


Out = Annotated[Path, typer.Option("--out", "-o", help="The folder of the run: pictures, checkpoints, logs, weights.")]
Plan = Annotated[str | None, typer.Option("--machine", help="cpu or accelerator; by default what there is.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the training.")]


@world.command("train-clip")
def train_clip(out: Out, machine: Plan = None, device: Device = "auto", seed: Seed = 0) -> None:
    """Train the world's small CLIP from captions alone: hours on two cores. A killed run goes on when started again.

    Example: `wordmask world train-clip --out runs/clip`
    """
    from wordmask.commands import world_training

    world_training.clip(out, machine=_machine(machine), device=device, seed=seed)


@world.command("train-dino")
def train_dino(
    out: Out,
    network: Annotated[str, typer.Option(help="vit, or resnet for segmenters' backbones.")] = "vit",
    machine: Plan = None,
    device: Device = "auto",
    seed: Seed = 0,
) -> None:
    """Train the world's small DINO from pictures alone: hours on two cores. A killed run goes on when started again.

    Example: `wordmask world train-dino --network vit --out runs/dino`
    """
    from wordmask.commands import world_training

    if network not in ("vit", "resnet"):
        raise typer.BadParameter(f"--network is vit or resnet, not {network!r}")
    world_training.dino(out, network=network, machine=_machine(machine), device=device, seed=seed)


def _machine(name: str | None) -> Literal["cpu", "accelerator"] | None:
    if name in (None, "cpu", "accelerator"):
        return name  # type: ignore[return-value]
    raise typer.BadParameter(f"--machine is cpu or accelerator, not {name!r}")
