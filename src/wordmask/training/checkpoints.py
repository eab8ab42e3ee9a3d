"""The state of a training run, whole on the disk or not there."""

from pathlib import Path
from typing import Any

import torch

from wordmask.errors import WordmaskError
from wordmask.files import atomic_write

CHECKPOINT = "checkpoint.pt"


class CheckpointError(WordmaskError):
    """This checkpoint cannot be read, or is of another run."""


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    with atomic_write(folder / CHECKPOINT) as file:
        torch.save(state, file)


def load_checkpoint(folder: Path, *, run: str) -> dict[str, Any] | None:
    """The state that was saved last, or None. `run` tells the settings, which must be those of the saved state."""
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    state = read_checkpoint(path)
    if state["run"] != run:
        raise CheckpointError(
            f"{path} is of a run with other settings or pictures ({state['run']}); choose another folder, or delete it"
        )
    return state


def read_checkpoint(path: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist: train that model first") from error
    except Exception as error:  # torch passes on whatever the archive reader and the unpickler raise
        raise CheckpointError(f"{path} is no readable checkpoint ({error}); delete it and start again") from error
    return state
