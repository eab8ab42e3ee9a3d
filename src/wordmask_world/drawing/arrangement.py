"""Which things are in a picture, how large, and where: all in picture heights, whatever its size in pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from wordmask_world.drawing.backdrop import Backdrop
from wordmask_world.drawing.dice import Dice
from wordmask_world.drawing.sketch import Sketch
from wordmask_world.drawing.things import DRAWINGS, rider

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""

HABITATS: dict[str, tuple[str, ...]] = {
    "aeroplane": ("sky", "sky", "road"),
    "bicycle": ("road", "grass"),
    "bird": ("sky", "grass", "water"),
    "boat": ("water",),
    "bottle": ("wood", "tiles"),
    "bowl": ("wood", "tiles"),
    "bus": ("road",),
    "car": ("road",),
    "cat": ("wood", "grass"),
    "chair": ("wood", "tiles"),
    "cow": ("grass",),
    "cup": ("wood", "tiles"),
    "dog": ("grass", "wood"),
    "horse": ("grass", "sand"),
    "motorbike": ("road",),
    "mushroom": ("grass", "hedge"),
    "potted plant": ("tiles", "wood", "brick"),
    "sheep": ("grass",),
    "sofa": ("wood", "curtain"),
    "table": ("wood", "tiles"),
    "train": ("grass", "road"),
    "tv monitor": ("wood", "curtain"),
    "umbrella": ("sand", "road"),
}
"""Where a thing is mostly seen. A share of the pictures follow this, the others put anything anywhere."""
AT_HOME = 0.5
AFLOAT = 0.8
"""The share of boats that are on water: the papers' example of stuff that always comes with a thing."""

_SIZES: dict[str, float] = {
    "aeroplane": 1.3, "bicycle": 0.95, "bird": 0.5, "boat": 1.2, "bottle": 0.5, "bowl": 0.5, "bus": 1.4, "car": 1.1,
    "cat": 0.65, "chair": 0.8, "cow": 1.1, "cup": 0.45, "dog": 0.75, "horse": 1.2, "motorbike": 0.95, "mushroom": 0.5,
    "person": 1.0, "potted plant": 0.75, "sheep": 0.85, "sofa": 1.1, "table": 0.95, "train": 1.4, "tv monitor": 0.8,
    "umbrella": 0.8,
}  # fmt: skip
"""Sizes of things among others: smaller differences than in life, so that a cup beside a bus can still be seen."""

PAIRS: dict[tuple[str, str], float] = {
    ("person", "horse"): 2,
    ("person", "bicycle"): 2,
    ("person", "motorbike"): 2,
    ("person", "umbrella"): 1,
    ("potted plant", "table"): 1.5,
    ("cup", "table"): 1.5,
    ("bowl", "table"): 1,
    ("bottle", "table"): 1,
    ("tv monitor", "table"): 1,
    ("cat", "sofa"): 1.5,
    ("dog", "sofa"): 0.7,
    ("cat", "chair"): 0.8,
    ("chair", "table"): 1,
    ("person", "dog"): 1,
    ("sheep", "dog"): 0.7,
    ("boat", "water"): 2.5,
}
"""What is seen together far more often than by chance, and how often: things with things, and one thing with stuff."""
TOUCHING = {pair: often for pair, often in PAIRS.items() if pair[1] in DRAWINGS}
"""Pairs of two things."""
_RIDDEN = ("horse", "bicycle", "motorbike")
_TOPS = ("table", "sofa", "chair")


@dataclass(frozen=True)
class Item:
    """One thing in its place."""

    name: str
    sketch: Sketch
    """in picture heights"""
    grounded: bool
    """stands on the ground and throws a shadow on it"""


