"""Files that are either whole or not there."""

import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

STALE_SECONDS = 60.0
"""What nobody has written to for so long was left by a process that was killed."""
_TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.part")


def temporary_beside(path: Path) -> Path:
    """A new name in the same folder. It says nothing of the target, whose own may be as long as names can be."""
    return path.with_name(f".{secrets.token_hex(8)}.part")


def is_temporary(path: Path) -> bool:
    """Whether a file is what a killed process left half-written."""
    return _TEMPORARY.fullmatch(path.name) is not None


@contextmanager
def atomic_write(path: str | Path) -> Iterator[IO[bytes]]:
    """Open for writing under a temporary name in the same folder; flushed, synced and renamed when all went well.

    A process killed half-way leaves at most a file whose name starts with a dot; an error leaves nothing.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove_leftovers(folder: Path) -> None:
    """The hidden files that killed processes left in a folder, for the one who alone is at work there."""
    for file in folder.glob(".*.part"):
        if is_temporary(file) and time.time() - file.stat().st_mtime > STALE_SECONDS:
            file.unlink(missing_ok=True)
