"""A table in lines of text and on a page, as it fills."""

from collections.abc import Iterator

from wordmask.benchmarks.tables.base import FilledRow, Table
from wordmask.html_page import Page, cell

NARROWEST = 7
"""Letters of a column of figures."""
Line = tuple[str, str, list[object]]
"""A row's label, whose figures they are, the figures."""


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

    def onto(self, page: Page) -> None:
        page.heading(self.table.title)
        lines = [line for row in self.rows for line in self._lines(row)]
        page.table(["", "", *self._headings], [[label, whose, *figures] for label, whose, figures in lines])
        for line in self.foot():
            page.text(line)

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
