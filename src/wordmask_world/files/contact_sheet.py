"""Many pictures of the world on one page, each above its caption."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from wordmask.masks.palette import colours_of
from wordmask_world.drawing.names import NAMES
from wordmask_world.drawing.scenes import Kind, draw_scene

_MARGIN = 8
_LINE = 12
_LINES = 3
_LETTER = 5.6
"""Mean width of a letter of the caption's font, in pixels."""


def contact_sheet(
    seeds: Sequence[int],
    *,
    kind: Kind | None = None,
    columns: int = 6,
    size: int | tuple[int, int] = 128,
    labels: bool = False,
) -> Image.Image:
    """Draw the pictures of some seeds on one page, each with its first caption beneath.

    Args:
        seeds: one picture each.
        kind: the kind of all pictures; drawn from the mixture when not given.
        columns: pictures side by side.
        size: height and width of each picture, or one number for a square.
        labels: put the label map to the right of each picture.
    """
    height, width = (size, size) if isinstance(size, int) else size
    across = width * (2 if labels else 1)
    cell_width, cell_height = across + _MARGIN, height + _MARGIN + _LINES * _LINE + 4
    rows = -(-len(seeds) // columns)
    page = Image.new("RGB", (columns * cell_width + _MARGIN, rows * cell_height + _MARGIN), "white")
    pen, font, colours = ImageDraw.Draw(page), ImageFont.load_default(10), np.array(colours_of(NAMES), dtype=np.uint8)
    for index, seed in enumerate(seeds):
        scene = draw_scene(seed, (height, width), kind=kind)
        x, y = _MARGIN + index % columns * cell_width, _MARGIN + index // columns * cell_height
        page.paste(Image.fromarray(scene.image), (x, y))
        if labels:
            page.paste(Image.fromarray(colours[scene.labels]), (x + width, y))
        lines = textwrap.wrap(scene.captions[0], max(8, int(across / _LETTER)))[:_LINES]
        pen.multiline_text((x, y + height + 2), "\n".join(lines), fill=(40, 40, 40), font=font, spacing=1)
    return page
