"""What rolls on four wheels and more: cars, buses, trains. All drive to the right unless seen from the front."""

from __future__ import annotations

from wordmask_world.drawing.dice import Dice
from wordmask_world.drawing.sketch import Role, Sketch


def _wheel(dice: Dice, sketch: Sketch, x: float, r: float, hub: int) -> None:
    sketch.dot(Role.DARK, x, -r, r)
    sketch.dot(hub, x, -r, r * dice.between(0.45, 0.62))
    if dice.chance(0.5):
        sketch.dot(Role.DARK, x, -r, r * 0.18)


def _headlights(sketch: Sketch, across: float, y: float, r: float) -> None:
    for side in (-1, 1):
        sketch.dot(Role.LIGHT, side * across, y, r)


def car(dice: Dice) -> Sketch:
    """A low body with a rounded cabin over two big wheels; or its face with two lights."""
    return _car_front(dice) if dice.chance(0.22) else _car_side(dice)


def _car_side(dice: Dice) -> Sketch:
    sketch = Sketch()
    long, r = dice.between(0.42, 0.52), dice.between(0.095, 0.125)
    sill, waist, tall = -r * 0.75, -r * 0.75 - dice.between(0.16, 0.21), dice.between(0.14, 0.2)
    kind = dice.weighted({"saloon": 0.35, "hatchback": 0.3, "beetle": 0.15, "pick-up": 0.2})
    roof = waist - tall
    front = long * dice.between(0.35, 0.5)
    if kind == "saloon":
        rear, back, screen = -long * 0.7, -long * 0.38, front - 0.17
    elif kind == "hatchback":
        rear, back, screen = -long * 0.98, -long * 0.8, front - 0.13
    elif kind == "beetle":
        rear, back, screen = -long * 0.85, -long * 0.35, front - 0.2
    else:
        rear, back, screen = -long * 0.12, -long * 0.08, front - 0.14
    cabin = [(rear, waist + 0.03), (back, roof), (screen, roof), (front, waist + 0.03)]
    if kind == "beetle":
        sketch.blob(
            Role.MAIN,
            [
                (-long, sill),
                (-long * 0.9, waist + 0.02),
                (-long * 0.5, roof + 0.02),
                (0, roof - 0.03),
                (front - 0.06, roof + 0.06),
                (front + 0.04, waist),
                (long * 0.88, waist + 0.05),
                (long, sill),
                (0, sill),
            ],
        )
    else:
        top = dice.pick((Role.MAIN, Role.MAIN, Role.SECOND))
        sketch.poly(top, cabin)
        sketch.limb(top, (back + 0.02, roof + 0.015), (screen - 0.02, roof + 0.015), 0.035)
    pane = 0.032
    post = back + (screen - back) * dice.between(0.42, 0.58)
    slope_front, slope_back = (front - screen) / (waist - roof), (rear - back) / (waist - roof)
    low, high = waist - 0.002, roof + pane
    left = (back + slope_back * (high - roof) + pane, back + slope_back * (low - roof) + pane * 1.2)
    right = (screen + slope_front * (high - roof) - pane, screen + slope_front * (low - roof) - pane * 1.2)
    if kind != "beetle":
        nose = dice.between(0.0, 0.05)
        sketch.blob(
            Role.MAIN,
            [
                (-long, sill),
                (-long, waist + 0.05),
                (-long + 0.05, waist),
                (0, waist - 0.005),
                (front, waist),
                (long - 0.06, waist + nose),
                (long, waist + 0.07),
                (long + 0.01, sill),
                (0, sill + 0.01),
            ],
        )
    if kind == "pick-up":
        sketch.box(Role.FAR, -long, waist - 0.005, rear, waist + 0.02)
        sketch.poly(Role.GLASS, [(left[0], high), (right[0], high), (right[1], low), (left[1], low)])
    else:
        sketch.poly(Role.GLASS, [(left[0], high), (post - 0.014, high), (post - 0.014, low), (left[1], low)])
        sketch.poly(Role.GLASS, [(post + 0.014, high), (right[0], high), (right[1], low), (post + 0.014, low)])
    sketch.limb(Role.FAR, (post, low), (post, sill - 0.01), 0.012)
    sketch.limb(Role.DARK, (post + 0.03, waist + 0.045), (post + 0.075, waist + 0.045), 0.016)
    if dice.chance(0.4):
        sketch.box(Role.SECOND, -long + 0.02, waist + 0.075, long - 0.02, waist + 0.115)
    axles = (-long * 0.6, long * 0.6)
    hub = dice.pick((Role.METAL, Role.LIGHT, Role.SECOND))
    for x in axles:
        sketch.half_disc(Role.FAR, x, sill, r * 1.25, r * 1.2)
        _wheel(dice, sketch, x, r, hub)
    sketch.ellipse(Role.LIGHT, long - 0.025, waist + 0.075, 0.03, 0.026)
    sketch.box(Role.ACCENT, -long - 0.004, waist + 0.06, -long + 0.04, waist + 0.105)
    for side in (-1, 1):
        sketch.limb(
            dice.pick((Role.METAL, Role.DARK)),
            (side * (long - 0.06), sill - 0.015),
            (side * (long + 0.02), sill - 0.02),
            0.035,
        )
    return sketch


