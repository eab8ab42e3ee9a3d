"""Parts: files that a run reads back when it is started again, each with a checksum.

Checksums stand in `.checksums` of the part's own folder, a line each as `sha256sum` writes it. A line is written before
its file gets its name, and lines of earlier contents stay: a file is whole if it holds anything that was ever written
under its name. So a kill at any moment leaves no whole part that looks damaged. SHA-256 is what the stages' outputs are
known by; here it guards against disks and copies, not against people, who could write the line as well.

What an earlier version wrote has no line, and is taken as it is, as far as its own format can be read.
"""

import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from wordmask.files import atomic_write
from wordmask.fingerprints import file_digest

CHECKSUMS = ".checksums"
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")

Say = Callable[[str], None]

logger = logging.getLogger(__name__)


def warn(text: str) -> None:
    """Tell whoever watches, where nobody else was named to be told."""
    logger.warning("%s", text)


@contextmanager
def write_part(path: Path) -> Iterator[IO[bytes]]:
    """Open a part for writing; whole or not there, as `atomic_write` has it, and with its checksum."""
    with atomic_write(path) as file:
        yield file
        file.flush()
        if isinstance(path, Path):  # object stores keep checksums themselves
            _append(path, file_digest(file.name))


def vouch_for(path: Path) -> None:
    """Take a part as it is now: somebody has changed it and wants it so."""
    if (path.parent / CHECKSUMS).exists():
        _append(path, file_digest(path))


class Parts:
    """What of the parts that are there can be relied on. Checksums are read once, at the first part of a folder."""

    def __init__(self, say: Say = warn):
        self.say = say
        self._folders: dict[Path, dict[str, set[str]]] = {}

    def whole(self, *paths: Path) -> bool:
        """Return whether all of these are there, and hold what was written. One that does not is told of."""
        if not all(path.exists() for path in paths):
            return False
        damaged = [path for path in paths if self.is_damaged(path)]
        for path in damaged:
            self.say(f"{path} is damaged, made anew")
        return not damaged

    def is_damaged(self, path: Path, *, name: str | None = None) -> bool:
        """Return whether a file holds something else than was written. name: what it was called then."""
        digests = self._of(path.parent).get(name or path.name)
        return digests is not None and file_digest(path) not in digests

    def knows(self, path: Path, *, name: str | None = None) -> bool:
        """Return whether there is a checksum for this file."""
        return (name or path.name) in self._of(path.parent)

    def _of(self, folder: Path) -> dict[str, set[str]]:
        if folder not in self._folders:
            self._folders[folder] = _read(folder / CHECKSUMS)
        return self._folders[folder]


def _read(path: Path) -> dict[str, set[str]]:
    """Digests by name. A line that is itself damaged stands for nothing."""
    digests: dict[str, set[str]] = {}
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return digests
    for line in text.splitlines():
        if found := _LINE.fullmatch(line):
            digests.setdefault(found[2], set()).add(found[1])
    return digests


def _append(path: Path, digest: str) -> None:
    """Several processes may do so at once."""
    line = f"{digest}  {path.name}\n".encode()
    with (path.parent / CHECKSUMS).open("a+b", buffering=0) as file:
        if end := file.seek(0, os.SEEK_END):
            file.seek(end - 1)
            if file.read(1) != b"\n":
                line = b"\n" + line  # a full disk has cut the one before
        file.write(line)
        os.fsync(file.fileno())
