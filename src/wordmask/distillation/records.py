"""What the stages hand on: the masks of an archive."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from wordmask.collection.references import ImageRef
from wordmask.errors import WordmaskError
from wordmask.runs.parts import write_part


class DistillationError(WordmaskError):
    """A stage cannot start or go on: says which, why, and the way out."""


@dataclass(frozen=True)
class MaskRecord:
    """A picture of a name's archive and a mask nobody drew.

    rank: its place in the archive, 0 is the most similar. score: how good the mask is thought to be, in [0, 1].
    usable: False for masks that are set aside (empty, full); `trouble` says why.
    """

    name: str
    rank: int
    image: ImageRef
    rle: dict[str, Any]  # COCO's: {"size": [H, W], "counts": bytes}
    score: float
    similarity: float
    usable: bool = True
    trouble: str = ""

    def mask(self) -> np.ndarray:
        """(H, W) bool"""
        from pycocotools import mask as coco_mask

        decoded: np.ndarray = coco_mask.decode(self.rle).astype(bool)
        return decoded


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """(H, W) bool -> COCO's compressed run lengths."""
    from pycocotools import mask as coco_mask

    code: dict[str, Any] = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(side) for side in code["size"]], "counts": bytes(code["counts"])}


MASK_SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("rank", pa.int32()),
        ("path", pa.string()),
        ("member", pa.string()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("counts", pa.binary()),
        ("score", pa.float32()),
        ("similarity", pa.float32()),
        ("usable", pa.bool_()),
        ("trouble", pa.string()),
    ]
)
ROWS_TOLD_AT_ONCE = 4096
SHARDS_KEPT = 16
"""Of those read last; each is some hundred kilobytes."""
NAMES_KEY, ROOT_KEY = b"wordmask:names", b"wordmask:root"


def write_masks(path: Path, records: Sequence[MaskRecord], *, root: Path, names: Sequence[str]) -> None:
    """One shard of masks, in Arrow's file format. names: all names of the run in the order of labels."""
    rows = [
        {
            "name": record.name,
            "rank": record.rank,
            "path": record.image.path,
            "member": record.image.member,
            "offset": record.image.offset,
            "length": record.image.length,
            "height": record.rle["size"][0],
            "width": record.rle["size"][1],
            "counts": record.rle["counts"],
            "score": record.score,
            "similarity": record.similarity,
            "usable": record.usable,
            "trouble": record.trouble,
        }
        for record in records
    ]
    told = {NAMES_KEY: "\n".join(names).encode(), ROOT_KEY: os.fsencode(root)}
    table = pa.Table.from_pylist(rows, schema=MASK_SCHEMA.with_metadata(told))
    with write_part(path) as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


