"""`wordmask tables`: measure a table row by row, and show it as text, JSON or a page."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from wordmask.benchmarks import tables
from wordmask.benchmarks.tables.base import FilledRow, Table, TableError, fill
from wordmask.benchmarks.tables.run import Run
from wordmask.cli import complain
from wordmask.commands.progress import progress_bar
from wordmask.html_page import Page, cell

NARROWEST = 7
"""Letters of a column of figures."""
Line = tuple[str, str, list[object]]
"""A row's label, whose figures they are, the figures."""


def list_tables(*, as_json: bool) -> None:
    found = [tables.find(name) for name in tables.TABLES]
    if as_json:
        print(json.dumps([{"table": table.name, "title": table.title} for table in found], ensure_ascii=False))
        return
    width = max((len(table.name) for table in found), default=0)
    for table in found:
        print(f"{table.name:{width}}  {table.title}")


def run(
    name: str,
    *,
    root: Path | None,
    pictures: int | None,
    only: list[str],
    out: Path | None,
    out_dir: Path,
    fresh: bool,
    weights: dict[str, str],
    archive: Path | None,
    device: str,
    precision: str,
    batch_size: int,
    as_json: bool,
) -> None:
    table = _chosen(tables.find(name), only)
    measuring = Run(
        out_dir / name,
        root=root,
        pictures=table.pictures if pictures is None else pictures,
        weights=weights,
        archive=archive,
        device=device,
        precision=precision,
        batch_size=batch_size,
        fresh=fresh,
        progress=progress_bar,
    )
    if measuring.count_kept:
        complain(
            f"note: {measuring.count_kept} figures were measured before, in {measuring.folder}; --fresh forgets them"
        )
    shown = Shown(table)
    if not as_json:
        print("\n".join(shown.head()), flush=True)
    for row in fill(table, measuring):
        lines = shown.add(row)
        if not as_json:
            print("\n".join(lines), flush=True)
    if as_json:
        rows = [row.as_json(table.columns) for row in shown.rows]
        print(json.dumps({"table": name, "columns": list(table.columns), "rows": rows}, ensure_ascii=False))
    elif foot := shown.foot():
        print("\n".join(["", *foot]))
    if out is not None:
        shown.page().save(out)
        complain(f"written: {out}")


def _chosen(table: Table, only: list[str]) -> Table:
    rows = tuple(row for row in table.rows if not only or any(part.casefold() in row.label.casefold() for part in only))
    if not rows:
        raise TableError(f"table {table.name!r} has no row with {' or '.join(only)} in its label")
    return replace(table, rows=rows)


class Shown:
    """A table as it fills: a line of published figures and one of ours for each row, reasons at the foot."""

    def __init__(self, table: Table):
        self.table = table
        self.rows: list[FilledRow] = []
        self._reasons: list[str] = []
        self._headings = [table.headings.get(column, column) for column in table.columns]
        self._label_width = max(len(row.label) for row in table.rows)
        self._widths = [max(NARROWEST, len(heading)) for heading in self._headings]

    def head(self) -> list[str]:
        return [self.table.title, "", self._line(("", "", list(self._headings)))]

    def add(self, row: FilledRow) -> list[str]:
        self.rows.append(row)
        return [self._line(line) for line in self._lines(row)]

    def foot(self) -> list[str]:
        reasons = [f"[{number}] not run: {reason}" for number, reason in enumerate(self._reasons, start=1)]
        return [*reasons, *self.table.notes]

    def page(self) -> Page:
        page = Page(self.table.title)
        lines = [line for row in self.rows for line in self._lines(row)]
        page.table(["", "", *self._headings], [[label, whose, *figures] for label, whose, figures in lines])
        for line in self.foot():
            page.text(line)
        return page

    def _lines(self, row: FilledRow) -> Iterator[Line]:
        label = row.label
        if self.table.has_published and (row.published or not row.is_ours):
            yield label, "published", [row.published.get(column) for column in self.table.columns]
            label = ""
        if row.is_ours:
            whose = "ours" if self.table.has_published else ""
            yield label, whose, [self._ours(row, column) for column in self.table.columns]

    def _ours(self, row: FilledRow, column: str) -> object:
        reason = row.not_run.get(column)
        if reason is None:
            return row.ours.get(column)
        if reason not in self._reasons:
            self._reasons.append(reason)
        return f"[{self._reasons.index(reason) + 1}]"

    def _line(self, line: Line) -> str:
        label, whose, figures = line
        whose_width = len("published") if self.table.has_published else 0
        cells = [cell(value).rjust(width) for value, width in zip(figures, self._widths, strict=True)]
        return "  ".join([label.ljust(self._label_width), whose.ljust(whose_width), *cells]).rstrip()
