"""`wordmask train-selfmask`: SelfMask, from pictures alone."""

import os
from typing import Annotated

import typer

from wordmask.cli import options


def train_selfmask(
    out: options.Run,
    images: options.TrainingImages = None,
    preset: options.Preset = "paper",
    dino: options.Dino = None,
    dino_weights: options.DinoWeights = None,
    voters: Annotated[str | None, typer.Option(help="DINOs whose features are clustered, parted by commas.")] = None,
    voter_weights: Annotated[str | None, typer.Option(help="Files, URLs or names for each voter.")] = None,
    settings: options.Settings = None,
    device: options.Device = "auto",
    precision: options.TrainingPrecision = None,
    seed: options.Seed = 0,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that vote; by default one a core.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Train SelfMask on a folder of pictures, without labels: first masks are voted for, then the network learns them.
    A killed run goes on when started again.

    Example: `wordmask train-selfmask --images photos --out runs/selfmask`
    """
    from wordmask.cli.train_saliency import selfmask

    changes = options.changes(
        settings,
        dino=dino,
        dino_weights=dino_weights,
        voters=voters and tuple(name.strip() for name in voters.split(",")),
        voter_weights=voter_weights and tuple(name.strip() for name in voter_weights.split(",")),
        precision=precision,
    )
    changes |= {"device": device, "seed": seed, "workers": workers or os.cpu_count() or 1}
    selfmask(images, out, preset, changes, as_json=json)