def _car_front(dice: Dice) -> Sketch:
    sketch = Sketch()
    wide, r = dice.between(0.34, 0.42), dice.between(0.1, 0.13)
    waist, tall = -dice.between(0.3, 0.36), dice.between(0.17, 0.24)
    roof = waist - tall
    for side in (-1, 1):
        sketch.box(Role.DARK, side * (wide - 0.01), -r * 1.6, side * (wide - 0.12), 0, 0.03)
        sketch.ellipse(Role.FAR, side * (wide + 0.03), waist - 0.03, 0.05, 0.035)
    sketch.poly(
        Role.MAIN, [(-wide * 0.7, roof), (wide * 0.7, roof), (wide * 0.95, waist + 0.03), (-wide * 0.95, waist + 0.03)]
    )
    sketch.limb(Role.MAIN, (-wide * 0.66, roof + 0.01), (wide * 0.66, roof + 0.01), 0.04)
    sketch.poly(
        Role.GLASS, [(-wide * 0.62, roof + 0.03), (wide * 0.62, roof + 0.03), (wide * 0.8, waist), (-wide * 0.8, waist)]
    )
    sketch.box(Role.MAIN, -wide, waist, wide, -0.06, 0.07)
    sketch.limb(Role.FAR, (-wide * 0.85, waist + 0.035), (wide * 0.85, waist + 0.035), 0.014)
    sketch.box(dice.pick((Role.DARK, Role.METAL)), -wide * 0.45, waist + 0.08, wide * 0.45, waist + 0.15, 0.02)
    _headlights(sketch, wide * 0.74, waist + 0.11, dice.between(0.045, 0.065))
    sketch.box(dice.pick((Role.METAL, Role.FAR)), -wide * 1.02, -0.11, wide * 1.02, -0.055, 0.02)
    sketch.box(Role.LIGHT, -0.09, -0.115, 0.09, -0.065)
    return sketch