@dataclass(frozen=True)
class Group:
    """Things drawn together in one frame, back to front; on its own, a thing is a group of one."""

    members: tuple[tuple[str, Sketch], ...]
    relation: str | None = None
    """how the second stands to the first: "on", "with", "next to" """

    def box(self) -> Box:
        boxes = [sketch.box_around() for _, sketch in self.members]
        lows, highs = zip(*((box[:2], box[2:]) for box in boxes), strict=True)
        return (
            min(low[0] for low in lows),
            min(low[1] for low in lows),
            max(high[0] for high in highs),
            max(high[1] for high in highs),
        )


def _scaled(name: str, dice: Dice, size: float, *, mirror: bool = False) -> Sketch:
    """A thing whose box has the area size^2 and stands with its middle on the origin."""
    sketch = DRAWINGS[name](dice)
    left, top, right, bottom = sketch.box_around()
    scale = size / math.sqrt((right - left) * (bottom - top))
    centred = sketch.moved(-(left + right) / 2, -bottom)
    return centred.moved(0, 0, scale, mirror=mirror)


def alone(dice: Dice, name: str) -> Group:
    return Group(((name, _scaled(name, dice, 1, mirror=dice.chance(0.5))),))


def pair(dice: Dice, first: str, second: str) -> Group:
    """Two things in touch: one rides, stands on, holds or is next to the other."""
    if second in _RIDDEN:
        mount = DRAWINGS[second](dice)
        size = dice.between(0.95, 1.1) * (1.15 if second == "horse" else 0.95)
        members = (
            (second, mount),
            (first, rider(dice, mount.places["seat"], mount.places["hold"], mount.places["foot"], size)),
        )
        relation = "on"
    elif second in _TOPS and first != "chair":
        base = DRAWINGS[second](dice)
        x, y = base.places["top"]
        span = base.places["span"][0]
        size = {
            "cup": 0.26,
            "bowl": 0.3,
            "bottle": 0.32,
            "potted plant": 0.46,
            "tv monitor": 0.52,
            "cat": 0.46,
            "dog": 0.48,
        }[first]
        size *= dice.between(0.9, 1.25) * (0.85 if second == "chair" else 1)
        standing = _scaled(first, dice, size, mirror=dice.chance(0.5))
        members = ((second, base), (first, standing.moved(x + dice.between(-span, span) * 0.8, y + 0.01)))
        relation = "on"
    elif second == "umbrella":
        holder = DRAWINGS[first](dice)
        x, y = holder.places["hand"]
        held = _scaled(second, dice, dice.between(0.55, 0.7))
        left, _, right, bottom = held.box_around()
        members = ((second, held.moved(x - (left + right) / 2, y - bottom + 0.06)), (first, holder))
        relation = "with"
    else:
        one, other = (
            _scaled(second, dice, _SIZES[second], mirror=dice.chance(0.5)),
            _scaled(first, dice, _SIZES[first], mirror=dice.chance(0.5)),
        )
        gap = other.box_around()[0] - one.box_around()[2] + dice.between(-0.15, 0.12)
        members = ((second, one), (first, other.moved(-gap, dice.between(-0.03, 0.1))))
        relation = "next to"
    if dice.chance(0.5):
        members = tuple((name, sketch.moved(0, 0, mirror=True)) for name, sketch in members)  # type: ignore[assignment]
    return Group(members, relation)


def _seen_aside(dice: Dice, group: Group) -> Group:
    """The group from another point of view: a little broader or slimmer, sheared and tilted as a whole."""
    stretch, shear, tilt = dice.between(0.88, 1.14), dice.between(-0.09, 0.09), dice.between(-0.05, 0.05)
    members = tuple((name, sketch.slanted(stretch, shear).moved(0, 0, angle=tilt)) for name, sketch in group.members)
    return Group(members, group.relation)


def _overlap(a: Box, b: Box) -> float:
    """The shared area as a share of the smaller box."""
    wide = min(a[2], b[2]) - max(a[0], b[0])
    high = min(a[3], b[3]) - max(a[1], b[1])
    if wide <= 0 or high <= 0:
        return 0.0
    return wide * high / min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))


