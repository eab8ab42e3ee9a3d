"""Animals of the farm: horses, cows, sheep. All look to the right."""

from __future__ import annotations

import math

from wordmask_world.drawing.dice import Dice
from wordmask_world.drawing.sketch import Role, Sketch
from wordmask_world.drawing.things.limbs import eye, legs


def horse(dice: Dice) -> Sketch:
    """Long legs, long arched neck with a mane, long face, hair for a tail."""
    sketch = Sketch()
    long, leg, thick = dice.between(0.44, 0.54), dice.between(0.5, 0.64), dice.between(0.3, 0.38)
    width, stride = dice.between(0.075, 0.1), dice.pick((0.05, 0.12, 0.26))
    back = -leg - thick
    hair = dice.pick((Role.ACCENT, Role.DARK, Role.LIGHT, Role.SECOND, Role.HAIR))
    hoof = dice.pick((Role.DARK, Role.SECOND_FAR))
    flow = dice.between(0.0, 0.25)
    sketch.blob(
        hair,
        [
            (-long + 0.05, back + 0.06),
            (-long - 0.08 - flow * 0.6, back + 0.05),
            (-long - 0.14 - flow, back + 0.3),
            (-long - 0.06 - flow, back + dice.between(0.45, 0.6)),
            (-long - 0.02, back + 0.3),
        ],
    )
    legs(dice, sketch, Role.FAR, (-long + 0.2, long - 0.16), -leg - 0.06, width, stride, hoof)
    sketch.blob(
        Role.MAIN,
        [
            (-long, back + 0.12),
            (-long + 0.14, back),
            (0, back + 0.04),
            (long - 0.12, back - 0.02),
            (long + 0.03, back + 0.16),
            (long - 0.06, -leg + 0.02),
            (0, -leg + 0.03),
            (-long + 0.16, -leg - 0.03),
        ],
    )
    legs(dice, sketch, Role.MAIN, (-long + 0.12, long - 0.1), -leg - 0.06, width, stride, hoof)
    if dice.chance(0.22):
        crest, poll, drop = (long + 0.2, -leg * 0.85), (long + 0.36, -leg * 0.5), dice.between(0.9, 1.2)
    else:
        poll = (long + dice.between(0.22, 0.36), back - dice.between(0.26, 0.44))
        crest = ((long + poll[0]) / 2 - 0.02, (back + poll[1]) / 2 - 0.05)
        drop = dice.between(0.35, 0.95)
    neck = dice.between(0.24, 0.3)
    sketch.curve(
        hair, [(long - 0.16, back), (crest[0] - 0.09, crest[1] - 0.05), (poll[0] - 0.07, poll[1] - 0.05)], 0.12, 0.1
    )
    sketch.curve(Role.MAIN, [(long - 0.1, back + 0.14), crest, poll], neck * 1.25, 0.15)
    face = dice.between(0.26, 0.34)
    nose = (poll[0] + math.cos(drop) * face, poll[1] + math.sin(drop) * face)
    sketch.poly(
        Role.FAR, [(poll[0] - 0.02, poll[1] - 0.05), (poll[0] + 0.03, poll[1] - 0.19), (poll[0] + 0.07, poll[1] - 0.04)]
    )
    sketch.limb(Role.MAIN, poll, nose, 0.18, 0.12)
    sketch.dot(dice.pick((Role.LIT, Role.FAR, Role.MAIN)), nose[0], nose[1], 0.068)
    sketch.poly(
        Role.MAIN, [(poll[0] - 0.07, poll[1] - 0.04), (poll[0] - 0.03, poll[1] - 0.2), (poll[0] + 0.03, poll[1] - 0.06)]
    )
    sketch.curve(hair, [(poll[0] - 0.02, poll[1] - 0.09), (poll[0] + 0.08, poll[1] - 0.02)], 0.06, 0.03)
    eye(sketch, poll[0] * 0.72 + nose[0] * 0.28 + 0.015, poll[1] * 0.72 + nose[1] * 0.28 - 0.03, 0.024)
    sketch.dot(Role.DARK, nose[0] + 0.025, nose[1] + 0.01, 0.014)
    sketch.places = {"seat": (-0.02, back + 0.03), "hold": (long + 0.02, back - 0.06), "foot": (0.05, -leg + 0.02)}
    return sketch


