"""What a benchmark is: pictures with true labels, and the names that the labels stand for."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from wordmask.errors import WordmaskError
from wordmask.names.vocabulary import Vocabulary

IGNORE = 255


class BenchmarkError(WordmaskError):
    """No such benchmark or split, or its files are not as published."""


class MissingDataError(BenchmarkError):
    """The data of a benchmark are not here; the message says which, and how the folder should look."""


@dataclass(frozen=True)
class Sample:
    image: np.ndarray  # (H, W, 3) uint8
    labels: np.ndarray  # (H, W) indices into the benchmark's names, or the benchmark's `ignore`
    key: str
    objects: int | None = None
    """How many things are marked one by one, where the data set says so."""


class Benchmark(Protocol):
    """A data set, a split of it, and the names that are asked for. Its pictures can be had in any order."""

    name: str
    split: str
    vocabulary: Vocabulary
    ignore: int
    """The label of pixels that do not count."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Sample]: ...
    def __getitem__(self, index: int) -> Sample: ...
    def key(self, index: int) -> str:
        """Return what the picture is called, without reading it."""
        ...


def spread(count: int, wanted: int | None) -> list[int]:
    """Which of `count` pictures stand for all where only some are wanted: evenly spread, as data sets are sorted."""
    if wanted is None or wanted >= count:
        return list(range(count))
    return [index * count // wanted for index in range(wanted)]
