"""What a table is: rows that measure themselves, one cell at a time, beside the figures that were published.

A module of tables says it so; the figures that a paper prints may lie in a file beside it (`published.py`):

>>> def measure(run, column):
...     return run.evaluate(run.segmenter("clip-diy"), column).miou
>>> TABLES = {"clip-diy-1": Table("clip-diy-1", "Against others", ("voc",), (Row("CLIP-DIY", {"voc": 59.9}, measure),))}

What is missing stops no table: errors that say so become the reason why a cell was not run.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from wordmask.benchmarks.datasets import MissingDataError
from wordmask.benchmarks.tables.plot import Plot
from wordmask.benchmarks.tables.run import Run
from wordmask.errors import WordmaskError
from wordmask.extras import MissingExtraError
from wordmask.segmenters.base import MissingWeightsError
from wordmask.weights.catalogue import CatalogueError
from wordmask.weights.checkpoints import WeightsError
from wordmask.weights.download import DownloadError
from wordmask_world.models import WorldModelError

Measure = Callable[[Run, str], "float | Mapping[str, float] | None"]
"""One cell: asked for a column, the figure as the paper prints it (percent, not shares). Where a single pass answers
several columns, all of them by name. None: this row has no such figure, as in the paper."""


class TableError(WordmaskError):
    """No such table, or a folder of figures that are not this table's."""


class NotRunError(WordmaskError):
    """A cell needs something that is not here; the message says what, and how to get it."""


BESIDE = ("world", "world-stuff")
"""Columns that stand beside a paper's own, whose benchmark needs no data."""
NOT_ASKED = "the world's columns take minutes: --world measures them, as do --root and --pictures"

MISSING = (
    NotRunError,
    MissingDataError,
    MissingExtraError,
    MissingWeightsError,
    WeightsError,
    DownloadError,
    CatalogueError,
    WorldModelError,
)
"""Errors that leave a cell empty, with their message as the reason. All others stop the table."""


@dataclass(frozen=True)
class Row:
    """A method or a variant of one. measure None: only its published figures are shown, and `not_run` may say why."""

    label: str
    published: Mapping[str, float] = field(default_factory=dict)
    measure: Measure | None = None
    not_run: str | None = None

    @property
    def is_ours(self) -> bool:
        return self.measure is not None or self.not_run is not None


@dataclass(frozen=True)
class Table:
    """columns name what is measured; `headings` may give some of them another name to be read.

    pictures: how many of each benchmark are measured where nobody says otherwise; None is all. plot: what its only
    column looks like as a curve, where the paper has one.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    headings: Mapping[str, str] = field(default_factory=dict)
    pictures: int | None = None
    plot: Plot | None = None

    def __post_init__(self) -> None:
        labels = [row.label for row in self.rows]
        if len(set(labels)) < len(labels) or len(set(self.columns)) < len(self.columns):
            raise TableError(f"table {self.name!r} has two rows or two columns of one name")
        for row in self.rows:
            if unknown := set(row.published) - set(self.columns):
                raise TableError(f"table {self.name!r}: {row.label!r} has figures for no column: {sorted(unknown)}")

    @property
    def has_published(self) -> bool:
        return any(row.published for row in self.rows)


@dataclass(frozen=True)
class FilledRow:
    """A row with its figures. A column is in `ours`, or in `not_run` with the reason, or in neither."""

    label: str
    published: Mapping[str, float]
    ours: Mapping[str, float]
    not_run: Mapping[str, str]
    is_ours: bool

    def as_json(self, columns: tuple[str, ...]) -> dict[str, Any]:
        return {
            "label": self.label,
            "published": {column: self.published.get(column) for column in columns},
            "ours": {column: self.ours.get(column) for column in columns},
            "not_run": dict(self.not_run),
        }


def archive_of(run: Run) -> str:
    """The folder that ReCo learns names from."""
    if run.archive is None:
        raise NotRunError(
            "ReCo learns names from pictures: give a folder of them with --archive (the paper's: ImageNet), or that of "
            "a run of `wordmask distill`"
        )
    return str(run.archive)


def fill(table: Table, run: Run) -> Iterator[FilledRow]:
    """Row after row. Every figure is kept in the run's folder as soon as it is there, and not measured twice."""
    with run.held():
        for row in table.rows:
            yield _filled(row, table, run)


def _filled(row: Row, table: Table, run: Run) -> FilledRow:
    ours: dict[str, float] = {}
    reasons: dict[str, str] = {} if row.not_run is None else dict.fromkeys(table.columns, row.not_run)
    for column in table.columns if row.measure is not None else ():
        kept = run.kept(row.label, column)
        if kept is None and column in BESIDE and not run.world:
            reasons[column] = NOT_ASKED
        elif kept is None:
            assert row.measure is not None
            start = perf_counter()
            try:
                with run.at(row.label, column):
                    measured = row.measure(run, column)
            except MISSING as error:
                reasons[column] = str(error)
                continue
            if measured is None:
                continue
            figures = measured if isinstance(measured, Mapping) else {column: measured}
            run.keep(row.label, figures, seconds=perf_counter() - start)
            kept = figures.get(column)
        if kept is not None:
            ours[column] = kept
    return FilledRow(row.label, row.published, ours, reasons, row.is_ours)