@dataclass(frozen=True)
class Manner:
    """How the groups of one kind of picture are set."""

    least: float
    most: float
    """the square root of a group's box, in picture heights"""
    crowd: float
    """how much of the smaller of two boxes may be shared"""
    cut: float
    """chance that a group may be cut by the picture's border"""


MANNERS = {
    "single": Manner(0.58, 1.0, 0.0, 0.22),
    "multi": Manner(0.3, 0.52, 0.35, 0.12),
    "clutter": Manner(0.17, 0.29, 0.3, 0.06),
    "pairs": Manner(0.6, 0.95, 0.2, 0.12),
}


def _fitted(box: Box, size: float, aspect: float, cut: bool) -> float:
    """The scale that gives the box about this size without leaving the picture (much, when cut)."""
    wide, high = box[2] - box[0], box[3] - box[1]
    room = 1.25 if cut else 0.94
    return min(size / math.sqrt(wide * high), room * aspect / wide, room / high)


def _spot(
    dice: Dice, backdrop: Backdrop, wide: float, high: float, aspect: float, cut: bool, flies: bool
) -> tuple[float, float, bool]:
    """The middle of the foot of a box, and whether it stands on the ground."""
    over = 0.35 if cut else 0.0
    reach = wide * (0.5 - over)
    margin = 0.02 if not cut else 0.0
    low, high_x = reach + margin, aspect - reach - margin
    x = dice.between(low, high_x) if low < high_x else aspect / 2
    sky, ground = backdrop.sky, backdrop.ground
    if flies and sky is not None and sky > 0.25:
        top = dice.between(0.02, max(0.03, min(sky, 1.0) - high * 0.8))
        return x, min(top + high, 0.98), False
    if ground is None:
        return x, min(dice.between(high + 0.02, 0.98) if high < 0.96 else 0.98, 0.98), False
    start = max(ground + 0.03, min(high * (0.8 if cut else 1) + 0.02, 0.97))
    foot = dice.between(start, max(0.97, start))
    return x, foot + (dice.between(0, 0.25) * high if cut else 0), True


def arrange(
    dice: Dice, groups: Sequence[Group], backdrop: Backdrop, manner: Manner, aspect: float
) -> list[tuple[Group, list[Item]]]:
    """Find a place for every group, those farther away first; one that fits nowhere is left away."""
    placed: list[tuple[float, Box, Group, list[Item]]] = []
    narrow = math.sqrt(min(aspect, 1 / aspect, 1.0) if aspect < 1 else min(aspect, 1.6))
    for group in groups:
        group = _seen_aside(dice, group)
        box = group.box()
        crowd = len(groups) > 1
        weight = _SIZES[group.members[0][0]] ** 0.7 if crowd else 1.0
        weight *= 1.3 if crowd and len(group.members) > 1 else 1.0
        cut = dice.chance(manner.cut)
        size = dice.between(manner.least, manner.most) * weight * narrow
        flies = group.members[0][0] in ("aeroplane", "bird") and dice.chance(0.85)
        for _ in range(14):
            scale = _fitted(box, size, aspect, cut)
            wide, high = (box[2] - box[0]) * scale, (box[3] - box[1]) * scale
            x, foot, grounded = _spot(dice, backdrop, wide, high, aspect, cut, flies)
            if crowd and grounded:
                near = 0.75 + 0.5 * (foot - (backdrop.ground or 0)) / max(0.2, 1 - (backdrop.ground or 0))
                scale, wide, high = scale * near, wide * near, high * near
            spot = (x - wide / 2, foot - high, x + wide / 2, foot)
            if all(_overlap(spot, other) <= manner.crowd for _, other, _, _ in placed):
                break
            size *= 0.96
        else:
            continue
        dx, dy = x - scale * (box[0] + box[2]) / 2, foot - scale * box[3]
        items = [Item(name, sketch.moved(dx, dy, scale), grounded) for name, sketch in group.members]
        placed.append((foot, spot, group, items))
    placed.sort(key=lambda entry: entry[0])
    return [(group, items) for _, _, group, items in placed]
