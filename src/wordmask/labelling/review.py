"""The pictures that a person should look at first, on one page that needs nothing beside it."""

import base64
import io
import json
from collections.abc import Iterator
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from wordmask.files import atomic_write
from wordmask.html_page import STYLE
from wordmask.labelling.ledger import Row
from wordmask.masks.overlay import draw_overlay
from wordmask.masks.palette import colours_of
from wordmask.pictures.image_files import ImageReadError
from wordmask.pictures.images import read_image, size_with_longer_side

THUMBNAIL = 400
"""Pixels of the longer side; 200 such pictures make a page of some 6 MB."""
_CARDS = """
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); gap: 1.2rem }
.card { border: 1px solid var(--line); border-radius: 6px; overflow: hidden } .card img { width: 100%; display: block }
.card .under { padding: .5rem .8rem } .card h3 { font-size: .95rem; margin: 0; overflow-wrap: anywhere }
.card ul { margin: .3rem 0 0; padding: 0; list-style: none; color: var(--faint); font-size: .9rem }
.card b { color: var(--ink); font-weight: 500 } .dot { display: inline-block; width: .7em; height: .7em;
  border-radius: 50%; margin-right: .4em } label, select { font: inherit } select { padding: .2rem .4rem }
"""
_FILTER = """
const choice = document.getElementById("name");
choice.addEventListener("change", () => {
  for (const card of document.querySelectorAll(".card"))
    card.hidden = choice.value !== "" && !JSON.parse(card.dataset.names).includes(choice.value);
});
"""


def write_review(path: Path, folder: Path, rows: Iterator[Row], pictures: int) -> None:
    """Rows in the order they are to be looked at. Memory holds one picture at a time."""
    with atomic_write(path) as file:
        file.write(
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Review of {_text(folder.name)}</title>'
            f'<meta name="viewport" content="width=device-width"><style>{STYLE}{_CARDS}</style></head><body>'
            f"<h1>Review of {_text(folder.name)}</h1>"
            f"<p>Of {pictures} labelled pictures those of which the segmenter was least sure, the least sure first. "
            "Unsure is one less the mean score of the pixels; beside each name stands how sure it was of its parts.</p>"
            '<p><label for="name">Only pictures with </label><select id="name"><option value="">any name</option>'
            '</select></p><div class="cards">'.encode()
        )
        seen: dict[str, None] = {}
        for row in rows:
            file.write(_card(folder, row).encode())
            seen.update(dict.fromkeys(part.name for part in row.parts))
        options = json.dumps(sorted(seen)).replace("<", "\\u003c")
        file.write(
            f"</div><script>for (const name of {options}) "
            f'document.getElementById("name").add(new Option(name, name));{_FILTER}</script></body></html>\n'.encode()
        )


def _card(folder: Path, row: Row) -> str:
    names = sorted({part.name for part in row.parts})
    items = []
    for name, colour in zip(names, colours_of(names), strict=True):
        scores = [part.score for part in row.parts if part.name == name and part.score is not None]
        sure = f" {', '.join(f'{score:.2f}' for score in sorted(scores)[:6])}" + (" ..." if len(scores) > 6 else "")
        dot = f'<span class="dot" style="background: rgb{colour}"></span>'
        items.append(f"<li>{dot}<b>{_text(name)}</b>{sure if scores else ''}</li>")
    return (
        f'<article class="card" data-names="{escape(json.dumps(names))}">{_picture(folder, row, names)}'
        f'<div class="under"><h3>{_text(row.picture)}</h3><ul><li>unsure {row.unsure:.3f}</li>{"".join(items)}</ul>'
        "</div></article>"
    )


def _picture(folder: Path, row: Row, names: list[str]) -> str:
    try:
        image = read_image(folder / row.picture, max_pixels=row.size[0] * row.size[1])
    except ImageReadError as error:  # it was readable when it was labelled
        return f'<p class="under">no longer readable: {_text(error.reason)}</p>'
    height, width = size_with_longer_side(*row.size, THUMBNAIL, only_shrink=True)
    small = np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BOX))
    drawn = draw_overlay(
        small,
        _labels(row, names, (height, width)),
        [*names, ""],
        [*colours_of(names), (0, 0, 0)],
        hidden=[len(names)],
        legend=False,
    )
    buffer = io.BytesIO()
    drawn.save(buffer, "JPEG", quality=85)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img alt="{_text(row.picture)}" loading="lazy" src="data:image/jpeg;base64,{data}">'


def _labels(row: Row, names: list[str], size: tuple[int, int]) -> np.ndarray:
    """(h, w) indices into `names`, or their number where there is none."""
    from pycocotools import mask as coco_mask

    labels = np.full(size, len(names), np.uint16)
    rows = (np.arange(size[0]) * row.size[0]) // size[0]
    columns = (np.arange(size[1]) * row.size[1]) // size[1]
    for part in row.parts:
        mask = coco_mask.decode({"size": list(row.size), "counts": part.rle})
        labels[mask[rows[:, None], columns].astype(bool)] = names.index(part.name)
    return labels


def _text(text: str) -> str:
    return escape(text.encode(errors="backslashreplace").decode())
