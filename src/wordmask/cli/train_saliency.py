"""What the verbs share that learn from pictures alone: where the pictures are, and what is said at the end."""

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from wordmask.console import complain, log_to_stderr, show
from wordmask.console.progress import progress_bar
from wordmask.saliency.base import SaliencyError
from wordmask.training.plans import WORLD_KINDS, WORLD_PICTURES
from wordmask_world.files.training_file import write_array


def place_of_pictures(images: Path | None, out: Path, preset: str) -> Path:
    """Return where the pictures to learn from are, or will be once they are drawn."""
    if images is None and preset != "world":
        raise SaliencyError("--images is missing: give a folder of pictures (only --preset world draws its own)")
    return out / "pictures.npy" if images is None else images


def draw_pictures(images: Path | None, pictures: Path) -> None:
    """Draw pictures of the world where none are given: it takes minutes, so the settings are checked before."""
    log_to_stderr(logging.INFO)
    if images is not None:
        return
    with progress_bar("drawing", WORLD_PICTURES) as progress:
        workers = os.cpu_count() or 1
        write_array(pictures, WORLD_PICTURES, kinds=WORLD_KINDS, workers=workers, progress=progress)


def tell_how_to_use(use: str, method: str, file: Path, preset: str, reads: Mapping[str, str], *, as_json: bool) -> None:
    """Print the file to stdout, and to stderr the command that takes it.

    reads: settings that what was trained must be used with.
    """
    told = "".join(f" --set {name}={value}" for name, value in reads.items())
    complain(f"use it: {use} --method {method} --preset {preset} --weights {file}{told}")
    show(json.dumps({"method": method, "preset": preset, "weights": str(file)}) if as_json else file)
