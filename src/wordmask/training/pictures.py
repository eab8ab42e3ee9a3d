"""The pictures that a training without captions learns from: no labels, no captions, no masks."""

import json
import logging
from pathlib import Path

import numpy as np

from wordmask.fingerprints import short_digest_of
from wordmask.pictures.image_files import ImageReadError, find_images, raise_at_once
from wordmask.pictures.images import read_image
from wordmask.training.errors import TrainingError
from wordmask.training.order import shuffled
from wordmask_world.files.training_file import open_array

logger = logging.getLogger(__name__)


class Pictures:
    """Pictures by number: of a folder, or of a file of training pictures that `write_array` made.

    most: if there are more, so many of them, chosen at random by the seed; a folder's first ones may all be alike.
    """

    def __init__(self, path: Path, most: int | None = None, seed: int = 0):
        self._made_of = (path, most, seed)
        self._files: list[Path] = []
        self._array: np.ndarray | None = None
        if path.suffix == ".npy":
            array = open_array(path)
            self._array = array.images
            told = json.dumps(array.settings, sort_keys=True)
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
        """The picture of this number, or, with a warning, the next one that can be read; and its number."""
        for number in range(index, index + len(self)):
            try:
                return number % len(self), self.read(number % len(self))
            except ImageReadError as error:
                logger.warning("left out: %s", error)
        raise TrainingError("none of the pictures to learn from can be read")
