"""Furniture: chairs, sofas, tables, screens."""

from __future__ import annotations

from wordmask_world.drawing.dice import Dice
from wordmask_world.drawing.sketch import Role, Sketch


def chair(dice: Dice) -> Sketch:
    """One seat on legs with a back: seen at an angle, from the side, or an office chair on castors."""
    sketch = Sketch()
    kind = dice.weighted({"angled": 0.5, "side": 0.25, "office": 0.25})
    seat, back = -dice.between(0.4, 0.48), dice.between(0.4, 0.56)
    wide, leg = dice.between(0.22, 0.28), dice.between(0.04, 0.065)
    pad = dice.pick((Role.SECOND, Role.MAIN, Role.LIT))
    if kind == "angled":
        shift, deep = dice.between(0.08, 0.16), dice.between(0.1, 0.15)
        for x in (-wide + shift, wide + shift):
            sketch.limb(Role.FAR, (x, seat - deep), (x + 0.01, -deep * 0.8), leg * 0.85)
        top = seat - deep - back
        left, right = -wide + shift, wide + shift
        style = dice.weighted({"slats": 0.4, "panel": 0.35, "rails": 0.25})
        for x in (left, right):
            sketch.limb(Role.MAIN, (x, seat - deep), (x, top), leg)
        if style == "panel":
            sketch.box(Role.MAIN, left, top - 0.02, right, seat - deep - back * 0.25, dice.between(0.01, 0.12))
            sketch.box(pad, left + 0.05, top + 0.03, right - 0.05, seat - deep - back * 0.33, 0.02)
        else:
            sketch.limb(Role.MAIN, (left, top), (right, top), leg * 1.5)
            if style == "rails":
                for share in (0.32, 0.62):
                    sketch.limb(Role.MAIN, (left, top + back * share), (right, top + back * share), leg * 1.2)
            else:
                for share in (0.25, 0.5, 0.75):
                    x = left + (right - left) * share
                    sketch.limb(Role.MAIN, (x, top), (x, seat - deep), leg * 0.75)
        sketch.poly(
            pad, [(-wide, seat), (wide, seat), (wide + shift + 0.02, seat - deep), (-wide + shift - 0.02, seat - deep)]
        )
        sketch.box(Role.FAR if pad != Role.SECOND else Role.SECOND_FAR, -wide, seat - 0.01, wide, seat + 0.05, 0.015)
        for x in (-wide + leg / 2, wide - leg / 2):
            sketch.limb(Role.MAIN, (x, seat + 0.04), (x - 0.01, -leg / 2), leg)
        if dice.chance(0.3):
            sketch.limb(Role.MAIN, (-wide + leg / 2, seat * 0.45), (wide - leg / 2, seat * 0.45), leg * 0.7)
    elif kind == "side":
        lean = dice.between(0.04, 0.16)
        splay = dice.between(0, 0.07)
        sketch.limb(Role.MAIN, (-wide, seat), (-wide - lean, seat - back), leg * 1.3)
        if dice.chance(0.5):
            sketch.limb(pad, (-wide + 0.02, seat - 0.12), (-wide - lean + 0.03, seat - back + 0.04), 0.08)
        sketch.limb(Role.MAIN, (-wide, seat), (-wide - splay, -leg / 2), leg * 1.1)
        sketch.limb(Role.MAIN, (wide - 0.03, seat), (wide - 0.03 + splay, -leg / 2), leg * 1.1)
        if dice.chance(0.4):
            sketch.limb(Role.FAR, (-wide, seat * 0.4), (wide - 0.03, seat * 0.4), leg * 0.8)
        if dice.chance(0.35):
            sketch.limb(Role.MAIN, (-wide - lean * 0.5, seat - 0.24), (wide - 0.06, seat - 0.24), leg)
            sketch.limb(Role.MAIN, (wide - 0.08, seat - 0.24), (wide - 0.06, seat), leg)
        sketch.box(pad, -wide - 0.02, seat - 0.05, wide + 0.02, seat + 0.04, 0.035)
    else:
        for x in (-0.22, 0.0, 0.22):
            sketch.limb(Role.DARK, (0, -0.13), (x, -0.06), 0.045)
            sketch.dot(Role.DARK, x, -0.035, 0.037)
        sketch.limb(Role.METAL, (0, -0.12), (0, seat), 0.06)
        sketch.limb(Role.DARK, (0, seat - 0.02), (0, seat - 0.2), 0.07)
        sketch.box(Role.MAIN, -wide * 0.92, seat - 0.12 - back, wide * 0.92, seat - 0.1, dice.between(0.05, 0.14))
        if dice.chance(0.6):
            for side in (-1, 1):
                sketch.curve(
                    Role.DARK,
                    [(side * wide * 0.8, seat), (side * wide * 1.25, seat - 0.06), (side * wide * 1.2, seat - 0.2)],
                    0.04,
                )
                sketch.limb(Role.DARK, (side * wide * 1.2, seat - 0.2), (side * wide * 1.08, seat - 0.2), 0.055)
        sketch.box(pad if pad != Role.LIT else Role.FAR, -wide * 1.05, seat - 0.07, wide * 1.05, seat + 0.06, 0.055)
    sketch.places = {"top": (0.0, seat - 0.03), "span": (wide * 0.5, 0)}
    return sketch


