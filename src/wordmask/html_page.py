"""Reports as one HTML file that needs nothing beside it: text, tables, pictures."""

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

from PIL import Image

from wordmask.files import atomic_write
from wordmask.runs.marks import GENERATOR, OutputError, check_output

SUFFIXES = (".html", ".htm")
STYLE = """
:root { color-scheme: light dark; --ink: #222; --faint: #777; --line: #ddd; --ground: #fff; --good: #eaf6ee;
  --raised: #f5f5f5 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #ddd; --faint: #999; --line: #444; --ground: #181818; --good: #1d3325; --raised: #242424 } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--ground);
  max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.7rem } h2 { margin-top: 2.5rem; font-size: 1.25rem } p { max-width: 46rem }
.scroll { overflow-x: auto } table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .9rem .25rem 0; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap }
th:first-child, td:first-child { text-align: left } th { color: var(--faint); font-weight: 500 }
table.words th, table.words td { text-align: left; white-space: normal; vertical-align: top }
table.words td:first-child { white-space: nowrap; font-family: ui-monospace, monospace; font-size: .9em }
pre { overflow: auto; padding: .8rem 1rem; border-radius: 6px; background: var(--raised); font-size: .85rem }
td.best { background: var(--good); font-weight: 600 }
figure { margin: 1rem 0 } figure img { max-width: 100%; border-radius: 4px } figcaption { color: var(--faint) }
"""


class Page:
    """Built from top to bottom. Everything given to it is text, but for `markup` and `script`.

    kind: what the file says that it is, and of what kind a file must be to be written over by it.
    """

    def __init__(self, title: str, kind: str = "report"):
        self.title, self.kind = title, kind
        self._parts: list[str] = [f"<h1>{escape(title)}</h1>"]

    def heading(self, text: str) -> None:
        self._parts.append(f"<h2>{escape(text)}</h2>")

    def text(self, text: str) -> None:
        self._parts.append(f"<p>{escape(text)}</p>")

    def code(self, text: str) -> None:
        """Lines as they are, to be copied."""
        self._parts.append(f"<pre>{escape(text)}</pre>")

    def words(self, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Add a table of text, which lines up at the left and wraps."""
        head = "".join(f"<th>{escape(column)}</th>" for column in columns)
        lines = ["".join(f"<td>{escape(str(value))}</td>" for value in row) for row in rows]
        body = "".join(f"<tr>{line}</tr>" for line in (head, *lines))
        self._parts.append(f'<div class="scroll"><table class="words">{body}</table></div>')

    def markup(self, markup: str) -> None:
        """HTML of the package's own, nothing that anybody has sent."""
        self._parts.append(markup)

    def script(self, script: str) -> None:
        self._parts.append(f"<script>{script}</script>")

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]], *, best: bool = False) -> None:
        """Numbers with one decimal, None as a dash. best: mark the largest number of every column."""
        largest = [_largest([row[i] for row in rows]) if best else None for i in range(len(columns))]
        lines = ["".join(f"<th>{escape(column)}</th>" for column in columns)]
        for row in rows:
            cells = []
            for value, most in zip(row, largest, strict=True):
                mark = ' class="best"' if most is not None and value == most else ""
                cells.append(f"<td{mark}>{escape(cell(value))}</td>")
            lines.append("".join(cells))
        body = "".join(f"<tr>{line}</tr>" for line in lines)
        self._parts.append(f'<div class="scroll"><table>{body}</table></div>')

    def picture(self, picture: Image.Image, caption: str = "") -> None:
        buffer = io.BytesIO()
        picture.convert("RGB").save(buffer, "JPEG", quality=90)
        data = base64.b64encode(buffer.getvalue()).decode("ascii")
        self._parts.append(
            f'<figure><img alt="{escape(caption)}" src="data:image/jpeg;base64,{data}">'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
        )

    def html(self) -> str:
        head = (
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(self.title)}</title>'
            f"{GENERATOR.format(kind=escape(self.kind))}"
            f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>'
        )
        return f"{head}<body>{''.join(self._parts)}</body></html>\n"

    def check(self, path: Path, *, option: str = "--out") -> None:
        """Raise, if there is no writing this page to `path`. To be asked before the page is worked on."""
        if path.suffix.lower() not in SUFFIXES:
            raise OutputError(f"{option} {path}: pages are written as {' or '.join(SUFFIXES)}")
        check_output(path, self.kind, option=option)

    def save(self, path: Path) -> None:
        with atomic_write(path) as file:
            file.write(self.html().encode())


def _largest(values: Sequence[object]) -> float | None:
    return max((value for value in values if isinstance(value, float)), default=None)


def cell(value: object) -> str:
    """Return a value as tables show it."""
    if value is None:
        return "-"
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def text_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return the same for a terminal: columns lined up, numbers to the right."""
    cells = [[cell(value) for value in row] for row in [list(columns), *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    lines = [
        "  ".join(
            text.ljust(w) if i == 0 else text.rjust(w) for i, (text, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]
    return "\n".join(line.rstrip() for line in lines)
