"""The papers' tables, ours beside the published figures. One file a paper; a new table is one line in `TABLES`.

>>> from wordmask.benchmarks.tables import find
>>> find("clip-diy-1").title
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wordmask.benchmarks.tables.base import Table

TABLES: dict[str, str] = {
    **dict.fromkeys(("clip-diy-1", "clip-diy-2", "clip-diy-3", "clip-diy-4"), "wordmask.benchmarks.tables.clip_diy"),
    **dict.fromkeys(
        ("clip-dinoiser-1", "clip-dinoiser-2a", "clip-dinoiser-2b"), "wordmask.benchmarks.tables.clip_dinoiser"
    ),
    **{f"namedmask-{number}": "wordmask.benchmarks.tables.namedmask" for number in (*range(1, 11), "figure-6")},
    **{f"namedmask-world-{part}": "wordmask_world.tables.namedmask" for part in (1, 2, 3, 10, "figure-3")},
    "saliency": "wordmask.benchmarks.tables.saliency",
    "world": "wordmask_world.tables.world",
}
"""Name -> the module whose `TABLES` holds it. Importing one costs little: methods load when a row is measured."""

DISTILLING = "namedmask-world"
"""The suite whose tables distil what they measure."""
SUITES = {
    suite: tuple(name for name in TABLES if name.startswith(start))
    for suite, start in {"clip-dinoiser-2": "clip-dinoiser-2", DISTILLING: f"{DISTILLING}-"}.items()
}
"""Tables that are measured together, one after the other, by one name."""


def find(name: str) -> "Table":
    """A table by its name, with nothing measured yet."""
    from wordmask.benchmarks.tables.base import TableError

    if name not in TABLES:
        raise TableError(f"no table is called {name!r}; choose one of {', '.join([*TABLES, *SUITES])}")
    table: Table = import_module(TABLES[name]).TABLES[name]
    return table
