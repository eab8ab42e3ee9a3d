"""What a benchmark is: pictures with true labels, and the names that the labels stand for."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from wordmask.errors import WordmaskError
from wordmask.vocabulary import Vocabulary

IGNORE = 255


class BenchmarkError(WordmaskError):
    """No such benchmark or split, or its files are not as published."""


class MissingDataError(BenchmarkError):
    """The data of a benchmark are not here; the message says which, and how the folder should look."""


@dataclass(frozen=True)
class Sample:
    image: np.ndarray  # (H, W, 3) uint8
    labels: np.ndarray  # (H, W) indices into the benchmark's names, or IGNORE
    key: str


class Benchmark(Protocol):
    """A data set, a split of it, and the names that are asked for."""

    name: str
    split: str
    vocabulary: Vocabulary

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Sample]: ...
