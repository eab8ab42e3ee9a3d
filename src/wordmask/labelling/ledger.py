"""What has been labelled so far: one row a picture, in an SQLite file that survives being killed.

Rows are kept on disk, not in memory, so a run may be of any length. A batch of pictures is committed together, after
its files are written; a batch that was not, is labelled again and gives the same.
"""

import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wordmask.labelling.instances import Instance

SCORE_DIGITS = 4


@dataclass(frozen=True)
class Entry:
    """A picture of the folder and its state: a file that has changed since is another picture."""

    picture: str  # its path below the folder, with /
    name: str  # of its results, without a suffix
    stamp: str


@dataclass(frozen=True)
class Part:
    """What is kept of an instance. `rle` are COCO's counts; `more` is what the format needs to be written."""

    name: str
    score: float | None
    area: int
    box: tuple[int, int, int, int]
    rle: str
    more: Any = None


def part_of(instance: Instance, names: Sequence[str], canvas: np.ndarray, more: Any = None) -> Part:
    """An instance as it is kept. `canvas` (H, W) uint8 in Fortran's order is zero, and is so again afterwards."""
    from pycocotools import mask as coco_mask

    instance.paste_into(canvas, 1)
    counts = coco_mask.encode(canvas)["counts"].decode("ascii")
    instance.paste_into(canvas, 0)
    score = None if instance.score is None else round(instance.score, SCORE_DIGITS)
    return Part(names[instance.label], score, instance.area, instance.box, counts, more)


@dataclass(frozen=True)
class Row:
    """A labelled picture, or the reason why it could not be."""

    picture: str
    name: str
    size: tuple[int, int] = (0, 0)  # (H, W)
    unsure: float = 0.0
    parts: tuple[Part, ...] = ()
    error: str | None = None

    @classmethod
    def from_json(cls, text: str) -> "Row":
        data = json.loads(text)
        parts = tuple(Part(**{**part, "box": tuple(part["box"])}) for part in data.pop("parts"))
        return cls(**{**data, "size": tuple(data["size"])}, parts=parts)

    def to_json(self) -> str:
        return json.dumps({**vars(self), "parts": [vars(part) for part in self.parts]})


class Ledger:
    """Rows by picture; `place` is the picture's place in the walk through the folder, None until it is reached."""

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path)
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS rows (picture BLOB PRIMARY KEY, stamp TEXT, name BLOB, place INTEGER, "
            "unsure REAL, error INTEGER, row TEXT)"
        )
        self._db.execute("CREATE TABLE IF NOT EXISTS gone (name BLOB PRIMARY KEY)")
        self._db.execute("CREATE INDEX IF NOT EXISTS by_place ON rows (place)")
        self._db.execute("CREATE INDEX IF NOT EXISTS by_unsure ON rows (unsure)")

    def close(self) -> None:
        self._db.close()

    @property
    def has_labels(self) -> bool:
        return self._db.execute("SELECT 1 FROM rows WHERE NOT error LIMIT 1").fetchone() is not None

    def start(self) -> None:
        """A walk begins: no picture has been reached."""
        with self._db:
            self._db.execute("UPDATE rows SET place = NULL")

    def reach(self, entries: Sequence[Entry], place: int) -> bool:
        """Whether all these are done, as they are; then they have taken the places from `place` on.

        One that could not be read may be now: the disk is there again, or the limit is another.
        """
        for entry in entries:
            key = os.fsencode(entry.picture)
            row = self._db.execute("SELECT stamp, name, error FROM rows WHERE picture = ?", (key,)).fetchone()
            if row is None or row != (entry.stamp, os.fsencode(entry.name), False):
                return False
        with self._db:
            self._db.executemany(
                "UPDATE rows SET place = ? WHERE picture = ?",
                [(place + i, os.fsencode(entry.picture)) for i, entry in enumerate(entries)],
            )
        return True

    def add(self, entries: Sequence[Entry], rows: Sequence[Row], place: int) -> None:
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

    def forget_unreached(self) -> None:
        """Drop pictures that are no longer in the folder; the names of their results are `gone`."""
        with self._db:
            self._db.execute("INSERT OR IGNORE INTO gone SELECT name FROM rows WHERE place IS NULL")
            self._db.execute("DELETE FROM rows WHERE place IS NULL")

    def gone(self) -> list[str]:
        """Names that results once had, and none has now."""
        names = self._db.execute("SELECT name FROM gone WHERE name NOT IN (SELECT name FROM rows)").fetchall()
        return [os.fsdecode(name) for (name,) in names]

    def clear_gone(self) -> None:
        with self._db:
            self._db.execute("DELETE FROM gone")

    def rows(self) -> Iterator[Row]:
        """The labelled pictures in the order of the walk."""
        return self._select("WHERE NOT error ORDER BY place")

    def failures(self) -> Iterator[Row]:
        return self._select("WHERE error ORDER BY place")

    def most_unsure(self, count: int) -> Iterator[Row]:
        return self._select("WHERE NOT error ORDER BY unsure DESC, place LIMIT ?", count)

    def _select(self, rest: str, *values: object) -> Iterator[Row]:
        for (text,) in self._db.execute(f"SELECT row FROM rows {rest}", values):
            yield Row.from_json(text)
