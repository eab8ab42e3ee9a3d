"""`wordmask train-found`, `train-selfmask`: pictures in, one file of weights out, in a run that survives a kill."""

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wordmask.console import complain, log_to_stderr, show
from wordmask.console.progress import progress_bar
from wordmask.saliency.base import SaliencyError
from wordmask.saliency.found import WORLD
from wordmask.training import found as found_training
from wordmask.training import selfmask as selfmask_training
from wordmask.training.claim import claimed_run
from wordmask.training.found import HEAD_FILE, FoundTraining, train_found
from wordmask.training.plans import WORLD_KINDS, WORLD_PICTURES, plan
from wordmask.training.selfmask import NETWORK_FILE, SelfMaskTraining, train_selfmask, vote_for
from wordmask_world.files.training_file import write_array


def found(images: Path | None, out: Path, preset: str, changes: Mapping[str, Any], *, as_json: bool) -> None:
    settings = plan(FoundTraining, preset, pictures=_place(images, out, preset), out=out, changes=changes)
    with claimed_run(out, found_training.VERB, FoundTraining.__name__):
        _draw(images, settings.pictures)
        with progress_bar("training", settings.steps) as progress:
            train_found(settings, progress)
    reads = {name: changes[name] for name in ("dino", "dino_weights") if name in changes}
    _tell("found", out / HEAD_FILE, preset, reads, as_json)


def selfmask(images: Path | None, out: Path, preset: str, changes: Mapping[str, Any], *, as_json: bool) -> None:
    settings = plan(SelfMaskTraining, preset, pictures=_place(images, out, preset), out=out, changes=changes)
    with claimed_run(out, selfmask_training.VERB, SelfMaskTraining.__name__):
        _draw(images, settings.pictures)
        with progress_bar("voting", None) as progress:
            votes = vote_for(settings, progress)
        with progress_bar("training", None) as progress:
            train_selfmask(settings, votes, progress)
    _tell("selfmask", out / NETWORK_FILE, preset, {}, as_json)


def _place(images: Path | None, out: Path, preset: str) -> Path:
    """Where the pictures to learn from are, or will be once they are drawn."""
    if images is None and preset != WORLD:
        raise SaliencyError("--images is missing: give a folder of pictures (only --preset world draws its own)")
    return out / "pictures.npy" if images is None else images


def _draw(images: Path | None, pictures: Path) -> None:
    """Draw pictures of the world where none are given: it takes minutes, so the settings are checked before."""
    log_to_stderr(logging.INFO)
    if images is not None:
        return
    with progress_bar("drawing", WORLD_PICTURES) as progress:
        workers = os.cpu_count() or 1
        write_array(pictures, WORLD_PICTURES, kinds=WORLD_KINDS, workers=workers, progress=progress)


def _tell(method: str, file: Path, preset: str, reads: Mapping[str, str], as_json: bool) -> None:
    """The file on stdout; how to use it on stderr."""
    told = "".join(f" --set {name}={value}" for name, value in reads.items())
    complain(f"use it: wordmask saliency photo.jpg --method {method} --preset {preset} --weights {file}{told}")
    show(json.dumps({"method": method, "preset": preset, "weights": str(file)}) if as_json else file)
