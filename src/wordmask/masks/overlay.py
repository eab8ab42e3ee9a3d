"""Labels drawn over their picture, with a legend."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from wordmask.errors import WordmaskError
from wordmask.files import atomic_write
from wordmask.masks.palette import Colour
from wordmask.masks.run_lengths import count_labels
from wordmask.runs import marks

LEGEND_BACK: Colour = (250, 250, 250)
LEGEND_INK: Colour = (30, 30, 30)
LEGEND_FAINT: Colour = (120, 120, 120)
STRIP_PIXELS = 2**18
"""Drawn at once: a strip and all its intermediate arrays take some 4 MB."""
BORDER_REACH = 2
"""Rows above and below that a pixel's border hangs on: an edge sees its neighbours, the line beside it their edges."""
DARKENED, LIGHTENED = 0.35, 0.4
"""How much of the colour the border's dark line keeps, and its light line (the rest of which is white)."""
JPEG_MAX_SIDE = 65_500
"""libjpeg's JPEG_MAX_DIMENSION."""
JPEG_QUALITY = 92


def save_drawn(path: str | Path, draw: Callable[[], Image.Image], error: type[WordmaskError], made: marks.Made) -> None:
    """Save what `draw` draws, as .png, .jpg or .jpeg. JPEG holds sides of 65,500 pixels at most.

    made: what the file is to say of itself, so that nobody takes it for a photograph.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".png", ".jpg", ".jpeg"):
        raise error(f"{path}: overlays are saved as .jpg or .png, not {path.suffix or 'without one'!r}")
    drawn = draw()
    if suffix != ".png" and max(drawn.size) > JPEG_MAX_SIDE:
        raise error(
            f"{path}: the overlay has {drawn.width} x {drawn.height} pixels with its legend, and a JPEG's side "
            f"at most {JPEG_MAX_SIDE}: save it as .png"
        )
    with atomic_write(path) as file:
        if suffix == ".png":
            drawn.save(file, "PNG", pnginfo=marks.png_text(made.kind, made.of))
        else:
            drawn.save(file, "JPEG", quality=JPEG_QUALITY, comment=marks.jpeg_comment(made.kind, made.of))


def draw_overlay(
    image: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    colours: Sequence[Colour],
    *,
    hidden: Sequence[int] = (),
    opacity: float = 0.55,
    legend: bool = True,
) -> Image.Image:
    """Return the picture (H, W, 3) uint8 under the colours of its labels (H, W); labels in `hidden` stay clear.

    Borders get a dark and a light line side by side, so that one of them shows on any picture. The legend stands
    beneath, on ground of its own, and lists the names that are there, the largest first.

    The picture is drawn in strips of rows, so that little memory is taken beside the result.
    """
    height, width = labels.shape
    panel = _legend_of(labels, names, colours) if legend else None
    whole = Image.new("RGB", (width, height + (panel.height if panel else 0)), LEGEND_BACK)
    brush = _Brush.of(colours, hidden, opacity)
    rows = max(1, STRIP_PIXELS // max(1, width))
    for top in range(0, height, rows):
        whole.paste(Image.fromarray(brush.paint(image, labels, top, min(top + rows, height))), (0, top))
    if panel:
        whole.paste(panel, (0, height))
    return whole


@dataclass(frozen=True)
class _Brush:
    """What a pixel of each label becomes, looked up: picture * (256 - weight) + tint, over 256."""

    weight: int
    tint: np.ndarray  # (names, 3) uint16, colour * weight, and a half to round by
    dark: np.ndarray  # (names, 3) uint8, the border's inner line
    light: np.ndarray  # (names, 3) uint8, the line beside it
    clear: np.ndarray  # (names,) bool

    @classmethod
    def of(cls, colours: Sequence[Colour], hidden: Sequence[int], opacity: float) -> "_Brush":
        if not 0 <= opacity <= 1:
            raise ValueError(f"opacity must be from 0 to 1, not {opacity}")
        table = np.array(colours, dtype=np.float32).reshape(-1, 3)
        clear = np.zeros(len(table), dtype=bool)
        clear[list(hidden)] = True
        weight = round(256 * opacity)
        return cls(
            weight,
            (table * weight + 128).astype(np.uint16),
            (DARKENED * table + 0.5).astype(np.uint8),
            (LIGHTENED * table + (1 - LIGHTENED) * 255 + 0.5).astype(np.uint8),
            clear,
        )

    def paint(self, image: np.ndarray, labels: np.ndarray, top: int, bottom: int) -> np.ndarray:
        """Rows from `top` to `bottom`, their borders as they are in the whole picture."""
        above, below = max(0, top - BORDER_REACH), bottom + BORDER_REACH
        edge = _edges(labels[above:below])
        inside = slice(top - above, bottom - above)
        line, beside = edge[inside], _beside(edge)[inside]
        here, strip = labels[top:bottom], image[top:bottom]

        mixed = self.tint[here]  # (h, W, 3) uint16
        mixed += np.multiply(strip, 256 - self.weight, dtype=np.uint16)
        mixed >>= 8
        drawn = mixed.astype(np.uint8)
        drawn[line] = self.dark[here[line]]
        drawn[beside] = self.light[here[beside]]
        if self.clear.any():
            clear = self.clear[here]
            drawn[clear] = strip[clear]
        return drawn


def _legend_of(labels: np.ndarray, names: Sequence[str], colours: Sequence[Colour]) -> Image.Image:
    height, width = labels.shape
    counts = count_labels(labels, len(names))
    present = [int(i) for i in np.argsort(-counts, kind="stable") if counts[i]]
    shares = [counts[i] / labels.size for i in present]
    return draw_legend(
        [names[i] for i in present], [colours[i] for i in present], shares, width, _text_size(height, width)
    )


def draw_legend(
    names: Sequence[str], colours: Sequence[Colour], shares: Sequence[float] | None, width: int, text: int
) -> Image.Image:
    """Swatch, name and (unless None) share of the picture, in as many rows as `width` pixels need."""
    font = ImageFont.load_default(text)
    gap, line = text // 2, int(text * 1.7)
    places: list[tuple[int, int, str, str]] = []
    x, row = gap, 0
    percents = [""] * len(names) if shares is None else [_percent(share) for share in shares]
    for name, percent in zip(names, percents, strict=True):
        name = fitting(name, font, width - 3 * gap - text - int(font.getlength(" 100%")))
        length = text + gap // 2 + int(font.getlength(f"{name} {percent}")) + 2 * gap
        if x > gap and x + length > width:
            x, row = gap, row + 1
        places.append((x, row, name, percent))
        x += length
    panel = Image.new("RGB", (width, (row + 1) * line + gap if places else 0), LEGEND_BACK)
    pen = ImageDraw.Draw(panel)
    for (x, row, name, percent), colour in zip(places, colours, strict=True):
        y = row * line + gap
        pen.rounded_rectangle((x, y, x + text, y + text), radius=text // 4, fill=colour, outline=LEGEND_INK)
        pen.text((x + text + gap // 2, y + text / 2), name, fill=LEGEND_INK, font=font, anchor="lm")
        after = x + text + gap // 2 + font.getlength(f"{name} ")
        pen.text((after, y + text / 2), percent, fill=LEGEND_FAINT, font=font, anchor="lm")
    return panel


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%" if share >= 0.01 else "<1%"


def fitting(name: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, room: int) -> str:
    """Return a name, or as much of it as `room` pixels hold."""
    if font.getlength(name) <= room:
        return name
    while len(name) > 1 and font.getlength(name + "...") > room:
        name = name[:-1]
    return name + "..."


def _text_size(height: int, width: int) -> int:
    return int(np.clip(min(height, width) / 24, 10, 36))


def _edges(labels: np.ndarray) -> np.ndarray:
    """Pixels whose right or lower neighbour has another label, and those neighbours."""
    edge = np.zeros(labels.shape, dtype=bool)
    down = labels[1:] != labels[:-1]
    across = labels[:, 1:] != labels[:, :-1]
    edge[:-1] |= down
    edge[1:] |= down
    edge[:, :-1] |= across
    edge[:, 1:] |= across
    return edge


def _beside(edge: np.ndarray) -> np.ndarray:
    """Return the pixels beside an edge, without the edge."""
    near = edge.copy()
    near[1:] |= edge[:-1]
    near[:-1] |= edge[1:]
    near[:, 1:] |= edge[:, :-1]
    near[:, :-1] |= edge[:, 1:]
    return near & ~edge
