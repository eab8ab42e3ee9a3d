"""The state of a training run, whole on the disk or not there; and the one before it, should it be damaged."""

import zipfile
from pathlib import Path
from typing import Any

import torch

from wordmask.errors import WordmaskError
from wordmask.runs.parts import Parts, Say, warn, write_part

CHECKPOINT, BEFORE = "checkpoint.pt", "checkpoint.before.pt"


class CheckpointError(WordmaskError):
    """This checkpoint cannot be read, or is of another run."""


def save_checkpoint(folder: Path, state: dict[str, Any], *, last: bool = False) -> None:
    """Write a state; the one before stays beside it. last: the training is over, and this one is enough."""
    path, before = folder / CHECKPOINT, folder / BEFORE
    before.unlink(missing_ok=True)  # so that a disk never holds three
    with write_part(path) as file:
        torch.save(state, file)
        if path.exists() and not last:
            path.replace(before)


def load_checkpoint(folder: Path, *, run: str, say: Say = warn) -> dict[str, Any] | None:
    """Return the state that was saved last and is whole, or None. `run` tells the settings, which must be those of the
    saved state.
    """
    path, before = folder / CHECKPOINT, folder / BEFORE
    parts = Parts()
    state = _state_of(path, parts)
    if state is not None and state["run"] != run:
        raise CheckpointError(
            f"{path} is of a run with other settings or pictures ({state['run']}); choose another folder, or delete it"
        )
    if state is None:
        earlier = _state_of(before, parts)
        state = earlier if earlier is not None and earlier["run"] == run else None
        if path.exists():
            then = "starts anew" if state is None else f"goes on from the one before, of step {state['step']}"
            say(f"{path} is damaged: the training {then}")
    return state


def forget_checkpoints(folder: Path) -> None:
    """Of a training that is done: they are three times as large as what it ends with."""
    for name in (CHECKPOINT, BEFORE):
        (folder / name).unlink(missing_ok=True)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Another run's state, to begin with."""
    state = _state_of(path, Parts())
    if state is None:
        if not path.exists():
            raise CheckpointError(f"{path} does not exist: train that model first")
        raise CheckpointError(f"{path} is no readable checkpoint; delete it and start again")
    return state


def _state_of(path: Path, parts: Parts) -> dict[str, Any] | None:
    """Return what a whole checkpoint holds; None for one that is damaged or not there."""
    if not path.exists() or parts.is_damaged(path, name=CHECKPOINT):
        return None
    if not parts.knows(path, name=CHECKPOINT) and not _agrees_with_itself(path):
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch passes on whatever the archive reader and the unpickler raise
        raise CheckpointError(f"{path} is no readable checkpoint ({error}); delete it and start again") from error
    return state


def _agrees_with_itself(path: Path) -> bool:
    """By the archive's own checksums, which torch does not look at."""
    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                return archive.testzip() is None
        except Exception:  # damage can look like another compression, alphabet or size
            return False
