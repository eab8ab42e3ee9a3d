"""What stands and lies behind the things: one to three kinds of stuff, one below the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from wordmask_world.drawing.dice import Dice
from wordmask_world.drawing.stuff import FLOORS, PAINTERS, Painter
from wordmask_world.drawing.surfaces import floor, wall

_THUMBNAIL = 24
"""Height of the small painting from which colours behind things are read."""

_OUTDOORS = ("grass", "road", "sand", "snow", "water")
_WALLS = ("brick", "curtain", "tiles", "wood")
_FLOORS_INDOORS = ("tiles", "wood")
_FRONTS = ("hedge", "grass", "brick", "water")


@dataclass(frozen=True)
class Layer:
    """One kind of stuff, from its upper edge down to the bottom of the picture."""

    stuff: str
    painter: Painter
    top: float
    """its edge in picture heights, before waves"""
    waves: tuple[tuple[float, float, float], ...] = ()
    """height, frequency and phase of the waves on the edge"""
    flat: bool = False
    """seen in perspective, as a floor"""

    def edge(self, x: np.ndarray) -> np.ndarray:
        line = np.full(x.shape, self.top)
        for height, often, phase in self.waves:
            line += height * np.sin(x * often + phase)
        return line


@dataclass(frozen=True)
class Backdrop:
    layers: tuple[Layer, ...]
    front: Layer | None = None
    """Stuff that hides the feet of whatever stands behind it"""

    @property
    def ground(self) -> float | None:
        """Where the ground begins, in picture heights; None where there is no ground to stand on."""
        last = self.layers[-1]
        return last.top if last.flat else None

    @property
    def sky(self) -> float | None:
        """Where the sky ends; None without sky."""
        if self.layers[0].stuff != "sky":
            return None
        return self.layers[1].top if len(self.layers) > 1 else 1.0

    def stuff(self) -> list[str]:
        """The kinds in it, from top to bottom."""
        layers = [*self.layers, self.front] if self.front else self.layers
        return list(dict.fromkeys(layer.stuff for layer in layers))


def _stack(dice: Dice, kinds: Sequence[str], horizon: float, uneven: float) -> tuple[Layer, ...]:
    """Layers for these kinds from top to bottom; the last one's edge is at the horizon."""
    layers = []
    for index, stuff in enumerate(kinds):
        last = index == len(kinds) - 1
        top = 0.0 if index == 0 else horizon if last else horizon - dice.between(0.12, 0.22)
        waves: tuple[tuple[float, float, float], ...] = ()
        if index:
            rough = 0.0 if stuff == "water" else uneven * (1.4 if stuff == "hedge" else 1)
            waves = (
                (rough * dice.between(0.3, 1), dice.between(2, 5), dice.between(0, 6.3)),
                (rough * dice.between(0, 0.5), dice.between(6, 14), dice.between(0, 6.3)),
            )
        flat = stuff in FLOORS and index > 0
        layers.append(Layer(stuff, PAINTERS[stuff](dice), top, waves, flat))
    return tuple(layers)


