"""A run's figures: JSON lines, one object a line, and curves for TensorBoard where it is installed."""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wordmask.extras import is_installed
from wordmask.files import append, atomic_write, naming_a_full_disk

logger = logging.getLogger(__name__)

LOG = "log.jsonl"
CURVES = "tensorboard"
LOOKS_EVERY = 5.0
"""Seconds between two looks at a log that another process writes."""


class RunLog:
    """Appends to `folder/log.jsonl` and to the curves. Resumed at a step, it forgets what was said of later ones, which
    will come again.
    """

    def __init__(self, folder: Path, *, resume_at: int):
        self.path = folder / LOG
        kept = [line for line in read_log(folder) if line["step"] <= resume_at] if resume_at else []
        with atomic_write(self.path) as file:
            file.write("".join(json.dumps(line) + "\n" for line in kept).encode())
        with naming_a_full_disk(folder / CURVES):
            self._curves = _open_curves(folder / CURVES, resume_at)

    def write(self, step: int, **figures: float | str) -> None:
        rounded = {name: round(value, 5) if isinstance(value, float) else value for name, value in figures.items()}
        line = json.dumps({"step": step, "time": round(time.time(), 1), **rounded})
        append(self.path, f"{line}\n".encode())
        if self._curves is not None:
            group = figures.get("pictures", "training")
            with naming_a_full_disk(self.path.parent / CURVES):
                for name, value in figures.items():
                    if not isinstance(value, str):
                        self._curves.add_scalar(f"{group}/{name}", value, step)
                self._curves.flush()

    def tells(self, step: int, pictures: str) -> bool:
        """Return whether figures on such pictures have been told of a step already."""
        return any(line["step"] == step and line.get("pictures") == pictures for line in read_log(self.path.parent))


def _open_curves(folder: Path, resume_at: int) -> Any:
    if not is_installed("tensorboard"):
        logger.info("no curves for TensorBoard, which is not installed; all figures are in %s", LOG)
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=resume_at + 1)


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's log. A damaged one costs no more than itself, and is told of; the last one may have
    been cut off by a kill, which is nothing to tell of.
    """
    path = folder / LOG
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    read = []
    for number, line in enumerate(lines, start=1):
        if (told := _line(line)) is not None:
            read.append(told)
        elif line and number < len(lines):
            logger.warning("%s, line %d is damaged, and left out", path, number)
    return read


@contextmanager
def following(folder: Path, report: Callable[[int], None]) -> Iterator[None]:
    """Report the last step in the log of a run that others train, now and then, while this lasts."""
    has_ended = threading.Event()

    def look() -> None:
        if lines := read_log(folder):
            report(lines[-1]["step"])

    def keep_looking() -> None:
        while not has_ended.wait(LOOKS_EVERY):
            look()

    thread = threading.Thread(target=keep_looking, name="wordmask-log", daemon=True)
    thread.start()
    try:
        yield
    finally:
        has_ended.set()
        thread.join()
    look()


def _line(line: bytes) -> dict[str, Any] | None:
    try:
        told = json.loads(line)
        return {**told, "step": int(told["step"])}
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def last_figures(folder: Path) -> dict[str, float]:
    """Return the figures on held-out pictures of a finished run; empty before."""
    told = [line for line in read_log(folder) if line.get("pictures") == "held-out"]
    skipped = ("step", "time", "pictures")
    return {name: value for name, value in told[-1].items() if name not in skipped} if told else {}
