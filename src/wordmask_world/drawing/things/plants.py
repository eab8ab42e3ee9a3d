"""Things that grow: plants in pots, mushrooms."""

from __future__ import annotations

import math

from wordmask_world.drawing.dice import Dice
from wordmask_world.drawing.sketch import Role, Sketch


def _leaf(sketch: Sketch, role: int, root: tuple[float, float], tip: tuple[float, float], width: float) -> None:
    (x0, y0), (x1, y1) = root, tip
    length = math.hypot(x1 - x0, y1 - y0)
    nx, ny = -(y1 - y0) / length * width, (x1 - x0) / length * width
    x, y = x0 * 0.5 + x1 * 0.5, y0 * 0.5 + y1 * 0.5
    sketch.blob(role, [(x0, y0), (x + nx, y + ny), (x1, y1), (x - nx, y - ny)])


def potted_plant(dice: Dice) -> Sketch:
    """A pot with leaves above it: broad leaves, a bush, a cactus, or flowers."""
    sketch = Sketch()
    tall, wide = dice.between(0.26, 0.4), dice.between(0.17, 0.25)
    foot = wide * dice.between(0.6, 0.95)
    kind = dice.weighted({"leaves": 0.38, "bush": 0.2, "cactus": 0.17, "flowers": 0.25})
    soil = -tall + 0.03
    if kind == "leaves":
        count = dice.whole(6, 9)
        broad = dice.between(0.045, 0.1)
        for index in dice.shuffled(range(count)):
            spread = (index - (count - 1) / 2) / (count - 1) * dice.between(1.7, 2.3)
            length = dice.between(0.42, 0.65) * (1 - 0.18 * abs(spread))
            tip = (math.sin(spread) * length, soil - math.cos(spread) * length)
            role = dice.pick((Role.MAIN, Role.MAIN, Role.FAR, Role.LIT))
            _leaf(sketch, role, (spread * 0.04, soil), tip, broad)
    elif kind == "bush":
        radius = dice.between(0.22, 0.3)
        trunk = dice.between(0.1, 0.35)
        sketch.limb(Role.HAIR, (0, soil), (0, soil - trunk - radius), 0.05)
        middle = soil - trunk - radius * 0.8
        for index in range(9):
            angle = index * 2 * math.pi / 9 + dice.between(-0.2, 0.2)
            x, y = math.cos(angle) * radius * 0.7, middle + math.sin(angle) * radius * 0.7
            sketch.dot(Role.MAIN, x, y, radius * dice.between(0.42, 0.55))
        sketch.dot(Role.MAIN, 0, middle, radius * 0.8)
        for _ in range(10):
            x, y = dice.between(-0.85, 0.85) * radius, middle + dice.between(-0.85, 0.85) * radius
            _leaf(sketch, dice.pick((Role.FAR, Role.LIT)), (x, y), (x + 0.07, y - dice.between(-0.05, 0.08)), 0.025)
    elif kind == "cactus":
        height, thick = dice.between(0.42, 0.62), dice.between(0.15, 0.2)
        sketch.limb(Role.MAIN, (0, soil), (0, soil - height + thick / 2), thick)
        for side in dice.some((-1, 1), dice.whole(1, 2)):
            y, up = soil - height * dice.between(0.35, 0.6), dice.between(0.1, 0.2)
            reach = side * (thick / 2 + 0.12)
            sketch.curve(Role.MAIN, [(0, y), (reach * 0.75, y), (reach, y - up * 0.5), (reach, y - up)], thick * 0.6)
        for x in (-0.28, 0.0, 0.28):
            sketch.limb(Role.FAR, (x * thick, soil), (x * thick, soil - height + thick * 0.6), 0.014)
        if dice.chance(0.5):
            sketch.dot(Role.ACCENT, 0, soil - height, 0.05)
    else:
        for _ in range(4):
            side = dice.sign()
            tip = (side * dice.between(0.12, 0.28), soil - dice.between(0.05, 0.25))
            _leaf(sketch, dice.pick((Role.MAIN, Role.FAR)), (0, soil), tip, 0.05)
        petal = dice.between(0.06, 0.085)
        count = dice.whole(2, 4)
        for index in range(count):
            x = (index - (count - 1) / 2) * dice.between(0.16, 0.22)
            y = soil - dice.between(0.36, 0.6) + abs(x) * 0.4
            sketch.curve(Role.FAR, [(x * 0.15, soil), (x * 0.7, (soil + y) / 2), (x, y)], 0.032)
            for turn in range(6):
                angle = turn * math.pi / 3
                sketch.dot(Role.SECOND, x + math.cos(angle) * petal, y + math.sin(angle) * petal, petal * 0.72)
            sketch.dot(Role.ACCENT, x, y, petal * 0.62)
    pot = Role.ACCENT if kind != "flowers" else Role.LIT
    rim = dice.between(0.06, 0.1)
    if dice.chance(0.25):
        sketch.turned(pot, [(wide * 0.8, -tall), (wide, -tall * 0.6), (wide * 0.9, -tall * 0.2), (foot * 0.7, 0)])
    else:
        sketch.poly(pot, [(-wide * 0.92, -tall), (wide * 0.92, -tall), (foot * 0.9, 0), (-foot * 0.9, 0)])
    if dice.chance(0.75):
        sketch.box(dice.pick((pot, Role.DARK, Role.HAIR)), -wide, -tall - 0.01, wide, -tall + rim, 0.015)
    if dice.chance(0.4):
        sketch.poly(
            Role.SECOND,
            [
                (-wide * 0.84, -tall * 0.6),
                (wide * 0.84, -tall * 0.6),
                (wide * 0.78, -tall * 0.4),
                (-wide * 0.78, -tall * 0.4),
            ],
        )
    return sketch


