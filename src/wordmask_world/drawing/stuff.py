"""Stuff: what has no shape of its own and is known by its texture and colour.

Each function rolls the dice for one look of a kind of stuff, and gives back what paints it over any surface.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from wordmask_world.drawing.colours import mix, shade
from wordmask_world.drawing.dice import Dice
from wordmask_world.drawing.noise import sample
from wordmask_world.drawing.surfaces import Plane, about, blend, cell, fade, line

Painter = Callable[[Plane], np.ndarray]


def sky(dice: Dice) -> Painter:
    top, bottom = dice.pick(
        (
            ((70, 130, 214), (176, 214, 244)),
            ((108, 166, 228), (214, 230, 240)),
            ((150, 172, 196), (212, 218, 222)),
            ((92, 98, 160), (246, 172, 126)),
            ((238, 160, 130), (252, 222, 164)),
            ((44, 62, 116), (128, 146, 190)),
            ((120, 196, 214), (226, 240, 226)),
        )
    )
    high, low = about(dice, *top, 12), about(dice, *bottom, 8, 8)
    cover, size, flat = dice.pick((2.0, 0.75, 0.62, 0.5)), dice.between(0.18, 0.42), dice.between(1.3, 2.6)
    x, y, soft = dice.between(0, 1), dice.between(0, 1), dice.between(2.5, 7)
    cloud = mix(low, np.array([255.0, 253.0, 250.0]), dice.between(0.5, 0.95))

    def paint(plane: Plane) -> np.ndarray:
        picture = blend(np.broadcast_to(plane.v / 0.75, (plane.v.shape[0], plane.u.shape[1])), high, low)
        if cover < 1:
            puff = np.clip((sample("clouds", plane.u * size + x, plane.v * size * flat + y) - cover) * soft + 0.5, 0, 1)
            picture += (cloud.astype(np.float32) - picture) * (puff * 0.9)[..., None]
        return picture

    return paint


def grass(dice: Dice) -> Painter:
    dark, light = dice.pick(
        (
            ((46, 104, 40), (118, 172, 66)),
            ((58, 128, 62), (138, 194, 92)),
            ((104, 124, 50), (184, 190, 98)),
            ((34, 82, 48), (92, 142, 74)),
        )
    )
    low, high = about(dice, *dark, 10, 12), about(dice, *light, 12, 14)
    x, y, blades = dice.between(0, 1), dice.between(0, 1), dice.between(0.5, 0.9)
    mown = dice.between(0.06, 0.12) if dice.chance(0.3) else 0
    flower = shade(dice, dice.pick(("white", "yellow", "pink", "red", "purple"))) if dice.chance(0.35) else None

    def paint(plane: Plane) -> np.ndarray:
        tuft = sample("leaves", plane.u * blades + x, plane.v * blades * 0.35 + y) - 0.5
        patch = sample("clouds", plane.u * 0.2 + y, plane.v * 0.2 + x) - 0.5
        level = 0.5 + tuft * (0.75 * fade(plane, 0.03)) + patch * 0.45
        if mown:
            level = level + mown * np.sign(plane.u / 0.35 - np.floor(plane.u / 0.35) - 0.5)
        picture = blend(level, low, (low + high) / 2, high)
        if flower is not None:
            spot = sample("fine", plane.u * 0.31 + y, plane.v * 0.31 + y)
            picture += (flower.astype(np.float32) - picture) * np.clip((spot - 0.965) * 60, 0, 1)[..., None]
        return picture

    return paint


def water(dice: Dice) -> Painter:
    deep, shine = dice.pick(
        (
            ((30, 82, 140), (120, 180, 214)),
            ((26, 112, 124), (132, 206, 204)),
            ((62, 98, 118), (168, 192, 202)),
            ((24, 54, 96), (104, 142, 182)),
            ((56, 110, 92), (150, 190, 160)),
        )
    )
    low, high = about(dice, *deep, 10, 12), about(dice, *shine, 10, 12)
    x, y, wave = dice.between(0, 1), dice.between(0, 1), dice.between(0.16, 0.3)
    foam = dice.between(0.88, 0.97)

    def paint(plane: Plane) -> np.ndarray:
        swell = sample("clouds", plane.u * wave * 0.45 + x, plane.v * wave * 2.4 + y)
        ripple = sample("clouds", plane.u * wave + y, plane.v * wave * 5.5 + x)
        fine = fade(plane, 0.02)
        level = 0.42 + 0.4 * (swell - 0.5) + 0.5 * (ripple - 0.5) * fine - 0.25 * (plane.depth - 0.5)
        picture = blend(level, low, high)
        crest = np.clip((ripple - foam) * 40, 0, 0.75) * fine
        picture += (244 - picture) * crest[..., None]
        return picture

    return paint


def sand(dice: Dice) -> Painter:
    tone = dice.pick(((226, 200, 148), (206, 170, 118), (236, 220, 184), (212, 180, 152)))
    high = about(dice, *tone, 10, 10)
    low = high * dice.between(0.72, 0.82)
    x, y, often = dice.between(0, 1), dice.between(0, 1), dice.between(7, 14)
    ripples = dice.between(0.12, 0.35) if dice.chance(0.55) else 0

    def paint(plane: Plane) -> np.ndarray:
        dune = sample("clouds", plane.u * 0.14 + x, plane.v * 0.2 + y)
        grains = sample("fine", plane.u * 0.8 + y, plane.v * 0.8 + x) - 0.5
        level = 0.7 + 0.45 * (dune - 0.5) + 0.4 * grains * fade(plane, 0.012)
        if ripples:
            phase = plane.v * often + dune * 5 + plane.u * 0.8
            level = level + ripples * (np.abs(phase - np.floor(phase) - 0.5) * 4 - 1) * fade(plane, 0.4 / often)
        return blend(level, low, high)

    return paint


def snow(dice: Dice) -> Painter:
    high = about(dice, 246, 249, 253, 3, 4)
    low = about(dice, *dice.pick(((176, 196, 226), (196, 204, 218), (206, 190, 214))), 8, 8)
    x, y = dice.between(0, 1), dice.between(0, 1)
    drift = dice.between(0.12, 0.24)

    def paint(plane: Plane) -> np.ndarray:
        heap = sample("soft", plane.u * drift * 2 + x, plane.v * drift * 3 + y)
        rough = sample("clouds", plane.u * 0.3 + y, plane.v * 0.45 + x)
        picture = blend(0.72 + 0.85 * (heap - 0.5) + 0.3 * (rough - 0.5), low, high)
        sparkle = sample("fine", plane.u * 0.7 + x, plane.v * 0.7 + y)
        picture += (255 - picture) * np.clip((sparkle - 0.97) * 30, 0, 0.9)[..., None]
        return picture

    return paint


def road(dice: Dice) -> Painter:
    tone = dice.pick((74, 98, 122, 146))
    low = about(dice, tone, tone, tone + 4, 5, 10)
    high = low * 1.22
    x, y = dice.between(0, 1), dice.between(0, 1)
    paint_colour = np.array(dice.pick(((240, 238, 228), (240, 238, 228), (238, 200, 70))), dtype=np.float32)
    lines = dice.weighted({"along": 0.45, "across": 0.3, "none": 0.25})
    place, dash, width = dice.between(0.3, 0.7), dice.between(0.9, 1.8), dice.between(0.04, 0.07)
    cracks = dice.chance(0.4)

    def paint(plane: Plane) -> np.ndarray:
        grit = sample("fine", plane.u * 0.9 + x, plane.v * 0.9 + y) - 0.5
        worn = sample("clouds", plane.u * 0.15 + y, plane.v * 0.15 + x) - 0.5
        picture = blend(0.5 + 0.75 * grit * fade(plane, 0.012) + 0.5 * worn, low, high)
        if cracks:
            vein = np.abs(sample("clouds", plane.u * 0.12 + y, plane.v * 0.12 + y) - 0.5)
            picture *= (1 - 0.4 * np.clip(1 - vein * 90, 0, 1) * fade(plane, 0.01))[..., None]
        if lines != "none":
            across, along = (plane.u, plane.v) if lines == "along" else (plane.v * 0.6, plane.u * 1.4)
            stripe = line(across - place, width, plane.pixel)
            gap = np.clip((np.abs(along * dash - np.floor(along * dash) - 0.5) - 0.15) * 20, 0, 1)
            picture += (paint_colour - picture) * (stripe * gap * 0.9)[..., None]
        return picture

    return paint


def hedge(dice: Dice) -> Painter:
    dark, light = dice.pick(
        (
            ((22, 58, 30), (84, 142, 60)),
            ((34, 74, 44), (112, 166, 84)),
            ((66, 60, 24), (168, 156, 66)),
            ((92, 44, 26), (208, 120, 52)),
            ((30, 66, 58), (98, 150, 120)),
        )
    )
    low, high = about(dice, *dark, 8, 8), about(dice, *light, 12, 12)
    x, y, leaf = dice.between(0, 1), dice.between(0, 1), dice.between(0.25, 0.42)
    berry = shade(dice, dice.pick(("red", "white", "yellow", "pink"))) if dice.chance(0.3) else None

    def paint(plane: Plane) -> np.ndarray:
        leaves, above = np.float32(0), np.float32(0)
        for cos, sin, scale in ((0.88, 0.48, leaf), (0.74, -0.67, leaf * 1.3)):  # two grids aslant hide each other
            u, v = (cos * plane.u + sin * plane.v) * scale + x, (cos * plane.v - sin * plane.u) * scale + y
            leaves = np.maximum(leaves, sample("leaves", u, v))
            above = np.maximum(above, sample("leaves", u - sin * 0.004, v - cos * 0.004))
        mass = sample("clouds", plane.u * 0.28 + y, plane.v * 0.28 + x)
        level = 0.42 + 0.55 * (mass - 0.5) + 0.6 * (leaves - 0.65) + 1.5 * (leaves - above)
        picture = blend(level, low * 0.7, low, high)
        if berry is not None:
            spot = sample("leaves", plane.u * 0.6 + y, plane.v * 0.6 + x)
            picture += (berry.astype(np.float32) - picture) * np.clip((spot - 0.975) * 70, 0, 1)[..., None]
        return picture

    return paint


def brick(dice: Dice) -> Painter:
    tone = dice.pick(((170, 80, 58), (148, 62, 48), (196, 120, 84), (150, 112, 90), (222, 214, 204), (118, 112, 116)))
    high = about(dice, *tone, 12, 12)
    low = high * dice.between(0.66, 0.8)
    joint = about(dice, *dice.pick(((206, 198, 186), (164, 158, 150), (92, 86, 84))), 8, 8)
    rows, long = dice.between(9, 17), dice.between(2.0, 2.8)
    x, y, salt, mortar = dice.between(0, 1), dice.between(0, 1), dice.between(0, 1), dice.between(0.13, 0.2)

    def paint(plane: Plane) -> np.ndarray:
        v = plane.v * rows + y
        row = np.floor(v)
        u = plane.u * rows / long + x + 0.5 * (row % 2)
        column = np.floor(u)
        tint = cell(column, row, salt)
        rough = sample("fine", plane.u * 0.6 + x, plane.v * 0.6 + y) - 0.5
        pixel = plane.pixel * rows
        gap = np.maximum(line(v, mortar, pixel), line(u, mortar / long, pixel / long))
        picture = blend(0.1 + 0.85 * tint + 0.35 * rough, low, high)
        lit = np.clip((v - row) * 3, 0, 1)
        picture *= (0.94 + 0.1 * (1 - lit))[..., None]
        picture += (joint.astype(np.float32) - picture) * (gap * 0.9)[..., None]
        return picture

    return paint


def wood(dice: Dice) -> Painter:
    tone = dice.pick(((176, 122, 74), (140, 90, 54), (208, 164, 112), (104, 68, 46), (190, 176, 156), (168, 98, 66)))
    high = about(dice, *tone, 10, 12)
    low = high * dice.between(0.6, 0.74)
    boards, upright = dice.between(4, 9), dice.chance(0.5)
    x, y, salt, length = dice.between(0, 1), dice.between(0, 1), dice.between(0, 1), dice.between(0.5, 1.1)

    def paint(plane: Plane) -> np.ndarray:
        across, along = (plane.u, plane.v) if upright else (plane.v, plane.u)
        a = across * boards + x
        board = np.floor(a)
        tint = cell(board, np.zeros_like(board), salt)
        b = along * length + tint * 7
        piece = np.floor(b)
        tint = cell(board, piece, salt + 0.31)
        grain = sample("clouds", across * 1.6 + tint, along * 0.11 + tint * 3 + y) - 0.5
        fibre = sample("fine", across * 1.2 + y, along * 0.12 + tint) - 0.5
        level = 0.55 + 0.45 * (tint - 0.5) + (0.5 * grain + 0.25 * fibre) * fade(plane, 0.02)
        picture = blend(level, low, high)
        seam = np.maximum(line(a, 0.07, plane.pixel * boards), line(b, 0.014, plane.pixel * length))
        picture *= (1 - 0.5 * seam)[..., None]
        return picture

    return paint


def tiles(dice: Dice) -> Painter:
    first = shade(
        dice, dice.pick(("white", "grey", "blue", "green", "brown", "red", "white", "black", "pink", "yellow"))
    )
    first = mix(first, np.array([232.0, 230.0, 226.0]), dice.between(0.1, 0.5))
    second = mix(
        first, shade(dice, dice.pick(("white", "black", "blue", "brown", "green"))), dice.pick((0.0, 0.12, 0.6))
    )
    joint = first * 0.62 if first.mean() > 120 else mix(first, np.array([255.0, 255.0, 255.0]), 0.55)
    rows, x, y, salt = dice.between(4, 8), dice.between(0, 1), dice.between(0, 1), dice.between(0, 1)

    def paint(plane: Plane) -> np.ndarray:
        u, v = plane.u * rows + x, plane.v * rows + y
        column, row = np.floor(u), np.floor(v)
        odd = (column + row) % 2
        picture = blend(odd, first, second)
        sheen = sample("soft", plane.u * 0.2 + x, plane.v * 0.2 + y) - 0.5
        bevel = (u - column) - (v - row)
        picture *= (1 + 0.14 * (cell(column, row, salt) - 0.5) + 0.12 * sheen - 0.05 * bevel)[..., None]
        pixel = plane.pixel * rows
        gap = np.maximum(line(u, 0.07, pixel), line(v, 0.07, pixel))
        picture += (joint.astype(np.float32) - picture) * (gap * fade(plane, 0.35 / rows) * 0.85)[..., None]
        return picture

    return paint


def curtain(dice: Dice) -> Painter:
    colour = shade(
        dice, dice.pick(("red", "blue", "green", "purple", "brown", "white", "grey", "pink", "orange", "yellow"))
    )
    if dice.chance(0.5):
        colour = mix(colour, np.array([200.0, 196.0, 190.0]), 0.4)
    often, x, y = dice.between(5, 10), dice.between(0, 1), dice.between(0, 1)
    sway, deep = dice.between(0.1, 0.5), dice.between(0.45, 0.62)

    def paint(plane: Plane) -> np.ndarray:
        bend = sample("soft", plane.u * 0.3 + x, plane.v * 0.12 + y)
        phase = plane.u * often + bend * sway * 3
        fold = np.abs(phase - np.floor(phase) - 0.5) * 2
        fold = fold * fold * (3 - 2 * fold)
        second = phase * 0.437 + 0.3
        broad = np.abs(second - np.floor(second) - 0.5) * 2
        weave = sample("fine", plane.u * 0.9, plane.v * 0.9) - 0.5
        return blend(
            0.68 * fold + 0.3 * broad + 0.06 * weave, colour * deep, colour, mix(colour, np.array([255.0] * 3), 0.22)
        )

    return paint


PAINTERS: dict[str, Callable[[Dice], Painter]] = {
    "brick": brick,
    "curtain": curtain,
    "grass": grass,
    "hedge": hedge,
    "road": road,
    "sand": sand,
    "sky": sky,
    "snow": snow,
    "tiles": tiles,
    "water": water,
    "wood": wood,
}
FLOORS = ("grass", "road", "sand", "snow", "tiles", "water", "wood")
"""Stuff that can lie on the ground; the others stand upright."""
