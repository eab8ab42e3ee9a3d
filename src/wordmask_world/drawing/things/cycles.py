"""What rolls on two wheels: bicycles and motorbikes. All drive to the right."""

from __future__ import annotations

import math

from wordmask_world.drawing.dice import Dice
from wordmask_world.drawing.sketch import Role, Sketch


def _spoked(dice: Dice, sketch: Sketch, x: float, r: float, tyre: float, spokes: int, rubber: int = Role.DARK) -> None:
    turn = dice.between(0, 1)
    for spoke in range(spokes):
        angle = (spoke + turn) * math.pi / spokes
        dx, dy = math.cos(angle) * r * 0.93, math.sin(angle) * r * 0.93
        sketch.limb(Role.METAL, (x - dx, -r - dy), (x + dx, -r + dy), 0.011)
    sketch.ring(rubber, x, -r, r, tyre)
    sketch.dot(Role.METAL, x, -r, r * 0.13)


def bicycle(dice: Dice) -> Sketch:
    """Two thin wheels joined by a frame of tubes, handlebars and a saddle."""
    sketch = Sketch()
    r = dice.between(0.25, 0.3)
    base = dice.between(0.33, 0.4)
    tube, tyre = dice.between(0.036, 0.055), dice.between(0.035, 0.055)
    spokes = dice.pick((0, 3, 4, 5))
    rubber = dice.pick((Role.DARK, Role.DARK, Role.FAR, Role.SECOND, Role.METAL))
    for x in (-base, base):
        _spoked(dice, sketch, x, r, tyre, spokes, rubber)
    crank = (-0.05, -r * dice.between(0.85, 1.0))
    saddle = (-0.14 + dice.between(-0.02, 0.02), -r - dice.between(0.27, 0.36))
    head = (base - 0.11, -r - dice.between(0.27, 0.36))
    frame = Role.MAIN
    sketch.limb(frame, crank, (-base, -r), tube)
    sketch.limb(frame, (saddle[0] + 0.01, saddle[1] + 0.06), (-base, -r), tube * 0.85)
    sketch.limb(frame, crank, saddle, tube)
    if dice.chance(0.75):
        sketch.limb(frame, (saddle[0] + 0.015, saddle[1] + 0.07), (head[0], head[1] + 0.04), tube)
        sketch.limb(frame, crank, (head[0] + 0.01, head[1] + 0.08), tube)
    else:
        sketch.curve(frame, [crank, (0.02, -r - 0.06), (head[0] + 0.01, head[1] + 0.06)], tube * 1.2)
    sketch.limb(frame, (head[0] - 0.015, head[1] - 0.03), (base, -r), tube)
    sketch.dot(Role.METAL, crank[0], crank[1], 0.055)
    sketch.dot(Role.DARK, crank[0], crank[1], 0.028)
    turn = dice.between(0, 3.1)
    for side in (-1, 1):
        pedal = (crank[0] + side * math.cos(turn) * 0.11, crank[1] + side * math.sin(turn) * 0.11)
        sketch.limb(Role.DARK, crank, pedal, 0.024)
        sketch.limb(Role.DARK, (pedal[0] - 0.035, pedal[1]), (pedal[0] + 0.035, pedal[1]), 0.03)
    sketch.limb(
        dice.pick((Role.DARK, Role.SECOND)),
        (saddle[0] - 0.09, saddle[1] - 0.02),
        (saddle[0] + 0.09, saddle[1] - 0.005),
        0.06,
        0.035,
    )
    bar = (head[0] - 0.03, head[1] - 0.08)
    sketch.limb(Role.DARK, (head[0] - 0.015, head[1] - 0.02), bar, 0.03)
    if dice.chance(0.45):
        hold = (bar[0] + 0.11, bar[1] + 0.02)
        sketch.curve(Role.DARK, [bar, hold, (bar[0] + 0.1, bar[1] + 0.09), (bar[0] + 0.02, bar[1] + 0.1)], 0.034)
    else:
        hold = (bar[0] - 0.09, bar[1] - 0.02)
        sketch.curve(Role.DARK, [(bar[0] + 0.03, bar[1]), (bar[0] - 0.02, bar[1] - 0.03), hold], 0.038)
    if dice.chance(0.3):
        for x in (-base, base):
            sketch.curve(
                Role.ACCENT,
                [(x - r * 0.85, -r - r * 0.62), (x, -2 * r - 0.03), (x + r * 0.75, -r - r * 0.75)],
                0.035,
            )
    if dice.chance(0.25):
        sketch.box(Role.SECOND, base - 0.06, head[1] - 0.06, base + 0.12, head[1] + 0.08, 0.015)
    sketch.places = {"seat": (saddle[0], saddle[1] - 0.03), "hold": hold, "foot": (crank[0] + 0.03, crank[1] + 0.11)}
    return sketch


