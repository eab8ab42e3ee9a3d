"""Chance for the picture world: one seed, the same picture in every process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

Choice = TypeVar("Choice")


class Dice:
    """Random choices built on `Generator.random` alone, whose stream numpy keeps the same between releases."""

    def __init__(self, *entropy: int) -> None:
        self._random = np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy))).random

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self._random()

    def chance(self, probability: float) -> bool:
        return self._random() < probability

    def sign(self) -> int:
        return 1 if self._random() < 0.5 else -1

    def whole(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + int(self._random() * (high - low + 1))

    def pick(self, choices: Sequence[Choice]) -> Choice:
        return choices[int(self._random() * len(choices))]

    def weighted(self, weights: Mapping[Choice, float]) -> Choice:
        aim = self._random() * sum(weights.values())
        for choice, weight in weights.items():
            aim -= weight
            if aim < 0:
                return choice
        return choice

    def some(self, choices: Sequence[Choice], count: int) -> list[Choice]:
        """`count` different choices in a random order."""
        left = list(choices)
        return [left.pop(int(self._random() * len(left))) for _ in range(min(count, len(left)))]

    def shuffled(self, choices: Sequence[Choice]) -> list[Choice]:
        return self.some(choices, len(choices))

    def numbers(self, *shape: int) -> np.ndarray:
        """Uniform numbers in [0, 1) of the given shape."""
        return np.asarray(self._random(shape))
