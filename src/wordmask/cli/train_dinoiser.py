"""`wordmask train-dinoiser`: CLIP-DINOiser's two heads, from pictures alone."""

from typing import Annotated

import typer

from wordmask.cli import options


def train_dinoiser(
    out: options.Run,
    images: options.TrainingImages = None,
    preset: options.Preset = "paper",
    clip: Annotated[str | None, typer.Option(help="ARCHITECTURE/TAG, or world, in place of the preset's CLIP.")] = None,
    clip_weights: Annotated[str | None, typer.Option(help="Its weights: a file, a URL or a catalogue's name.")] = None,
    dino: options.Dino = None,
    dino_weights: options.DinoWeights = None,
    found_weights: Annotated[
        str | None, typer.Option(help="FOUND's head in place of its usual one: a file, a URL or a catalogue's name.")
    ] = None,
    settings: options.Settings = None,
    device: options.Device = "auto",
    precision: options.TrainingPrecision = None,
    seed: options.Seed = 0,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Train CLIP-DINOiser's heads on a folder of pictures, without labels. A killed run goes on when started again.

    Example: `wordmask train-dinoiser --images photos --out runs/dinoiser`

    On several devices: `accelerate launch --num_processes 2 $(which wordmask) train-dinoiser ...`
    """
    from wordmask.commands.dinoiser_training import run

    changes = options.changes(
        settings,
        clip=clip,
        clip_weights=clip_weights,
        dino=dino,
        dino_weights=dino_weights,
        found_weights=found_weights,
        precision=precision,
    )
    run(images, out, preset, {**changes, "device": device, "seed": seed}, as_json=json)
