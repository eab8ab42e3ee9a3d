"""Sketches to pixels: anti-aliased, shaded tiles with their coverage.

Every part is drawn three times as large into one picture of palette entries, so that colours, outlines and
coverage come from table look-ups and one reduction. Pattern and shading are added at the target's size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from wordmask_world.drawing.colours import OUTLINE, Palette
from wordmask_world.drawing.sketch import Sketch

_FINE = 3
"""Fine pixels along one pixel's side."""
_SNAP = 8
"""Corners lie on this fraction of a fine pixel, so that another machine's last digit of a cosine moves none."""
_COVERED = [0] + [255] * 255


@dataclass(frozen=True)
class Look:
    """How an object's surface is drawn, apart from its colours."""

    outline: float
    """Width of the darker line around parts, in shares of the object's larger side; 0 for none."""
    relief: float
    """Strength of the soft shading that makes flat parts look round."""


@dataclass(frozen=True)
class Tile:
    """A drawn object: where it goes, its colours times its coverage, and its coverage."""

    top: int
    left: int
    colour: np.ndarray
    """(h, w, 3) float32, already multiplied by the coverage"""
    coverage: np.ndarray
    """(h, w, 1) float32, from 0 to 1"""

    def cover(self, picture: np.ndarray, labels: np.ndarray, label: int) -> None:
        """Paint the tile over a picture (H, W, 3) and its labels (H, W), in place."""
        height, width = self.coverage.shape[:2]
        rows, columns = slice(self.top, self.top + height), slice(self.left, self.left + width)
        part = picture[rows, columns]
        part *= 1 - self.coverage
        part += self.colour
        labels[rows, columns][self.coverage[..., 0] > 0.5] = label


def render(sketch: Sketch, palette: Palette, look: Look, height: int, width: int) -> Tile | None:
    """Draw a sketch whose coordinates are picture heights (the picture spans 0 to 1 downwards).

    Returns None where nothing of it lies in the picture.
    """
    counts = [len(outline) for _, outline in sketch.parts]
    points = np.concatenate([outline for _, outline in sketch.parts])
    low, high = points.min(axis=0), points.max(axis=0)
    left, top = np.maximum(np.floor(low * height).astype(int) - 1, 0)
    right, bottom = np.minimum(np.ceil(high * height).astype(int) + 1, (width, height))
    if right - left < 1 or bottom - top < 1:
        return None
    w, h = int(right - left), int(bottom - top)

    fine = np.round((points * height - (left, top)) * (_FINE * _SNAP)) / _SNAP - 0.5
    entries = Image.new("P", (w * _FINE, h * _FINE))
    pen = ImageDraw.Draw(entries)
    flat = fine.ravel().tolist()
    start = 0
    for (role, _), count in zip(sketch.parts, counts, strict=True):
        pen.polygon(flat[2 * start : 2 * (start + count)], fill=role)
        start += count

    side = float(max(high - low))
    line = round(look.outline * side * height * _FINE) if look.outline else 0
    if line:
        entries = _outlined(entries, line)
    coverage = np.asarray(entries.point(_COVERED, "L").reduce(_FINE), dtype=np.float32)[..., None] / 255
    colour = _coloured(entries, palette.plain)
    if palette.pattern is not None:
        pixel = 1 / (height * side)
        u = ((np.arange(left, right) + 0.5) / height - low[0]).astype(np.float32)[None, :] / side
        v = ((np.arange(top, bottom) + 0.5) / height - high[1]).astype(np.float32)[:, None] / side
        blend = np.broadcast_to(palette.pattern(u, v, pixel), (h, w)).astype(np.float32)[..., None]
        colour += (_coloured(entries, palette.other) - colour) * blend
    if look.relief:
        colour *= _relief(coverage[..., 0], side * height, look.relief)[..., None]
        np.minimum(colour, 255 * coverage, out=colour)
    return Tile(int(top), int(left), colour, coverage)


def _coloured(entries: Image.Image, table: np.ndarray) -> np.ndarray:
    """Palette entries (fine) -> colours at the target's size, times coverage. (h, w, 3)"""
    entries.putpalette(np.round(table).astype(np.uint8).tobytes())
    return np.asarray(entries.convert("RGB").reduce(_FINE), dtype=np.float32)


def _outlined(entries: Image.Image, line: int) -> Image.Image:
    """Turn the entries near a border between two roles into those of the outline."""
    grid = np.array(entries)
    half = max(1, line // 2)
    edge = np.zeros(grid.shape, dtype=bool)
    across = grid[:, half:] != grid[:, :-half]
    down = grid[half:] != grid[:-half]
    edge[:, half:] |= across
    edge[:, :-half] |= across
    edge[half:] |= down
    edge[:-half] |= down
    grid[edge & (grid > 0)] += OUTLINE
    return Image.frombytes("P", entries.size, grid.tobytes())


def _relief(coverage: np.ndarray, side: float, strength: float) -> np.ndarray:
    """Light from the upper left on a shape that bulges in its middle. (h, w)"""
    step = max(1, round(side * 0.03))
    pixels = Image.fromarray((coverage * 255).astype(np.uint8))
    soft = np.asarray(pixels.filter(ImageFilter.BoxBlur(side * 0.06)), dtype=np.float32) / 255
    padded = np.pad(soft, step, mode="edge")
    slope = padded[2 * step :, 2 * step :] - padded[: -2 * step, : -2 * step]
    return np.asarray(1 + strength * slope, dtype=np.float32)
