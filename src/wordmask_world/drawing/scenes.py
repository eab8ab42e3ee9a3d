"""Pictures of the built-in world: one seed, one picture, with exact labels and captions.

Everything is placed in picture heights, so one seed is one picture at every size of the same aspect ratio.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from wordmask.errors import WordmaskError
from wordmask_world.drawing.arrangement import (
    AFLOAT,
    AT_HOME,
    HABITATS,
    MANNERS,
    PAIRS,
    TOUCHING,
    Group,
    Item,
    alone,
    arrange,
    pair,
)
from wordmask_world.drawing.backdrop import Backdrop, choose_backdrop, paint_backdrop, paint_layer, thumbnail
from wordmask_world.drawing.captions import LEAVE_OUT, Seen, write_captions
from wordmask_world.drawing.colours import Palette, choose_palette
from wordmask_world.drawing.dice import Dice
from wordmask_world.drawing.light import light_up, throw_shadow
from wordmask_world.drawing.names import INDEX, NAMES, STUFF, THINGS
from wordmask_world.drawing.raster import Look, render
from wordmask_world.drawing.sketch import Role, Sketch

__all__ = [
    "KINDS",
    "MIXTURE",
    "NAMES",
    "STUFF",
    "THINGS",
    "WORLD_VERSION",
    "Kind",
    "Scene",
    "SceneObject",
    "WorldError",
    "draw_scene",
]

WORLD_VERSION = 4
"""Changes whenever any picture changes."""


class WorldError(WordmaskError):
    """A picture or a file of pictures of the world that cannot be made."""


Kind = Literal["single", "multi", "clutter", "pairs", "empty"]
KINDS: tuple[Kind, ...] = get_args(Kind)
MIXTURE: dict[Kind, float] = {"single": 0.36, "multi": 0.25, "clutter": 0.09, "pairs": 0.25, "empty": 0.05}
"""Shares of the kinds of picture, like a pile of web photos: mostly one thing, often two, seldom nothing."""

_PAIRED = 0.4
"""How often two of several things are a pair."""
_LEAST_SEEN = 0.0015
"""A thing or stuff of which less than this share of the picture is visible is not said to be there."""
_STONY = ("grass", "road", "sand", "snow", "water")
"""Stuff on which stones lie."""
_LAYOUT, _COLOURS, _LIGHT, _WORDS = range(4)
"""Streams of chance, so that words do not change the drawing."""


@dataclass(frozen=True)
class SceneObject:
    """One visible thing."""

    name: str
    colour: str
    """what its main colour is called"""
    box: tuple[int, int, int, int]
    """left, top, right, bottom of its visible pixels; right and bottom are just outside"""
    pixels: int
    """how many of its pixels are visible"""


@dataclass(frozen=True)
class Scene:
    """A picture with all that is known about it."""

    image: np.ndarray
    """(H, W, 3) uint8"""
    labels: np.ndarray
    """(H, W) uint8: indices into NAMES"""
    captions: tuple[str, ...]
    things: tuple[str, ...]
    """names of the visible things, each once, in the order of NAMES"""
    stuff: tuple[str, ...]
    """names of the visible stuff, from top to bottom"""
    objects: tuple[SceneObject, ...]
    """the visible things one by one, from back to front"""
    kind: Kind
    seed: int


def draw_scene(
    seed: int,
    size: int | tuple[int, int] = 128,
    *,
    kind: Kind | None = None,
    leave_out: float = LEAVE_OUT,
    without: Sequence[int] = (),
) -> Scene:
    """Draw the picture of a seed.

    Args:
        seed: any whole number from 0.
        size: height and width in pixels; one number for a square.
        kind: one of KINDS; drawn from MIXTURE when not given.
        leave_out: the probability that a caption does not mention a thing that is there.
        without: places in the painting order of things to leave undrawn (all else stays the same), which tells what
            each of them hides.
    """
    height, width = (size, size) if isinstance(size, int) else size
    _check(seed, height, width, kind, leave_out)
    layout = Dice(WORLD_VERSION, seed, _LAYOUT)
    chosen = layout.weighted(MIXTURE)
    kind = kind or chosen
    aspect = width / height
    backdrop, arranged = _compose(layout, kind, aspect)

    colours = Dice(WORLD_VERSION, seed, _COLOURS)
    picture, owners = paint_backdrop(backdrop, height, width)
    look = Look(colours.between(0.007, 0.014) if colours.chance(0.45) else 0.0, colours.between(0.2, 0.6))
    small = thumbnail(backdrop, aspect)
    _scatter_stones(colours, backdrop, kind, small, look, picture, owners)

    layers = len(backdrop.layers)
    things: list[tuple[str, str]] = []
    shadow = colours.between(0.2, 0.5)
    for group, items in arranged:
        for place, item in enumerate(items):
            if item.grounded and (place == 0 or group.relation == "next to"):
                throw_shadow(item.sketch, shadow, picture)
            palette = choose_palette(colours, _behind(small, item.sketch))
            if len(things) not in without:
                tile = render(item.sketch, palette, look, height, width)
                if tile is not None:
                    tile.cover(picture, owners, layers + len(things))
            things.append((item.name, palette.colour))
    names = [layer.stuff for layer in backdrop.layers] + [name for name, _ in things]
    if backdrop.front is not None:
        paint_layer(backdrop.front, picture, owners, len(names))
        names.append(backdrop.front.stuff)

    labels = np.array([INDEX[name] for name in names], dtype=np.uint8)[owners]
    image = light_up(Dice(WORLD_VERSION, seed, _LIGHT), picture)
    objects = _visible(owners, layers, things)
    share = np.bincount(labels.ravel(), minlength=len(NAMES)) / labels.size
    stuff = tuple(name for name in backdrop.stuff() if share[INDEX[name]] >= _LEAST_SEEN)
    present = {seen.name for seen in objects}
    related = [(group.members[1][0], group.relation, group.members[0][0]) for group, _ in arranged if group.relation]
    seen = [
        Seen(found.name, found.colour, found.pixels / labels.size, (found.box[0] + found.box[2]) / 2 / width)
        for found in objects
    ]
    captions = write_captions(Dice(WORLD_VERSION, seed, _WORDS), seen, stuff, related, leave_out)
    return Scene(image, labels, captions, tuple(name for name in THINGS if name in present), stuff, objects, kind, seed)


def _check(seed: int, height: int, width: int, kind: str | None, leave_out: float) -> None:
    if seed < 0:
        raise WorldError(f"world: seed {seed} is negative; use a whole number from 0")
    if min(height, width) < 16 or max(height, width) > 4096:
        raise WorldError(f"world: size {height} x {width} is out of range; use 16 to 4096 pixels a side")
    if kind is not None and kind not in KINDS:
        raise WorldError(f"world: no kind of picture is called {kind!r}; use one of {', '.join(KINDS)}")
    if not 0 <= leave_out <= 1:
        raise WorldError(f"world: leave_out {leave_out} is no probability; use 0 to 1")


def _compose(dice: Dice, kind: Kind, aspect: float) -> tuple[Backdrop, list[tuple[Group, list[Item]]]]:
    """The backdrop, and the groups in painting order."""
    if kind == "empty":
        return choose_backdrop(dice), []
    if kind == "pairs":
        first, second = dice.weighted(PAIRS)
        if second in STUFF:
            groups = [alone(dice, first)]
            backdrop = choose_backdrop(dice, second)
        else:
            groups = [pair(dice, first, second)]
            backdrop = choose_backdrop(dice, _habitat(dice, second))
    else:
        count = {"single": 1, "multi": dice.whole(2, 4), "clutter": dice.whole(5, 9)}[kind]
        names = [dice.pick(THINGS) for _ in range(count)]
        if count > 1 and dice.chance(0.2):
            names[1] = names[0]
        groups = [alone(dice, name) for name in names]
        if kind == "multi" and dice.chance(_PAIRED):
            first, second = dice.weighted(TOUCHING)
            groups[:2] = [pair(dice, first, second)]
            names[0] = second
        backdrop = choose_backdrop(dice, _habitat(dice, names[0]))
    return backdrop, arrange(dice, groups, backdrop, MANNERS[kind], aspect)


def _habitat(dice: Dice, name: str) -> str | None:
    at_home = dice.chance(AFLOAT if name == "boat" else AT_HOME)
    return dice.pick(HABITATS[name]) if at_home and name in HABITATS else None


def _behind(small: np.ndarray, sketch: Sketch) -> np.ndarray:
    """The mean colour of the backdrop where a thing will be."""
    rows = len(small)
    left, top, right, bottom = (round(edge * rows) for edge in sketch.box_around())
    part = small[max(top, 0) : max(bottom, top + 1, 1), max(left, 0) : max(right, left + 1, 1)]
    return (part if part.size else small).mean(axis=(0, 1))


def _scatter_stones(
    dice: Dice, backdrop: Backdrop, kind: Kind, small: np.ndarray, look: Look, picture: np.ndarray, owners: np.ndarray
) -> None:
    """Lumps without a name lie about; they count as the stuff that they lie on."""
    height, width = owners.shape
    ground = backdrop.ground
    if ground is None or backdrop.layers[-1].stuff not in _STONY:
        return
    count = dice.whole(0, 6) if kind == "empty" else dice.pick((0, 0, 0, 1, 2, 3))
    hidden = np.zeros_like(owners)
    for _ in range(count):
        r, x, y = dice.between(0.015, 0.05), dice.between(0, width / height), dice.between(min(ground + 0.08, 0.9), 1)
        stone = Sketch()
        corners = [(dice.between(0.8, 1.2) * r * c, dice.between(0.6, 0.9) * r * s) for c, s in _LUMP]
        stone.blob(Role.MAIN, corners)
        stone = stone.moved(x, y)
        colour = _behind(small, stone) * dice.between(0.6, 0.85) + dice.between(0, 40)
        table = np.tile(np.clip(colour, 0, 255), (32, 1))
        table[16:] *= 0.5
        tile = render(stone, Palette("grey", table, table, None), Look(look.outline * 2, 0.8), height, width)
        if tile is not None:
            tile.cover(picture, hidden, 0)


_LUMP = [(float(np.cos(turn)), float(np.sin(turn))) for turn in np.linspace(0, 2 * np.pi, 7, endpoint=False)]


def _visible(owners: np.ndarray, layers: int, things: Sequence[tuple[str, str]]) -> tuple[SceneObject, ...]:
    """The things that can be seen, with the boxes of what can be seen of them."""
    pixels = np.bincount(owners.ravel(), minlength=layers + len(things))
    found = []
    for index, (name, colour) in enumerate(things):
        count = int(pixels[layers + index])
        if count < max(1, _LEAST_SEEN * owners.size):
            continue
        mask = owners == layers + index
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
        found.append(SceneObject(name, colour, box, count))
    return tuple(found)
