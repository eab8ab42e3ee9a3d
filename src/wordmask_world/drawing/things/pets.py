"""Cats and dogs: alike in size and pose, apart in face, ears and muzzle. All look to the right."""

from __future__ import annotations

import math

from wordmask_world.drawing.dice import Dice
from wordmask_world.drawing.sketch import Point, Role, Sketch
from wordmask_world.drawing.things.limbs import eye, legs


def _cat_head(dice: Dice, sketch: Sketch, x: float, y: float, r: float) -> None:
    """A round face seen from the front, between two pointed ears."""
    ear = dice.between(0.85, 1.2) * r
    inner = dice.pick((Role.SECOND, Role.SKIN, Role.FAR))
    for side in (-1, 1):
        tip = (x + side * r * dice.between(0.72, 0.95), y - r * 0.62 - ear * 0.75)
        sketch.poly(Role.MAIN, [(x + side * r * 0.95, y - r * 0.1), tip, (x + side * r * 0.08, y - r * 0.8)])
        sketch.poly(
            inner,
            [
                (x + side * r * 0.8, y - r * 0.42),
                (tip[0] - side * r * 0.06, tip[1] + ear * 0.28),
                (x + side * r * 0.32, y - r * 0.75),
            ],
        )
    sketch.ellipse(Role.MAIN, x, y, r * 1.08, r * 0.9)
    if dice.chance(0.5):
        sketch.ellipse(Role.LIT, x, y + r * 0.42, r * 0.52, r * 0.36)
    for side in (-1, 1):
        sketch.ellipse(Role.LIGHT, x + side * r * 0.42, y - r * 0.08, r * 0.2, r * 0.22)
        sketch.ellipse(Role.DARK, x + side * r * 0.42, y - r * 0.08, r * 0.1, r * 0.2)
        for lift in (-0.08, 0.1):
            sketch.limb(
                Role.DARK,
                (x + side * r * 0.4, y + r * (0.36 + lift * 0.5)),
                (x + side * r * 1.35, y + r * (0.3 + lift * 2)),
                r * 0.05,
            )
    sketch.poly(Role.DARK, [(x - r * 0.14, y + r * 0.2), (x + r * 0.14, y + r * 0.2), (x, y + r * 0.36)])


def cat(dice: Dice) -> Sketch:
    """Round face, two pointed ears, long tail; sitting, walking or lying."""
    sketch = Sketch()
    pose = dice.weighted({"sitting": 0.45, "walking": 0.35, "lying": 0.2})
    tail = dice.between(0.06, 0.09)
    if pose == "sitting":
        r = dice.between(0.19, 0.23)
        top = -dice.between(0.62, 0.78)
        wide = dice.between(0.24, 0.33)
        side = dice.sign()
        sketch.curve(
            Role.FAR,
            [
                (side * wide * 0.5, -0.08),
                (side * (wide + 0.16), -0.06),
                (side * (wide + 0.24), -dice.between(0.15, 0.35)),
                (side * (wide + dice.between(0.08, 0.24)), -dice.between(0.4, 0.6)),
            ],
            tail * 1.2,
            tail,
        )
        sketch.blob(
            Role.MAIN,
            [
                (0, top),
                (wide * 0.62, top * 0.6),
                (wide, -0.2),
                (wide * 0.8, 0),
                (0, 0.0),
                (-wide * 0.8, 0),
                (-wide, -0.2),
                (-wide * 0.62, top * 0.6),
            ],
        )
        if dice.chance(0.6):
            sketch.ellipse(Role.LIT, 0, top * 0.55, wide * 0.42, -top * 0.26)
        for foot in (-0.085, 0.085):
            sketch.limb(Role.FAR, (foot * 0.85, top * 0.5), (foot, -0.03), 0.02, 0.02)
            sketch.ellipse(Role.LIT, foot, -0.03, 0.075, 0.045)
        _cat_head(dice, sketch, dice.between(-0.05, 0.05), top - r * 0.35, r)
    elif pose == "walking":
        long, leg, thick = dice.between(0.36, 0.46), dice.between(0.24, 0.36), dice.between(0.2, 0.27)
        r = dice.between(0.16, 0.2)
        back = -leg - thick
        bend = dice.between(-0.25, 0.1)
        sketch.curve(
            Role.MAIN,
            [
                (-long + 0.04, back + 0.07),
                (-long - 0.14, back - 0.05),
                (-long - 0.16 + bend * 0.3, back - 0.26),
                (-long - 0.06 + bend, back - dice.between(0.34, 0.48)),
            ],
            tail,
            tail * 0.9,
        )
        legs(dice, sketch, Role.FAR, (-long + 0.13, long - 0.05), -leg, 0.075, 0.1, 0)
        arch = dice.between(-0.03, 0.06)
        sketch.blob(
            Role.MAIN,
            [
                (-long, back + 0.1),
                (-long + 0.12, back),
                (0, back + arch),
                (long, back - 0.02),
                (long + 0.06, back + 0.14),
                (long - 0.06, -leg + 0.02),
                (0, -leg),
                (-long + 0.1, -leg + 0.02),
            ],
        )
        legs(dice, sketch, Role.MAIN, (-long + 0.07, long), -leg, 0.08, 0.1, 0)
        _cat_head(dice, sketch, long + 0.1, back - dice.between(0.02, 0.12), r)
    else:
        long, thick, r = dice.between(0.4, 0.5), dice.between(0.32, 0.42), dice.between(0.18, 0.22)
        sketch.blob(
            Role.MAIN,
            [
                (-long, -0.1),
                (-long * 0.85, -thick * 0.8),
                (-long * 0.3, -thick),
                (long * 0.5, -thick * 0.85),
                (long, -thick * 0.5),
                (long * 0.95, 0),
                (0, 0),
                (-long * 0.8, 0),
            ],
        )
        sketch.curve(
            Role.FAR, [(-long, -0.08), (-long * 0.6, -0.04), (0, -0.05), (long * 0.3, -dice.between(0.04, 0.12))], tail
        )
        for foot in (0.6, 0.95):
            sketch.ellipse(Role.LIT, long * foot, -0.045, 0.09, 0.05)
        _cat_head(dice, sketch, long * 0.75, -thick - r * dice.between(0.0, 0.35), r)
    return sketch


