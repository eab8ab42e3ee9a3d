"""Drawing by outlines: a `Sketch` collects filled outlines, each painted with a role of the object's palette.

Coordinates are the drawing's own: x to the right, y down, the ground at y = 0, so things stand at negative y.
A role says what a part is (body, far leg, glass), never its colour: colours are chosen apart, so that
shape alone gives a thing its name.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

Point = tuple[float, float]
Points = Sequence[Point] | np.ndarray

_TURN = np.linspace(0, 2 * np.pi, 24, endpoint=False)
_CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1)
_SMALL_CIRCLE = _CIRCLE[::2]
_CURVE_STEPS = 5


class Role(IntEnum):
    """What a part of a drawing is; a palette gives each role its colours."""

    MAIN = 1
    FAR = 2
    """Main, in shade: the far legs of an animal, the inside of a cup, seams and folds."""
    SECOND = 3
    SECOND_FAR = 4
    ACCENT = 5
    DARK = 6
    """Tyres, noses, eyes."""
    LIGHT = 7
    """Head lights, eye whites, collars."""
    GLASS = 8
    SKIN = 9
    SKIN_FAR = 10
    HAIR = 11
    METAL = 12
    LIT = 13
    """Main, in light: bellies, muzzles, cushions."""


def _basis(steps: int) -> np.ndarray:
    """Catmull-Rom weights of four neighbouring points at `steps` places between the middle two. (steps, 4)"""
    t = np.arange(steps) / steps
    t2, t3 = t * t, t * t * t
    return 0.5 * np.stack([-t3 + 2 * t2 - t, 3 * t3 - 5 * t2 + 2, -3 * t3 + 4 * t2 + t, t3 - t2], axis=1)


_BASIS = _basis(_CURVE_STEPS)


def smooth_closed(points: Points) -> np.ndarray:
    """A round outline through all points."""
    p = np.asarray(points, dtype=np.float64)
    four = np.stack([np.roll(p, 1, axis=0), p, np.roll(p, -1, axis=0), np.roll(p, -2, axis=0)], axis=1)
    return (_BASIS @ four).reshape(-1, 2)


def smooth_open(points: Points) -> np.ndarray:
    """A round line through all points, from the first to the last."""
    p = np.asarray(points, dtype=np.float64)
    padded = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    four = np.stack([padded[:-3], padded[1:-2], padded[2:-1], padded[3:]], axis=1)
    return np.concatenate([(_BASIS @ four).reshape(-1, 2), p[-1:]])


def stroke(line: np.ndarray, start: float, end: float) -> np.ndarray:
    """The outline of a line drawn with a pen whose width goes from `start` to `end`; the ends are round."""
    ahead = np.gradient(line, axis=0) if len(line) > 2 else np.repeat(line[1:] - line[:1], 2, axis=0)
    ahead /= np.maximum(np.hypot(ahead[:, 0], ahead[:, 1]), 1e-9)[:, None]
    half = np.linspace(start / 2, end / 2, len(line))[:, None]
    side = np.stack([-ahead[:, 1], ahead[:, 0]], axis=1) * half
    caps = []
    for at, way, across, reach in ((-1, 1, 1, end / 2), (0, -1, -1, start / 2)):
        forward = ahead[at] * way * reach
        sideways = side[at] * across
        caps.append(line[at] + np.stack([forward * 0.71 + sideways * 0.71, forward, forward * 0.71 - sideways * 0.71]))
    return np.concatenate([line + side, caps[0], (line - side)[::-1], caps[1]])


@dataclass
class Sketch:
    """Parts in painting order, and named places where other things can stand, sit or hold on."""

    parts: list[tuple[int, np.ndarray]] = field(default_factory=list)
    places: dict[str, Point] = field(default_factory=dict)

    def poly(self, role: int, points: Points) -> None:
        self.parts.append((int(role), np.asarray(points, dtype=np.float64)))

    def blob(self, role: int, points: Points) -> None:
        self.parts.append((int(role), smooth_closed(points)))

    def ellipse(self, role: int, x: float, y: float, rx: float, ry: float | None = None, angle: float = 0) -> None:
        ry = rx if ry is None else ry
        outline = _CIRCLE * (rx, ry)
        if angle:
            cos, sin = math.cos(angle), math.sin(angle)
            outline = outline @ np.array([[cos, sin], [-sin, cos]])
        self.parts.append((int(role), np.add(outline, (x, y))))

    def dot(self, role: int, x: float, y: float, r: float) -> None:
        self.parts.append((int(role), _SMALL_CIRCLE * r + (x, y)))

    def ring(self, role: int, x: float, y: float, r: float, width: float) -> None:
        """A circle's line of the given width, inside radius r; the hole shows what is behind."""
        outer = np.concatenate([_CIRCLE, _CIRCLE[:1]]) * r
        inner = outer[::-1] * ((r - width) / r)
        self.parts.append((int(role), np.add(np.concatenate([outer, inner]), (x, y))))

    def half_disc(self, role: int, x: float, y: float, rx: float, ry: float) -> None:
        """The upper half of an ellipse (the lower one for ry < 0) on the chord at height y."""
        turn = np.linspace(np.pi, 2 * np.pi, 14)
        self.parts.append((int(role), np.stack([np.cos(turn) * rx + x, np.sin(turn) * ry + y], axis=1)))

    def box(self, role: int, x0: float, y0: float, x1: float, y1: float, r: float = 0) -> None:
        """A rectangle with corners of radius r."""
        if r <= 0:
            self.parts.append((int(role), np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])))
            return
        x0, x1 = min(x0, x1), max(x0, x1)
        y0, y1 = min(y0, y1), max(y0, y1)
        r = min(r, (x1 - x0) / 2, (y1 - y0) / 2)
        k = 0.29 * r
        self.parts.append(
            (
                int(role),
                np.array(
                    [
                        (x0, y0 + r),
                        (x0 + k, y0 + k),
                        (x0 + r, y0),
                        (x1 - r, y0),
                        (x1 - k, y0 + k),
                        (x1, y0 + r),
                        (x1, y1 - r),
                        (x1 - k, y1 - k),
                        (x1 - r, y1),
                        (x0 + r, y1),
                        (x0 + k, y1 - k),
                        (x0, y1 - r),
                    ]
                ),
            )
        )

    def limb(self, role: int, start: Point, end: Point, width: float, end_width: float | None = None) -> None:
        """A straight stroke with round ends: legs, arms, poles."""
        end_width = width if end_width is None else end_width
        self.parts.append((int(role), stroke(np.array([start, end], dtype=np.float64), width, end_width)))

    def curve(self, role: int, points: Points, width: float, end_width: float | None = None) -> None:
        """A smooth stroke through the points: tails, necks, handles."""
        end_width = width if end_width is None else end_width
        self.parts.append((int(role), stroke(smooth_open(points), width, end_width)))

    def turned(self, role: int, profile: Iterable[Point]) -> None:
        """A thing turned on a lathe: the half profile (radius, y), from top to bottom, and its mirror image."""
        half = np.array(list(profile), dtype=np.float64)
        self.parts.append((int(role), np.concatenate([half, half[::-1] * (-1, 1)])))

    def box_around(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of all parts."""
        points = np.concatenate([outline for _, outline in self.parts])
        (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
        return float(left), float(top), float(right), float(bottom)

    def moved(self, dx: float, dy: float, scale: float = 1, *, mirror: bool = False, angle: float = 0) -> Sketch:
        """The same drawing scaled about the origin, mirrored, turned by `angle` in radians, then shifted."""
        cos, sin = math.cos(angle) * scale, math.sin(angle) * scale
        flip = -1 if mirror else 1
        turn = np.array([[cos * flip, sin * flip], [-sin, cos]])
        parts = [(role, outline @ turn + (dx, dy)) for role, outline in self.parts]
        places = {}
        for name, place in self.places.items():
            x, y = np.asarray(place) @ turn + (dx, dy)
            places[name] = (float(x), float(y))
        return Sketch(parts, places)

    def slanted(self, stretch: float, shear: float) -> Sketch:
        """The same drawing seen from a little aside: broader by `stretch`, lower by as much, and sheared."""
        turn = np.array([[stretch, 0.0], [shear, 1 / stretch]])
        places = {name: (x * stretch + y * shear, y / stretch) for name, (x, y) in self.places.items()}
        return Sketch([(role, outline @ turn) for role, outline in self.parts], places)
