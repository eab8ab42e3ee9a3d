"""`wordmask train-dinoiser`: CLIP-DINOiser's two heads, from pictures alone."""

import logging
import os
from typing import Annotated

import typer

from wordmask.cli import options
from wordmask.console import log_to_stderr
from wordmask.console.progress import progress_bar

ASKED_FOR_ALIKE = ("clip", "clip_weights")
"""What was trained on must be segmented with."""


def train_dinoiser(
    out: options.Run,
    images: options.TrainingImages = None,
    preset: options.Preset = "paper",
    clip: options.Clip = None,
    clip_weights: options.ClipWeights = None,
    dino: options.Dino = None,
    dino_weights: options.DinoWeights = None,
    found_weights: Annotated[
        str | None, typer.Option(help="FOUND's head in place of its usual one: a file, a URL or a catalogue's name.")
    ] = None,
    settings: options.Settings = None,
    device: options.Device = "auto",
    precision: options.TrainingPrecision = None,
    seed: options.Seed = 0,
    as_json: options.Json = False,
) -> None:
    """Train CLIP-DINOiser's heads on a folder of pictures, without labels. A killed run goes on when started again.

    Example: `wordmask train-dinoiser --images photos --out runs/dinoiser`

    On several devices: `accelerate launch --num_processes 2 $(which wordmask) train-dinoiser ...`
    """
    from wordmask.cli.train_saliency import tell_how_to_use
    from wordmask.training.claim import claimed_run
    from wordmask.training.clip_dinoiser import HEADS_FILE, VERB, DinoiserTraining
    from wordmask.training.clip_dinoiser import train_dinoiser as train
    from wordmask.training.plans import DRAWN_INTO, drawn_for, plan
    from wordmask.training.team import Team

    changes = options.changes(
        settings,
        clip=clip,
        clip_weights=clip_weights,
        dino=dino,
        dino_weights=dino_weights,
        found_weights=found_weights,
        precision=precision,
    )
    changes |= {"device": device, "seed": seed}
    pictures = images or out / DRAWN_INTO
    chosen = plan(DinoiserTraining, preset, pictures=pictures, out=out, changes=changes)
    drawn = drawn_for(DinoiserTraining, preset) if images is None else None
    team = Team(chosen.device)
    log_to_stderr(logging.INFO if team.is_first else logging.WARNING)
    with claimed_run(out, VERB, DinoiserTraining.__name__, is_first=team.is_first):
        if drawn is not None and team.is_first:
            with progress_bar("drawing", drawn.count) as progress:
                drawn.write(pictures, workers=os.cpu_count() or 1, progress=progress)
        team.wait()
        with progress_bar("training", chosen.steps if team.is_first else 1) as progress:
            train(chosen, progress, team)
    if team.is_first:
        use = 'wordmask segment photo.jpg --names "dog, background"'
        tell_how_to_use(use, "clip-dinoiser", out / HEADS_FILE, preset, changes, alike=ASKED_FOR_ALIKE, as_json=as_json)
