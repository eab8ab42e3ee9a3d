"""Content hashes: what files and texts are known by, so that a run hears of it when one changes under its name."""

import hashlib
import os
from collections.abc import Iterable
from functools import cache, partial
from pathlib import Path

Content = str | bytes


def digest_of(content: Content) -> str:
    """Return the SHA-256 of a text or of bytes, as 64 hexadecimal digits."""
    return hashlib.sha256(_bytes(content)).hexdigest()


def short_digest_of(content: Content) -> str:
    """Return 16 hexadecimal digits, where the places to tell apart are few."""
    return hashlib.blake2b(_bytes(content), digest_size=8).hexdigest()


def number_of(content: Content) -> int:
    """Return 64 bits that stand for a text, where there may be millions in memory."""
    return int(short_digest_of(content), 16)


def digest_of_lines(lines: Iterable[str]) -> str:
    """Return the SHA-256 of lines that need not be in memory at once; of names of files as well, whatever they hold."""
    found = hashlib.sha256()
    for line in lines:
        found.update(_bytes(line) + b"\n")
    return found.hexdigest()


def file_digest(path: str | Path) -> str:
    """Return the SHA-256 of a file's content, as `sha256sum` writes it."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def known_digest(path: Path) -> str:
    """Return `file_digest`, read once as long as the file's size and time stay: a hundred experts may start from it."""
    status = path.stat()
    return _known_digest(path.resolve(), status.st_size, status.st_mtime_ns)


def digest_of_files(paths: Iterable[Path]) -> str:
    """Return one hash of some files' contents, in the order given."""
    return digest_of("".join(map(known_digest, paths)))


def file_fingerprint(path: Path) -> str | None:
    """Return a file's size and a short hash; None for what is no file here, such as an address."""
    try:
        status = path.stat()
        return _size_and_digest(path, status.st_size, status.st_mtime_ns) if path.is_file() else None
    except OSError:
        return None


def stamp_of(status: os.stat_result) -> str:
    """Return what tells two states of a file apart without reading it: its size and its time of change."""
    return f"{status.st_size} {status.st_mtime_ns}"


def listing_digest(paths: Iterable[Path]) -> str:
    """Return a hash of files that may have any size: of their names, sizes and times of change."""
    told = ((path.name, path.stat()) for path in paths)
    return digest_of_lines(f"{name} {stamp_of(status)}" for name, status in told)


def _bytes(content: Content) -> bytes:
    return content.encode(errors="surrogateescape") if isinstance(content, str) else content


@cache
def _known_digest(path: Path, size: int, changed: int) -> str:
    return file_digest(path)


@cache
def _size_and_digest(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return f"{size} bytes, {hashlib.file_digest(file, partial(hashlib.blake2b, digest_size=8)).hexdigest()}"
