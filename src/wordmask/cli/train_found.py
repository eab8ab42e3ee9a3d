"""`wordmask train-found`: FOUND's head, from pictures alone."""

from typing import Annotated

import typer

from wordmask.cli import options


def train_found(
    out: options.Run,
    images: options.TrainingImages = None,
    preset: options.Preset = "paper",
    dino: options.Dino = None,
    dino_weights: options.DinoWeights = None,
    settings: options.Settings = None,
    device: options.Device = "auto",
    precision: options.TrainingPrecision = None,
    seed: options.Seed = 0,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Train FOUND's head on a folder of pictures, without labels. A killed run goes on when started again.

    Example: `wordmask train-found --images photos --out runs/found`
    """
    from wordmask.cli.train_saliency import found

    changes = options.changes(settings, dino=dino, dino_weights=dino_weights, precision=precision)
    found(images, out, preset, {**changes, "device": device, "seed": seed}, as_json=json)
