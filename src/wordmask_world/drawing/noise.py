"""Noise that costs a table look-up: periodic tiles, made once per process and the same in all of them."""

from __future__ import annotations

from functools import cache

import numpy as np

from wordmask_world.drawing.dice import Dice

SIDE = 1024
"""Samples along one period of a tile."""
_SEED = 20
_GRAINS = 1 << 18
_OCTAVES = {
    "soft": (4, 8),
    "clouds": (4, 8, 16, 32, 64),
    "leaves": (32, 64, 128),
    "fine": (64, 128, 256),
}
"""Cells along the tile in each octave; each has 0.6 of the strength of the one before."""
_FADING = 0.6


def _lattice(grid: np.ndarray) -> np.ndarray:
    """A small periodic grid of values, smoothly enlarged to a tile's side."""
    cells = len(grid)
    at = np.arange(SIDE) * cells / SIDE
    first = at.astype(int)
    share = at - first
    share = share * share * (3 - 2 * share)
    following = (first + 1) % cells
    rows = grid[first] * (1 - share)[:, None] + grid[following] * share[:, None]
    return rows[:, first] * (1 - share) + rows[:, following] * share


@cache
def tile(kind: str) -> np.ndarray:
    """One tile of noise from 0 to 1, evenly spread, that joins itself at the borders. (SIDE, SIDE)"""
    total = np.zeros((SIDE, SIDE))
    strength = 1.0
    for cells in _OCTAVES[kind]:
        total += strength * _lattice(Dice(_SEED, cells, len(kind)).numbers(cells, cells))
        strength *= _FADING
    levels = np.linspace(0, 1, 257)
    return np.interp(total, np.quantile(total[::4, ::4], levels), levels).astype(np.float32)


def sample(kind: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The noise at coordinates in periods of the tile; u and v broadcast."""
    column = np.floor(u * SIDE).astype(np.int32) & (SIDE - 1)
    row = np.floor(v * SIDE).astype(np.int32) & (SIDE - 1)
    return tile(kind)[row, column]


@cache
def _normal() -> np.ndarray:
    """Many numbers of mean 0 and standard deviation 1. (_GRAINS,)"""
    numbers: np.ndarray = (Dice(_SEED, 0).numbers(4, _GRAINS).sum(axis=0) - 2) * np.sqrt(3)
    return numbers.astype(np.float32)


def grain(dice: Dice, height: int, width: int) -> np.ndarray:
    """Noise of mean 0 and standard deviation 1 for every pixel, as a camera adds it. (height, width, 3)"""
    start, count = dice.whole(0, _GRAINS - 1), height * width * 3
    table = _normal()
    return np.resize(np.concatenate([table[start:], table[:start]]), count).reshape(height, width, 3)