def _dog_head(dice: Dice, sketch: Sketch, x: float, y: float, r: float, tilt: float) -> None:
    """A head in profile: long muzzle, nose at its end, hanging or pricked ear."""
    reach = dice.between(1.25, 2.1) * r
    cos, sin = math.cos(tilt), math.sin(tilt)

    def at(forward: float, down: float) -> Point:
        return x + forward * cos - down * sin, y + forward * sin + down * cos

    muzzle = dice.pick((Role.MAIN, Role.LIT, Role.SECOND))
    floppy = dice.chance(0.65)
    if not floppy:
        sketch.poly(Role.FAR, [at(-0.35 * r, -0.6 * r), at(0.1 * r, -1.75 * r), at(0.4 * r, -0.6 * r)])
    sketch.ellipse(Role.MAIN, x, y, r, r * 0.92)
    deep = dice.between(0.75, 1.0) * r
    sketch.limb(muzzle, at(0.45 * r, 0.25 * r), at(reach, 0.35 * r), deep, deep * 0.68)
    if dice.chance(0.5):
        sketch.limb(Role.FAR, at(0.7 * r, 0.62 * r), at(reach, 0.52 * r), r * 0.1)
    if dice.chance(0.25):
        sketch.limb(Role.SKIN, at(reach - r * 0.2, 0.6 * r), at(reach - r * 0.15, dice.between(0.9, 1.2) * r), r * 0.3)
    sketch.dot(Role.DARK, *at(reach + 0.2 * r, 0.12 * r), r * 0.25)
    eye(sketch, *at(0.32 * r, -0.25 * r), r * 0.14, white=dice.chance(0.4))
    ear = dice.pick((Role.FAR, Role.SECOND, Role.DARK))
    if floppy:
        drop = dice.between(0.8, 1.5) * r
        sketch.blob(
            ear,
            [
                at(-0.5 * r, -0.75 * r),
                at(-0.02 * r, -0.6 * r),
                at(0.05 * r, drop * 0.5),
                at(-0.35 * r, drop),
                at(-0.85 * r, drop * 0.7),
            ],
        )
    else:
        sketch.poly(ear, [at(-0.85 * r, -0.25 * r), at(-0.5 * r, -1.75 * r), at(0.05 * r, -0.7 * r)])


