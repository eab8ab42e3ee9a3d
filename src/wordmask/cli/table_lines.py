"""A table in lines of text and on a page, as it fills, and how long the rest of it may take."""

import time
from collections.abc import Callable, Iterator

from wordmask.benchmarks.tables.base import FilledRow, Table, Under
from wordmask.console.progress import duration
from wordmask.html_page import Page, cell

AT_ONCE = 0.5
"""Seconds below which a row was kept or could not be run, and says nothing of how long others take."""
NARROWEST = 7
"""Letters of a column of figures."""
PUBLISHED, OURS = "published", "ours"
Line = tuple[list[str], list[object]]
"""Texts (a row's label, whose figures they are, what they were measured under) and the figures."""


class Shown:
    """A table as it fills: a line of published figures and one of ours for each row, reasons at the foot.

    notes: what is to be said there of our figures.
    """

    def __init__(self, table: Table):
        self.table = table
        self.notes: tuple[str, ...] = ()
        self.rows: list[FilledRow] = []
        self._reasons: list[str] = []
        self._headings = [table.headings.get(column, column) for column in table.columns]
        self._texts = ["", "", *(("protocol", "words") if table.tells_under else ())]
        self._widths = [max(NARROWEST, len(heading)) for heading in self._headings]
        said = [self._texts]
        said += [self._said(row.label, "", under) for row in table.rows for under in (row.under, row.published_under)]
        said += [self._said("", PUBLISHED if table.has_published else "", None)]
        self._text_widths = [max(map(len, texts)) for texts in zip(*said, strict=True)]

    def head(self) -> list[str]:
        return [self.table.title, "", self._line((self._texts, list(self._headings)))]

    def add(self, row: FilledRow) -> list[str]:
        self.rows.append(row)
        return [self._line(line) for line in self._lines(row)]

    def foot(self) -> list[str]:
        reasons = [f"[{number}] not run: {reason}" for number, reason in enumerate(self._reasons, start=1)]
        return [*reasons, *self.notes, *self.table.notes]

    def onto(self, page: Page) -> None:
        page.heading(self.table.title)
        lines = [line for row in self.rows for line in self._lines(row)]
        page.table([*self._texts, *self._headings], [[*texts, *figures] for texts, figures in lines])
        for line in self.foot():
            page.text(line)

    def _lines(self, row: FilledRow) -> Iterator[Line]:
        label = row.label
        if self.table.has_published and (row.published or not row.is_ours):
            figures: list[object] = [row.published.get(column) for column in self.table.columns]
            yield self._said(label, PUBLISHED, row.published_under), figures
            label = ""
        if row.is_ours:
            whose = OURS if self.table.has_published else ""
            yield self._said(label, whose, row.under), [self._ours(row, column) for column in self.table.columns]

    def _said(self, label: str, whose: str, under: Under | None) -> list[str]:
        return [label, whose, *(_texts(under) if self.table.tells_under else ())]

    def _ours(self, row: FilledRow, column: str) -> object:
        if column in self.table.aside:
            return row.published.get(column)
        reason = row.not_run.get(column)
        if reason is None:
            return row.ours.get(column)
        if reason not in self._reasons:
            self._reasons.append(reason)
        return f"[{self._reasons.index(reason) + 1}]"

    def _line(self, line: Line) -> str:
        texts, figures = line
        words = [text.ljust(width) for text, width in zip(texts, self._text_widths, strict=True)]
        cells = [cell(value).rjust(width) for value, width in zip(figures, self._widths, strict=True)]
        return "  ".join([*words, *cells]).rstrip()


def _texts(under: Under | None) -> tuple[str, str]:
    return ("", "") if under is None else (under.protocol, under.vocabulary)


class Pace:
    """How many rows are done, and how long the others may take, by those that took their time."""

    def __init__(self, rows: int, clock: Callable[[], float] = time.monotonic):
        self._rows, self._clock = rows, clock
        self._last = clock()
        self._done = 0
        self._taken: list[float] = []

    def told(self) -> str | None:
        """Count a row, and return a line about the rest; None after the last one, and where rows come at once."""
        now = self._clock()
        took, self._last = now - self._last, now
        self._done += 1
        left = self._rows - self._done
        if took < AT_ONCE:
            return None
        self._taken.append(took)
        most = sum(self._taken) / len(self._taken) * left
        return f"{self._done} of {self._rows} rows, at most about {duration(most)} left" if left else None
