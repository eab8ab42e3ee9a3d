"""A benchmark of this package's own: pictures whose left half is dark and whose right half is bright."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from wordmask.benchmarks.datasets import IGNORE, Sample
from wordmask.names.vocabulary import Vocabulary


class Halves:
    """Pictures of 32 x 32 pixels, each a little brighter than the one before."""

    name, split, ignore = "halves", "all", IGNORE

    def __init__(self, pictures: int = 8):
        self.pictures = pictures
        self.vocabulary = Vocabulary.of(["shadow", "snow"])

    def __len__(self) -> int:
        return self.pictures

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(self.pictures))

    def __getitem__(self, index: int) -> Sample:
        labels = np.repeat([[0, 1]], 16, axis=1).repeat(32, axis=0)  # (32, 32): left 0, right 1
        levels = np.array([index % 64, 192 + index % 64], dtype=np.uint8)
        return Sample(levels[labels][..., None].repeat(3, axis=2), labels, self.key(index))

    def key(self, index: int) -> str:
        return f"{index:04d}"


def open_halves(name: str, root: str | Path | None, split: str | None, pictures: int | None) -> Halves:
    """Open the benchmark; it draws its pictures, so there is nothing to look for below `root`."""
    return Halves(8 if pictures is None else pictures)