def dog(dice: Dice) -> Sketch:
    """A long muzzle in profile, hanging or pricked ears, raised tail; from dachshund to greyhound."""
    sketch = Sketch()
    r = dice.between(0.14, 0.18)
    collar = dice.pick((Role.ACCENT, Role.ACCENT, Role.MAIN))
    tail = dice.between(0.06, 0.1)
    if dice.chance(0.68):
        long, leg, thick = dice.between(0.36, 0.52), dice.between(0.16, 0.46), dice.between(0.24, 0.34)
        width = dice.between(0.085, 0.12)
        back = -leg - thick
        lift = dice.between(0.12, 0.34)
        curl = dice.between(-0.3, 0.14)
        sketch.curve(
            Role.MAIN,
            [(-long + 0.08, back + 0.08), (-long - 0.06, back - lift * 0.4), (-long - 0.1 + curl * 0.6, back - lift)],
            tail * 1.3,
            tail * 0.7,
        )
        legs(dice, sketch, Role.FAR, (-long + 0.16, long - 0.1), -leg - 0.05, width, 0.12, 0)
        head = (long + dice.between(0.08, 0.2), back - dice.between(0.12, 0.28))
        tuck = dice.between(0, 0.1)
        sketch.blob(
            Role.MAIN,
            [
                (-long, back + 0.12),
                (-long + 0.12, back),
                (0, back + 0.02),
                (long - 0.08, back - 0.02),
                (long + 0.05, back + 0.14),
                (long - 0.04, -leg + 0.03),
                (0, -leg - tuck * 0.5),
                (-long + 0.2, -leg - tuck),
                (-long + 0.04, -leg - 0.02),
            ],
        )
        if dice.chance(0.4):
            sketch.ellipse(Role.LIT, long * 0.1, -leg - tuck * 0.5 - 0.035, long * 0.6, 0.045)
        legs(dice, sketch, Role.MAIN, (-long + 0.09, long - 0.03), -leg - 0.05, width, 0.12, 0)
        sketch.limb(Role.MAIN, (long - 0.08, back + 0.1), head, thick * 0.85, r * 1.35)
        sketch.limb(
            collar,
            (long * 0.35 + head[0] * 0.65 - 0.1, back * 0.3 + head[1] * 0.7 - 0.02),
            (long * 0.35 + head[0] * 0.65 + 0.1, back * 0.3 + head[1] * 0.7 + 0.07),
            0.05,
        )
        _dog_head(dice, sketch, head[0], head[1], r, dice.between(-0.15, 0.3))
    else:
        top = -dice.between(0.62, 0.76)
        sketch.curve(
            Role.MAIN, [(-0.22, -0.08), (-0.42, -0.07), (-0.52, -dice.between(0.12, 0.4))], tail * 1.2, tail * 0.7
        )
        sketch.limb(Role.FAR, (0.16, top * 0.62), (0.2, -0.05), 0.12, 0.09)
        sketch.blob(
            Role.MAIN,
            [
                (0.02, top),
                (0.2, top * 0.9),
                (0.25, top * 0.6),
                (0.12, -0.1),
                (-0.1, 0),
                (-0.3, 0),
                (-0.34, -0.2),
                (-0.2, top * 0.62),
            ],
        )
        if dice.chance(0.5):
            sketch.ellipse(Role.LIT, 0.15, top * 0.66, 0.075, 0.14, 0.1)
        sketch.limb(Role.MAIN, (0.1, top * 0.6), (0.14, -0.06), 0.13, 0.1)
        sketch.ellipse(Role.LIT, 0.17, -0.045, 0.09, 0.045)
        sketch.ellipse(Role.FAR, -0.12, -0.17, 0.16, 0.16)
        sketch.ellipse(Role.MAIN, -0.13, -0.165, 0.145, 0.15)
        sketch.limb(Role.MAIN, (-0.14, -0.05), (0.0, -0.05), 0.1)
        sketch.limb(Role.MAIN, (0.1, top * 0.85), (0.14, top - 0.08), 0.22, 0.2)
        sketch.limb(collar, (0.02, top * 0.98), (0.25, top * 0.93), 0.055)
        _dog_head(dice, sketch, 0.16, top - 0.14, r * 1.1, dice.between(-0.25, 0.2))
    return sketch
