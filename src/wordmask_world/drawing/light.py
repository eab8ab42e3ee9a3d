"""Light and lens: shadows on the ground, and what turns a drawing into something like a photo."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from wordmask_world.drawing.dice import Dice
from wordmask_world.drawing.noise import grain
from wordmask_world.drawing.sketch import Sketch


def throw_shadow(sketch: Sketch, strength: float, picture: np.ndarray) -> None:
    """Darken the ground where a thing's lowest points touch it."""
    height, width = picture.shape[:2]
    left, _, right, foot = sketch.box_around()
    middle, reach = (left + right) / 2 * height, (right - left) * 0.56 * height
    deep = max(reach * 0.2, 1.5)
    rows = slice(max(0, int(foot * height - deep)), min(height, int(foot * height + deep) + 2))
    columns = slice(max(0, int(middle - reach)), min(width, int(middle + reach) + 2))
    if rows.stop <= rows.start or columns.stop <= columns.start:  # all of it falls outside the picture
        return
    y = ((np.arange(rows.start, rows.stop) + 0.5 - foot * height) / deep)[:, None]
    x = ((np.arange(columns.start, columns.stop) + 0.5 - middle) / reach)[None, :]
    near = np.clip(1 - x * x - y * y, 0, 1)
    picture[rows, columns] *= (1 - strength * np.sqrt(near))[..., None].astype(np.float32)


def light_up(dice: Dice, picture: np.ndarray) -> np.ndarray:
    """Exposure, tint, falling light, lens blur and grain; (H, W, 3) float32 -> uint8."""
    height, width = picture.shape[:2]
    gain = dice.between(0.84, 1.16) * (1 + (dice.numbers(3) * 2 - 1) * 0.07)
    slope_x, slope_y, centre = dice.between(-0.14, 0.14), dice.between(-0.14, 0.14), dice.between(-0.12, 0.02)
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    fall = (1 + slope_x * x + slope_y * y + centre * (x * x + y * y)).astype(np.float32)
    picture *= fall[..., None]
    picture *= gain.astype(np.float32)
    blur = dice.between(0.002, 0.0055) * height if dice.chance(0.25) else 0.0
    strength = dice.between(1.0, 6.5) if dice.chance(0.6) else 0.0
    if blur:
        picture = np.clip(picture, 0, 255)
        soft = Image.fromarray(np.round(picture).astype(np.uint8)).filter(ImageFilter.GaussianBlur(blur))
        picture = np.asarray(soft, dtype=np.float32)
    if strength:
        picture = picture + grain(dice, height, width) * np.float32(strength)
    return np.round(np.clip(picture, 0, 255)).astype(np.uint8)
