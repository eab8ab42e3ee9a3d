"""Colours and patterns, shared by all things, so that neither tells what a thing is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from wordmask_world.drawing.dice import Dice
from wordmask_world.drawing.noise import sample
from wordmask_world.drawing.sketch import Role

Colour = np.ndarray
"""Red, green, blue as floats from 0 to 255."""

COLOURS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "red": ((204, 52, 48), (165, 32, 44)),
    "orange": ((236, 134, 44), (222, 112, 60)),
    "yellow": ((242, 206, 72), (226, 184, 48)),
    "green": ((72, 150, 78), (128, 178, 84), (44, 104, 66)),
    "blue": ((52, 98, 184), (104, 160, 220), (36, 62, 122)),
    "purple": ((122, 74, 164), (158, 122, 198)),
    "pink": ((238, 152, 178), (222, 108, 150)),
    "brown": ((134, 88, 54), (98, 62, 42), (176, 124, 84)),
    "black": ((44, 44, 50), (62, 58, 60)),
    "white": ((242, 240, 234), (226, 228, 232)),
    "grey": ((144, 146, 150), (110, 114, 122)),
}
"""The colours a caption can name, each with the shades it is drawn in."""

_JITTER = 14
"""How far one shade strays in each channel."""
_SKINS = ((244, 210, 184), (228, 184, 148), (198, 148, 110), (158, 108, 76), (112, 74, 52), (82, 54, 42))
_HAIRS = ((40, 32, 30), (84, 56, 38), (150, 104, 60), (214, 176, 104), (160, 70, 40), (168, 166, 164))
_FAR = 0.74
_LIT = 0.42
_OUTLINE = 0.45
"""An outline's lightness relative to the part that it surrounds."""
_TOO_NEAR = 62
"""Least distance in RGB between a thing's main colour and what is behind it."""

OUTLINE = 16
"""Palette entries from here on are the outlines of the roles before."""


def shade(dice: Dice, name: str) -> Colour:
    """One shade of a named colour."""
    return np.clip(np.array(dice.pick(COLOURS[name])) + (dice.numbers(3) * 2 - 1) * _JITTER, 8, 250)


def mix(a: Colour, b: Colour, share: float) -> Colour:
    return a + (b - a) * share


_WHITE = np.array([255.0, 255.0, 255.0])


@dataclass(frozen=True)
class Palette:
    """The colours of one object: for every role two, between which a pattern blends."""

    colour: str
    """The main colour's name, for captions."""
    plain: np.ndarray
    """(32, 3): the colour of each role, then of its outline"""
    other: np.ndarray
    """(32, 3): where the pattern is 1"""
    pattern: Pattern | None


Pattern = Callable[[np.ndarray, np.ndarray, float], np.ndarray]
"""Coordinates in the drawing and a pixel's size there -> values from 0 to 1."""


def _wave(x: np.ndarray, soft: float, share: float = 0.5) -> np.ndarray:
    """1 on a share of every unit, 0 elsewhere, with edges `soft` wide."""
    away = np.abs(x - np.floor(x) - 0.5)
    return np.clip((share / 2 - away) / max(soft, 1e-3) + 0.5, 0, 1)


def stripes(dice: Dice) -> Pattern:
    turn = dice.pick((0.0, 1.571, 0.785, -0.785)) + dice.between(-0.15, 0.15)
    often, share = dice.between(4, 9), dice.between(0.3, 0.6)
    along, across = np.cos(turn) * often, np.sin(turn) * often
    return lambda u, v, pixel: _wave(u * along + v * across, pixel * often, share)


def dots(dice: Dice) -> Pattern:
    often, radius = dice.between(5, 9), dice.between(0.24, 0.36)

    def pattern(u: np.ndarray, v: np.ndarray, pixel: float) -> np.ndarray:
        x, y = u * often, v * often
        x = x + 0.5 * (np.floor(y) % 2)
        away = np.hypot(x - np.floor(x) - 0.5, y - np.floor(y) - 0.5)
        return np.clip((radius - away) / (pixel * often) + 0.5, 0, 1)

    return pattern


def checks(dice: Dice) -> Pattern:
    often, turn = dice.between(3, 6), dice.pick((0.0, 0.0, 0.785))
    cos, sin = np.cos(turn) * often, np.sin(turn) * often

    def pattern(u: np.ndarray, v: np.ndarray, pixel: float) -> np.ndarray:
        across = _wave(u * cos - v * sin, pixel * often)
        down = _wave(u * sin + v * cos, pixel * often)
        return across + down - 2 * across * down

    return pattern


