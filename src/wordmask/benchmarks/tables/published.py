"""The figures that papers print, from the file beside a paper's tables, as rows that may measure the same."""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from wordmask.benchmarks.tables.base import Measure, Row
from wordmask.benchmarks.tables.errors import TableError


def rows(
    paper: str, table: str, measured: Mapping[str, Measure], *, not_run: Mapping[str, str] | None = None
) -> tuple[Row, ...]:
    """Return the rows of a table in the order of its file; those that `measured` does not name are only shown.

    paper: the file's name. measured: what measures a row, by its label. not_run: why a row of ours is not measured.
    """
    reasons, figures = not_run or {}, _figures(paper)[table]
    if unknown := (measured.keys() | reasons.keys()) - figures.keys():
        raise TableError(f"{paper}.toml has no row {sorted(unknown)} in {table}")
    return tuple(Row(label, told, measured.get(label), reasons.get(label)) for label, told in figures.items())


@cache
def _figures(paper: str) -> dict[str, dict[str, dict[str, float]]]:
    return tomllib.loads(files(__package__).joinpath(f"{paper}.toml").read_text(encoding="utf-8"))