def cow(dice: Dice) -> Sketch:
    """A box of a body on short legs, heavy head with horns, udder, thin tail with a tuft."""
    sketch = Sketch()
    long, leg, thick = dice.between(0.5, 0.62), dice.between(0.26, 0.36), dice.between(0.44, 0.52)
    width, stride = dice.between(0.1, 0.125), dice.pick((0.03, 0.1))
    back = -leg - thick
    swing = dice.between(-0.06, 0.06)
    tuft = (-long - 0.1 + swing, back + dice.between(0.36, 0.5))
    sketch.curve(
        Role.FAR, [(-long + 0.03, back + 0.03), (-long - 0.07, back + 0.06), (-long - 0.08, back + 0.2), tuft], 0.045
    )
    sketch.ellipse(dice.pick((Role.DARK, Role.SECOND, Role.LIGHT)), tuft[0], tuft[1] + 0.05, 0.045, 0.09)
    legs(dice, sketch, Role.FAR, (-long + 0.22, long - 0.2), -leg - 0.06, width, stride, Role.DARK)
    if dice.chance(0.75):
        sketch.ellipse(Role.SKIN, -long * 0.42, -leg + 0.01, 0.12, 0.09)
        sketch.limb(Role.SKIN, (-long * 0.42 - 0.04, -leg + 0.05), (-long * 0.42 - 0.04, -leg + 0.11), 0.04)
        sketch.limb(Role.SKIN, (-long * 0.42 + 0.05, -leg + 0.05), (-long * 0.42 + 0.05, -leg + 0.11), 0.04)
    sketch.blob(
        Role.MAIN,
        [
            (-long, -leg - 0.04),
            (-long, back + 0.06),
            (-long + 0.07, back),
            (0, back + 0.03),
            (long - 0.1, back - 0.02),
            (long, back + 0.08),
            (long + 0.02, -leg - 0.1),
            (long - 0.12, -leg + 0.03),
            (0, -leg + 0.05),
            (-long + 0.12, -leg),
        ],
    )
    if dice.chance(0.6):
        for x, y in ((-0.6, 0.25), (0.05, 0.62), (0.5, 0.2)):
            spread = dice.between(0.08, 0.16)
            sketch.blob(
                Role.SECOND,
                [
                    (x * long + dice.between(-1.3, -0.7) * spread, back + y * thick),
                    (x * long, back + y * thick - dice.between(0.4, 0.9) * spread),
                    (x * long + dice.between(0.7, 1.3) * spread, back + y * thick + dice.between(-0.3, 0.3) * spread),
                    (x * long, back + y * thick + dice.between(0.5, 0.9) * spread),
                ],
            )
    legs(dice, sketch, Role.MAIN, (-long + 0.12, long - 0.12), -leg - 0.06, width, stride, Role.DARK)
    grazing = dice.chance(0.25)
    x, y = (long + 0.2, -leg - 0.02) if grazing else (long + dice.between(0.1, 0.18), back + dice.between(-0.1, 0.12))
    sketch.limb(Role.MAIN, (long - 0.12, back + 0.2), (x, y), 0.32, 0.22)
    horn = dice.pick((Role.LIGHT, Role.METAL, Role.DARK))
    tall = dice.between(0.1, 0.22)
    for side in (-1, 1):
        if tall > 0.12:
            sketch.curve(
                horn,
                [(x + side * 0.08, y - 0.13), (x + side * 0.19, y - 0.17), (x + side * 0.2, y - 0.15 - tall)],
                0.06,
                0.025,
            )
        sketch.ellipse(Role.FAR, x + side * 0.2, y - 0.07, 0.1, 0.05, side * 0.35)
    sketch.blob(
        Role.MAIN,
        [
            (x - 0.13, y - 0.15),
            (x, y - 0.17),
            (x + 0.13, y - 0.15),
            (x + 0.12, y + 0.05),
            (x + 0.1, y + 0.2),
            (x - 0.1, y + 0.2),
            (x - 0.12, y + 0.05),
        ],
    )
    if dice.chance(0.4):
        sketch.poly(Role.LIT, [(x - 0.03, y - 0.15), (x + 0.03, y - 0.15), (x + 0.05, y + 0.1), (x - 0.05, y + 0.1)])
    sketch.ellipse(dice.pick((Role.SKIN, Role.LIT, Role.SECOND)), x, y + 0.19, 0.125, 0.085)
    for side in (-1, 1):
        eye(sketch, x + side * 0.07, y - 0.03, 0.024, white=True)
        sketch.dot(Role.DARK, x + side * 0.045, y + 0.18, 0.02)
    return sketch