def choose_backdrop(dice: Dice, wanted: str | None = None) -> Backdrop:
    """A setting by chance; with `wanted`, one in which this kind of stuff appears."""
    settings = {"outdoors": 0.42, "indoors": 0.22, "yard": 0.12, "plain": 0.24}
    if wanted in _OUTDOORS:
        settings = {"outdoors": 0.75, "yard": 0.1, "plain": 0.15}
    elif wanted in _FLOORS_INDOORS:
        settings = {"indoors": 0.8, "plain": 0.2}
    elif wanted == "sky":
        settings = {"outdoors": 0.55, "plain": 0.45}
    elif wanted is not None:
        settings = {"yard": 0.6, "plain": 0.4}
    setting = dice.weighted(settings)
    if setting == "plain":
        stuff = wanted or dice.pick(tuple(PAINTERS))
        if stuff in FLOORS and dice.chance(0.5):
            layer = _stack(dice, (stuff,), 0.0, 0.0)[0]
            return Backdrop((replace(layer, top=-dice.between(0, 0.3), flat=True),))
        return Backdrop(_stack(dice, (stuff,), 0.0, 0.0))
    if setting == "outdoors":
        ground = wanted if wanted in _OUTDOORS else dice.pick(_OUTDOORS)
        middle: tuple[str, ...] = ()
        if dice.chance(0.35):
            choices = {
                "sand": ("water", "hedge"),
                "road": ("grass", "hedge", "brick"),
                "water": ("hedge", "sand", "grass"),
            }
            middle = (dice.pick(choices.get(ground, ("hedge", "brick"))),)
        backdrop = Backdrop(_stack(dice, ("sky", *middle, ground), dice.between(0.3, 0.7), dice.between(0, 0.045)))
    elif setting == "indoors":
        ground = wanted if wanted in _FLOORS_INDOORS else dice.pick(_FLOORS_INDOORS)
        backdrop = Backdrop(_stack(dice, (dice.pick(_WALLS), ground), dice.between(0.4, 0.78), dice.between(0, 0.012)))
    else:
        behind = wanted if wanted in ("brick", "hedge") else dice.pick(("brick", "hedge"))
        ground = wanted if wanted in _OUTDOORS else dice.pick(("grass", "road", "sand", "snow", "tiles"))
        backdrop = Backdrop(_stack(dice, (behind, ground), dice.between(0.35, 0.7), dice.between(0, 0.02)))
    if setting != "indoors" and dice.chance(0.08):
        stuff = dice.pick([kind for kind in _FRONTS if kind != backdrop.layers[-1].stuff])
        front = _stack(dice, ("sky", stuff), dice.between(0.8, 0.9), 0.02)[1]
        backdrop = replace(backdrop, front=replace(front, flat=False))
    return backdrop


def paint_layer(layer: Layer, picture: np.ndarray, owners: np.ndarray, owner: int, below: int | None = None) -> None:
    """Paint one layer over a picture (H, W, 3) and its owners (H, W), in place, down to row `below`."""
    height, width = owners.shape
    line = layer.edge((np.arange(width) + 0.5) / height)
    first = int(np.clip(np.floor(line.min() * height) - 1, 0, height)) if layer.top > 0 else 0
    rows = slice(first, height if below is None else min(below, height))
    if rows.stop <= rows.start:
        return
    plane = floor(height, width, rows, layer.top) if layer.flat else wall(height, width, rows)
    colours = layer.painter(plane)
    if layer.top <= 0:
        picture[rows], owners[rows] = colours, owner
        return
    under = (np.arange(rows.start, rows.stop)[:, None] + 0.5 - line[None, :] * height).astype(np.float32)
    edge = int(np.clip(np.ceil(line.max() * height) + 1 - first, 0, rows.stop - first))
    share = np.clip(under[:edge] + 0.5, 0, 1)[..., None]
    blended = picture[first : first + edge]
    blended += (colours[:edge] - blended) * share
    picture[first + edge : rows.stop] = colours[edge:]
    owners[rows][under > 0] = owner


def paint_backdrop(backdrop: Backdrop, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The picture (H, W, 3) float32 and the index of the layer at each pixel (H, W) uint8, without the front."""
    picture = np.empty((height, width, 3), dtype=np.float32)
    owners = np.zeros((height, width), dtype=np.uint8)
    for index, layer in enumerate(backdrop.layers):
        below = None
        if index + 1 < len(backdrop.layers):
            following = backdrop.layers[index + 1]
            reach = following.top + sum(wave[0] for wave in following.waves)
            below = int(np.ceil(reach * height)) + 2
        paint_layer(layer, picture, owners, index, below)
    return picture, owners


def thumbnail(backdrop: Backdrop, aspect: float) -> np.ndarray:
    """A small painting of the backdrop, the same for every size of the picture. (h, w, 3)"""
    return paint_backdrop(backdrop, _THUMBNAIL, max(4, round(_THUMBNAIL * aspect)))[0]
