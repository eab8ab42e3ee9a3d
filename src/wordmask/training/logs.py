"""A run's figures: JSON lines, one object a line, and curves for TensorBoard where it is installed."""

import json
import logging
import time
from pathlib import Path
from typing import Any

from wordmask.extras import is_installed
from wordmask.files import atomic_write

logger = logging.getLogger(__name__)

LOG = "log.jsonl"
CURVES = "tensorboard"


class RunLog:
    """Appends to `folder/log.jsonl` and to the curves. Resumed at a step, it forgets what was said of later ones, which
    will come again."""

    def __init__(self, folder: Path, *, resume_at: int):
        self.path = folder / LOG
        kept = []
        if self.path.exists() and resume_at:
            lines = self.path.read_text().splitlines()
            kept = [line for line in lines if _step(line) is not None and _step(line) <= resume_at]  # type: ignore[operator]
        with atomic_write(self.path) as file:
            file.write("".join(line + "\n" for line in kept).encode())
        self._curves = _open_curves(folder / CURVES, resume_at)

    def write(self, step: int, **figures: float | str) -> None:
        rounded = {name: round(value, 5) if isinstance(value, float) else value for name, value in figures.items()}
        with self.path.open("a") as file:
            file.write(json.dumps({"step": step, "time": round(time.time(), 1), **rounded}) + "\n")
        if self._curves is not None:
            group = figures.get("pictures", "training")
            for name, value in figures.items():
                if not isinstance(value, str):
                    self._curves.add_scalar(f"{group}/{name}", value, step)
            self._curves.flush()

    def tells(self, step: int, pictures: str) -> bool:
        """Whether figures on such pictures have been told of a step already."""
        lines = [json.loads(line) for line in self.path.read_text().splitlines() if _step(line) == step]
        return any(line.get("pictures") == pictures for line in lines)


def _open_curves(folder: Path, resume_at: int) -> Any:
    if not is_installed("tensorboard"):
        logger.info("no curves for TensorBoard, which is not installed; all figures are in %s", LOG)
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=resume_at + 1)


def _step(line: str) -> int | None:
    """A line cut off by a kill has none."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError):
        return None


def last_figures(folder: Path) -> dict[str, float]:
    """The figures on held-out pictures of a finished run; empty before."""
    path = folder / LOG
    lines = (
        [json.loads(line) for line in path.read_text().splitlines() if _step(line) is not None] if path.exists() else []
    )
    told = [line for line in lines if line.get("pictures") == "held-out"]
    skipped = ("step", "time", "pictures")
    return {name: value for name, value in told[-1].items() if name not in skipped} if told else {}
