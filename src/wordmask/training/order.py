"""The order in which a training sees its pictures."""

from functools import lru_cache

import numpy as np


def shuffled(indices: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """Return the same order for the same seed and epoch, whatever came before."""
    return np.random.default_rng((seed, epoch)).permutation(indices)


def seen_at(places: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return which of so many pictures are at some places of a training, (P,) each: every one comes once an epoch."""
    return np.array([seen_at_one(int(place), count, seed) for place in places])


def seen_at_one(place: int, count: int, seed: int) -> int:
    """Return which of them is at one place."""
    epoch, rest = divmod(place, count)
    return int(_order(count, seed, epoch)[rest])


@lru_cache(maxsize=2)
def _order(count: int, seed: int, epoch: int) -> np.ndarray:
    """Return an epoch's order. It is kept: every step asks for it, and pictures may be millions."""
    order = shuffled(np.arange(count), seed, epoch)
    order.flags.writeable = False
    return order
