"""A bank of regions on disk: what each looks like (a key), and what it is in the space of CLIP (a value).

`keys/N.npy` and `values/N.npy`, half floats of length 1, a row a region; `manifest/N.jsonl`, a line a picture with the
number of its regions; `bank.json`, what all of it was made with. Rows are numbered through the parts. New pictures come
in new parts: what is there is not written again. Parts are mapped into memory, not read into it.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from wordmask.errors import WordmaskError
from wordmask.extras import need
from wordmask.files import atomic_write
from wordmask.text_files import counted, read_json, shown

ABOUT, INDEX = "bank.json", "keys.faiss"
KEYS, VALUES, AUXILIARY, MANIFEST = "keys", "values", "auxiliary", "manifest"
FORMAT = 1
BLOCK_BYTES = 32 * 2**20
"""Of keys that are compared together, in single precision."""
SMALL = 2**12
"""Bytes of a file that is read and not mapped."""
SUBVECTORS, BITS, LISTS, PROBES = 32, 8, 8, 256
"""FAISS's IVFPQ as CorrCLIP sets it: LISTS times the root of the number of regions are made, PROBES of them looked
through."""


class BankError(WordmaskError):
    """This is no bank, or not one of these networks."""


@dataclass(frozen=True)
class BankPart:
    """A part that is whole: its tables by their kind, and the number of its first row."""

    tables: Mapping[str, Path]
    first: int
    rows: int


class RegionBank:
    """A bank that was built to its end."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder).expanduser()
        self.about = about(self.folder)
        if not self.about.get("finished"):
            raise BankError(f"{folder} is not finished: run the `wordmask bank build` that began it again")
        self.parts = list(_parts(self.folder, with_auxiliary=self.has_auxiliary))
        if not len(self):
            raise BankError(f"{folder} holds no region: build it from pictures that have some")

    def __len__(self) -> int:
        return self.parts[-1].first + self.parts[-1].rows if self.parts else 0

    @property
    def has_auxiliary(self) -> bool:
        return self.about["networks"].get("auxiliary") is not None

    def check(self, networks: Mapping[str, Mapping[str, str] | None]) -> None:
        """Raise, if it was built with other networks than these: by what they are to it, name and fingerprint."""
        for what, own in networks.items():
            built = self.about["networks"].get(what)
            if own is None or built is None or built["fingerprint"] != own["fingerprint"]:
                names = [f"{told['name']} ({told['fingerprint'][:8]})" if told else "none" for told in (built, own)]
                raise BankError(
                    f"{self.folder} was built with {what} {shown(names[0])}, not {shown(names[1])}: load what it was "
                    "built with, or build another with this one"
                )

    def nearest(self, queries: np.ndarray, count: int, *, index: str = "exact") -> np.ndarray:
        """Return the `count` rows whose keys are most like each query (R, C), best first: (R, count) int64.

        exact: by all inner products, in single precision; of equals, the earlier row. faiss: by an index that looks at
        some of them; -1 stands where it has found no more.
        """
        count = min(count, len(self))
        if index == "faiss":
            found: np.ndarray = self._index.search(np.ascontiguousarray(queries, np.float32), count)[1]
            return found
        wanted = np.ascontiguousarray(queries.astype(np.float32).T)  # (C, R)
        best = np.full((queries.shape[0], 0), -np.inf, np.float32)
        rows = np.zeros((queries.shape[0], 0), np.int64)
        for first, keys in self._blocks():
            similar = (keys.astype(np.float32) @ wanted).T  # (R, B)
            best = np.concatenate([best, similar], axis=1)
            rows = np.concatenate([rows, np.broadcast_to(first + np.arange(len(keys)), similar.shape)], axis=1)
            order = np.argsort(-best, axis=1, kind="stable")[:, :count]
            best, rows = np.take_along_axis(best, order, axis=1), np.take_along_axis(rows, order, axis=1)
        return rows

    def values(self, rows: np.ndarray, *, auxiliary: bool = False) -> np.ndarray:
        """Return the values (..., D) float32 of rows (...), or what an auxiliary CLIP says of them."""
        flat, kind = rows.ravel(), AUXILIARY if auxiliary else VALUES
        firsts = [part.first for part in self.parts]
        owner = np.searchsorted(firsts, flat, side="right") - 1
        found: np.ndarray | None = None
        for number in np.unique(owner):
            part, places = self.parts[number], np.flatnonzero(owner == number)
            own = _mapped(part.tables[kind])[flat[places] - part.first].astype(np.float32)
            if found is None:
                found = np.empty((len(flat), own.shape[1]), np.float32)
            found[places] = own
        assert found is not None
        return found.reshape(*rows.shape, -1)

    def means(self, rows: np.ndarray, *, auxiliary: bool = False) -> np.ndarray:
        """Return the mean values (R, D) of rows (R, n), those that are there."""
        there = rows >= 0
        summed = (self.values(np.maximum(rows, 0), auxiliary=auxiliary) * there[..., None]).sum(axis=1)
        mean: np.ndarray = summed / np.maximum(there.sum(axis=1, keepdims=True), 1)
        return mean

    def build_index(self) -> None:
        """Write FAISS's index over all keys, as CorrCLIP sets it."""
        need("faiss")
        import faiss

        keys = np.concatenate([keys.astype(np.float32) for _, keys in self._blocks()])
        width = keys.shape[1]
        if width % SUBVECTORS:
            raise BankError(
                f"{self.folder}: an index cuts keys into {SUBVECTORS}, which does not divide {width}: search exactly"
            )
        lists = max(1, min(int(LISTS * len(keys) ** 0.5), len(keys)))
        made = faiss.IndexIVFPQ(faiss.IndexFlatIP(width), width, lists, SUBVECTORS, BITS, faiss.METRIC_INNER_PRODUCT)
        made.train(keys)
        made.add(keys)
        with atomic_write(self.folder / INDEX) as file:
            file.write(faiss.serialize_index(made).tobytes())

    @cached_property
    def _index(self) -> Any:
        need("faiss")
        import faiss

        path = self.folder / INDEX
        if not path.exists():
            raise BankError(f"{self.folder} has no index: `wordmask bank build ... --index`, or search exactly")
        found = faiss.read_index(str(path))
        if found.ntotal != len(self):
            raise BankError(
                f"{path} is of {counted(found.ntotal, 'region')}, the bank has {len(self)}: build it again with --index"
            )
        found.nprobe = min(PROBES, found.nlist)
        return found

    def _blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        for part in self.parts:
            keys = _mapped(part.tables[KEYS])
            rows = max(1, BLOCK_BYTES // (4 * keys.shape[1]))
            for start in range(0, part.rows, rows):
                yield part.first + start, keys[start : start + rows]


def about(folder: Path) -> dict[str, Any]:
    """Return what a bank says of itself."""
    path = folder / ABOUT
    if not path.is_file():
        raise BankError(f"{folder} is no bank of regions: it holds no {ABOUT}; `wordmask bank build` makes one")
    told = read_json(path, way_out="build the bank again")
    if not isinstance(told, dict) or told.get("format") != FORMAT or not isinstance(told.get("networks"), dict):
        raise BankError(f"{path}: is damaged, or of another version: build the bank again")
    return told


def manifests(folder: Path) -> list[Path]:
    """Return the manifests of a bank's parts, in their order."""
    return sorted((folder / MANIFEST).glob("*.jsonl"))


def lines_of(manifest: Path) -> list[dict[str, Any]]:
    """Return what a part says of its pictures."""
    return [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]


def tables_of(manifest: Path, *, with_auxiliary: bool) -> dict[str, Path]:
    """Return where the tables of a part are, by their kind: keys, values, and what the auxiliary CLIP says."""
    kinds = (KEYS, VALUES, AUXILIARY) if with_auxiliary else (KEYS, VALUES)
    return {kind: manifest.parent.parent / kind / f"{manifest.stem}.npy" for kind in kinds}


def _parts(folder: Path, *, with_auxiliary: bool) -> Iterator[BankPart]:
    first = 0
    for manifest in manifests(folder):
        tables = tables_of(manifest, with_auxiliary=with_auxiliary)
        rows = sum(line["regions"] for line in lines_of(manifest))
        for file in tables.values():
            if (own := len(_mapped(file))) != rows:
                raise BankError(f"{file} has {counted(own, 'row')}, {manifest} counts {rows}: build the bank again")
        yield BankPart(tables, first, rows)
        first += rows


def _mapped(path: Path) -> np.ndarray:
    try:
        is_small = path.stat().st_size < SMALL  # an empty table cannot be mapped
        stored: np.ndarray = np.load(path, mmap_mode=None if is_small else "r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BankError(f"{path} cannot be read ({error}); run the `wordmask bank build` that made it again") from error
    if stored.ndim != 2:
        raise BankError(f"{path} is no table of features: run the `wordmask bank build` that made it again")
    return stored