def sofa(dice: Dice) -> Sketch:
    """Broad and soft: two arm rests, a long back, cushions, hardly any feet."""
    sketch = Sketch()
    wide = dice.between(0.5, 0.72) if dice.chance(0.8) else dice.between(0.36, 0.42)
    seat, back = -dice.between(0.24, 0.3), dice.between(0.24, 0.34)
    arm, arm_top = dice.between(0.1, 0.15), seat - dice.between(0.1, 0.18)
    soft = dice.between(0.03, 0.1)
    foot = dice.pick((Role.DARK, Role.HAIR, Role.METAL))
    for x in (-wide + 0.06, wide - 0.06):
        sketch.box(foot, x - 0.03, -0.07, x + 0.03, 0, 0.01)
    seats = 1 if wide < 0.45 else dice.whole(2, 3)
    inner = wide - arm * 0.8
    step = 2 * inner / seats
    if dice.chance(0.35):
        sketch.blob(
            Role.MAIN,
            [
                (-wide + 0.03, -0.1),
                (-wide + 0.02, arm_top),
                (-wide * 0.6, seat - back * 1.05),
                (0, seat - back * 1.2),
                (wide * 0.6, seat - back * 1.05),
                (wide - 0.02, arm_top),
                (wide - 0.03, -0.1),
            ],
        )
    else:
        sketch.box(Role.MAIN, -wide + 0.03, seat - back, wide - 0.03, -0.06, soft)
    for index in range(seats):
        x = -inner + index * step
        sketch.box(Role.FAR, x + 0.004, seat - back * 0.88, x + step - 0.004, seat, soft)
        sketch.box(Role.MAIN, x + 0.012, seat - back * 0.86, x + step - 0.012, seat, soft)
    cushion = dice.pick((Role.LIT, Role.SECOND, Role.MAIN))
    sketch.box(Role.FAR, -inner, seat - 0.07, inner, -0.06, 0.02)
    for index in range(seats):
        x = -inner + index * step
        sketch.box(cushion, x + 0.008, seat - 0.08, x + step - 0.008, seat + 0.06, 0.04)
    for side in (-1, 1):
        sketch.box(Role.MAIN, side * wide, arm_top, side * (wide - arm), -0.05, arm * dice.between(0.3, 0.5))
        if dice.chance(0.5):
            sketch.dot(Role.FAR, side * (wide - arm / 2), arm_top + arm * 0.55, arm * 0.28)
    for _ in range(dice.pick((0, 0, 1, 2))):
        x, half = dice.between(-0.7, 0.7) * inner, dice.between(0.07, 0.09)
        pillow = Sketch()
        pillow.box(Role.ACCENT, -half, -half, half, half, 0.03)
        sketch.parts += pillow.moved(x, seat - 0.06 - half, angle=dice.between(-0.5, 0.5)).parts
    sketch.places = {"top": (0.0, seat - 0.05), "span": (inner * 0.6, 0)}
    return sketch