def bus(dice: Dice) -> Sketch:
    """A long tall box with a row of windows and small wheels; or a tall face with one big windscreen."""
    sketch = Sketch()
    if dice.chance(0.25):
        wide, tall = dice.between(0.27, 0.32), dice.between(0.68, 0.82)
        for side in (-1, 1):
            sketch.box(Role.DARK, side * (wide - 0.02), -0.1, side * (wide - 0.1), 0, 0.02)
            sketch.box(Role.DARK, side * (wide + 0.015), -tall * 0.8, side * (wide + 0.06), -tall * 0.6, 0.015)
        sketch.box(Role.MAIN, -wide, -tall, wide, -0.04, 0.06)
        sketch.box(Role.DARK, -wide * 0.6, -tall + 0.03, wide * 0.6, -tall + 0.1, 0.01)
        sketch.box(Role.LIGHT, -wide * 0.5, -tall + 0.045, wide * 0.5, -tall + 0.085)
        sketch.box(Role.GLASS, -wide + 0.03, -tall + 0.13, wide - 0.03, -tall * 0.42, 0.03)
        sketch.limb(Role.FAR, (0, -tall + 0.13), (0, -tall * 0.42), 0.014)
        if dice.chance(0.6):
            sketch.box(Role.SECOND, -wide, -tall * 0.38, wide, -tall * 0.3)
        _headlights(sketch, wide * 0.72, -0.15, 0.04)
        sketch.box(dice.pick((Role.DARK, Role.METAL)), -wide, -0.09, wide, -0.04, 0.02)
        return sketch
    long, tall, r = dice.between(0.56, 0.72), dice.between(0.36, 0.46), dice.between(0.06, 0.078)
    double = dice.chance(0.28)
    floor = -r * 0.8
    if double:
        tall *= 1.45
    sketch.box(Role.MAIN, -long, floor - tall, long, floor, dice.between(0.03, 0.08))
    if dice.chance(0.5):
        sketch.box(Role.SECOND, -long, floor - tall * 0.3, long, floor - tall * 0.2)
    if dice.chance(0.35):
        sketch.box(Role.LIT, -long + 0.03, floor - tall, long - 0.03, floor - tall * 0.93)
    decks = ((0.9, 0.64), (0.46, 0.24)) if double else ((0.86, 0.46),)
    count = dice.whole(4, 6)
    door = long - dice.between(0.2, 0.26)
    pitch = (door + long - 0.04) / count
    for deck, (top, bottom) in enumerate(decks):
        extra = 1 if double and deck == 0 else 0
        for index in range(count + extra):
            x = -long + 0.04 + index * pitch
            sketch.box(Role.GLASS, x + 0.012, floor - tall * top, x + pitch - 0.014, floor - tall * bottom, 0.012)
    sketch.box(Role.GLASS, door + 0.012, floor - tall * (0.46 if double else 0.86), door + 0.1, floor - 0.025, 0.01)
    sketch.limb(
        Role.FAR, (door + 0.056, floor - tall * (0.46 if double else 0.86)), (door + 0.056, floor - 0.025), 0.012
    )
    sketch.box(
        Role.GLASS, long - 0.075, floor - tall * (0.46 if double else 0.86), long - 0.005, floor - tall * 0.32, 0.015
    )
    hub = dice.pick((Role.METAL, Role.SECOND, Role.LIGHT))
    for x in (-long * 0.58, long * 0.42):
        sketch.half_disc(Role.FAR, x, floor, r * 1.3, r * 1.2)
        _wheel(dice, sketch, x, r, hub)
    sketch.dot(Role.LIGHT, long - 0.025, floor - tall * 0.14, 0.026)
    return sketch


