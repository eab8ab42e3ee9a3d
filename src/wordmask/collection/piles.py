"""A pile of unlabelled pictures: a folder tree, a list file, or webdataset tars. It is walked through, never held.

A pile comes in parts, each with a fingerprint that changes when one of its files does. (A folder of embeddings is a
collection too: see `embedding_folder.py`.)
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from wordmask.collection.references import CollectionError, ImageRef
from wordmask.collection.stores import answering, copied, is_in_store, place_at, size_and_state
from wordmask.collection.tars import TarError, pictures_in
from wordmask.files import is_special
from wordmask.fingerprints import digest_of, digest_of_lines
from wordmask.pictures.image_files import EXTENSIONS, ImageReadError, find_images

PER_PART = 10_000
"""Pictures of a folder that are finished together: img2dataset's size of a shard."""


@dataclass(frozen=True)
class Bad:
    """A picture that is left out, and why."""

    image: str
    reason: str


@dataclass(frozen=True)
class Picture:
    ref: ImageRef
    told: dict[str, Any] = field(default_factory=dict)  # LAION's columns


@dataclass(frozen=True)
class Part:
    """weight: how much work it is, in the pile's own unit. begins: its tar, or its first picture."""

    fingerprint: str
    weight: int
    load: Callable[[], tuple[list[Picture], list[Bad]]]
    begins: str = "files that cannot be listed"
    tar: str | None = None

    @contextmanager
    def at_hand(self, root: Path) -> Iterator[tuple[Path, list[Picture], list[Bad]]]:
        """Yield the pictures, and what they are relative to: a tar of a store is fetched in one go for that."""
        if self.tar is None or not is_in_store(root):
            yield root, *self.load()
            return
        with copied(root / self.tar) as copy:
            yield copy.parent, *_load_tar(copy.parent, self.tar)


@dataclass(frozen=True)
class Survey:
    digest: str
    parts: int
    weight: int
    unit: str


class Pile(ABC):
    """Where pictures are; `root` is what references are relative to."""

    kind: str
    per_part: int | None = None
    unit: str
    root: Path
    passed_over: Sequence[tuple[str, str]] = ()
    """Files that look like pictures or films and are not read, each with the reason: those of the last walk. They are
    no part of its digest."""

    @abstractmethod
    def parts(self) -> Iterator[Part]:
        """In an order that depends on names alone."""

    @abstractmethod
    def sources(self) -> Iterator[str]:
        """Yield the files that are there, as references name them: pictures, or tars of such."""

    def survey(self) -> Survey:
        """Walk through the whole pile without opening a picture. Its digest changes when any file does."""
        fingerprints, weight = [], 0
        for part in self.parts():
            fingerprints.append(part.fingerprint)
            weight += part.weight
        if not fingerprints:
            raise CollectionError(
                f"no pictures found in {self.root}: give a folder that holds some, or webdataset tars"
            )
        return Survey(digest_of(self.kind + "".join(fingerprints)), len(fingerprints), weight, self.unit)


class FolderPile(Pile):
    kind, unit = "folder", "pictures"

    def __init__(self, root: Path, per_part: int = PER_PART):
        self.root, self.per_part = root, per_part

    def parts(self) -> Iterator[Part]:
        unlisted: list[ImageReadError] = []
        return _parts_of_files(self.root, self._names(unlisted), self.per_part, unlisted)

    def sources(self) -> Iterator[str]:
        return self._names([])

    def _names(self, unlisted: list[ImageReadError]) -> Iterator[str]:
        passed: list[tuple[str, str]] = []
        self.passed_over = passed

        def pass_over(error: ImageReadError) -> None:
            passed.append((str(Path(error.source).relative_to(self.root)), error.reason))

        for path in find_images(self.root, unlisted.append, pass_over):
            yield str(path.relative_to(self.root))


class ListPile(Pile):
    """One path a line, relative to the file's own folder or to `root`. Empty lines are skipped."""

    kind, unit = "list", "pictures"

    def __init__(self, file: Path, root: Path | None = None, per_part: int = PER_PART):
        self.file, self.per_part = file, per_part
        self.root = root or file.parent

    def parts(self) -> Iterator[Part]:
        return _parts_of_files(self.root, self._names(), self.per_part, [])

    def sources(self) -> Iterator[str]:
        return (name for name in self._names() if _size_and_time(self.root / name)[0] >= 0)

    def _names(self) -> Iterator[str]:
        try:
            with self.file.open(encoding="utf-8", errors="surrogateescape", newline="\n") as lines:
                for line in lines:
                    if name := line.rstrip("\r\n"):
                        yield name
        except OSError as error:
            raise CollectionError(f"{self.file}: cannot be read as a list of pictures ({error.strerror})") from error


