"""What the page of a run shows beside text and tables: rows of small pictures, links, drawings."""

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape

from PIL import Image

from wordmask.html_page import STYLE, Page
from wordmask.masks.palette import Colour
from wordmask.pictures.images import size_with_longer_side

TILE = 160
"""Pixels on the longer side: more than is shown, for sharp screens."""
MORE_STYLE = """
nav a { display: inline-block; margin: 0 1rem .2rem 0; color: inherit; text-decoration: none }
h3 { margin: 2.2rem 0 .3rem; font-size: 1.05rem }
.facts { color: var(--faint); margin: .1rem 0 .6rem; max-width: none }
.tiles { display: grid; gap: 4px 6px; align-items: center; overflow-x: auto; justify-content: start;
  grid-auto-rows: auto; padding-bottom: .4rem }
.tiles span { color: var(--faint); font-size: .85rem; position: sticky; left: 0; background: var(--ground);
  padding-right: .6rem }
.tiles img { width: 100px; height: 100px; object-fit: contain; border-radius: 3px; display: block }
.tiles img.none { visibility: hidden }
svg { width: 100%; max-width: 44rem; font: 11px system-ui, sans-serif } svg text { fill: var(--faint) }
svg .grid { stroke: var(--line) } svg .curve { fill: none; stroke-width: 2 } svg .thin { stroke-width: 1; opacity: .7 }
.swatch { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .5em }
"""


class RunPage(Page):
    """A page with rows of small pictures, links and drawings. note: what is to stand with every table."""

    def __init__(self, title: str, note: str | None = None):
        super().__init__(title)
        self._note = None if note is None else f"{note[:1].upper()}{note[1:]}."

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]], *, best: bool = False) -> None:
        if self._note is not None:
            self.text(self._note)
        super().table(columns, rows, best=best)

    def subheading(self, text: str, mark: Colour) -> None:
        self._parts.append(f'<h3 id="{_anchor(text)}">{_swatch(mark)}{escape(text)}</h3>')

    def facts(self, text: str) -> None:
        self._parts.append(f'<p class="facts">{escape(text)}</p>')

    def links(self, names: Mapping[str, Colour]) -> None:
        """To the subheadings of these names, which are a legend of their colours too."""
        links = [f'<a href="#{_anchor(name)}">{_swatch(mark)}{escape(name)}</a>' for name, mark in names.items()]
        self._parts.append(f"<nav>{''.join(links)}</nav>")

    def drawing(self, svg: str, caption: str) -> None:
        """svg: from `chart`, which escapes what it is given."""
        self._parts.append(f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>")

    def tiles(self, rows: Sequence[tuple[str, Sequence[Image.Image | None]]], titles: Sequence[str]) -> None:
        """Rows of pictures under each other, with a word before each; a title for every column."""
        columns = max(len(pictures) for _, pictures in rows)
        cells = []
        for label, pictures in rows:
            cells.append(f"<span>{escape(label)}</span>")
            for title, picture in zip(titles, pictures, strict=True):
                told = escape(f"{label}: {title}", quote=True)
                cells.append(
                    '<img class="none" alt="">'
                    if picture is None
                    else f'<img loading="lazy" alt="{told}" title="{told}" src="{_data(picture)}">'
                )
        style = f"grid-template-columns: auto repeat({columns}, 100px)"
        self._parts.append(f'<div class="tiles" style="{style}">{"".join(cells)}</div>')

    def html(self) -> str:
        return super().html().replace(STYLE, STYLE + MORE_STYLE, 1)


def small(picture: Image.Image) -> Image.Image:
    """As rows of small pictures show it."""
    height, width = size_with_longer_side(picture.height, picture.width, TILE, only_shrink=True)
    return picture.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)


def _swatch(colour: Colour) -> str:
    return '<i class="swatch" style="background:#{:02x}{:02x}{:02x}"></i>'.format(*colour)


def _data(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _anchor(name: str) -> str:
    return "name-" + "".join(letter if letter.isalnum() else "-" for letter in name)
