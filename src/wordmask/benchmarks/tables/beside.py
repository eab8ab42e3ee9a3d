"""Columns that stand beside a paper's own: benchmarks that plug-ins draw, each with methods made for its pictures."""

from pathlib import Path
from typing import Literal

from wordmask.benchmarks import brought_benchmarks
from wordmask.methods import presets_by_name
from wordmask.plugins import named

Beside = Literal["background", "stuff"]
PAPER = "paper"
LAST = "--root and --pictures"
"""Options that ask for these columns too."""


def drawn(kind: Beside) -> tuple[str, ...]:
    """Return the benchmarks that need no data: those with background among their names, or those without."""
    brought = brought_benchmarks().items()
    return tuple(
        name for name, found in brought if found.preset is not None and found.background is (kind == "background")
    )


def preset_of(column: str) -> str:
    """Return the preset of methods that a benchmark is measured with."""
    brought = brought_benchmarks().get(column)
    return PAPER if brought is None or brought.preset is None else brought.preset


def is_beside(column: str) -> bool:
    """Return whether a column is none of a paper's."""
    return preset_of(column) != PAPER


def has_preset(method: str, preset: str) -> bool:
    """Return whether a segmenter can be measured so; not every package brings presets of all methods."""
    return preset in presets_by_name("segmenter", method)


def presets_beside() -> tuple[str, ...]:
    """Return the presets that columns beside the papers' are measured with: `--PRESET` asks for them."""
    return tuple(dict.fromkeys(found.preset for found in brought_benchmarks().values() if found.preset is not None))


def not_asked(column: str) -> str:
    """Return why a column that nobody asked for is not measured."""
    preset = preset_of(column)
    return f"the {preset}'s columns take minutes: --{preset} measures them, as do {LAST}"


def archive_beside(column: str, folder: Path) -> Path | None:
    """Draw, below a folder, pictures that names of this benchmark can be learnt from; None where it has none."""
    brought = brought_benchmarks()[column]
    if brought.archive is None:
        return None
    drawn_there: Path = named(brought.archive)(folder / f"{brought.preset}-archive")
    return drawn_there
