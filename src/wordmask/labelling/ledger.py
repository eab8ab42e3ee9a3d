"""What has been labelled so far: one row a picture, in an SQLite file that survives being killed.

Rows are kept on disk, not in memory, so a run may be of any length. A batch of pictures is committed together, after
its files are written; a batch that was not, is labelled again and gives the same.
"""

import errno
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from wordmask.files import NoRoomError
from wordmask.labelling.settings import LabelError
from wordmask.masks.instances import Part

DAMAGED = "is damaged: delete it and run again, and all pictures are labelled anew"
VANISHED = "WHERE picture NOT IN (SELECT picture FROM there)"


@dataclass(frozen=True)
class Entry:
    """A picture of the folder and its state: a file that has changed since is another picture."""

    picture: str  # its path below the folder, with /
    name: str  # of its results, without a suffix
    stamp: str


@dataclass(frozen=True)
class Row:
    """A labelled picture, or the reason why it could not be.

    specks: names of pixels that belong to no part, as their parts are too small, each with its run lengths: with the
    parts and the background, every pixel's name. None where they were not kept yet.
    """

    picture: str
    name: str
    size: tuple[int, int] = (0, 0)  # (H, W)
    unsure: float = 0.0
    parts: tuple[Part, ...] = ()
    error: str | None = None
    specks: tuple[tuple[str, str], ...] | None = None

    @classmethod
    def from_json(cls, text: str) -> "Row":
        data = json.loads(text)
        if data.get("specks") is not None:
            data["specks"] = tuple((name, counts) for name, counts in data["specks"])
        parts = tuple(Part(**{**part, "box": tuple(part["box"])}) for part in data.pop("parts"))
        return cls(**{**data, "size": tuple(data["size"])}, parts=parts)

    def to_json(self) -> str:
        return json.dumps({**vars(self), "parts": [vars(part) for part in self.parts]})


