"""What the verbs share that learn without labels: where the pictures are, and what is said at the end."""

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wordmask.console import complain, log_to_stderr, show
from wordmask.console.progress import progress_bar
from wordmask.training.pictures import Drawn


def draw_pictures(drawn: Drawn | None, pictures: Path) -> None:
    """Draw pictures where none are given: it takes minutes, so the settings are checked before."""
    log_to_stderr(logging.INFO)
    if drawn is not None:
        with progress_bar("drawing", drawn.count) as progress:
            drawn.write(pictures, workers=os.cpu_count() or 1, progress=progress)


def tell_how_to_use(
    use: str,
    method: str,
    file: Path,
    preset: str,
    changes: Mapping[str, Any],
    *,
    alike: Sequence[str] = (),
    as_json: bool,
) -> None:
    """Print the file to stdout, and to stderr the command that takes it.

    alike: of the settings that were changed, those that what was trained must be used with.
    """
    told = "".join(f" --set {name}={changes[name]}" for name in alike if name in changes)
    complain(f"use it: {use} --method {method} --preset {preset} --weights {file}{told}")
    show(json.dumps({"method": method, "preset": preset, "weights": str(file)}) if as_json else file)