def _toadstool(dice: Dice, sketch: Sketch, x: float, height: float, lean: float) -> None:
    wide = height * dice.between(0.34, 0.6)
    dome = height * dice.between(0.3, 0.6)
    stem = height * dice.between(0.1, 0.17)
    top = (x + lean, -height + dome * 0.8)
    stalk = dice.pick((Role.LIT, Role.LIGHT, Role.SECOND))
    sketch.poly(
        stalk,
        [
            (top[0] - stem * 0.8, top[1]),
            (top[0] + stem * 0.8, top[1]),
            (x + stem * 1.3, -0.02),
            (x + stem, 0),
            (x - stem, 0),
            (x - stem * 1.3, -0.02),
        ],
    )
    if dice.chance(0.5):
        y = top[1] * 0.75
        middle = x + lean * 0.7
        sketch.poly(
            Role.SECOND_FAR if stalk == Role.SECOND else Role.FAR,
            [
                (middle - stem, y),
                (middle + stem, y),
                (middle + stem * 1.5, y + stem * 0.7),
                (middle - stem * 1.5, y + stem * 0.7),
            ],
        )
    sketch.ellipse(Role.SECOND_FAR, top[0], top[1], wide * 0.98, wide * 0.16)
    sag = dice.between(0.0, 0.12) * height
    point = dice.between(0.75, 1.0)
    sketch.blob(
        Role.MAIN,
        [
            (top[0] - wide, top[1] + sag),
            (top[0] - wide * 0.8 * point, top[1] - dome * 0.62),
            (top[0], top[1] - dome),
            (top[0] + wide * 0.8 * point, top[1] - dome * 0.62),
            (top[0] + wide, top[1] + sag),
            (top[0] + wide * 0.5, top[1] + sag * 0.3),
            (top[0] - wide * 0.5, top[1] + sag * 0.3),
        ],
    )
    if dice.chance(0.6):
        spot = dice.pick((Role.LIGHT, Role.ACCENT, Role.SECOND))
        for across, up in ((-0.5, 0.35), (0.0, 0.7), (0.45, 0.45), (-0.05, 0.25), (0.75, 0.15)):
            r = wide * dice.between(0.08, 0.15)
            sketch.ellipse(spot, top[0] + across * wide, top[1] - up * dome, r, r * 0.8)


def mushroom(dice: Dice) -> Sketch:
    """A domed cap, often spotted, on a stalk; alone or in a group."""
    sketch = Sketch()
    count = dice.weighted({1: 0.55, 2: 0.25, 3: 0.2})
    for index in range(1, count):
        side = -1 if index == 1 else 1
        _toadstool(dice, sketch, side * dice.between(0.28, 0.42), dice.between(0.4, 0.62), side * dice.between(0, 0.08))
    _toadstool(dice, sketch, 0, dice.between(0.75, 0.95), dice.between(-0.08, 0.08))
    return sketch