class Ledger:
    """Rows by picture; `place` is the picture's place in the last walk through the folder that came to it."""

    def __init__(self, path: Path, *, read_only: bool = False):
        self.path = path
        if read_only:
            self._db = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path)
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS rows (picture BLOB PRIMARY KEY, stamp TEXT, name BLOB, place INTEGER, "
            "unsure REAL, error INTEGER, row TEXT)"
        )
        self._db.execute("CREATE TABLE IF NOT EXISTS gone (name BLOB PRIMARY KEY)")
        self._db.execute("CREATE TABLE IF NOT EXISTS passed (picture BLOB PRIMARY KEY, reason TEXT)")
        self._db.execute("CREATE INDEX IF NOT EXISTS by_place ON rows (place)")
        self._db.execute("CREATE INDEX IF NOT EXISTS by_unsure ON rows (unsure)")

    def close(self) -> None:
        self._db.close()

    @property
    def has_labels(self) -> bool:
        return self._db.execute("SELECT 1 FROM rows WHERE NOT error LIMIT 1").fetchone() is not None

    @property
    def has_rows(self) -> bool:
        return self._db.execute("SELECT 1 FROM rows LIMIT 1").fetchone() is not None

    def compare(self, pictures: Iterable[str]) -> tuple[int, int]:
        """Look for labelled pictures that are not among these; how many of those there are, and of these."""
        self._db.execute("CREATE TEMP TABLE IF NOT EXISTS there (picture BLOB PRIMARY KEY)")
        with self._db:
            self._db.execute("DELETE FROM there")
            keys = ((os.fsencode(picture),) for picture in pictures)
            self._db.executemany("INSERT OR IGNORE INTO there VALUES (?)", keys)
        (vanished,) = self._db.execute(f"SELECT COUNT(*) FROM rows {VANISHED} AND NOT error").fetchone()
        (there,) = self._db.execute("SELECT COUNT(*) FROM there").fetchone()
        return int(vanished), int(there)

    def names_of_vanished(self) -> frozenset[str]:
        """Return what the results are called, in small letters, whose pictures `compare` did not find."""
        names = self._db.execute(f"SELECT name FROM rows {VANISHED} AND NOT error")
        return frozenset(os.fsdecode(name).casefold() for (name,) in names)

    def has(self, entries: Sequence[Entry], *, also_errors: bool = False) -> bool:
        """Return whether all these are done, as they are. also_errors: those that could not be read count as well."""
        for entry in entries:
            key = os.fsencode(entry.picture)
            row = self._db.execute("SELECT stamp, name, error FROM rows WHERE picture = ?", (key,)).fetchone()
            if row is None or row[:2] != (entry.stamp, os.fsencode(entry.name)) or (row[2] and not also_errors):
                return False
        return True

    def reach(self, entries: Sequence[Entry], place: int, *, also_errors: bool = False) -> bool:
        """Return whether all these are done, as they are; then they have taken the places from `place` on.

        One that could not be read may be now: the disk is there again, or the limit is another.
        """
        if not self.has(entries, also_errors=also_errors):
            return False
        with self._db:
            self._db.executemany(
                "UPDATE rows SET place = ? WHERE picture = ?",
                [(place + i, os.fsencode(entry.picture)) for i, entry in enumerate(entries)],
            )
        return True

    def add(self, entries: Sequence[Entry], rows: Sequence[Row], place: int) -> None:
        """Keep the labels of a picture that has not changed and cannot be read this time."""
        rows = [self._labels_of(entry) or row if row.error else row for entry, row in zip(entries, rows, strict=True)]
        records = [
            (
                os.fsencode(entry.picture),
                entry.stamp,
                os.fsencode(entry.name),
                place + i,
                row.unsure,
                row.error is not None,
                row.to_json(),
            )
            for i, (entry, row) in enumerate(zip(entries, rows, strict=True))
        ]
        with self._db:
            # A picture's results may be called otherwise now that another picture is beside it.
            self._db.executemany(
                "INSERT OR IGNORE INTO gone SELECT name FROM rows WHERE picture = ? AND name != ?",
                [(os.fsencode(entry.picture), os.fsencode(entry.name)) for entry in entries],
            )
            self._db.executemany("INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?, ?, ?, ?)", records)

    def pictures_in(self, folder: Path) -> list[str]:
        """Return those there are a row of, and that are still in a folder; each folder's together."""
        rows = self._db.execute("SELECT picture FROM rows")
        below = (Path(os.fsdecode(picture)) for (picture,) in rows)
        there = sorted((path for path in below if (folder / path).exists()), key=lambda path: (path.parent, path.name))
        return [path.as_posix() for path in there]

    def found(self, picture: str) -> tuple[str, Row] | None:
        """Return the state of a picture when it was last labelled, or tried, and what came of it."""
        key = os.fsencode(picture)
        stamp = self._db.execute("SELECT stamp FROM rows WHERE picture = ?", (key,)).fetchone()
        return None if stamp is None else (str(stamp[0]), next(self._select("WHERE picture = ?", key)))

    def _labels_of(self, entry: Entry) -> Row | None:
        found = self._select("WHERE picture = ? AND stamp = ? AND NOT error", os.fsencode(entry.picture), entry.stamp)
        row = next(found, None)
        return row if row is not None and row.name == entry.name else None

    def forget_passed(self) -> None:
        """Begin a walk: no file has been passed over."""
        with self._db:
            self._db.execute("DELETE FROM passed")

    def pass_over(self, picture: str, reason: str) -> None:
        """Keep that a file looks like a picture or a film and is not read. It is committed with the next batch."""
        self._db.execute("INSERT OR REPLACE INTO passed VALUES (?, ?)", (os.fsencode(picture), reason))

    def passed_over(self) -> Iterator[tuple[str, str]]:
        """Such files of this walk, and why each is not read."""
        for picture, reason in self._db.execute("SELECT picture, reason FROM passed ORDER BY picture"):
            yield os.fsdecode(picture), reason

    def forget_vanished(self, *, only_errors: bool) -> None:
        """Drop what `compare` did not find; the names of the results are `gone`. Of pictures that could not be read
        there is nothing to keep.
        """
        which = f"{VANISHED} AND error" if only_errors else VANISHED
        with self._db:
            self._db.execute(f"INSERT OR IGNORE INTO gone SELECT name FROM rows {which}")
            self._db.execute(f"DELETE FROM rows {which}")

    def gone(self) -> list[str]:
        """Names that results once had, and none has now."""
        names = self._db.execute("SELECT name FROM gone WHERE name NOT IN (SELECT name FROM rows)").fetchall()
        return [os.fsdecode(name) for (name,) in names]

    def clear_gone(self) -> None:
        with self._db:
            self._db.execute("DELETE FROM gone")

    def rows(self) -> Iterator[Row]:
        """Yield the labelled pictures in the order of the walk."""
        return self._select("WHERE NOT error ORDER BY place, picture")

    def failures(self) -> Iterator[Row]:
        return self._select("WHERE error ORDER BY place, picture")

    def most_unsure(self, count: int) -> Iterator[Row]:
        return self._select("WHERE NOT error ORDER BY unsure DESC, place, picture LIMIT ?", count)

    def find(self, picture: str) -> Row | None:
        """Return the labels of a picture; None where it has none."""
        return next(self._select("WHERE picture = ? AND NOT error", os.fsencode(picture)), None)

    def _select(self, rest: str, *values: object) -> Iterator[Row]:
        for (text,) in self._db.execute(f"SELECT row FROM rows {rest}", values):
            try:
                row = Row.from_json(text)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise LabelError(f"{self.path} {DAMAGED}") from error
            yield row


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Tell what SQLite says of a ledger in words that name the file."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", None)
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise LabelError(f"{path} {DAMAGED}") from error
        if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE):  # the second of a quota, or of too large a file
            raise NoRoomError(path, OSError(errno.ENOSPC, str(error))) from error
        raise LabelError(f"{path}: {error}") from error
