"""`wordmask train-talk2dino`: the mapper of Talk2DINO, from pictures with captions."""

from pathlib import Path
from typing import Annotated

import typer

from wordmask.cli import options
from wordmask.console.progress import progress_bar

ASKED_FOR_ALIKE = ("clip", "clip_weights", "dino", "dino_weights")
"""What was trained on must be segmented with."""
DRAWN_INTO = "captions"
"""In a run's folder, the tars that it draws."""


def train_talk2dino(
    out: options.Run,
    captions: Annotated[
        Path | None,
        typer.Option(
            "--captions",
            help="A folder of webdataset tars, or one: 000000.jpg beside .txt or .json. Some presets draw their own.",
            callback=options.local,
        ),
    ] = None,
    preset: options.Preset = "paper",
    clip: options.Clip = None,
    clip_weights: options.ClipWeights = None,
    dino: options.Dino = None,
    dino_weights: options.DinoWeights = None,
    settings: options.Settings = None,
    device: options.Device = "auto",
    precision: options.TrainingPrecision = None,
    seed: options.Seed = 0,
    as_json: options.Json = False,
) -> None:
    """Train the layers that map CLIP's words among DINO's patches, from captions alone: no labels, no masks. A killed
    run goes on when started again.

    Example: `wordmask train-talk2dino --captions shards --out runs/talk2dino`
    """
    from wordmask.cli.train_saliency import draw_pictures, tell_how_to_use
    from wordmask.training.claim import claimed_run
    from wordmask.training.plans import drawn_for, plan
    from wordmask.training.talk2dino import MAPPER_FILE, VERB, Talk2DinoTraining, read_for
    from wordmask.training.talk2dino import train_talk2dino as train

    changes = options.changes(
        settings, clip=clip, clip_weights=clip_weights, dino=dino, dino_weights=dino_weights, precision=precision
    )
    changes |= {"device": device, "seed": seed}
    chosen = plan(Talk2DinoTraining, preset, pictures=captions or out / DRAWN_INTO, out=out, changes=changes)
    missing = "--captions is missing: give webdataset tars"
    drawn = drawn_for(Talk2DinoTraining, preset, missing=missing) if captions is None else None
    with claimed_run(out, VERB, Talk2DinoTraining.__name__):
        draw_pictures(drawn, chosen.pictures)
        with progress_bar("reading", None) as progress:
            read = read_for(chosen, progress)
        with progress_bar("training", None) as progress:
            train(chosen, read, progress)
    use = 'wordmask segment photo.jpg --names "dog, grass"'
    tell_how_to_use(use, "talk2dino", out / MAPPER_FILE, preset, changes, alike=ASKED_FOR_ALIKE, as_json=as_json)
