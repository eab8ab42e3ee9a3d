"""Small things of the house: bottles, bowls, cups, umbrellas."""

from __future__ import annotations

import math
from itertools import pairwise

from wordmask_world.drawing.dice import Dice
from wordmask_world.drawing.sketch import Role, Sketch


def bottle(dice: Dice) -> Sketch:
    """Tall and narrow with a thinner neck: wine, milk, lemonade, a flask; label and cap."""
    sketch = Sketch()
    tall = dice.between(0.85, 1.0)
    wide = dice.between(0.13, 0.2)
    neck = wide * dice.between(0.26, 0.45)
    kind = dice.weighted({"wine": 0.35, "sloped": 0.35, "flask": 0.3})
    if kind == "wine":
        shoulder, start = -tall * dice.between(0.55, 0.66), -tall * dice.between(0.7, 0.78)
        profile = [(neck, -tall), (neck, start), (wide * 0.7, (start + shoulder) / 2), (wide, shoulder)]
    elif kind == "sloped":
        shoulder, start = -tall * dice.between(0.4, 0.55), -tall * dice.between(0.82, 0.9)
        profile = [(neck, -tall), (neck, start), (wide * 0.62, start * 0.6 + shoulder * 0.4), (wide, shoulder)]
    else:
        tall *= 0.85
        wide *= 1.15
        shoulder, start = -tall * dice.between(0.62, 0.72), -tall * 0.84
        profile = [(neck * 1.2, -tall), (neck * 1.2, start), (wide * 0.75, start + 0.03), (wide, shoulder)]
    if dice.chance(0.25):
        waist = shoulder * 0.55
        profile += [(wide, waist - 0.1), (wide * 0.82, waist), (wide, waist + 0.1)]
    profile += [(wide, -0.05), (wide * 0.9, -0.01), (wide * 0.7, 0)]
    sketch.turned(Role.MAIN, profile)
    if dice.chance(0.75):
        high, low = shoulder + 0.04, max(shoulder * dice.between(0.3, 0.6), shoulder + 0.12)
        label = dice.pick((Role.LIGHT, Role.SECOND, Role.ACCENT))
        sketch.box(label, -wide * 1.005, high, wide * 1.005, low)
        if dice.chance(0.5):
            mark = Role.DARK if label == Role.LIGHT else Role.LIGHT
            sketch.dot(mark, 0, (high + low) / 2, min(wide * 0.5, (low - high) * 0.32))
        else:
            for share in (0.35, 0.6):
                y = high + (low - high) * share
                sketch.limb(Role.DARK, (-wide * 0.6, y), (wide * 0.5, y), 0.016)
    sketch.limb(Role.LIT, (-wide * 0.62, shoulder + 0.06), (-wide * 0.62, -0.12), wide * 0.16)
    cap = dice.between(0.05, 0.09)
    rim = neck * (1.25 if kind != "flask" else 1.4)
    sketch.box(dice.pick((Role.ACCENT, Role.DARK, Role.METAL)), -rim, -tall - cap * 0.5, rim, -tall + cap * 0.6, 0.012)
    return sketch


def cup(dice: Dice) -> Sketch:
    """Higher than a bowl, and with a handle; mug or tea cup, sometimes on a saucer."""
    sketch = Sketch()
    tall, wide = dice.between(0.5, 0.72), dice.between(0.3, 0.38)
    kind = dice.weighted({"mug": 0.5, "tapered": 0.3, "tea": 0.2})
    if kind == "tea":
        tall = dice.between(0.4, 0.46)
    base = {"mug": dice.between(0.92, 1.0), "tapered": dice.between(0.6, 0.75), "tea": 0.5}[kind]
    rim = dice.between(0.045, 0.09)
    if kind == "tea" or dice.chance(0.15):
        sketch.ellipse(Role.SECOND, 0, -0.02, wide * 1.55, 0.06)
        sketch.ellipse(Role.SECOND_FAR, 0, -0.035, wide * 0.9, 0.03)
    handle = dice.between(0.14, 0.22)
    high, low = -tall * dice.between(0.78, 0.86), -tall * dice.between(0.28, 0.4)
    edge = wide * (1 + base) / 2
    sketch.curve(
        dice.pick((Role.MAIN, Role.FAR, Role.ACCENT)),
        [
            (edge * 0.95, high),
            (edge + handle * 0.85, high),
            (edge + handle, (high + low) / 2),
            (edge + handle * 0.7, low + 0.01),
            (edge * 0.86, low),
        ],
        dice.between(0.055, 0.085),
    )
    bulge = 1.0 if kind != "tea" else 1.12
    sketch.turned(
        Role.MAIN,
        [
            (wide, -tall),
            (wide * (1 + base) / 2 * bulge, -tall * 0.5),
            (wide * base, -0.06),
            (wide * base * 0.9, -0.01),
            (wide * base * 0.6, 0.015),
        ],
    )
    if dice.chance(0.4):
        middle, half = -tall * 0.5, tall * dice.between(0.08, 0.16)
        inner = wide * (1 + base) / 2 * bulge
        if dice.chance(0.5):
            sketch.box(Role.SECOND, -inner, middle - half, inner, middle + half)
        else:
            sketch.dot(Role.SECOND, -0.02, middle, half * 1.3)
    sketch.ellipse(Role.LIT, 0, -tall, wide, rim)
    sketch.ellipse(dice.pick((Role.FAR, Role.HAIR, Role.DARK)), 0, -tall + 0.008, wide * 0.86, rim * 0.72)
    if dice.chance(0.3):
        for x in (-0.1, 0.1):
            sketch.curve(
                Role.LIGHT,
                [(x, -tall - 0.06), (x + 0.05, -tall - 0.15), (x - 0.03, -tall - 0.24), (x + 0.02, -tall - 0.32)],
                0.035,
                0.015,
            )
    return sketch


