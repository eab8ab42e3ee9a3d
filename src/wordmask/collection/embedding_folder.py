"""Embeddings on disk in clip-retrieval's layout, which is LAION's: `img_emb/img_emb_N.npy` beside
`metadata/metadata_N.parquet`. Rows are numbered through all shards. Nothing is held in memory but the shards' sizes.
"""

import json
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from wordmask.collection.arrow import pa, pq
from wordmask.collection.references import CollectionError, ImageRef
from wordmask.collection.stores import is_in_store, place_at
from wordmask.collection.tars import TarError, pictures_in
from wordmask.files import is_special
from wordmask.text_files import counted

ABOUT = "collection.json"
"""What our own folders say of themselves; those of others have none."""


@dataclass(frozen=True)
class Shard:
    embeddings: Path
    metadata: Path
    first: int  # number of its first row
    rows: int


class EmbeddingFolder:
    """root: what the pictures' paths are relative to. By default what the folder says, or its own place."""

    def __init__(self, folder: str | Path, *, root: str | Path | None = None):
        if is_in_store(folder):
            raise CollectionError(f"{folder} is in a store, and embeddings are read from disk: mount it, or copy them")
        self.folder = Path(folder).expanduser().resolve()
        self.about = _about(self.folder)
        told = self.about.get("root")
        self.root = Path(root).expanduser().resolve() if root else place_at(told) if told else self.folder
        self._confined = told is None  # its paths are somebody else's: none may lead out of the root
        self.shards = _shards(self.folder)
        self.dimension = _dimension(self.shards)

    def __len__(self) -> int:
        return self.shards[-1].first + self.shards[-1].rows

    @property
    def clip(self) -> str | None:
        """The CLIP whose embeddings these are, where that is known."""
        return self.about.get("clip")

    def blocks(self, rows: int, shards: Iterable[int] | None = None) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (number of the first row, (B, D) as stored and memory-mapped), of all shards or of some."""
        for number in range(len(self.shards)) if shards is None else shards:
            shard = self.shards[number]
            stored = _mapped(shard.embeddings)
            for start in range(0, shard.rows, rows):
                _check_whole(shard.embeddings, stored)
                yield shard.first + start, stored[start : start + rows]

    def vectors(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Embeddings (n, D) float64 of single rows, as stored."""
        rows = np.asarray(rows, dtype=np.int64)
        found = np.empty((len(rows), self.dimension))
        for shard, places in self._by_shard(rows):
            stored = _mapped(shard.embeddings)
            _check_whole(shard.embeddings, stored)
            found[places] = stored[rows[places] - shard.first]
        return found

    def told(self, rows: Sequence[int] | np.ndarray) -> list[dict[str, Any]]:
        """Return what the metadata says of single rows."""
        rows = np.asarray(rows, dtype=np.int64)
        found: list[dict[str, Any]] = [{}] * len(rows)
        for shard, places in self._by_shard(rows):
            table = _read_metadata(shard).take(pa.array(rows[places] - shard.first))
            for place, row in zip(places.tolist(), table.to_pylist(), strict=True):
                found[place] = row
        return found

    def references(self, told: Sequence[dict[str, Any]]) -> list[ImageRef | None]:
        """Return where the pictures are, from what `told` says; None for those that cannot be there.

        clip-retrieval knows pictures in webdataset tars by their keys only: the tars below the root are looked through.
        """
        found: list[ImageRef | None] = [self._reference(row) for row in told]
        keys = [str(row.get("image_path")) for row, ref in zip(told, found, strict=True) if ref is None]
        places = _find_keys(self.root, {key for key in keys if re.fullmatch(r"[\w-]+", key)})
        return [ref or places.get(str(row.get("image_path"))) for row, ref in zip(told, found, strict=True)]

    def has_column(self, name: str) -> bool:
        return any(name in pq.read_schema(shard.metadata).names for shard in self.shards)

    def _reference(self, row: dict[str, Any]) -> ImageRef | None:
        path = row.get("image_path")
        if not isinstance(path, str) or not path or "\0" in path:
            return None
        if row.get("tar") is not None:
            return ImageRef(str(row["tar"]), path, int(row["offset"]), int(row["length"]))
        if not self._confined:
            return ImageRef(path)
        real = (self.root / path).resolve()
        return ImageRef(str(real.relative_to(self.root))) if real.is_relative_to(self.root) and real.is_file() else None

    def _by_shard(self, rows: np.ndarray) -> Iterator[tuple[Shard, np.ndarray]]:
        """Every shard that holds some of the rows, and the places in `rows` of those."""
        firsts = [shard.first for shard in self.shards]
        owners = np.array([bisect_right(firsts, row) - 1 for row in rows.tolist()], dtype=np.int64)
        for number in np.unique(owners).tolist():
            yield self.shards[number], np.flatnonzero(owners == number)


