"""Surfaces that stuff covers: a wall seen from the front, or a floor that runs away to the horizon.

A texture fades where its details would be finer than a pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wordmask_world.drawing.colours import Colour
from wordmask_world.drawing.dice import Dice
from wordmask_world.drawing.noise import sample

Field = np.ndarray
"""One number a pixel, float32."""


@dataclass(frozen=True)
class Plane:
    """Where the pixels of a rectangle lie on a surface."""

    u: Field
    """along the surface, in picture heights"""
    v: Field
    """down a wall, or towards the viewer on a floor"""
    pixel: Field
    """a pixel's size on the surface, the longer side"""
    depth: Field
    """0 at the top of the surface, 1 at the bottom of the picture"""


def wall(height: int, width: int, rows: slice) -> Plane:
    """A surface that faces the viewer, for the given rows of a picture."""
    x = ((np.arange(width) + 0.5) / height).astype(np.float32)[None, :]
    y = ((np.arange(rows.start, rows.stop) + 0.5) / height).astype(np.float32)[:, None]
    return Plane(x, y, np.full_like(y, 1 / height), (y - y[0]) / max(1 - float(y[0, 0]), 0.05))


_EYE = 0.32
"""How steeply one looks down on a floor: the larger, the flatter its pattern."""


def floor(height: int, width: int, rows: slice, horizon: float) -> Plane:
    """A level surface that begins at the horizon (a share of the height) and comes towards the viewer."""
    x = ((np.arange(width) + 0.5) / height).astype(np.float32)[None, :]
    y = ((np.arange(rows.start, rows.stop) + 0.5) / height).astype(np.float32)[:, None]
    below = np.maximum(y - horizon, 0) + _EYE
    away = (1 - horizon + _EYE) / below
    middle = width / height / 2
    return Plane(
        (x - middle) * away + middle,
        -1.6 * away,
        1.6 * away / below / height,
        np.clip((y - horizon) / max(1 - horizon, 0.05), 0, 1),
    )


def fade(plane: Plane, size: float) -> Field:
    """1 where a detail of this size spans a few pixels, 0 where it would be finer than one."""
    return np.clip(size / plane.pixel - 0.8, 0, 1)


def blend(field: Field, *colours: Colour) -> np.ndarray:
    """Values from 0 to 1 -> colours along a ramp. (h, w, 3)"""
    ramp = np.stack(colours).astype(np.float32)
    at = np.clip(field, 0, 1) * (len(ramp) - 1)
    if len(ramp) == 2:
        return ramp[0] + (ramp[1] - ramp[0]) * at[..., None]
    low = np.minimum(at.astype(np.int32), len(ramp) - 2)
    return ramp[low] + (ramp[low + 1] - ramp[low]) * (at - low)[..., None]


def about(dice: Dice, red: float, green: float, blue: float, spread: float = 16, light: float = 18) -> Colour:
    """A colour near the given one, lighter or darker."""
    return np.clip(
        np.array([red, green, blue]) + (dice.numbers(3) * 2 - 1) * spread + dice.between(-light, light), 4, 252
    )


def cell(column: Field, row: Field, salt: float) -> Field:
    """A number from 0 to 1 for every cell of a grid, the same all over the cell."""
    return sample("fine", column * 0.3711 + salt, row * 0.2187 + salt)


def line(x: Field, width: float | Field, pixel: Field) -> Field:
    """1 on a line of this width at every whole x (in the units of x), with soft edges."""
    away = np.abs(x - np.floor(x + 0.5))
    return np.clip((width / 2 - away) / np.maximum(pixel, 1e-4) + 0.5, 0, 1)
