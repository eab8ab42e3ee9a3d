"""`wordmask train-dinoiser`: pictures in, CLIP-DINOiser's two heads out, in a run that survives a kill."""

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wordmask.console import complain, log_to_stderr, show
from wordmask.console.progress import progress_bar
from wordmask.saliency.base import SaliencyError
from wordmask.segmenters.clip_dinoiser import WORLD
from wordmask.training.claim import claimed_run
from wordmask.training.clip_dinoiser import (
    HEADS_FILE,
    VERB,
    WORLD_PICTURES,
    DinoiserTraining,
    train_dinoiser,
)
from wordmask.training.plans import plan
from wordmask.training.team import Team
from wordmask_world.files.training_file import write_array

ASKED_FOR_ALIKE = ("clip", "clip_weights")
"""What was trained on must be segmented with."""


def run(images: Path | None, out: Path, preset: str, changes: Mapping[str, Any], *, as_json: bool) -> None:
    pictures = out / "pictures.npy" if images is None else images
    settings = plan(DinoiserTraining, preset, pictures=pictures, out=out, changes=changes)
    if images is None and preset != WORLD:
        raise SaliencyError("--images is missing: give a folder of pictures (only --preset world draws its own)")
    team = Team(settings.device)
    log_to_stderr(logging.INFO if team.is_first else logging.WARNING)
    with claimed_run(out, VERB, DinoiserTraining.__name__, is_first=team.is_first):
        if images is None and team.is_first:
            with progress_bar("drawing", WORLD_PICTURES) as progress:
                write_array(pictures, WORLD_PICTURES, workers=os.cpu_count() or 1, progress=progress)
        team.wait()
        with progress_bar("training", settings.steps if team.is_first else 1) as progress:
            train_dinoiser(settings, progress, team)
    if team.is_first:
        _tell(out / HEADS_FILE, preset, {name: changes[name] for name in ASKED_FOR_ALIKE if name in changes}, as_json)


def _tell(file: Path, preset: str, reads: Mapping[str, str], as_json: bool) -> None:
    """The file on stdout; how to use it on stderr."""
    told = "".join(f" --set {name}={value}" for name, value in reads.items())
    complain(
        'use it: wordmask segment photo.jpg --names "dog, background" --method clip-dinoiser '
        f"--preset {preset} --weights {file}{told}"
    )
    show(json.dumps({"method": "clip-dinoiser", "preset": preset, "weights": str(file)}) if as_json else file)
