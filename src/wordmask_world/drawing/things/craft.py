"""What flies and floats: aeroplanes and boats. All move to the right."""

from __future__ import annotations

from wordmask_world.drawing.dice import Dice
from wordmask_world.drawing.sketch import Role, Sketch


def aeroplane(dice: Dice) -> Sketch:
    """A tube with swept wings and a tail fin: from the side, from above, or a small one with a propeller."""
    kind = dice.weighted({"side": 0.5, "above": 0.28, "propeller": 0.22})
    sketch = {"side": _jet, "above": _jet_from_above, "propeller": _propeller_plane}[kind](dice)
    tilt = dice.between(-0.5, 0.5) if kind == "above" else dice.between(-0.4, 0.08)
    return sketch.moved(0, 0, angle=tilt)


def _jet(dice: Dice) -> Sketch:
    sketch = Sketch()
    long, thick = dice.between(0.56, 0.66), dice.between(0.075, 0.11)
    sweep, span = dice.between(0.2, 0.36), dice.between(0.24, 0.38)
    wing = dice.pick((Role.FAR, Role.SECOND, Role.METAL))
    sketch.poly(
        wing, [(0.12, -0.02), (-0.06 - sweep * 0.55, -span * 0.75), (-0.16 - sweep * 0.5, -span * 0.75), (-0.14, -0.02)]
    )
    fin = dice.between(0.2, 0.3)
    sketch.poly(
        dice.pick((Role.ACCENT, Role.SECOND, Role.MAIN)),
        [
            (-long + 0.26, -thick * 0.6),
            (-long + 0.03, -thick - fin),
            (-long - 0.08, -thick - fin),
            (-long + 0.02, -thick * 0.3),
        ],
    )
    sketch.blob(
        Role.MAIN,
        [
            (long, 0.02),
            (long - 0.1, -thick * 0.75),
            (long - 0.24, -thick),
            (-long * 0.5, -thick),
            (-long, -thick * 0.8),
            (-long * 0.75, thick * 0.1),
            (-long * 0.3, thick),
            (long - 0.2, thick),
            (long - 0.05, thick * 0.6),
        ],
    )
    if dice.chance(0.5):
        sketch.limb(Role.ACCENT, (-long * 0.7, thick * 0.2), (long - 0.1, thick * 0.3), 0.03)
    for index in range(dice.whole(7, 11)):
        sketch.dot(Role.GLASS, long - 0.24 - index * 0.085, -thick * 0.25, 0.019)
    sketch.poly(Role.GLASS, [(long - 0.09, -thick * 0.7), (long - 0.035, -thick * 0.3), (long - 0.13, -thick * 0.28)])
    sketch.poly(
        wing, [(-long + 0.2, -thick * 0.4), (-long - 0.1, 0.02), (-long - 0.16, 0.0), (-long + 0.06, -thick * 0.5)]
    )
    sketch.poly(
        wing, [(0.2, thick * 0.35), (-sweep, thick + span), (-sweep - 0.13, thick + span), (-0.14, thick * 0.4)]
    )
    if dice.chance(0.7):
        x, y = 0.09 - sweep * 0.35, thick + span * 0.36
        sketch.box(Role.METAL if wing != Role.METAL else Role.MAIN, x - 0.07, y - 0.01, x + 0.11, y + 0.08, 0.035)
        sketch.ellipse(Role.DARK, x + 0.1, y + 0.035, 0.018, 0.038)
    return sketch