def _fleece(dice: Dice, sketch: Sketch, role: int, x: float, y: float, rx: float, ry: float, curls: int) -> None:
    """A cloud: an ellipse edged with curls."""
    turn = dice.between(0, 1)
    for curl in range(curls):
        angle = (curl + turn) * 2 * math.pi / curls
        size = dice.between(0.9, 1.15) * 3.4 * math.sqrt(rx * ry) / curls
        sketch.dot(role, x + math.cos(angle) * rx * 0.9, y + math.sin(angle) * ry * 0.88, size)
    sketch.ellipse(role, x, y, rx, ry)


def sheep(dice: Dice) -> Sketch:
    """A woolly cloud on thin short legs, a small smooth face of another colour, drooping ears."""
    sketch = Sketch()
    long, leg, thick = dice.between(0.4, 0.5), dice.between(0.18, 0.28), dice.between(0.26, 0.33)
    middle = -leg - thick * 0.85
    limb = dice.pick((Role.DARK, Role.SECOND_FAR, Role.SKIN_FAR))
    legs(dice, sketch, limb, (-long + 0.2, long - 0.14), -leg - 0.1, 0.06, 0.05, 0)
    legs(dice, sketch, limb, (-long + 0.12, long - 0.22), -leg - 0.1, 0.065, 0.05, 0)
    sketch.dot(Role.MAIN, -long - 0.02, middle - 0.04, dice.between(0.06, 0.1))
    curls = dice.whole(11, 15)
    _fleece(dice, sketch, Role.MAIN, 0, middle, long, thick, curls)
    for x, y in ((-0.45, -0.25), (0.05, 0.2), (0.25, -0.45), (-0.2, 0.5), (-0.1, -0.6)):
        at = (x * long + dice.between(-0.04, 0.04), middle + y * thick)
        sketch.curve(Role.FAR, [(at[0] - 0.07, at[1]), (at[0], at[1] + 0.045), (at[0] + 0.07, at[1])], 0.022)
    face = dice.pick((Role.DARK, Role.SECOND, Role.SKIN))
    ear = {Role.DARK: Role.DARK, Role.SECOND: Role.SECOND_FAR, Role.SKIN: Role.SKIN_FAR}[face]
    low = dice.between(0.3, 0.5) if dice.chance(0.25) else 0
    x, y = long + dice.between(0.0, 0.08), middle - thick * dice.between(0.35, 0.8) + low
    tilt = dice.between(0.1, 0.6)
    for side in (-1, 1):
        sketch.ellipse(ear, x + side * 0.14, y - 0.02, 0.085, 0.042, side * 0.5)
    sketch.ellipse(face, x + tilt * 0.03, y + 0.05, 0.105, 0.17, -tilt * 0.6)
    _fleece(dice, sketch, Role.MAIN, x - 0.02, y - 0.1, 0.11, 0.06, 7)
    mark = Role.LIGHT if face == Role.DARK else Role.DARK
    for side in (-1, 1):
        sketch.dot(mark, x + 0.015 + side * 0.048, y + 0.01, 0.02)
        sketch.dot(mark, x + 0.06 * tilt + 0.02 + side * 0.022, y + 0.15, 0.011)
    return sketch
