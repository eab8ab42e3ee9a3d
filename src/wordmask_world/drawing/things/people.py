"""People: standing, walking, sitting, and riding what others have drawn."""

from __future__ import annotations

import math

from wordmask_world.drawing.dice import Dice
from wordmask_world.drawing.sketch import Point, Role, Sketch


def _head(dice: Dice, sketch: Sketch, x: float, y: float, r: float, *, profile: bool = False) -> None:
    """Face, hair and sometimes a hat; y is the middle of the face."""
    style = dice.weighted({"short": 0.4, "long": 0.25, "bun": 0.1, "bald": 0.1, "hat": 0.15})
    look = 0.3 * r if profile else dice.between(-0.12, 0.12) * r
    if style == "long":
        sketch.blob(
            Role.HAIR,
            [
                (x - r * 1.1, y + r * 1.1),
                (x - r * 1.15, y - r * 0.3),
                (x, y - r * 1.15),
                (x + r * 1.1 - look, y - r * 0.3),
                (x + r * 1.05 - look * 2, y + r * 1.1),
            ],
        )
    if style == "bun":
        sketch.dot(Role.HAIR, x - look, y - r * 1.25, r * 0.45)
    sketch.ellipse(Role.SKIN, x, y, r * 0.9, r)
    if profile:
        sketch.dot(Role.SKIN, x + r * 0.9, y + r * 0.1, r * 0.2)
    if style in ("short", "long", "bun"):
        fringe = dice.between(0.1, 0.5)
        sketch.blob(
            Role.HAIR,
            [
                (x - r * 0.98, y + r * (0.25 if profile else 0)),
                (x - r * 0.85, y - r * 0.75),
                (x, y - r * 1.15),
                (x + r * 0.85, y - r * 0.7),
                (x + r * 0.88, y - r * 0.2),
                (x + r * 0.2, y - r * (0.25 + fringe)),
            ],
        )
    if style == "hat":
        hat = dice.pick((Role.ACCENT, Role.SECOND, Role.DARK))
        tall = dice.between(0.5, 1.1) * r
        sketch.box(hat, x - r * 0.85, y - r * 0.45 - tall, x + r * 0.85, y - r * 0.4, r * 0.4)
        sketch.limb(hat, (x - r * (0.9 if profile else 1.25), y - r * 0.42), (x + r * 1.3, y - r * 0.42), r * 0.24)
    eyes = (0.35,) if profile else (-0.35, 0.35)
    for eye in eyes:
        sketch.dot(Role.DARK, x + eye * r + look, y + r * 0.02, r * 0.13)
    sketch.limb(Role.SKIN_FAR, (x + look - r * 0.2, y + r * 0.5), (x + look + r * 0.22, y + r * 0.48), r * 0.13)


def _arm(
    sketch: Sketch, role: int, skin: int, shoulder: Point, hand: Point, bend: float, width: float, sleeve: float
) -> None:
    """From shoulder to hand by an elbow set `bend` off the straight line; the sleeve covers its share."""
    x, y = (shoulder[0] + hand[0]) / 2, (shoulder[1] + hand[1]) / 2
    elbow = (x + (hand[1] - shoulder[1]) * bend, y - (hand[0] - shoulder[0]) * bend)
    sketch.limb(role if sleeve > 0.45 else skin, shoulder, elbow, width, width * 0.9)
    sketch.limb(role if sleeve > 0.8 else skin, elbow, hand, width * 0.85, width * 0.75)
    if sleeve <= 0.45:
        cuff = (shoulder[0] * 0.5 + elbow[0] * 0.5, shoulder[1] * 0.5 + elbow[1] * 0.5)
        sketch.limb(role, shoulder, cuff, width * 1.15, width * 1.1)
    sketch.dot(skin, hand[0], hand[1], width * 0.52)


