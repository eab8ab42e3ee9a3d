"""The archives of names: of each the pictures of a collection that look most like it, in one file."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from wordmask.collection.arrow import pa, pq
from wordmask.collection.references import CollectionError, ImageRef
from wordmask.files import atomic_write
from wordmask.fingerprints import digest_of

SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("rank", pa.int32()),
        ("similarity", pa.float64()),
        ("path", pa.string()),
        ("member", pa.string()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("row", pa.int64()),
        ("best_name", pa.string()),
    ]
)
ABOUT_KEY = b"wordmask:archive"


@dataclass(frozen=True)
class Entry:
    """A picture of a name's archive. best_name: the name that it is most like, which may be another one."""

    name: str
    rank: int
    image: ImageRef
    size: tuple[int, int]  # (H, W)
    similarity: float | None = None
    row: int | None = None
    best_name: str | None = None


@dataclass(frozen=True)
class Counts:
    """How a name's archive came about: pictures looked at, kept, and dropped by every filter.

    Where a filter is sure of all that is less similar as well, those count as looked at and dropped by it.
    """

    looked_at: int
    kept: int
    dropped: dict[str, int]


class Archive:
    """The archives of all names, as `archive.parquet` has them."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        try:
            table = pq.read_table(self.path, schema=SCHEMA)
            about: dict[str, Any] = json.loads((pq.read_schema(self.path).metadata or {})[ABOUT_KEY])
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            raise CollectionError(f"{self.path} is no archive ({error}): delete it and run again") from error
        self._table = table
        self.names: tuple[str, ...] = tuple(about["names"])
        self.root = Path(about["root"])
        self.size: int = about["size"]
        self.pictures: int | None = about["pictures"]
        self.counts = {name: Counts(**counts) for name, counts in about["counts"].items()}

    def __len__(self) -> int:
        return len(self._table)

    def entries(self, name: str) -> list[Entry]:
        """Return a name's pictures, the most similar first."""
        if name not in self._places:
            raise CollectionError(f"{self.path} has no archive of {name!r}; it has {', '.join(self.names)}")
        start, count = self._places[name]
        return [_entry(row) for row in self._table.slice(start, count).to_pylist()]

    @cached_property
    def digest(self) -> str:
        """Changes whenever a picture of an archive does; not with the rest of the collection."""
        told = self._table.drop_columns(["row"]).to_pylist()
        return digest_of(json.dumps([self.names, str(self.root), told]))

    @cached_property
    def _places(self) -> dict[str, tuple[int, int]]:
        """Return where a name's rows start, and how many they are."""
        counts = Counter(self._table["name"].to_pylist())
        places, start = {}, 0
        for name in self.names:
            places[name] = (start, counts[name])
            start += counts[name]
        return places


def write_archive(
    path: Path,
    entries: Sequence[Entry],
    counts: dict[str, Counts],
    *,
    names: Sequence[str],
    root: Path,
    size: int,
    pictures: int | None,
) -> Archive:
    """entries: name by name in the order of `names`, best first. pictures: how many the collection has."""
    rows = [
        {
            "name": entry.name,
            "rank": entry.rank,
            "similarity": entry.similarity,
            "path": entry.image.path,
            "member": entry.image.member,
            "offset": entry.image.offset,
            "length": entry.image.length,
            "height": entry.size[0],
            "width": entry.size[1],
            "row": entry.row,
            "best_name": entry.best_name,
        }
        for entry in entries
    ]
    told = {name: vars(count) for name, count in counts.items()}
    about = {"names": list(names), "root": str(root), "size": size, "pictures": pictures, "counts": told}
    schema = SCHEMA.with_metadata({ABOUT_KEY: json.dumps(about, ensure_ascii=False).encode()})
    with atomic_write(path) as file:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), file)
    return Archive(path)


def _entry(row: dict[str, Any]) -> Entry:
    return Entry(
        name=row["name"],
        rank=row["rank"],
        image=ImageRef(row["path"], row["member"], row["offset"] or 0, row["length"] or 0),
        size=(row["height"], row["width"]),
        similarity=row["similarity"],
        row=row["row"],
        best_name=row["best_name"],
    )
