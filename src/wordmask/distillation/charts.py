"""Curves as SVG, which stays sharp and follows the page's own colours."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import floor, isfinite, log10

WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 34
MOST_POINTS = 400
"""Of one curve: more than a screen shows."""
TICKS = 5


@dataclass(frozen=True)
class Curve:
    label: str
    xs: Sequence[float]
    ys: Sequence[float]


def chart(curves: Sequence[Curve], *, x_label: str, y_label: str) -> str:
    """One drawing with all the curves; those that have no point are left out."""
    drawn = [(curve.label, _points(curve)) for curve in curves]
    drawn = [(label, points) for label, points in drawn if points]
    if not drawn:
        return ""
    xs = [x for _, points in drawn for x, _ in points]
    ys = [y for _, points in drawn for _, y in points]
    across = _Axis(min(xs), max(xs), LEFT, WIDTH - RIGHT)
    up = _Axis(min(0.0, min(ys)), max(ys), HEIGHT - BOTTOM, TOP)
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(y_label)} by {escape(x_label)}">']
    for tick in up.ticks:
        y = up.place(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in across.ticks:
        parts.append(
            f'<text x="{across.place(tick):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{tick:g}</text>'
        )
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 4}" text-anchor="end">{escape(x_label)}</text>')
    parts.append(f'<text x="{LEFT}" y="{TOP - 1}" text-anchor="start">{escape(y_label)}</text>')
    for number, (label, points) in enumerate(drawn):
        path = " ".join(f"{across.place(x):.1f},{up.place(y):.1f}" for x, y in points)
        hue = round(360 * number / len(drawn) + 210) % 360
        thin = "" if len(drawn) < 4 else " thin"
        parts.append(
            f'<polyline class="curve{thin}" style="stroke:hsl({hue} 55% 50%)" points="{path}">'
            f"<title>{escape(label)}</title></polyline>"
        )
    return "".join([*parts, "</svg>"])


def _points(curve: Curve) -> list[tuple[float, float]]:
    """Return a few hundred points at most, each the mean of its neighbours."""
    pairs = [(x, y) for x, y in zip(curve.xs, curve.ys, strict=True) if isfinite(x) and isfinite(y)]
    step = -(-len(pairs) // MOST_POINTS) or 1
    blocks = [pairs[start : start + step] for start in range(0, len(pairs), step)]
    return [(sum(x for x, _ in b) / len(b), sum(y for _, y in b) / len(b)) for b in blocks]


class _Axis:
    def __init__(self, least: float, most: float, start: float, end: float):
        self.least, self.most = least, most if most > least else least + 1
        self.start, self.end = start, end

    def place(self, value: float) -> float:
        return self.start + (value - self.least) / (self.most - self.least) * (self.end - self.start)

    @property
    def ticks(self) -> list[float]:
        """Round numbers within the axis."""
        rough = (self.most - self.least) / TICKS
        unit = 10 ** floor(log10(rough))
        step = next(unit * n for n in (1, 2, 5, 10) if unit * n >= rough)
        first = -(-self.least // step)
        found, tick = [], first * step
        while tick <= self.most + step * 1e-9:
            found.append(round(tick, 10))
            tick += step
        return found