def plaid(dice: Dice) -> Pattern:
    often, share = dice.between(4, 7), dice.between(0.2, 0.4)
    return lambda u, v, pixel: 0.5 * (_wave(u * often, pixel * often, share) + _wave(v * often, pixel * often, share))


def gradient(dice: Dice) -> Pattern:
    turn, middle = dice.between(0, 6.283), dice.between(-0.1, 0.1)
    cos, sin = np.cos(turn), np.sin(turn)
    return lambda u, v, pixel: np.clip(0.5 + middle + 0.9 * ((u - 0.5) * cos + (v + 0.5) * sin), 0, 1)


def patches(dice: Dice) -> Pattern:
    x, y, size, level = dice.between(0, 1), dice.between(0, 1), dice.between(0.25, 0.5), dice.between(0.48, 0.6)
    return lambda u, v, pixel: np.clip((sample("clouds", u * size + x, v * size + y) - level) * 14 + 0.5, 0, 1)


def speckles(dice: Dice) -> Pattern:
    x, y, size = dice.between(0, 1), dice.between(0, 1), dice.between(0.5, 0.9)
    return lambda u, v, pixel: sample("fine", u * size + x, v * size + y)


PATTERNS: dict[Callable[[Dice], Pattern] | None, float] = {
    None: 0.42,
    stripes: 0.12,
    dots: 0.08,
    checks: 0.06,
    plaid: 0.05,
    gradient: 0.1,
    patches: 0.1,
    speckles: 0.07,
}


def choose_palette(dice: Dice, behind: Colour) -> Palette:
    """Colours and a pattern for one object that stand out from what is behind it."""
    for _ in range(8):
        name = dice.pick(tuple(COLOURS))
        main = shade(dice, name)
        if np.abs(main - behind).max() > _TOO_NEAR:
            break
    names = dice.some([other for other in COLOURS if other != name], 3)
    second, accent, contrast = (shade(dice, other) for other in names)
    if dice.chance(0.4):
        second = mix(main, _WHITE, 0.45) if main.mean() < 110 else main * 0.6
    maker = dice.weighted(PATTERNS)
    pattern = maker(dice) if maker else None
    blended = main
    if pattern is not None:
        near = mix(main, _WHITE, 0.4) if main.mean() < 120 else main * 0.62
        blended = near if dice.chance(0.5) else contrast
    dark = np.array([38.0, 36.0, 40.0]) * dice.between(0.8, 1.2)
    if dice.chance(0.45):
        dark = shade(dice, dice.pick(tuple(COLOURS))) * dice.between(0.25, 0.5)
    metal = np.array([168.0, 172.0, 180.0]) * dice.between(0.7, 1.2)
    if dice.chance(0.45):
        metal = mix(metal, shade(dice, dice.pick(tuple(COLOURS))), dice.between(0.3, 0.9))
    glass = mix(np.array([172.0, 206.0, 226.0]), np.array([46.0, 56.0, 72.0]), dice.between(0, 1))
    if dice.chance(0.45):
        glass = mix(glass, shade(dice, dice.pick(tuple(COLOURS))), dice.between(0.3, 0.8))
    skin, hair = np.array(dice.pick(_SKINS), dtype=float), np.array(dice.pick(_HAIRS), dtype=float)

    plain, other = np.zeros((2 * OUTLINE, 3)), np.zeros((2 * OUTLINE, 3))
    for role, colour, blend in (
        (Role.MAIN, main, blended),
        (Role.FAR, main * _FAR, blended * _FAR),
        (Role.LIT, mix(main, _WHITE, _LIT), mix(blended, _WHITE, _LIT)),
        (Role.SECOND, second, second),
        (Role.SECOND_FAR, second * _FAR, second * _FAR),
        (Role.ACCENT, accent, accent),
        (Role.DARK, dark, None),
        (Role.LIGHT, np.array([236.0, 234.0, 222.0]), None),
        (Role.GLASS, glass, None),
        (Role.SKIN, skin, None),
        (Role.SKIN_FAR, skin * 0.82, None),
        (Role.HAIR, hair, None),
        (Role.METAL, metal, None),
    ):
        plain[role] = colour
        other[role] = colour if blend is None else blend
    plain[OUTLINE:] = plain[:OUTLINE] * _OUTLINE
    other[OUTLINE:] = other[:OUTLINE] * _OUTLINE
    return Palette(name, np.clip(plain, 0, 255), np.clip(other, 0, 255), pattern)
