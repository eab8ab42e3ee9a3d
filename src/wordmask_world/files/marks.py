"""What tells that files are of the world: settings beside pictures, and what a sheet of them says of itself."""

from pathlib import Path

from wordmask.text_files import TextFileError, read_json

SHEET = "sheet of the world"
PICTURES = ("images",)
"""In a folder of `world make`, the pictures; the others are their label maps."""


def is_world(settings: Path) -> bool:
    """Return whether a `world.json` is that of a folder or of tars of the world's pictures."""
    try:
        told = read_json(settings)
    except TextFileError:
        return False
    return isinstance(told, dict) and {"version", "seed", "count", "kinds"} <= told.keys()
