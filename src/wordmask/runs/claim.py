"""A folder that a long command owns, resumes and never shares: claimed by a marker, and locked while it is at work."""

import json
import os
import secrets
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from wordmask._version import __version__
from wordmask.errors import WordmaskError
from wordmask.files import atomic_write, remove_leftovers
from wordmask.text_files import TextFileError, read_json

STATE, MARKER, LOCK = ".wordmask", "run.json", "lock"
"""The folder below a run's own that says whose it is, and the files in it."""
FORMAT = 1
JOINED = "joined"
"""The folder of that one in which each of several who work side by side has a lock."""
PATIENCE = 10.0
"""Seconds: those who join hold the folder's own lock for a moment only."""
MOMENT, LONGER = 1.0, 0.2
"""Seconds: those who only look whether somebody has it hold it for less than the second, and who has it for more."""
SETTINGS_OF_LABELS = "settings.json"
"""What `label` kept in that folder before there were markers."""
_held: ContextVar[frozenset[Path]] = ContextVar("held", default=frozenset())


class ClaimError(WordmaskError):
    """This folder cannot be written into: it is somebody's, another command's, or in use."""


@dataclass(frozen=True)
class Marker:
    """verb: the command that made the folder. pictures: the folders below it that hold pictures in their own right.

    among_others: the folder is somebody's, and single results of ours lie among other files.
    """

    verb: str
    pictures: tuple[str, ...] = ()
    among_others: bool = False


@contextmanager
def claimed(
    out: Path,
    verb: str,
    *,
    pictures: tuple[str, ...] = (),
    was_ours: Callable[[Path], bool] = lambda out: False,
    nested: bool = False,
    sweeps: Collection[str] | None = None,
    error: type[WordmaskError] = ClaimError,
) -> Iterator[None]:
    """Hold `out` for a command: one that is new or empty becomes its own, its own is gone on with, others are refused.

    was_ours: whether a folder without a marker was made by this command before there were markers. nested: whoever
    holds the folder already may claim it once more, further in. error: what a refusal is.

    What killed processes left half-written in it is removed first; `sweeps` are the only folders below it to be looked
    into for that, where there may be others. A claim under which nothing came to be leaves nothing.
    """
    place = out.resolve()
    if nested and place in _held.get():
        yield
        return
    check_claim(out, verb, was_ours=was_ours, error=error)
    new = [folder for folder in (out, *out.parents) if not folder.exists()]
    state = out / STATE
    state.mkdir(parents=True, exist_ok=True)
    busy = error(f"{out} is being written by another run: wait for it, or choose another --out")
    with locked(state / LOCK, busy, patience=MOMENT):
        try:
            check_claim(out, verb, was_ours=was_ours, error=error)  # again: another may have come first
            if read_marker(out, shared=False) is None:
                mark(out, Marker(verb, pictures))
            _check_alone(out, error)
            remove_leftovers(out, alone=True, below=sweeps)
            token = _held.set(_held.get() | {place})
            try:
                yield
            finally:
                _held.reset(token)
        finally:
            _leave_nothing(out, new)


def is_claimed(out: Path) -> bool:
    """Whether some process holds this folder for a command now."""
    lock = out / STATE / LOCK
    if not lock.exists():
        return False
    try:
        with locked(lock, ClaimError(f"{out} is being written"), patience=LONGER):
            return False
    except ClaimError:
        return True


@contextmanager
def joined(
    out: Path,
    verb: str,
    *,
    was_ours: Callable[[Path], bool] = lambda out: False,
    error: type[WordmaskError] = ClaimError,
) -> Iterator[None]:
    """Work in `out` beside others that have joined, on this machine or on others: each makes shards that are whole or
    not there. Who claims the folder for himself meanwhile is refused, as is who joins while somebody has it so.
    """
    check_claim(out, verb, was_ours=was_ours, error=error)
    state = out / STATE
    (state / JOINED).mkdir(parents=True, exist_ok=True)
    busy = error(f"{out} is being written by another run: wait for it, or choose another --out")
    own = state / JOINED / secrets.token_hex(8)
    with locked(own, busy):
        with locked(state / LOCK, busy, patience=PATIENCE):
            check_claim(out, verb, was_ours=was_ours, error=error)
            if read_marker(out, shared=False) is None:
                mark(out, Marker(verb))
        try:
            yield
        finally:
            own.unlink(missing_ok=True)