def _jet_from_above(dice: Dice) -> Sketch:
    sketch = Sketch()
    long, thick = dice.between(0.52, 0.62), dice.between(0.06, 0.085)
    sweep, span, chord = dice.between(0.12, 0.4), dice.between(0.42, 0.58), dice.between(0.16, 0.24)
    wing = dice.pick((Role.MAIN, Role.SECOND, Role.FAR))
    tip = chord * dice.between(0.35, 0.6)
    for side in (-1, 1):
        sketch.poly(
            wing, [(0.16, 0), (0.06 - sweep, side * span), (0.06 - sweep - tip, side * span), (0.16 - chord * 1.4, 0)]
        )
        if dice.chance(0.7):
            sketch.limb(
                Role.METAL, (0.07 - sweep * 0.4, side * span * 0.45), (0.17 - sweep * 0.4, side * span * 0.45), 0.07
            )
        tail = span * 0.42
        sketch.poly(
            wing, [(-long + 0.18, 0), (-long + 0.02, side * tail), (-long - 0.07, side * tail), (-long + 0.02, 0)]
        )
    sketch.blob(
        Role.MAIN if wing != Role.MAIN else Role.LIT,
        [
            (long, 0),
            (long - 0.1, -thick * 0.8),
            (long - 0.25, -thick),
            (-long * 0.4, -thick),
            (-long, -0.02),
            (-long, 0.02),
            (-long * 0.4, thick),
            (long - 0.25, thick),
            (long - 0.1, thick * 0.8),
        ],
    )
    sketch.poly(
        Role.GLASS,
        [
            (long - 0.07, -thick * 0.55),
            (long - 0.03, 0),
            (long - 0.07, thick * 0.55),
            (long - 0.14, thick * 0.6),
            (long - 0.14, -thick * 0.6),
        ],
    )
    sketch.limb(Role.ACCENT, (-long + 0.2, 0), (-long - 0.06, 0), 0.03, 0.045)
    return sketch


def _propeller_plane(dice: Dice) -> Sketch:
    sketch = Sketch()
    long, thick = dice.between(0.46, 0.54), dice.between(0.1, 0.14)
    wing = dice.pick((Role.SECOND, Role.ACCENT, Role.LIT))
    biplane = dice.chance(0.5)
    for x in (0.12, 0.26):
        if biplane:
            sketch.limb(Role.DARK, (x, 0), (x - 0.02, -thick - 0.2), 0.02)
    sketch.poly(
        Role.ACCENT,
        [(-long + 0.2, -0.05), (-long - 0.02, -thick - 0.19), (-long - 0.1, -thick - 0.15), (-long - 0.04, 0)],
    )
    for x in (0.14, 0.3):
        sketch.limb(Role.DARK, (0.22, thick * 0.6), (x, thick + 0.1), 0.025)
    sketch.dot(Role.DARK, 0.24, thick + 0.13, 0.06)
    sketch.dot(Role.METAL, 0.24, thick + 0.13, 0.025)
    sketch.blob(
        Role.MAIN,
        [
            (long * 0.8, -thick * 0.8),
            (0.1, -thick),
            (-long * 0.6, -thick * 0.5),
            (-long, -thick * 0.4),
            (-long, 0),
            (-long * 0.4, thick * 0.5),
            (0.1, thick),
            (long * 0.8, thick * 0.8),
        ],
    )
    sketch.half_disc(Role.GLASS, 0.02, -thick * 0.8, 0.12, 0.1)
    sketch.box(Role.FAR, long * 0.72, -thick * 0.85, long * 0.95, thick * 0.85, 0.04)
    sketch.ellipse(wing, 0.1, thick * 0.45, 0.2, 0.045, -0.05)
    if biplane:
        sketch.ellipse(wing, 0.15, -thick - 0.2, 0.24, 0.04, -0.05)
    sketch.ellipse(wing, -long + 0.02, -0.03, 0.12, 0.03)
    sketch.ellipse(Role.METAL, long * 1.02, 0, 0.028, dice.between(0.22, 0.3))
    sketch.dot(Role.ACCENT, long * 1.02, 0, 0.05)
    return sketch