def train(dice: Dice) -> Sketch:
    """A row of carriages on rails behind an engine: a bullet nose, a square cab, or a steam engine with a chimney."""
    sketch = Sketch()
    kind = dice.weighted({"bullet": 0.36, "square": 0.24, "steam": 0.4})
    r, tall = dice.between(0.045, 0.06), dice.between(0.28, 0.38)
    floor = -r * 1.5
    tail = -dice.between(0.35, 0.85)
    if dice.chance(0.75):
        for sleeper in range(round((0.62 - tail) / 0.09)):
            sketch.box(Role.HAIR, tail + sleeper * 0.09, 0, tail + sleeper * 0.09 + 0.045, 0.03)
        sketch.box(Role.METAL, tail - 0.02, -0.012, 0.64, 0.012)
    cars = 1 if tail > -0.5 else 2 if kind == "steam" else dice.whole(2, 3)
    end = 0.12
    pitch = (end - tail) / cars
    coach = Role.SECOND if kind == "steam" or dice.chance(0.3) else Role.MAIN
    sketch.limb(Role.DARK, (tail + 0.05, floor - 0.03), (0.4, floor - 0.03), 0.035)
    for index in range(cars):
        x0, x1 = tail + index * pitch + 0.012, tail + (index + 1) * pitch - 0.012
        sketch.box(coach, x0, floor - tall, x1, floor, 0.025)
        sketch.box(
            Role.FAR if coach == Role.MAIN else Role.SECOND_FAR,
            x0 + 0.01,
            floor - tall - 0.015,
            x1 - 0.01,
            floor - tall + 0.02,
        )
        if dice.chance(0.6):
            sketch.box(Role.ACCENT, x0, floor - tall * 0.33, x1, floor - tall * 0.2)
        panes = max(2, round((x1 - x0) / 0.13))
        gap = (x1 - x0 - 0.03) / panes
        for pane in range(panes):
            x = x0 + 0.015 + pane * gap
            sketch.box(Role.GLASS, x + 0.012, floor - tall * 0.8, x + gap - 0.012, floor - tall * 0.45, 0.01)
        for x in (x0 + 0.05, x0 + 0.14, x1 - 0.14, x1 - 0.05):
            sketch.dot(Role.DARK, x, -r, r)
            sketch.dot(Role.METAL, x, -r, r * 0.4)
    if kind == "steam":
        barrel = tall * dice.between(0.55, 0.7)
        big = r * dice.between(1.5, 1.9)
        sketch.box(Role.MAIN, end, floor - tall * 1.2, end + 0.18, floor, 0.01)
        sketch.box(Role.FAR, end - 0.025, floor - tall * 1.28, end + 0.2, floor - tall * 1.16, 0.01)
        sketch.box(Role.GLASS, end + 0.045, floor - tall * 1.02, end + 0.135, floor - tall * 0.62, 0.01)
        sketch.box(Role.MAIN, end + 0.16, floor - barrel - 0.03, end + 0.5, floor - 0.03, 0.05)
        sketch.box(Role.ACCENT, end + 0.27, floor - barrel - 0.03, end + 0.295, floor - 0.03)
        sketch.box(Role.ACCENT, end + 0.38, floor - barrel - 0.03, end + 0.4, floor - 0.03)
        flare = dice.between(0.03, 0.07)
        top = floor - barrel - dice.between(0.16, 0.24)
        sketch.poly(
            Role.DARK,
            [
                (end + 0.4 - flare, top),
                (end + 0.47 + flare, top),
                (end + 0.465, floor - barrel),
                (end + 0.405, floor - barrel),
            ],
        )
        sketch.half_disc(Role.ACCENT, end + 0.3, floor - barrel - 0.025, 0.045, 0.06)
        sketch.poly(Role.SECOND_FAR, [(end + 0.46, floor - 0.04), (end + 0.62, -0.01), (end + 0.44, -0.01)])
        sketch.dot(Role.LIGHT, end + 0.5, floor - barrel * 0.75, 0.03)
        for x in (end + 0.09, end + 0.24):
            sketch.dot(Role.DARK, x, -big, big)
            sketch.dot(Role.ACCENT, x, -big, big * 0.62)
            sketch.dot(Role.DARK, x, -big, big * 0.2)
        sketch.dot(Role.DARK, end + 0.4, -r, r)
        sketch.limb(Role.METAL, (end + 0.09, -big * 0.8), (end + 0.4, -r), 0.022)
        if dice.chance(0.5):
            for step, size in enumerate((0.05, 0.07, 0.09)):
                sketch.dot(Role.LIGHT, end + 0.42 - step * 0.1, top - 0.05 - step * 0.06, size)
        return sketch
    if kind == "bullet":
        sketch.blob(
            Role.MAIN,
            [
                (end - 0.02, floor),
                (end - 0.02, floor - tall),
                (end + 0.12, floor - tall),
                (end + 0.3, floor - tall * 0.78),
                (end + 0.5, floor - tall * 0.3),
                (end + 0.52, floor - 0.02),
                (end + 0.3, floor),
            ],
        )
        sketch.poly(
            Role.GLASS,
            [
                (end + 0.18, floor - tall * 0.86),
                (end + 0.28, floor - tall * 0.74),
                (end + 0.36, floor - tall * 0.5),
                (end + 0.2, floor - tall * 0.52),
            ],
        )
        sketch.poly(
            Role.ACCENT,
            [
                (end, floor - tall * 0.33),
                (end + 0.5, floor - tall * 0.2),
                (end + 0.51, floor - tall * 0.08),
                (end, floor - tall * 0.2),
            ],
        )
        sketch.dot(Role.LIGHT, end + 0.47, floor - tall * 0.28, 0.022)
    else:
        sketch.box(Role.MAIN, end, floor - tall * 1.08, end + 0.4, floor, 0.035)
        sketch.box(Role.GLASS, end + 0.27, floor - tall * 0.92, end + 0.385, floor - tall * 0.5, 0.015)
        sketch.box(Role.GLASS, end + 0.05, floor - tall * 0.92, end + 0.16, floor - tall * 0.5, 0.015)
        sketch.box(Role.ACCENT, end, floor - tall * 0.36, end + 0.4, floor - tall * 0.2)
        sketch.dot(Role.LIGHT, end + 0.37, floor - tall * 0.12, 0.026)
        if dice.chance(0.6):
            sketch.curve(
                Role.DARK,
                [(end + 0.12, floor - tall * 1.08), (end + 0.2, floor - tall * 1.35), (end + 0.1, floor - tall * 1.5)],
                0.018,
            )
            sketch.limb(Role.DARK, (end + 0.02, floor - tall * 1.5), (end + 0.18, floor - tall * 1.5), 0.018)
    for x in (end + 0.06, end + 0.16, end + 0.3):
        sketch.dot(Role.DARK, x, -r, r)
        sketch.dot(Role.METAL, x, -r, r * 0.4)
    return sketch
