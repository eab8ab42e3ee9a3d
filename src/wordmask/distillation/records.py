"""What the stages hand on: where a picture is, and the masks of an archive."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from wordmask.errors import WordmaskError
from wordmask.files import atomic_write
from wordmask.image_files import ImageReadError
from wordmask.images import read_image


class DistillationError(WordmaskError):
    """A stage cannot start or go on: says which, why, and the way out."""


@dataclass(frozen=True)
class ImageRef:
    """Where a picture's bytes are: a file below the collection's root, or a stretch of a tar there."""

    path: str
    member: str | None = None
    offset: int = 0
    length: int = 0

    def __str__(self) -> str:
        return self.path if self.member is None else f"{self.path}::{self.member}"

    def bytes_of(self, root: Path) -> bytes | Path:
        """What `read_image` takes: the file's path, or the member's bytes."""
        if self.member is None:
            return root / self.path
        try:
            with (root / self.path).open("rb") as file:
                file.seek(self.offset)
                content = file.read(self.length)
        except OSError as error:
            raise ImageReadError(str(self), f"cannot be read ({error.strerror or error})") from error
        if len(content) < self.length:
            raise ImageReadError(str(self), "is cut short: the tar ends before it does")
        return content

    def open(self, root: Path, max_pixels: int | None = None) -> np.ndarray:
        """(H, W, 3) uint8"""
        try:
            return read_image(self.bytes_of(root), max_pixels=max_pixels)
        except ImageReadError as error:
            raise ImageReadError(str(self), error.reason) from error
        except OSError as error:
            raise ImageReadError(str(self), f"cannot be read ({error.strerror or error})") from error


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
ROWS_HASHED_AT_ONCE = 4096
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
    with atomic_write(path) as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


class MaskTable(Sequence[MaskRecord]):
    """All shards of a folder, memory-mapped: opening a million masks costs a few numbers a mask.

    Records are in the order of names, and of ranks within a name, however the shards were cut.
    """

    def __init__(self, folder: str | Path, *, root: str | Path | None = None):
        self.folder = Path(folder)
        shards = sorted(self.folder.glob("*.arrow"))
        if not shards:
            raise DistillationError(f"{self.folder} holds no masks (*.arrow): run the stage that makes them")
        self._shards = [_mapped(shard) for shard in shards]
        told = self._shards[0].schema.metadata
        self.names: tuple[str, ...] = tuple(told[NAMES_KEY].decode().split("\n"))
        self.root = Path(root) if root is not None else Path(os.fsdecode(told[ROOT_KEY]))

    def __reduce__(self) -> Any:
        return _open_table, (self.folder, self.root)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        shard, row = self._places[index].tolist()
        return _record(self._shards[shard].slice(row, 1).to_pylist()[0])

    def __iter__(self) -> Iterator[MaskRecord]:
        return (self[index] for index in range(len(self)))

    def images(self) -> list[ImageRef]:
        """Of all records, in their order."""
        keys = ["path", "member", "offset", "length"]
        told = self._taken(np.arange(len(self)), keys)
        return [ImageRef(*place) for place in zip(*(told[key].to_pylist() for key in keys), strict=True)]

    def fingerprint(self, rows: np.ndarray) -> str:
        """Of what these records say, in this order; however the shards are cut, and whatever else is in them."""
        digest = hashlib.blake2b(digest_size=16)
        for start in range(0, len(rows), ROWS_HASHED_AT_ONCE):
            for row in self._taken(rows[start : start + ROWS_HASHED_AT_ONCE]).to_pylist():
                digest.update(repr(list(row.items())).encode())
        return digest.hexdigest()

    def rows(self, name: str, *, usable: bool = True) -> np.ndarray:
        """Indices of a name's masks, most similar picture first; with usable=False those set aside as well."""
        if name not in self.names:
            raise DistillationError(f"{self.folder} has no masks of {name!r}; its names are {', '.join(self.names)}")
        own = self._labels == self.names.index(name)
        return np.flatnonzero(own & self._usable if usable else own)

    def open_image(self, image: ImageRef, max_pixels: int | None = None) -> np.ndarray:
        """(H, W, 3) uint8"""
        return image.open(self.root, max_pixels)

    @cached_property
    def _starts(self) -> np.ndarray:
        """The first row of every shard, were they one table."""
        return np.cumsum([0, *map(len, self._shards[:-1])])

    def _taken(self, rows: np.ndarray, columns: Sequence[str] = MASK_SCHEMA.names) -> pa.Table:
        """Records as a table, in the order of `rows`."""
        shard, row = self._places[rows].T
        whole = pa.concat_tables([each.select(columns) for each in self._shards])
        return whole.take(pa.array(self._starts[shard] + row))

    @property
    def _places(self) -> np.ndarray:
        return self._index[0]  # (N, 2): shard and row in it

    @property
    def _labels(self) -> np.ndarray:
        return self._index[1]

    @property
    def _usable(self) -> np.ndarray:
        return self._index[2]

    @cached_property
    def _index(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        label_of = {name: label for label, name in enumerate(self.names)}
        places, labels, ranks, usable = [], [], [], []
        for number, shard in enumerate(self._shards):
            places.append(np.stack([np.full(len(shard), number), np.arange(len(shard))], axis=1))
            labels.append(np.array([label_of[name] for name in shard["name"].to_pylist()], dtype=np.int32))
            ranks.append(shard["rank"].to_numpy())
            usable.append(shard["usable"].to_numpy())
        label, rank = np.concatenate(labels), np.concatenate(ranks)
        order = np.lexsort((rank, label))
        return np.concatenate(places)[order], label[order], np.concatenate(usable)[order]


def _open_table(folder: Path, root: Path) -> MaskTable:
    return MaskTable(folder, root=root)


def _mapped(path: Path) -> pa.Table:
    try:
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except (pa.ArrowInvalid, OSError) as error:
        raise DistillationError(f"{path} is no file of masks ({error}): delete it and run again") from error


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
