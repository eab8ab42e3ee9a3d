"""The papers' tables, ours beside the published figures. One file a paper; a new table is one line in `TABLES`.

>>> from wordmask.benchmarks.tables import find
>>> find("clip-diy-1").title
"""

from typing import TYPE_CHECKING

from wordmask.plugins import PluginSuite, brought, named

if TYPE_CHECKING:
    from wordmask.benchmarks.tables.base import Table

_HERE = "wordmask.benchmarks.tables"
TABLES: dict[str, str] = {
    **dict.fromkeys(("clip-diy-1", "clip-diy-2", "clip-diy-3", "clip-diy-4"), f"{_HERE}.clip_diy:TABLES"),
    **dict.fromkeys(("clip-dinoiser-1", "clip-dinoiser-2a", "clip-dinoiser-2b"), f"{_HERE}.clip_dinoiser:TABLES"),
    **dict.fromkeys(("frontier", "frontier-variants"), f"{_HERE}.frontier:TABLES"),
    **{f"namedmask-{number}": f"{_HERE}.namedmask:TABLES" for number in (*range(1, 11), "figure-6")},
}
"""Name -> "module:attribute" of the tables that hold it. Importing one costs little: methods load when a row is
measured."""
SUITES = {"clip-dinoiser-2": ("clip-dinoiser-2a", "clip-dinoiser-2b")}
"""Tables that are measured together, one after the other, by one name."""


def list_tables() -> dict[str, str]:
    """Return all tables, those of plug-ins after the papers', each with where it is."""
    return TABLES | brought("tables", _is_own)


def list_suites() -> dict[str, tuple[str, ...]]:
    """Return all suites with the names of their tables."""
    return SUITES | {name: suite.tables for name, suite in brought_suites().items()}


def _is_own(name: str) -> bool:
    return name in TABLES or name in SUITES


def brought_suites() -> dict[str, PluginSuite]:
    """Return the suites of plug-ins, whose tables share what they distil or make otherwise."""
    return brought("suites", _is_own)


def suite_of(name: str) -> PluginSuite | None:
    """Return the suite of a plug-in that is called so, or that has a table called so."""
    suites = brought_suites()
    return suites.get(name) or next((suite for suite in suites.values() if name in suite.tables), None)


def find(name: str) -> "Table":
    """Return a table by its name, with nothing measured yet."""
    from wordmask.benchmarks.tables.errors import TableError

    known = list_tables()
    if name not in known:
        raise TableError(f"no table is called {name!r}; choose one of {', '.join([*known, *list_suites()])}")
    table: Table = named(known[name])[name]
    return table.with_columns_beside()