def is_embedding_folder(path: str | Path) -> bool:
    return (Path(path).expanduser() / "img_emb").is_dir()


def embedding_name(number: int) -> str:
    return f"img_emb/img_emb_{number:05d}.npy"


def metadata_name(number: int) -> str:
    return f"metadata/metadata_{number:05d}.parquet"


def _about(folder: Path) -> dict[str, Any]:
    path = folder / ABOUT
    if is_special(path):
        raise CollectionError(f"{path} is a pipe or a device, not a file")
    if not path.exists():
        return {}
    try:
        about: dict[str, Any] = json.loads(path.read_text())
        if not isinstance(about, dict):
            raise ValueError(f"it holds a {type(about).__name__}")
    except (OSError, ValueError, RecursionError) as error:
        raise CollectionError(
            f"{path} cannot be read ({error}): delete the folder and embed the pictures anew"
        ) from error
    if not about.get("finished"):
        raise CollectionError(f"{folder} is not finished: start the command again that embeds its pictures")
    return about


def _shards(folder: Path) -> list[Shard]:
    arrays = {_number(path): path for path in sorted((folder / "img_emb").glob("img_emb_*.npy"))}
    tables = {_number(path): path for path in sorted((folder / "metadata").glob("metadata_*.parquet"))}
    if not arrays:
        raise CollectionError(f"{folder} holds no embeddings (img_emb/img_emb_*.npy)")
    if missing := sorted(arrays.keys() ^ tables.keys()):
        raise CollectionError(
            f"{folder}: shard {missing[0]} has embeddings or metadata, but not both; fetch or make it again"
        )
    numbers = sorted(arrays)
    rows = [_rows(arrays[number], tables[number]) for number in numbers]
    if not sum(rows):
        raise CollectionError(f"{folder} holds no embeddings: all of its shards are empty")
    firsts = accumulate(rows, initial=0)
    return [Shard(arrays[n], tables[n], first, count) for n, first, count in zip(numbers, firsts, rows, strict=False)]


def _number(path: Path) -> int:
    digits = path.stem.rpartition("_")[2]
    if not digits.isdecimal():
        raise CollectionError(f"{path}: a shard's name must end in its number, as img_emb_0.npy")
    return int(digits)


def _rows(array: Path, table: Path) -> int:
    for path in (array, table):
        if is_special(path):
            raise CollectionError(f"{path} is a pipe or a device, not a file")
    try:
        stored = _mapped(array)
        rows = pq.read_metadata(table).num_rows
    except Exception as error:  # readers of damaged files raise whatever they like
        raise CollectionError(f"{array} or {table.name} cannot be read ({error}): fetch or make them again") from error
    if stored.ndim != 2 or stored.dtype not in (np.float16, np.float32):
        raise CollectionError(f"{array} holds {stored.dtype} {stored.shape}, not half or single floats (N, D)")
    if len(stored) != rows:
        raise CollectionError(
            f"{array} has {counted(len(stored), 'row')}, and {table.name} {rows}: they are not of one shard"
        )
    return rows


def _mapped(path: Path) -> np.memmap:
    stored = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(stored, np.memmap):
        raise CollectionError(f"{path} is no array in numpy's own format: fetch or make it again")
    return stored


def _check_whole(path: Path, stored: np.memmap) -> None:
    """Check a part before it is read: reading a mapped file beyond its end would end the process."""
    if path.exists() and path.stat().st_size < stored.offset + stored.nbytes:
        raise CollectionError(f"{path} has been cut short since it was opened: fetch or make it again")


def _dimension(shards: Sequence[Shard]) -> int:
    sizes = {int(_mapped(s.embeddings).shape[1]): s.embeddings for s in shards}
    if len(sizes) > 1:
        raise CollectionError(
            f"embeddings of several sizes in one folder: {', '.join(f'{s} in {p.name}' for s, p in sizes.items())}"
        )
    return next(iter(sizes))


def _read_metadata(shard: Shard) -> pa.Table:
    try:
        table = pq.read_table(shard.metadata)
        table.validate(full=True)  # of text that is none, for one
        return table
    except (pa.ArrowException, OSError) as error:
        raise CollectionError(f"{shard.metadata} cannot be read ({error}): fetch or make it again") from error


def _find_keys(root: Path, keys: set[str]) -> dict[str, ImageRef]:
    """Pictures by webdataset key. img2dataset starts keys with the number of their tar, so few tars are opened."""
    found: dict[str, ImageRef] = {}
    if not keys:
        return found
    for tar in sorted(root.glob("*.tar")):
        if not any(key.startswith(tar.stem) for key in keys):
            continue
        try:
            for picture in pictures_in(tar, tar.name):
                key = str(picture.ref.member).rpartition("/")[2].partition(".")[0]
                if key in keys and picture.trouble is None:
                    found.setdefault(key, picture.ref)
        except TarError:  # its pictures before the damage are found; those behind it are not there
            continue
    return found