class MaskTable(Sequence[MaskRecord]):
    """All shards of a folder, or some: opening a million masks costs a few numbers a mask.

    Records are in the order of names, and of ranks within a name, however the shards were cut. A shard is read whole
    when one of its records is asked for, and the last few stay. None is memory-mapped: a file that is cut while it is
    mapped ends the process.
    """

    def __init__(
        self, folder: str | Path, *, root: str | Path | None = None, shards: Sequence[Path] | None = None
    ) -> None:
        self.folder = Path(folder)
        self._paths = sorted(self.folder.glob("*.arrow")) if shards is None else list(shards)
        if not self._paths:
            raise DistillationError(f"{self.folder} holds no masks (*.arrow): run the stage that makes them")
        told = read_shard(self._paths[0], ("name",)).schema.metadata
        self.names: tuple[str, ...] = tuple(told[NAMES_KEY].decode().split("\n"))
        self.root = Path(root) if root is not None else Path(os.fsdecode(told[ROOT_KEY]))
        self._shard = lru_cache(SHARDS_KEPT)(self._read_shard)
        self._places, self._labels, self._usable = self._read_index()

    def __reduce__(self) -> Any:
        return _open_table, (self.folder, self.root, self._paths)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        shard, row = self._places[index].tolist()
        return _record(self._shard(shard).slice(row, 1).to_pylist()[0])

    def __iter__(self) -> Iterator[MaskRecord]:
        return (self[index] for index in range(len(self)))

    def images(self) -> list[ImageRef]:
        """Of all records, in their order."""
        keys = ["path", "member", "offset", "length"]
        return [ImageRef(*(row[key] for key in keys)) for row in self._told(np.arange(len(self)), keys)]

    def usable(self) -> list[bool]:
        """Of all records, in their order."""
        told: list[bool] = self._usable.tolist()
        return told

    def fingerprint(self, rows: np.ndarray) -> str:
        """Of what these records say, in this order; however the shards are cut, and whatever else is in them."""
        digest = hashlib.blake2b(digest_size=16)
        for row in self._told(rows, MASK_SCHEMA.names):
            digest.update(repr(list(row.items())).encode())
        return digest.hexdigest()

    def rows(self, name: str, *, usable: bool = True) -> np.ndarray:
        """Return indices of a name's masks, most similar picture first; with usable=False those set aside as well."""
        if name not in self.names:
            raise DistillationError(f"{self.folder} has no masks of {name!r}; its names are {', '.join(self.names)}")
        own = self._labels == self.names.index(name)
        return np.flatnonzero(own & self._usable if usable else own)

    def open_image(self, image: ImageRef) -> np.ndarray:
        """(H, W, 3) uint8"""
        return image.open(self.root)

    def _told(self, rows: np.ndarray, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield what records say in these columns, in the order of `rows`; some at a time, each shard of theirs read
        once.
        """
        for start in range(0, len(rows), ROWS_TOLD_AT_ONCE):
            shards, places = self._places[rows[start : start + ROWS_TOLD_AT_ONCE]].T
            found: list[dict[str, Any]] = [{}] * len(shards)
            for number in np.unique(shards).tolist():
                own = np.flatnonzero(shards == number)
                table = self._shard(number).select(columns).take(pa.array(places[own]))
                for place, row in zip(own.tolist(), table.to_pylist(), strict=True):
                    found[place] = row
            yield from found

    def _read_shard(self, number: int) -> pa.Table:
        return read_shard(self._paths[number])

    def _read_index(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For every record in order: shard and row in it (N, 2), its name's label, whether it is usable."""
        label_of = {name: label for label, name in enumerate(self.names)}
        places, labels, ranks, usable = [], [], [], []
        for number, path in enumerate(self._paths):
            shard = read_shard(path, ("name", "rank", "usable"))
            own = [label_of.get(name) for name in shard["name"].to_pylist()]
            if None in own:
                raise DistillationError(
                    f"{path} holds masks of other names than those beside it: delete it and run again"
                )
            places.append(np.stack([np.full(len(shard), number), np.arange(len(shard))], axis=1))
            labels.append(np.array(own, dtype=np.int32))
            ranks.append(shard["rank"].to_numpy())
            usable.append(shard["usable"].to_numpy())
        label, rank = np.concatenate(labels), np.concatenate(ranks)
        order = np.lexsort((rank, label))
        return np.concatenate(places)[order], label[order], np.concatenate(usable)[order]


def _open_table(folder: Path, root: Path, shards: Sequence[Path]) -> MaskTable:
    return MaskTable(folder, root=root, shards=shards)


def read_shard(path: Path, columns: Sequence[str] = MASK_SCHEMA.names) -> pa.Table:
    """Return columns of a shard, in memory; whatever is in the file, no reader trips over it afterwards."""
    places = [MASK_SCHEMA.get_field_index(column) for column in columns]
    # Threads would take longer to start than to read.
    options = pa.ipc.IpcReadOptions(included_fields=places, use_threads=False)
    try:
        with pa.OSFile(str(path)) as file, pa.ipc.open_file(file, options=options) as reader:
            expected, told = pa.schema([MASK_SCHEMA.field(place) for place in places]), reader.schema.metadata or {}
            if not reader.schema.equals(expected) or not {NAMES_KEY, ROOT_KEY} <= told.keys():
                raise pa.ArrowInvalid("it has other columns")
            told[NAMES_KEY].decode()
            table = reader.read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: a name that is no UTF-8
        raise DistillationError(f"{path} is no file of masks ({error}): delete it and run again") from error
    return table


def _record(row: dict[str, Any]) -> MaskRecord:
    return MaskRecord(
        name=row["name"],
        rank=row["rank"],
        image=ImageRef(row["path"], row["member"], row["offset"], row["length"]),
        rle={"size": [row["height"], row["width"]], "counts": row["counts"]},
        score=row["score"],
        similarity=row["similarity"],
        usable=row["usable"],
        trouble=row["trouble"],
    )
