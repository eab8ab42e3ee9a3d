"""Several segmentations of one picture side by side: the picture, one drawing a method, one legend for all."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from wordmask.masks.overlay import (
    LEGEND_BACK,
    LEGEND_FAINT,
    LEGEND_INK,
    draw_legend,
    draw_overlay,
    fitting,
)
from wordmask.masks.run_lengths import count_labels
from wordmask.masks.segmentation import Segmentation
from wordmask.names.vocabulary import BACKGROUND

CELL_SIDES = (320, 640)
"""A drawing's longer side: large pictures are drawn smaller, small ones larger."""
SHEET_SHAPE = 1.6
"""Width over height that the sheet comes near to: a screen's."""
MARGIN = 16
TEXT = 16


@dataclass(frozen=True)
class Drawn:
    """A method's segmentation at the size of its cell, with colours; all that a sheet needs of it."""

    title: str
    picture: Image.Image
    shares: dict[str, float]  # of the names that are there


def cell_size(height: int, width: int) -> tuple[int, int]:
    """Return the (height, width) at which a picture of this size is drawn."""
    longer = max(height, width)
    scale = min(max(longer, CELL_SIDES[0]), CELL_SIDES[1]) / longer
    return max(1, round(height * scale)), max(1, round(width * scale))


def draw_cell(title: str, result: Segmentation) -> Drawn:
    """Return `result` with its picture, drawn as `overlay` does but at a cell's size, so that borders stay fine."""
    if result.image is None:
        raise ValueError(f"{title}: a segmentation without its picture cannot be drawn")
    height, width = cell_size(*result.size)
    rows = (np.arange(height) + 0.5) * result.size[0] / height
    columns = (np.arange(width) + 0.5) * result.size[1] / width
    labels = result.labels[rows.astype(int)[:, None], columns.astype(int)]
    image = np.asarray(shrunk(result.image))
    hidden = [i for i, name in enumerate(result.names) if name.casefold() == BACKGROUND]
    drawn = draw_overlay(image, labels, result.names, result.colours, hidden=hidden, legend=False)
    counts = count_labels(result.labels, len(result.names))
    shares = {result.names[i]: counts[i] / result.labels.size for i in np.flatnonzero(counts)}
    return Drawn(title, drawn, shares)


def shrunk(image: np.ndarray) -> Image.Image:
    """Return a picture (H, W, 3) uint8 at a cell's size."""
    height, width = cell_size(image.shape[0], image.shape[1])
    return Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3)


def draw_sheet(
    picture: Image.Image, drawings: Sequence[Drawn], names: Sequence[str], colours: Sequence[tuple[int, int, int]]
) -> Image.Image:
    """Return the picture and its drawings in a grid, titles above, and beneath the legend of the names that any of them
    found, the largest first.
    """
    cells = [("picture", picture), *((drawn.title, drawn.picture) for drawn in drawings)]
    width, height = picture.size
    step_x, step_y = width + MARGIN, height + 2 * TEXT + MARGIN // 2
    columns = _columns(len(cells), step_x, step_y)
    rows = ceil(len(cells) / columns)
    shares = {name: sum(drawn.shares.get(name, 0.0) for drawn in drawings) / len(drawings) for name in names}
    there = sorted((i for i, name in enumerate(names) if shares[name]), key=lambda i: -shares[names[i]])
    sheet_width = MARGIN + columns * step_x
    legend = draw_legend([names[i] for i in there], [colours[i] for i in there], None, sheet_width - 2 * MARGIN, TEXT)
    sheet = Image.new("RGB", (sheet_width, MARGIN // 2 + rows * step_y + legend.height + MARGIN // 2), LEGEND_BACK)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT)
    for place, (title, cell) in enumerate(cells):
        row, column = divmod(place, columns)
        left, top = MARGIN + column * step_x, MARGIN // 2 + row * step_y
        ink = LEGEND_INK if place else LEGEND_FAINT
        pen.text((left, top + TEXT), fitting(title, font, width), fill=ink, font=font, anchor="lm")
        sheet.paste(cell, (left, top + 2 * TEXT))
    sheet.paste(legend, (MARGIN - TEXT // 2, MARGIN // 2 + rows * step_y))  # its own indent taken back
    return sheet


def _columns(cells: int, width: int, height: int) -> int:
    """As many as bring the grid nearest to `SHEET_SHAPE`, no row more than it needs."""

    def departure(columns: int) -> float:
        shape = columns * width / (ceil(cells / columns) * height)
        return max(shape / SHEET_SHAPE, SHEET_SHAPE / shape)

    best = min(range(1, cells + 1), key=departure)
    return ceil(cells / ceil(cells / best))