def motorbike(dice: Dice) -> Sketch:
    """Two thick wheels around an engine, a tank and a seat in one line, an exhaust pipe."""
    sketch = Sketch()
    r = dice.between(0.2, 0.25)
    base = dice.between(0.38, 0.46)
    hub = dice.pick((Role.METAL, Role.SECOND, Role.ACCENT))
    for x in (-base, base):
        sketch.ring(Role.DARK, x, -r, r, r * dice.between(0.32, 0.42))
        if dice.chance(0.7):
            sketch.dot(hub, x, -r, r * 0.64)
            sketch.dot(Role.DARK, x, -r, r * 0.22)
        else:
            _spoked(dice, sketch, x, r * 0.98, r * 0.35, 3)
    seat, top = -r - dice.between(0.2, 0.27), -r - dice.between(0.34, 0.42)
    fork = (base - dice.between(0.13, 0.24), top - 0.06)
    sketch.limb(Role.METAL, fork, (base, -r), 0.05)
    sketch.limb(Role.FAR, (-base, -r), (-0.02, -r + 0.03), 0.06)
    sketch.box(Role.METAL, -0.15, -r - 0.12, 0.16, -r + 0.1, 0.05)
    sketch.box(Role.DARK, -0.09, -r - 0.07, 0.1, -r + 0.03, 0.02)
    for y in (-r - 0.045, -r - 0.01):
        sketch.limb(Role.METAL, (-0.08, y), (0.09, y), 0.012)
    sketch.curve(
        Role.METAL,
        [(0.1, -r + 0.05), (-0.1, -r + 0.12), (-base - dice.between(0.02, 0.16), -r + dice.between(0.02, 0.1))],
        0.05,
        0.075,
    )
    rise = dice.between(0.0, 0.1)
    sketch.blob(
        Role.MAIN,
        [
            (-base - 0.12, seat - rise - 0.02),
            (-base + 0.05, seat - 0.03),
            (-0.06, seat - 0.02),
            (0.03, top),
            (0.2, top - 0.03),
            (fork[0] + 0.02, seat - 0.04),
            (0.16, -r - 0.08),
            (-0.1, -r - 0.08),
            (-base * 0.7, seat + 0.1),
        ],
    )
    sketch.curve(
        dice.pick((Role.DARK, Role.SECOND)),
        [(-base - 0.06, seat - rise - 0.05), (-base * 0.5, seat - 0.045), (-0.06, seat - 0.035)],
        0.075,
        0.06,
    )
    if dice.chance(0.5):
        sketch.ellipse(Role.ACCENT, 0.14, (top + seat) / 2, 0.08, 0.035, -0.2)
    if dice.chance(0.4):
        sketch.poly(
            Role.MAIN,
            [
                (fork[0] - 0.06, seat),
                (fork[0] - 0.04, top - 0.07),
                (fork[0] + 0.12, top),
                (fork[0] + 0.14, seat + 0.06),
            ],
        )
    sketch.curve(
        Role.MAIN, [(base - r * 0.8, -r - r * 0.85), (base, -2 * r - 0.03), (base + r * 0.75, -r - r * 0.8)], 0.045
    )
    hold = (fork[0] - dice.between(0.07, 0.14), fork[1] - dice.between(0.04, 0.14))
    sketch.curve(Role.DARK, [(fork[0] + 0.01, fork[1] + 0.02), (fork[0] - 0.01, hold[1] - 0.01), hold], 0.042)
    sketch.dot(Role.METAL, fork[0] + 0.07, fork[1] + 0.05, 0.06)
    sketch.ellipse(Role.LIGHT, fork[0] + 0.1, fork[1] + 0.05, 0.032, 0.05)
    sketch.places = {"seat": (-base * 0.42, seat - 0.06), "hold": hold, "foot": (0.02, -r + 0.06)}
    return sketch
