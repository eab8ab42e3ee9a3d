"""What can be said of the runs that NamedMask's tables distil on the world. Light, as listing the tables reads it."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wordmask.benchmarks.tables.errors import TableError
from wordmask_world.drawing.names import THINGS

COLLECTION = 12_000
"""Pictures to search in by default. Three in four show a thing or two, so that each of 24 is on more than 500."""


@dataclass(frozen=True)
class AblationSettings:
    """runs: the folder of all runs. names: of things of the world. collection: how many unlabelled pictures there are.

    steps: of every student, and a tenth as many of every expert; None for the preset's. settings: KEY=VALUE, as
    `wordmask distill --set` takes them, for all runs.
    """

    runs: Path = Path("runs/namedmask-world")
    names: tuple[str, ...] = THINGS
    collection: int = COLLECTION
    steps: int | None = None
    settings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        unknown = [name for name in self.names if name not in THINGS]
        if unknown or not self.names:
            what = f"no {unknown[0]!r}" if unknown else "nothing without a name"
            raise TableError(f"the world has {what}: choose names among {', '.join(THINGS)}")

    def described(self) -> dict[str, Any]:
        """What figures hang on."""
        told = asdict(self) | {"names": list(self.names), "settings": list(self.settings)}
        return {key: value for key, value in told.items() if key != "runs"}