class TarPile(Pile):
    """One part a tar: walking through its headers is left until its turn comes."""

    kind, unit = "tars", "bytes"

    def __init__(self, root: Path, tars: list[str]):
        self.root, self.tars = root, tars

    def parts(self) -> Iterator[Part]:
        for name in self.tars:
            size, changed = _size_and_time(self.root / name)
            yield Part(
                digest_of_lines([f"{name}\0{size}\0{changed}"]), size, partial(_load_tar, self.root, name), name, name
            )

    def sources(self) -> Iterator[str]:
        return iter(self.tars)


def open_pile(source: str | Path, *, root: str | Path | None = None, per_part: int = PER_PART) -> Pile:
    """Return what `source` is, by looking: a folder of tars, a tar, a folder tree, or a list file (.txt, .lst).

    root: what the paths of a list are relative to, where that is not the list's own folder.
    """
    given, source = source, _resolved(source)
    if is_in_store(source):
        with answering(given):
            return _pile_in_store(source, _resolved(root) if root else None, per_part)
    if source.is_dir():
        tars = sorted(path.name for path in source.glob("*.tar") if path.is_file())
        if not tars:
            return FolderPile(source, per_part)
        beside = next((path.name for path in sorted(source.iterdir()) if path.suffix.lower() in EXTENSIONS), None)
        if beside is not None:
            raise CollectionError(
                f"{source} holds a tar ({tars[0]}) and pictures beside it ({beside}): give the tar itself, or move it"
            )
        return TarPile(source, tars)
    if source.suffix == ".tar" and source.is_file():
        return TarPile(source.parent, [source.name])
    if source.is_file():
        if source.suffix not in (".txt", ".lst"):
            raise CollectionError(f"{source} is neither a folder, nor a tar, nor a list of pictures (.txt)")
        return ListPile(source, _resolved(root) if root else None, per_part)
    trouble = f"{given} is a pipe or a device" if is_special(source) else f"there is no {source}"
    raise CollectionError(f"{trouble}: give a folder of pictures, webdataset tars, or a list file")


def _resolved(path: str | Path) -> Path:
    return place_at(path) if is_in_store(path) else Path(path).expanduser().resolve()


def _pile_in_store(source: Path, root: Path | None, per_part: int) -> Pile:
    if source.suffix == ".tar" and source.is_file():
        return TarPile(source.parent, [source.name])
    if source.suffix in (".txt", ".lst") and source.is_file():
        return ListPile(source, root, per_part)
    tars = sorted(path.name for path in source.glob("*.tar"))
    if not tars:
        raise CollectionError(
            f"no tars found in {source}: of a store, give webdataset tars, one of them, or a list of pictures (.txt)"
        )
    return TarPile(source, tars)


def _parts_of_files(
    root: Path, names: Iterator[str], per_part: int | None, unlisted: list[ImageReadError]
) -> Iterator[Part]:
    while block := list(islice(names, per_part)):
        lines = [f"{name}\0{size}\0{changed}" for name in block for size, changed in [_size_and_time(root / name)]]
        early = [Bad(_printable(error.source), error.reason) for error in unlisted]
        unlisted.clear()
        yield Part(
            digest_of_lines([*lines, *map(repr, early)]), len(block), partial(_load_files, block, early), block[0]
        )
    if unlisted:
        early = [Bad(_printable(error.source), error.reason) for error in unlisted]
        yield Part(digest_of_lines(map(repr, early)), 0, partial(_load_files, [], early))


def _load_files(names: list[str], bad: list[Bad]) -> tuple[list[Picture], list[Bad]]:
    pictures, bad = [], list(bad)
    for name in names:
        if trouble := _unsayable(name):
            bad.append(Bad(_printable(name), trouble))
        else:
            pictures.append(Picture(ImageRef(name)))
    return pictures, bad


def _load_tar(root: Path, name: str) -> tuple[list[Picture], list[Bad]]:
    pictures, bad = [], []
    try:
        for picture in pictures_in(root / name, name):
            trouble = picture.trouble or _unsayable(str(picture.ref))
            if trouble:
                bad.append(Bad(_printable(str(picture.ref)), trouble))
            else:
                pictures.append(Picture(picture.ref, picture.told))
    except TarError as error:  # what lies before the damage is good
        bad.append(Bad(name, str(error)))
    return pictures, bad


def _size_and_time(path: Path) -> tuple[int, int]:
    """Stand for a file's content, which cannot be read of millions of files at every start. A file that is not there
    is found out about when it is opened.
    """
    if is_in_store(path):
        return size_and_state(path)
    try:
        status = path.stat()
    except (OSError, ValueError):
        return -1, -1
    return status.st_size, status.st_mtime_ns


def _unsayable(name: str) -> str | None:
    try:
        name.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8, which Parquet needs: rename it"
    return None


def _printable(name: str) -> str:
    return os.fsencode(name).decode(errors="backslashreplace")
