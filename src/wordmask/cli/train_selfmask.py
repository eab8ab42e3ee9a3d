"""`wordmask train-selfmask`: SelfMask, from pictures alone."""

import os
from typing import Annotated

import typer

from wordmask.cli import options
from wordmask.console.progress import progress_bar


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
    as_json: options.Json = False,
) -> None:
    """Train SelfMask on a folder of pictures, without labels: first masks are voted for, then the network learns them.
    A killed run goes on when started again.

    Example: `wordmask train-selfmask --images photos --out runs/selfmask`
    """
    from wordmask.cli.train_saliency import draw_pictures, tell_how_to_use
    from wordmask.training.claim import claimed_run
    from wordmask.training.plans import DRAWN_INTO, drawn_for, plan
    from wordmask.training.selfmask import NETWORK_FILE, VERB, SelfMaskTraining, vote_for
    from wordmask.training.selfmask import train_selfmask as train

    changes = options.changes(
        settings,
        dino=dino,
        dino_weights=dino_weights,
        voters=voters and tuple(name.strip() for name in voters.split(",")),
        voter_weights=voter_weights and tuple(name.strip() for name in voter_weights.split(",")),
        precision=precision,
    )
    changes |= {"device": device, "seed": seed, "workers": workers or os.cpu_count() or 1}
    chosen = plan(SelfMaskTraining, preset, pictures=images or out / DRAWN_INTO, out=out, changes=changes)
    drawn = drawn_for(SelfMaskTraining, preset) if images is None else None
    with claimed_run(out, VERB, SelfMaskTraining.__name__):
        draw_pictures(drawn, chosen.pictures)
        with progress_bar("voting", None) as progress:
            votes = vote_for(chosen, progress)
        with progress_bar("training", None) as progress:
            train(chosen, votes, progress)
    tell_how_to_use("wordmask saliency photo.jpg", "selfmask", out / NETWORK_FILE, preset, changes, as_json=as_json)
