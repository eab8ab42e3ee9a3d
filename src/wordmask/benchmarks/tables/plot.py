"""A table's rows as points of a curve: an SVG file that needs nothing beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, log
from pathlib import Path

from wordmask.files import atomic_write

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 56, 24, 24, 48
LINES = 5
"""Of the grid, at most."""
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#555}.grid{stroke:#ddd}"
    ".curve{fill:none;stroke:#2f6fb3;stroke-width:2}circle{fill:#2f6fb3}"
)


@dataclass(frozen=True)
class Plot:
    """Where a table's only column is drawn, against a number for each row, on a logarithmic axis."""

    file: str
    x_label: str
    y_label: str
    xs: Mapping[str, float]

    def save(self, path: Path, figures: Mapping[str, float]) -> None:
        """figures: by the rows' labels; rows without one are left out."""
        points = sorted((self.xs[label], figure) for label, figure in figures.items())
        with atomic_write(path) as file:
            file.write(drawn(points, x_label=self.x_label, y_label=self.y_label).encode())


def drawn(points: Sequence[tuple[float, float]], *, x_label: str, y_label: str) -> str:
    """points: (x, y) with x above 0, from left to right, at least one."""
    xs = [x for x, _ in points]
    step, top = _grid(max(y for _, y in points))
    span = log(max(xs) / min(xs)) or 1.0

    def across(x: float) -> float:
        return LEFT + log(x / min(xs)) / span * (WIDTH - LEFT - RIGHT)

    def up(y: float) -> float:
        return HEIGHT - BOTTOM - y / top * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
        f' aria-label="{escape(y_label)} by {escape(x_label)}">',
        f'<style>{STYLE}</style><rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
    ]
    for line in range(round(top / step) + 1):
        y = up(line * step)
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{line * step:g}</text>')
    parts.append(f'<polyline class="curve" points="{" ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in points)}"/>')
    for x, y in points:
        parts.append(f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="4"><title>{x:g}: {y:.1f}</title></circle>')
        parts.append(f'<text x="{across(x):.1f}" y="{up(y) - 9:.1f}" text-anchor="middle">{y:.1f}</text>')
        parts.append(f'<text x="{across(x):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{x:g}</text>')
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 8}" text-anchor="end">{escape(x_label)}</text>')
    parts.append(f'<text x="8" y="{TOP - 8}">{escape(y_label)}</text></svg>\n')
    return "".join(parts)


def _grid(most: float) -> tuple[float, float]:
    """Return a round step, and where the axis ends: the first step at or above `most`."""
    step = next(step for step in (1, 2, 5, 10, 20, 25, 50) if most <= LINES * step or step == 50)
    return step, step * max(1, ceil(most / step))
