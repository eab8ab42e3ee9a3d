"""The pictures that a training without captions learns from: no labels, no captions, no masks."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from wordmask.console.progress import Progress
from wordmask.files import is_special
from wordmask.fingerprints import short_digest_of
from wordmask.pictures.image_files import ImageReadError, find_images, raise_at_once
from wordmask.pictures.images import read_image
from wordmask.text_files import read_json
from wordmask.training.errors import TrainingError
from wordmask.training.order import shuffled

logger = logging.getLogger(__name__)

ARRAY = ".npy"
"""Of a training file: (N, H, W, 3) uint8, and beside it a JSON file of what identifies its pictures."""
ANEW = "write the training file again"


class Write(Protocol):
    """Draw pictures into a training file, or go on with it."""

    def __call__(self, path: Path, *, workers: int, progress: Progress | None) -> Path: ...


@dataclass(frozen=True)
class Drawn:
    """Pictures that a preset draws for a training where none are given."""

    count: int
    write: Write


def open_training_file(path: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """Return a training file's pictures (N, H, W, 3) uint8, memory-mapped, and what identifies them."""
    settings = path.with_suffix(".json")
    for file in (path, settings):
        if not file.exists():
            raise TrainingError(f"{file}: no such file; {ANEW}")
        if is_special(file):
            raise TrainingError(f"{file}: is a pipe or a device, not a file")
    told = read_json(settings, way_out=ANEW)
    if not isinstance(told, dict):
        raise TrainingError(f"{settings}: is damaged, it holds no settings; {ANEW}")
    images: np.ndarray = np.load(path, mmap_mode="r")
    if images.ndim != 4 or images.dtype != np.uint8:
        raise TrainingError(f"{path}: holds {images.dtype} of shape {images.shape}, not pictures (N, H, W, 3) in uint8")
    return images, told


class Pictures:
    """Pictures by number: of a folder, or of a training file.

    most: if there are more, so many of them, chosen at random by the seed; a folder's first ones may all be alike.
    """

    def __init__(self, path: Path, most: int | None = None, seed: int = 0):
        self._made_of = (path, most, seed)
        self._files: list[Path] = []
        self._array: np.ndarray | None = None
        if path.suffix == ARRAY:
            self._array, identity = open_training_file(path)
            told = json.dumps(identity, sort_keys=True)
        else:
            self._files = list(find_images(path, raise_at_once))
            told = json.dumps([[str(file.relative_to(path)), file.stat().st_size] for file in self._files])
        there = len(self._files) if self._array is None else len(self._array)
        if not there:
            raise TrainingError(f"{path} has no pictures to learn from")
        self._chosen = np.arange(there)
        if most is not None and most < there:
            self._chosen = np.sort(shuffled(self._chosen, seed, 0)[:most])
            told += f" {most} of them by seed {seed}"
        self.fingerprint = short_digest_of(told)

    def __reduce__(self) -> tuple[type["Pictures"], tuple[Path, int | None, int]]:
        """Another process opens the file again, and is not sent what is in it."""
        return Pictures, self._made_of

    def __len__(self) -> int:
        return len(self._chosen)

    def read(self, index: int) -> np.ndarray:
        """(H, W, 3) uint8"""
        place = int(self._chosen[index])
        return read_image(self._files[place]) if self._array is None else np.array(self._array[place])

    def readable(self, index: int) -> tuple[int, np.ndarray]:
        """Return the picture of this number, or, with a warning, the next one that can be read; and its number."""
        for number in range(index, index + len(self)):
            try:
                return number % len(self), self.read(number % len(self))
            except ImageReadError as error:
                logger.warning("left out: %s", error)
        raise TrainingError("none of the pictures to learn from can be read")
