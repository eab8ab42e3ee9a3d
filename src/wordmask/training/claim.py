"""A training's folder: claimed by the command that trains, and known again where a version before trained in it."""

import json
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

from wordmask.pictures.left_out import is_drawn
from wordmask.runs.claim import claimed, read_marker
from wordmask.text_files import TextFileError, read_json
from wordmask.training.checkpoints import CHECKPOINT, read_checkpoint
from wordmask.training.logs import LOG

FIGURES = frozenset({"step", "time", "rate", "loss"})
"""What stands in every line of a training's log."""
DRAWN, VOTES = "pictures.json", "votes"
"""What a run has before its first step: the settings of pictures that it drew, masks that were voted."""


def claimed_run(out: Path, verb: str, recipe: str, *, is_first: bool = True) -> AbstractContextManager[None]:
    """Hold `out` for a training, in this process only where it is the first of a team.

    recipe: the settings' class, whose name is in every checkpoint. Whoever holds the folder may call this again.
    """
    if not is_first:
        return nullcontext()
    return claimed(out, verb, was_ours=partial(_was_trained_in, recipe=recipe), nested=True)


def _was_trained_in(out: Path, recipe: str) -> bool:
    checkpoint, log = out / CHECKPOINT, out / LOG
    if checkpoint.is_file():
        return str(read_checkpoint(checkpoint).get("run")).startswith(recipe)
    if log.is_file():
        return _is_log(log)
    return is_drawn(out / DRAWN) or is_votes(out / VOTES)


def _is_log(log: Path) -> bool:
    with log.open("rb") as lines:
        first = lines.readline(2**16)
    try:
        return not first or json.loads(first).keys() >= FIGURES
    except (ValueError, AttributeError, RecursionError):
        return False


def is_votes(folder: Path) -> bool:
    """Return whether a folder holds the voted masks of a run, or what they are to be of."""
    if (marker := read_marker(folder)) is not None:
        return marker.verb == VOTES
    try:
        return isinstance(read_json(folder / "settings.json"), list)
    except TextFileError:
        return False