def _check_alone(out: Path, error: type[WordmaskError]) -> None:
    """Raise, if somebody has joined in. Who did and was killed has left a file, which nobody holds."""
    for own in (out / STATE / JOINED).glob("*"):
        with locked(own, error(f"shares of {out} are being made: wait for them, or choose another --out")):
            own.unlink(missing_ok=True)


@contextmanager
def locked(lock: Path, refusal: WordmaskError, *, patience: float = 0) -> Iterator[None]:
    """Hold a lock, or raise the refusal where another process has it. However a process ends, its locks are free.

    patience: seconds to wait for it.
    """
    held = FileLock(lock)
    try:
        held.acquire(timeout=patience)
    except Timeout as timeout:
        raise refusal from timeout
    try:
        yield
    finally:
        held.release()


def check_claim(
    out: Path,
    verb: str,
    *,
    was_ours: Callable[[Path], bool] = lambda out: False,
    error: type[WordmaskError] = ClaimError,
) -> None:
    """Raise, if `out` is not this command's to write into."""
    if os.path.lexists(out) and not out.is_dir():
        raise error(f"{out} is there already, and is no folder: choose another --out")
    marker = read_marker(out, shared=False)
    if marker is not None:
        if marker.verb != verb:
            raise error(f"{out} was made by `wordmask {marker.verb}`, not by `wordmask {verb}`: choose another --out")
        return
    there = first_file(out)
    if there is not None and not was_ours(out):
        raise error(f"{there} is there already, and not by `wordmask {verb}`: choose another --out")


def first_file(folder: Path) -> Path | None:
    """Return the first file in a folder and those below it; hidden ones, and folders of none, are nobody's loss."""
    try:
        entries = sorted(folder.iterdir())
    except FileNotFoundError:
        return None
    for entry in entries:
        if entry.name.startswith("."):
            continue
        found = first_file(entry) if entry.is_dir() and not entry.is_symlink() else entry
        if found is not None:
            return found
    return None


def read_marker(folder: Path, *, shared: bool = True) -> Marker | None:
    """Return whose a folder is, if that is known. shared: also one that only has results of ours among other files."""
    path = folder / STATE / MARKER
    if not path.exists():
        return Marker("label") if (folder / STATE / SETTINGS_OF_LABELS).exists() else None
    told = read_json(path, way_out="delete it and run the same command again, or choose another --out")
    try:
        marker = Marker(str(told["verb"]), tuple(map(str, told["pictures"])), bool(told["among_others"]))
    except (KeyError, TypeError) as error:
        raise TextFileError(
            f"{path}: is damaged, no marker of a run; delete it and run the same command again"
        ) from error
    return marker if shared or not marker.among_others else None


def mark(folder: Path, marker: Marker) -> None:
    told = {"verb": marker.verb, "pictures": marker.pictures, "among_others": marker.among_others}
    with atomic_write(folder / STATE / MARKER) as file:
        file.write(json.dumps({**told, "format": FORMAT, "wordmask": __version__}).encode() + b"\n")


def note_results(folder: Path, verb: str) -> None:
    """Mark a folder of a person's where results are about to be written: JPEGs in it are looked at more closely."""
    if read_marker(folder) is None:
        mark(folder, Marker(verb, among_others=True))


def empty(out: Path) -> None:
    """Delete what is in a folder that the caller holds, but for what says whose it is."""
    for path in out.iterdir():
        if path.name != STATE:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _leave_nothing(out: Path, new: list[Path]) -> None:
    """Take a claim back under which nothing came to be; hidden folders are of unfinished work."""
    state = out / STATE
    drafts = any(path.name != STATE and path.name.startswith(".") for path in out.iterdir())
    kept = {path.name for path in state.iterdir()} - {MARKER, LOCK, JOINED}
    if drafts or kept or any((state / JOINED).glob("*")) or first_file(out) is not None:
        return
    for file in (MARKER, LOCK):
        (state / file).unlink(missing_ok=True)
    with suppress(OSError):
        (state / JOINED).rmdir()
    with suppress(OSError):
        for folder in (state, *new):
            folder.rmdir()
