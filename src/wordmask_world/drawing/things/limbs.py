"""What animals have in common."""

from __future__ import annotations

from wordmask_world.drawing.dice import Dice
from wordmask_world.drawing.sketch import Role, Sketch


def legs(
    dice: Dice, sketch: Sketch, role: int, hips: tuple[float, float], top: float, width: float, stride: float, hoof: int
) -> None:
    """A hind and a fore leg from height `top` to the ground, with a bend at the knee."""
    for index, hip in enumerate(hips):
        swing = dice.between(-stride, stride)
        foot = hip + swing
        bend = (-1 if index == 0 else 1) * dice.between(0.01, 0.045)
        knee = (hip + swing * 0.4 + bend, top * 0.48)
        sketch.limb(role, (hip, top), knee, width * 1.5, width)
        sketch.limb(role, knee, (foot, -width * 0.45), width, width * 0.8)
        if hoof:
            sketch.box(hoof, foot - width * 0.5, -width * 0.75, foot + width * 0.6, 0, width * 0.2)


def eye(sketch: Sketch, x: float, y: float, size: float, *, white: bool = False) -> None:
    if white:
        sketch.dot(Role.LIGHT, x, y, size * 1.5)
    sketch.dot(Role.DARK, x, y, size)