def boat(dice: Dice) -> Sketch:
    """A hull that curves up to the bow: with sails, a cabin, a funnel, or just thwarts and oars."""
    sketch = Sketch()
    kind = dice.weighted({"sails": 0.48, "cabin": 0.34, "rowing": 0.18})
    long, deep = dice.between(0.42, 0.54), dice.between(0.14, 0.22)
    deck = -deep
    if kind == "sails":
        mast, tall = dice.between(-0.06, 0.1), dice.between(0.62, 0.9)
        boom = deck - dice.between(0.06, 0.1)
        sketch.limb(Role.HAIR, (mast, deck + 0.03), (mast, deck - tall - 0.04), 0.026)
        belly = dice.between(0.04, 0.12)
        sail = dice.pick((Role.SECOND, Role.LIGHT, Role.MAIN))
        aft = -long * dice.between(0.75, 0.95)
        sketch.blob(
            sail,
            [
                (mast - 0.02, deck - tall),
                (mast - 0.02, (deck + boom - tall) / 2),
                (mast - 0.02, boom),
                (aft * 0.6, boom + 0.01),
                (aft, boom),
                ((aft + mast) / 2 - belly, (boom + deck - tall) / 2),
            ],
        )
        if dice.chance(0.75):
            fore = long * dice.between(0.8, 1.05)
            sketch.poly(
                dice.pick((sail, Role.ACCENT, Role.LIT)),
                [
                    (mast + 0.02, deck - tall * dice.between(0.75, 0.95)),
                    (mast + 0.16, deck - tall * 0.42),
                    (fore, boom),
                    (mast + 0.02, boom - 0.01),
                ],
            )
        if dice.chance(0.4):
            sketch.poly(
                Role.ACCENT, [(mast, deck - tall - 0.05), (mast - 0.13, deck - tall - 0.01), (mast, deck - tall + 0.03)]
            )
    elif kind == "cabin":
        high = dice.between(0.17, 0.24)
        back, front = -long * dice.between(0.55, 0.75), long * dice.between(0.1, 0.4)
        house = dice.pick((Role.SECOND, Role.LIGHT, Role.LIT))
        sketch.poly(
            house, [(back, deck - high), (front - 0.08, deck - high), (front, deck + 0.03), (back, deck + 0.03)]
        )
        count = dice.whole(2, 4)
        pitch = (front - back - 0.1) / count
        for index in range(count):
            x = back + 0.04 + index * pitch
            sketch.box(Role.GLASS, x, deck - high * 0.78, x + pitch * 0.7, deck - high * 0.36, 0.015)
        sketch.box(Role.ACCENT, back - 0.03, deck - high - 0.03, front - 0.05, deck - high + 0.005, 0.01)
        if dice.chance(0.6):
            x = back + 0.12 + dice.between(0, 0.12)
            sketch.poly(
                Role.ACCENT,
                [(x, deck - high - 0.2), (x + 0.12, deck - high - 0.2), (x + 0.13, deck - high), (x, deck - high)],
            )
            sketch.box(Role.DARK, x - 0.005, deck - high - 0.21, x + 0.125, deck - high - 0.15)
        else:
            sketch.limb(Role.DARK, (back + 0.15, deck - high), (back + 0.15, deck - high - 0.28), 0.02)
    else:
        for x in (-0.15, 0.18):
            sketch.limb(
                Role.HAIR, (x, deck - dice.between(0.08, 0.14)), (x - 0.24, dice.between(-0.06, 0.02)), 0.025, 0.045
            )
        sketch.ellipse(Role.FAR, 0, deck + 0.015, long * 0.96, 0.04)
    bow, stern = long + dice.between(0.03, 0.12), dice.between(0.0, 0.08)
    hull = [
        (-long - stern * 0.3, deck - stern),
        (-long * 0.4, deck + 0.015),
        (long * 0.4, deck + 0.01),
        (bow, deck - 0.08),
    ]
    keel = dice.between(0.6, 0.85)
    sketch.poly(
        Role.MAIN,
        [*hull, (long * keel, -0.02), (long * keel - 0.06, 0), (-long * keel, 0), (-long * keel - 0.06, -0.03)],
    )
    band = 0.03
    if dice.chance(0.6):
        sketch.poly(Role.ACCENT, [*hull, *((x * 0.985, y + band + 0.01) for x, y in reversed(hull))])
    if dice.chance(0.4):
        sketch.poly(
            Role.FAR,
            [(-long * keel - 0.035, -0.045), (long * keel + 0.035, -0.045), (long * keel - 0.06, 0), (-long * keel, 0)],
        )
    if dice.chance(0.35) and kind == "cabin":
        for x in (-0.2, 0.0, 0.2):
            sketch.dot(Role.GLASS, x, deck * 0.55, 0.026)
    sketch.places = {"seat": (0, deck)}
    return sketch
