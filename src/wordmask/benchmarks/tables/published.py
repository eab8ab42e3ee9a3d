"""The figures that papers print, from the file beside a paper's tables, as rows that may measure the same."""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from wordmask.benchmarks.tables.base import Measure, Row, Under
from wordmask.benchmarks.tables.errors import TableError


def rows(
    paper: str,
    table: str,
    measured: Mapping[str, Measure],
    *,
    not_run: Mapping[str, str] | None = None,
    under: Mapping[str, Under] | None = None,
) -> tuple[Row, ...]:
    """Return the rows of a table in the order of its file; those that `measured` does not name are only shown.

    paper: the file's name. measured: what measures a row, by its label. not_run: why a row of ours is not measured.
    under: what a row of ours is measured under, by its label; what the published ones were stands in the file.
    """
    reasons, unders, figures = not_run or {}, under or {}, _figures(paper)[table]
    if unknown := (measured.keys() | reasons.keys() | unders.keys()) - figures.keys():
        raise TableError(f"{paper}.toml has no row {sorted(unknown)} in {table}")
    return tuple(
        Row(
            label,
            {column: figure for column, figure in told.items() if not isinstance(figure, str)},
            measured.get(label),
            reasons.get(label),
            unders.get(label),
            Under(str(told["protocol"]), str(told["vocabulary"])) if "protocol" in told else None,
        )
        for label, told in figures.items()
    )


@cache
def _figures(paper: str) -> dict[str, dict[str, dict[str, float | str]]]:
    return tomllib.loads(files(__package__).joinpath(f"{paper}.toml").read_text(encoding="utf-8"))