def person(dice: Dice) -> Sketch:
    """Upright: a head on shoulders, two arms and two legs; front or side, in trousers, shorts or a dress."""
    sketch = Sketch()
    side = dice.chance(0.35)
    leg = dice.between(0.4, 0.5)
    body = dice.between(0.3, 0.36)
    r = dice.between(0.078, 0.105)
    broad = dice.between(0.105, 0.17) * (0.75 if side else 1)
    hip = broad * dice.between(0.7, 0.95)
    limb = dice.between(0.075, 0.1)
    shoulder = -leg - body
    dress = dice.chance(0.25)
    shorts = dice.chance(0.25)
    sleeve = dice.pick((0.3, 1.0, 1.0))
    legs = Role.SKIN if dress else Role.SECOND
    far = Role.SKIN_FAR if dress else Role.SECOND_FAR
    stride = dice.between(0.08, 0.24) if side else dice.between(0.05, 0.14)
    shoe = dice.pick((Role.DARK, Role.ACCENT, Role.LIGHT))
    width = limb * 1.3

    def draw_leg(role: int, skin: int, start: float, foot: float) -> None:
        knee = ((start + foot) / 2 + (0.025 if side else 0), -leg * 0.48)
        sketch.limb(role, (start, -leg), knee, width, width * 0.85)
        sketch.limb(skin if shorts else role, knee, (foot, -0.04), width * (0.65 if shorts else 0.85), width * 0.65)
        toe = 0.07 if side else math.copysign(0.035, foot)
        sketch.limb(shoe, (foot - toe * 0.2, -0.025), (foot + toe, -0.022), 0.05)

    hands = dice.weighted({"down": 0.4, "up": 0.15, "wave": 0.2, "hips": 0.25})
    swing = dice.between(0.05, 0.18)
    low = shoulder + body * dice.between(0.95, 1.15)

    def draw_arm(which: int, role: int, skin: int) -> None:
        start = (which * (broad - limb * 0.35) if not side else 0.0, shoulder + 0.035)
        if side:
            hand, bend = (which * swing + 0.03, low), -0.15
        elif hands == "up" or (hands == "wave" and which == 1):
            hand, bend = (which * (broad + swing), shoulder - dice.between(0.14, 0.28)), which * -0.25
        elif hands == "hips":
            hand, bend = (which * hip * 1.15, -leg - 0.02), which * 0.55
        else:
            hand, bend = (which * (broad + swing * 0.6), low), which * 0.1
        _arm(sketch, role, skin, start, hand, bend, limb, sleeve)
        if which == 1 or side:
            sketch.places["hand"] = hand

    if side:
        draw_arm(1, Role.FAR, Role.SKIN_FAR)
    draw_leg(far, Role.SKIN_FAR, hip * 0.3 if side else -hip * 0.5, stride if side else -stride)
    draw_leg(legs, Role.SKIN, -hip * 0.1 if side else hip * 0.5, -stride if side else stride)
    sketch.limb(Role.SKIN_FAR, (0, shoulder + 0.02), (0, shoulder - r * 0.6), r * 0.85)
    flare = dice.between(1.3, 2.1)
    hem = -leg * dice.between(0.35, 0.75)
    if dress:
        sketch.poly(
            Role.MAIN, [(-hip * 0.8, -leg - 0.06), (hip * 0.8, -leg - 0.06), (hip * flare, hem), (-hip * flare, hem)]
        )
    sketch.blob(
        Role.MAIN,
        [
            (-broad, shoulder + 0.03),
            (-broad * 0.55, shoulder),
            (broad * 0.55, shoulder),
            (broad, shoulder + 0.03),
            (hip * 0.92, -leg - body * 0.35),
            (hip, -leg + 0.03),
            (-hip, -leg + 0.03),
            (-hip * 0.92, -leg - body * 0.35),
        ],
    )
    if not dress:
        sketch.box(Role.DARK if dice.chance(0.5) else Role.SECOND, -hip, -leg - 0.01, hip, -leg + 0.035, 0.01)
    if not side:
        draw_arm(-1, Role.MAIN if sleeve < 0.5 else Role.FAR, Role.SKIN)
    draw_arm(-1 if side else 1, Role.FAR, Role.SKIN)
    _head(dice, sketch, 0.02 if side else 0, shoulder - r * 1.2, r, profile=side)
    return sketch


def rider(dice: Dice, seat: Point, hold: Point, foot: Point, size: float) -> Sketch:
    """Someone in side view who sits at `seat`, holds on at `hold` and rests a foot at `foot`."""
    sketch = Sketch()
    limb, r = 0.1 * size, 0.105 * size
    lean = dice.between(0.05, 0.3) * (hold[0] - seat[0])
    shoulder = (seat[0] + lean, seat[1] - dice.between(0.38, 0.44) * size)
    sleeve = dice.pick((0.3, 1.0))
    _arm(sketch, Role.FAR, Role.SKIN_FAR, shoulder, (hold[0] + 0.02, hold[1]), 0.08, limb * 0.9, sleeve)
    reach = foot[1] - seat[1]
    knee = (max(seat[0], foot[0]) + 0.16 * size, seat[1] + reach * 0.42)
    shin = (foot[0] + 0.07 * size, foot[1])
    sketch.limb(Role.SECOND_FAR, seat, (knee[0] + 0.05, knee[1] - 0.02), limb * 1.4, limb)
    sketch.blob(
        Role.MAIN,
        [
            (shoulder[0] - limb * 0.9, shoulder[1]),
            (shoulder[0] + limb * 0.6, shoulder[1] - limb * 0.2),
            (shoulder[0] + limb, shoulder[1] + limb),
            (seat[0] + limb * 1.05, seat[1] - limb),
            (seat[0] + limb, seat[1] + limb * 0.3),
            (seat[0] - limb * 1.1, seat[1] + limb * 0.4),
            (seat[0] - limb * 1.2, seat[1] - limb),
        ],
    )
    sketch.limb(Role.SECOND, seat, knee, limb * 1.5, limb * 1.15)
    sketch.limb(Role.SECOND, knee, foot, limb * 1.1, limb * 0.85)
    sketch.limb(dice.pick((Role.DARK, Role.ACCENT)), foot, shin, limb * 0.75, limb * 0.6)
    neck = (shoulder[0] + 0.02 * size, shoulder[1] - r * 0.5)
    sketch.limb(Role.SKIN_FAR, shoulder, neck, r * 0.85)
    _head(dice, sketch, neck[0] + 0.015 * size, neck[1] - r * 0.75, r, profile=True)
    _arm(sketch, Role.FAR, Role.SKIN, (shoulder[0], shoulder[1] + limb * 0.4), hold, 0.12, limb * 0.9, sleeve)
    return sketch