def table(dice: Dice) -> Sketch:
    """A flat top on legs, square or round, sometimes under a cloth."""
    sketch = Sketch()
    wide, high = dice.between(0.48, 0.68), dice.between(0.4, 0.58)
    top, leg, thick = -high, dice.between(0.045, 0.08), dice.between(0.035, 0.065)
    deep = dice.between(0.06, 0.17)
    kind = dice.weighted({"legs": 0.5, "pedestal": 0.25, "trestle": 0.15, "cloth": 0.1})
    round_ = kind == "pedestal" or (kind == "legs" and dice.chance(0.25))
    inset = dice.between(0.02, 0.1) + (0.14 if round_ else 0)
    if kind == "pedestal":
        foot = wide * dice.between(0.4, 0.6)
        sketch.limb(Role.MAIN, (0, top), (0, -0.05), leg * 1.5, leg * 2)
        if dice.chance(0.5):
            sketch.ellipse(Role.FAR, 0, -0.035, foot, 0.04)
        else:
            for x in (-foot, foot * 0.25, foot):
                sketch.curve(Role.MAIN, [(0, -0.14), (x * 0.6, -0.09), (x, -0.025)], 0.06, 0.045)
    elif kind == "trestle":
        for side in (-1, 1):
            x = side * (wide - inset - 0.08)
            sketch.limb(Role.FAR, (x - side * 0.03, top), (x - 0.12, -leg / 2), leg)
            sketch.limb(Role.MAIN, (x - side * 0.03, top), (x + 0.12, -leg / 2), leg)
        sketch.limb(Role.FAR, (-wide + inset + 0.08, top * 0.45), (wide - inset - 0.08, top * 0.45), leg * 0.7)
    else:
        splay = dice.between(-0.02, 0.05)
        for side in (-1, 1):
            x = side * (wide - inset - leg)
            sketch.limb(Role.FAR, (x * 0.84, top), (x * 0.86, -deep * 0.75 - leg / 2), leg * 0.85)
            sketch.limb(Role.MAIN, (x, top), (x + side * splay, -leg / 2), leg * 1.1, leg * 0.9)
        if dice.chance(0.5):
            sketch.box(Role.FAR, -wide + inset + 0.02, top, wide - inset - 0.02, top + 0.1)
    board = dice.pick((Role.MAIN, Role.SECOND))
    edge = Role.FAR if board == Role.MAIN else Role.SECOND_FAR
    if round_:
        sketch.ellipse(edge, 0, top + thick * 0.6, wide, deep * 0.55)
        sketch.ellipse(board, 0, top - thick * 0.4, wide, deep * 0.55)
    else:
        slope = dice.between(0.04, 0.14)
        sketch.poly(board, [(-wide, top), (wide, top), (wide - slope, top - deep), (-wide + slope, top - deep)])
        sketch.box(edge, -wide, top - 0.005, wide, top + thick, 0.012)
    if kind == "cloth":
        drop = high * dice.between(0.3, 0.7)
        hem = [(-wide + index * wide / 4, top + drop + (0.03 if index % 2 else -0.02)) for index in range(9)]
        sketch.poly(Role.ACCENT, [(wide, top - 0.005), (-wide, top - 0.005), *hem])
        sketch.poly(Role.ACCENT, [(-wide, top), (wide, top), (wide - 0.06, top - deep), (-wide + 0.06, top - deep)])
    sketch.places = {"top": (0.0, top - deep * (0.2 if round_ else 0.45)), "span": (wide * 0.6, 0)}
    return sketch


