"""What a table is: rows that measure themselves, one cell at a time, beside the figures that were published.

A module of tables says it so; the figures that a paper prints may lie in a file beside it (`published.py`):

>>> def measure(run, column):
...     return run.evaluate(run.segmenter("clip-diy"), column).miou
>>> TABLES = {"clip-diy-1": Table("clip-diy-1", "Against others", ("voc",), (Row("CLIP-DIY", {"voc": 59.9}, measure),))}

What is missing stops no table: errors that say so become the reason why a cell was not run.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from time import perf_counter
from typing import Any

from wordmask.benchmarks.tables.beside import Beside, drawn, is_beside, not_asked
from wordmask.benchmarks.tables.errors import MISSING, NotRunError, TableError
from wordmask.benchmarks.tables.plot import Plot
from wordmask.benchmarks.tables.run import Run

Measure = Callable[[Run, str], "float | Mapping[str, float] | None"]
"""One cell: asked for a column, the figure as the paper prints it (percent, not shares). Where a single pass answers
several columns, all of them by name. None: this row has no such figure, as in the paper."""


def is_asked(label: str, labels: Collection[str], asked: Sequence[str]) -> bool:
    """Return whether a row is among those asked for: by its label, or by a part that is no row's whole label.

    "sclip" is SCLIP alone, and not ResCLIP too.
    """
    whole = {own.casefold() for own in labels}
    own = label.casefold()
    return not asked or any(part == own if part in whole else part in own for part in map(str.casefold, asked))


@dataclass(frozen=True)
class Under:
    """What figures were measured under: how pictures were looked at, and by which words names were asked for."""

    protocol: str
    vocabulary: str

    def changed(self, run: Run) -> "Under":
        """Return what a run measures under, where it was told."""
        return Under(run.protocol or self.protocol, run.vocabulary or self.vocabulary)


@dataclass(frozen=True)
class Row:
    """A method or a variant of one. measure None: only its published figures are shown, and `not_run` may say why.

    under: what it is measured under; published_under: what the published figures were. None: as the table's paper has
    it.
    """

    label: str
    published: Mapping[str, float] = field(default_factory=dict)
    measure: Measure | None = None
    not_run: str | None = None
    under: Under | None = None
    published_under: Under | None = None

    @property
    def is_ours(self) -> bool:
        return self.measure is not None or self.not_run is not None


@dataclass(frozen=True)
class Table:
    """columns name what is measured; `headings` may give some of them another name to be read.

    pictures: how many of each benchmark are measured where nobody says otherwise; None is all. plot: what its only
    column looks like as a curve, where the paper has one.
    beside: which benchmarks that plug-ins draw have columns beside these, and in which order: "background" for those
    with background among their names, "stuff" for those without.
    tells_under: whether each line says its protocol and its vocabulary; a table whose rows differ in them must.
    aside: columns that nothing measures, of published figures that were measured on something else.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    headings: Mapping[str, str] = field(default_factory=dict)
    pictures: int | None = None
    plot: Plot | None = None
    beside: tuple[Beside, ...] = ()
    tells_under: bool = False
    aside: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        labels = [row.label for row in self.rows]
        if len(set(labels)) < len(labels) or len(set(self.columns)) < len(self.columns):
            raise TableError(f"table {self.name!r} has two rows or two columns of one name")
        for row in self.rows:
            if unknown := set(row.published) - set(self.columns):
                raise TableError(f"table {self.name!r}: {row.label!r} has figures for no column: {sorted(unknown)}")
        mixed = {under for row in self.rows for under in (row.under, row.published_under) if under is not None}
        if len(mixed) > 1 and not self.tells_under:
            raise TableError(
                f"table {self.name!r} mixes rows that were measured under different protocols or vocabularies without "
                "saying so: tells_under=True has each line say its own"
            )

    def only(self, asked: Sequence[str]) -> "Table":
        """Return the table with the rows that are asked for; with all, where none is."""
        labels = [row.label for row in self.rows]
        return replace(self, rows=tuple(row for row in self.rows if is_asked(row.label, labels, asked)))

    def with_columns_beside(self) -> "Table":
        """Return the table with a column for every benchmark that stands beside the paper's own."""
        more = (name for kind in self.beside for name in drawn(kind))
        return replace(self, columns=(*self.columns, *more), beside=())

    @property
    def has_under(self) -> bool:
        """Return whether another protocol or vocabulary may be chosen for its rows."""
        return any(row.under is not None for row in self.rows)

    def changed(self, run: Run) -> "Table":
        """Return the table with what a run was told that its rows are to be measured under."""
        pairs = ((row, None if row.under is None else row.under.changed(run)) for row in self.rows)
        rows = tuple(replace(row, under=under) for row, under in pairs)
        chosen = self.has_under and bool(run.protocol or run.vocabulary)
        return replace(self, rows=rows, tells_under=self.tells_under or chosen)

    @property
    def has_published(self) -> bool:
        """Return whether there are figures that ours are to be compared with."""
        return any(row.published.keys() - set(self.aside) for row in self.rows)


@dataclass(frozen=True)
class FilledRow:
    """A row with its figures. A column is in `ours`, or in `not_run` with the reason, or in neither."""

    label: str
    published: Mapping[str, float]
    ours: Mapping[str, float]
    not_run: Mapping[str, str]
    is_ours: bool
    under: Under | None = None
    published_under: Under | None = None

    def as_json(self, columns: tuple[str, ...]) -> dict[str, Any]:
        unders = {"published_under": self.published_under, "under": self.under}
        return {
            "label": self.label,
            "published": {column: self.published.get(column) for column in columns},
            "ours": {column: self.ours.get(column) for column in columns},
            "not_run": dict(self.not_run),
            **{key: asdict(under) for key, under in unders.items() if under is not None},
        }


def archive_of(run: Run) -> str:
    """Return the folder that ReCo learns names from."""
    if run.archive is None:
        raise NotRunError(
            "ReCo learns names from pictures: give a folder of them with --archive (the paper's: ImageNet), or that of "
            "a run of `wordmask distill`"
        )
    return str(run.archive)


def fill(table: Table, run: Run) -> Iterator[FilledRow]:
    """Row after row. Every figure is kept in the run's folder as soon as it is there, and not measured twice."""
    with run.held():
        for row in table.changed(run).rows:
            yield _filled(row, table, run)


def _filled(row: Row, table: Table, run: Run) -> FilledRow:
    ours: dict[str, float] = {}
    reasons: dict[str, str] = {} if row.not_run is None else dict.fromkeys(table.columns, row.not_run)
    measured_columns = [column for column in table.columns if column not in table.aside]
    for column in measured_columns if row.measure is not None else ():
        kept = run.kept(row.label, column)
        if kept is None and not run.beside and is_beside(column):
            reasons[column] = not_asked(column)
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
    return FilledRow(row.label, row.published, ours, reasons, row.is_ours, row.under, row.published_under)