def bowl(dice: Dice) -> Sketch:
    """Wide and low, half round, no handle; empty, or filled with fruit, soup or rice."""
    sketch = Sketch()
    wide, deep = dice.between(0.45, 0.55), dice.between(0.3, 0.44)
    rim = dice.between(0.05, 0.11)
    top = -deep
    filling = dice.weighted({"empty": 0.35, "soup": 0.25, "fruit": 0.25, "heap": 0.15})
    foot = wide * dice.between(0.3, 0.5)
    sketch.ellipse(Role.LIT, 0, top, wide, rim)
    inner = {"soup": Role.ACCENT, "empty": Role.FAR}.get(filling, Role.FAR)
    sketch.ellipse(inner, 0, top + 0.008, wide * 0.9, rim * 0.75)
    if filling == "fruit":
        roles = dice.shuffled((Role.ACCENT, Role.SECOND, Role.SECOND_FAR))
        for index, x in enumerate((-0.55, 0.5, -0.02)):
            r = dice.between(0.11, 0.14)
            sketch.dot(roles[index], x * wide, top - r * (0.35 if index < 2 else 0.7), r)
    elif filling == "heap":
        sketch.half_disc(
            dice.pick((Role.LIGHT, Role.ACCENT, Role.SECOND)), 0, top + 0.03, wide * 0.78, dice.between(0.12, 0.2)
        )
    shape = dice.between(0.55, 0.85)
    half = [(wide * math.cos(t) ** shape, top + deep * math.sin(t)) for t in (0, 0.25, 0.5, 0.75, 1.0, 1.2, 1.4)]
    sketch.box(Role.FAR, -foot, -0.05, foot, 0.02, 0.012)
    front = [(-wide * math.cos(t), top + rim * math.sin(t)) for t in (0.3, 0.8, 1.57, 2.34, 2.84)]
    sketch.poly(Role.MAIN, [(x, y) for x, y in half] + [(-x, y) for x, y in reversed(half)] + front)
    if dice.chance(0.45):
        y = top + deep * dice.between(0.35, 0.5)
        reach = wide * math.cos(math.asin((y - top) / deep)) ** shape * 0.97
        sketch.curve(Role.SECOND, [(-reach, y), (0, y + rim * 0.9), (reach, y)], dice.between(0.035, 0.07))
    return sketch


def umbrella(dice: Dice) -> Sketch:
    """An open canopy with a scalloped hem over a stick with a hook."""
    sketch = Sketch()
    wide, dome = dice.between(0.46, 0.56), dice.between(0.3, 0.44)
    stick = dice.between(0.5, 0.7)
    hook = dice.between(0.06, 0.09)
    shaft = dice.pick((Role.DARK, Role.METAL, Role.HAIR))
    sketch.limb(shaft, (0, -dome * 0.5), (0, stick), 0.032)
    sketch.curve(
        shaft,
        [(0, stick), (hook * 0.25, stick + hook), (hook * 1.3, stick + hook), (hook * 1.8, stick + hook * 0.2)],
        0.045,
    )
    sketch.limb(shaft, (0, -dome - 0.07), (0, -dome + 0.05), 0.03)
    panels = dice.pick((4, 5, 6))
    sag = dice.between(0.05, 0.09)
    points = [
        (-wide, 0.0),
        (-wide * 0.93, -dome * 0.42),
        (-wide * 0.66, -dome * 0.78),
        (-wide * 0.3, -dome * 0.97),
        (0, -dome),
    ]
    points += [(-x, y) for x, y in reversed(points[:-1])]
    ribs = [wide - index * 2 * wide / panels for index in range(panels + 1)]
    for right, left in pairwise(ribs):
        points += [
            (right * 0.75 + left * 0.25, -sag * 0.75),
            ((right + left) / 2, -sag),
            (right * 0.25 + left * 0.75, -sag * 0.75),
            (left, 0),
        ]
    sketch.poly(Role.MAIN, points)
    style = dice.weighted({"ribs": 0.5, "panels": 0.35, "plain": 0.15})
    for index, x in enumerate(ribs[:-1]):
        following = ribs[index + 1]
        bow = [(x * 1.0, 0), (x * 0.86, -dome * 0.5), (x * 0.45, -dome * 0.9), (0, -dome)]
        if style == "panels" and index % 2 == 0:
            other = [(following, 0), (following * 0.86, -dome * 0.5), (following * 0.45, -dome * 0.9), (0, -dome)]
            sketch.poly(Role.SECOND, [*bow, *reversed(other), ((x + following) / 2, -sag)])
        elif style == "ribs" and index > 0:
            sketch.curve(Role.FAR, bow, 0.018)
    return sketch.moved(0, 0, angle=dice.between(-0.35, 0.35))
