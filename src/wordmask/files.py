"""Files that are either whole or not there."""

import errno
import io
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

STALE_SECONDS = 60.0
"""What nobody has written to for so long was left by a process that was killed."""
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says of a disk, a quota or a file that is full."""
FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)
"""What it says of a place that nobody, or not this user, may write."""
_TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.part|\..+\.safetensors\.[0-9a-f]{32}\.tmp")
"""Names of `temporary_beside`, and those that weights had while they were written by an earlier version."""


class NoRoomError(OSError):
    """A disk is full: says which, and that what was finished before is whole."""

    def __init__(self, path: str | Path, error: OSError) -> None:
        super().__init__(error.errno, error.strerror, str(path))

    def __reduce__(self) -> tuple[type["NoRoomError"], tuple[str, OSError]]:
        """Let it travel between processes."""
        return NoRoomError, (str(self.filename), OSError(self.errno, self.strerror))

    def __str__(self) -> str:
        return (
            f"no room is left on the disk of {self.filename} ({self.strerror}); what was finished before is kept: make "
            "room, and start the same command again"
        )


def temporary_beside(path: Path) -> Path:
    """Return a new name in the same folder. It says nothing of the target, whose own may be as long as names can be."""
    return path.with_name(f".{secrets.token_hex(8)}.part")


def is_special(path: Path) -> bool:
    """Return whether a path is a pipe or a device: opening it may wait, and reading it may go on, for ever.

    Of a path that cannot be looked up, whoever opens it will say why.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # ValueError: a null byte
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def is_temporary(path: Path) -> bool:
    """Return whether a file is what a killed process left half-written."""
    return _TEMPORARY.fullmatch(path.name) is not None


@contextmanager
def atomic_write(path: str | Path) -> Iterator[IO[bytes]]:
    """Open for writing under a temporary name in the same folder; flushed, synced and renamed when all went well.

    A process killed half-way leaves at most a file whose name starts with a dot; an error leaves nothing. A full disk
    is a `NoRoomError`, whatever the library that was writing makes of it. What is for an object store is sent when all
    went well.
    """
    if not isinstance(path, str | Path):
        with _sent_whole(path) as file:
            yield file
        return
    path = Path(path)
    temporary = temporary_beside(path)
    raw: _Raw | None = None
    with written_as(path, temporary):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            raw = _Raw(temporary, "xb")
            with io.BufferedWriter(raw) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException as error:
            temporary.unlink(missing_ok=True)
            trouble = None if raw is None else raw.trouble
            if isinstance(error, Exception) and trouble is not None and trouble.errno in NO_ROOM:
                raise NoRoomError(path, trouble) from error
            raise


@contextmanager
def written_as(path: Path, temporary: Path) -> Iterator[None]:
    """For what is written under a temporary name: errors name what was to be written, as nobody knows the other name. A
    full disk is a `NoRoomError`.
    """
    with naming_a_full_disk(path):
        try:
            yield
        except OSError as error:
            if str(error.filename) == str(temporary):
                raise OSError(error.errno, error.strerror, str(path)) from error
            raise


@contextmanager
def _sent_whole(path: Any) -> Iterator[IO[bytes]]:
    """Open for writing what goes to an object store when all went well: there an object is whole or not there."""
    with TemporaryDirectory(prefix="wordmask-") as folder:
        draft = Path(folder) / "object"
        with naming_a_full_disk(draft):
            with draft.open("wb") as file:
                yield file
            try:
                path.fs.put_file(str(draft), path.path)
            except Exception as error:  # each store's library has errors of its own
                if isinstance(error, OSError):
                    raise
                raise OSError(errno.EIO, str(error), str(path)) from error


Writer = Callable[[Path], AbstractContextManager[IO[bytes]]]
"""`atomic_write`, or what does more than that."""


class _Raw(io.FileIO):
    """Remembers what the system said: torch's and Arrow's writers say only that writing failed."""

    trouble: OSError | None = None

    def write(self, content: Any) -> int:
        try:
            return super().write(content)
        except OSError as error:
            self.trouble = error
            raise


@contextmanager
def naming_a_full_disk(path: Path) -> Iterator[None]:
    """For whatever writes below a path in a way of its own: a full disk is a `NoRoomError`."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM and not isinstance(error, NoRoomError):
            raise NoRoomError(path, error) from error
        raise


def append(path: Path, content: bytes) -> None:
    """Write at a file's end. A full disk may leave a piece of the content."""
    with naming_a_full_disk(path), path.open("ab") as file:
        file.write(content)


def remove_leftovers(folder: Path, *, alone: bool = False, below: Collection[str] | None = None) -> None:
    """Remove the hidden files that killed processes left half-written, in a folder and all below it.

    alone: the caller holds the folder's lock, so that nobody can be writing one; else those that are old. below: the
    only ones of the folders below that are looked into.
    """
    deep = [folder] if below is None else [folder / own for own in below]
    for file in chain(folder.glob(".*"), *(place.rglob(".*") for place in deep)):
        if is_temporary(file) and (alone or _is_old(file)):
            file.unlink(missing_ok=True)


def _is_old(file: Path) -> bool:
    try:
        return time.time() - file.stat().st_mtime > STALE_SECONDS
    except FileNotFoundError:
        return False