def tv_monitor(dice: Dice) -> Sketch:
    """A bright screen in a dark or coloured frame: flat on a stand, or a deep old set with an aerial."""
    sketch = Sketch()
    old = dice.chance(0.3)
    wide = dice.between(0.4, 0.52) if not old else dice.between(0.36, 0.44)
    high = wide * (dice.between(1.1, 1.4) if not old else dice.between(1.5, 1.7))
    case = dice.weighted({Role.MAIN: 0.65, Role.DARK: 0.2, Role.LIGHT: 0.15})
    if old:
        base = -0.07
        for side in (-1, 1):
            sketch.limb(Role.DARK, (side * wide * 0.6, base - 0.05), (side * wide * 0.75, -0.02), 0.04)
        if dice.chance(0.65):
            for side in (-1, 1):
                tip = (side * dice.between(0.14, 0.3), base - high - dice.between(0.18, 0.3))
                sketch.limb(Role.METAL, (0, base - high), tip, 0.02)
                sketch.dot(Role.METAL, *tip, 0.025)
        sketch.box(case, -wide, base - high, wide, base, 0.07)
        left, right, top, bottom = -wide + 0.06, wide - 0.2, base - high + 0.07, base - 0.08
        for y in (0.22, 0.42):
            sketch.dot(Role.METAL, wide - 0.1, base - high * (1 - y), 0.042)
        for y in (0.62, 0.7, 0.78):
            sketch.limb(Role.DARK, (wide - 0.15, base - high * (1 - y)), (wide - 0.05, base - high * (1 - y)), 0.014)
    else:
        base = -dice.between(0.1, 0.2)
        stand = Role.DARK if case == Role.DARK else Role.FAR
        if dice.chance(0.7):
            sketch.limb(stand, (0, base), (0, -0.03), dice.between(0.07, 0.16))
            sketch.ellipse(stand, 0, -0.025, dice.between(0.18, 0.28), 0.03)
        else:
            for side in (-1, 1):
                sketch.limb(stand, (side * wide * 0.55, base), (side * wide * 0.68, -0.02), 0.035)
        sketch.box(case, -wide, base - high, wide, base, dice.between(0.01, 0.04))
        bezel = dice.between(0.025, 0.055)
        left, right, top, bottom = -wide + bezel, wide - bezel, base - high + bezel, base - bezel * dice.between(1, 2)
    sketch.box(Role.GLASS, left, top, right, bottom, 0.05 if old else 0.008)
    _show(dice, sketch, left, right, top, bottom)
    return sketch


def _show(dice: Dice, sketch: Sketch, left: float, right: float, top: float, bottom: float) -> None:
    """What is on the screen: a glare, windows, bars, or a hill under the sun."""
    wide, high = right - left, bottom - top
    programme = dice.weighted({"off": 0.35, "text": 0.25, "bars": 0.2, "hills": 0.2})
    if programme == "text":
        for row in range(dice.whole(3, 5)):
            y = top + high * (0.18 + row * 0.16)
            x = left + wide * dice.between(0.08, 0.2)
            sketch.limb(Role.LIGHT, (x, y), (x + wide * dice.between(0.2, 0.65), y), 0.028)
    elif programme == "bars":
        roles = dice.some((Role.ACCENT, Role.LIGHT, Role.SECOND, Role.MAIN, Role.DARK, Role.LIT), 5)
        for index, role in enumerate(roles):
            x = left + wide * (0.06 + index * 0.176)
            sketch.box(role, x, top + high * 0.1, x + wide * 0.178, bottom - high * 0.1)
    elif programme == "hills":
        sketch.dot(Role.LIGHT, left + wide * dice.between(0.2, 0.8), top + high * 0.3, high * 0.11)
        sketch.poly(
            Role.SECOND,
            [
                (left, bottom),
                (left, bottom - high * 0.25),
                (left + wide * 0.35, bottom - high * 0.5),
                (left + wide * 0.75, bottom),
            ],
        )
        sketch.poly(
            Role.ACCENT,
            [
                (left + wide * 0.3, bottom),
                (left + wide * 0.7, bottom - high * 0.42),
                (right, bottom - high * 0.2),
                (right, bottom),
            ],
        )
    if programme == "off" or dice.chance(0.4):
        x = left + wide * dice.between(0.1, 0.5)
        sketch.poly(
            Role.LIGHT,
            [
                (x + wide * 0.18, top + high * 0.12),
                (x + wide * 0.24, top + high * 0.12),
                (x + wide * 0.08, bottom - high * 0.3),
                (x + wide * 0.02, bottom - high * 0.3),
            ],
        )
