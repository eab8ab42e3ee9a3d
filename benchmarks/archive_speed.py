"""Time and memory of an archive's search, from mapped files and from memory, against a full matrix product and a
partition in NumPy and against `faiss.IndexFlatIP`, in one run.

    python benchmarks/archive_speed.py      # 1,000,000 embeddings of 512 half floats, 100 names, 500 pictures each

The ways take turns and the least time of each counts. Ours reads half floats, as they lie in files or in memory;
faiss holds them as single floats, and what it takes to make them such is told apart. It is no part of the package:
without `pip install faiss-cpu`, which fits the environment of development, its lines are left out.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from wordmask.collection.embedding_folder import EmbeddingFolder
from wordmask.collection.search import Best, Queries, search

SHARDS = 10


def write(folder: Path, rows: int, dimension: int, dice: np.random.Generator) -> None:
    for kind in ("img_emb", "metadata"):
        (folder / kind).mkdir(parents=True)
    for number in range(SHARDS):
        part = dice.standard_normal((rows // SHARDS, dimension), dtype=np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
        np.save(folder / f"img_emb/img_emb_{number}.npy", part.astype(np.float16))
        names = pa.array([f"{number}/{row}.jpg" for row in range(len(part))])
        pq.write_table(pa.table({"image_path": names}), folder / f"metadata/metadata_{number}.parquet")


def by_numpy(folder: EmbeddingFolder, queries: Queries, most: int) -> np.ndarray:
    """All similarities at once, then a partition and a sort: (most, K) rows, in single precision."""
    stored = np.concatenate([np.load(shard.embeddings) for shard in folder.shards]).astype(np.float32)
    similar = stored @ queries.vectors.T.astype(np.float32)
    rows = np.argpartition(-similar, most, axis=0)[:most]
    order = np.take_along_axis(-similar, rows, axis=0).argsort(axis=0)
    return np.take_along_axis(rows, order, axis=0)


class InMemory(EmbeddingFolder):
    """The same embeddings, all of them in memory as they are stored."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        self._stored = [np.load(shard.embeddings) for shard in self.shards]

    def blocks(self, rows: int, shards: Iterable[int] | None = None) -> Iterator[tuple[int, np.ndarray]]:
        for number in range(len(self.shards)) if shards is None else shards:
            stored = self._stored[number]
            for start in range(0, len(stored), rows):
                yield self.shards[number].first + start, stored[start : start + rows]


def faiss_index(folder: EmbeddingFolder, threads: int) -> Any:
    """Return faiss's exact index of the embeddings, each at length 1 as its inner products are to be cosines."""
    import faiss

    faiss.omp_set_num_threads(threads)
    index = faiss.IndexFlatIP(folder.dimension)
    for shard in folder.shards:
        stored = np.load(shard.embeddings).astype(np.float32)
        faiss.normalize_L2(stored)
        index.add(stored)
    return index


def own_memory() -> int:
    """Of this process, without files that are mapped into it."""
    memory = psutil.Process().memory_info()
    return int(memory.rss - memory.shared)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--names", type=int, default=100)
    parser.add_argument("--most", type=int, default=500)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    told = parser.parse_args()
    dice = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as place:
        write(Path(place) / "emb", told.rows, told.dimension, dice)
        mapped, held = EmbeddingFolder(Path(place) / "emb"), InMemory(Path(place) / "emb")
        queries = Queries.of(dice.standard_normal((told.names, told.dimension)), np.arange(told.names))
        narrow = np.ascontiguousarray(queries.vectors.astype(np.float32))
        ways: dict[str, Callable[[], Any]] = {
            "mapped files": lambda: search(mapped, queries, told.most),
            "in memory": lambda: search(held, queries, told.most),
            "NumPy": lambda: by_numpy(mapped, queries, told.most),
        }
        if find_spec("faiss") is not None:
            start = time.perf_counter()
            index = faiss_index(mapped, len(os.sched_getaffinity(0)))
            made = time.perf_counter() - start
            ways["faiss"] = lambda: index.search(narrow, told.most)
        search(mapped, queries, told.most, [0])  # the libraries are warm then
        seconds, grown = dict.fromkeys(ways, float("inf")), dict.fromkeys(ways, 0)
        answers: dict[str, Any] = {}
        for _ in range(told.rounds):  # in turn, so that a busy machine is fair to all
            for name, way in ways.items():
                before, start = own_memory(), time.perf_counter()
                answers[name] = way()
                seconds[name] = min(seconds[name], time.perf_counter() - start)
                grown[name] = max(grown[name], own_memory() - before)
    ours: Best = answers["mapped files"]
    print(f"{told.rows:,} embeddings of {told.dimension} half floats, {told.names} names, {told.most} pictures each")
    for name in ways:
        print(
            f"{name:14}  {seconds[name]:6.2f} s, {grown[name] / 2**20:6.0f} MiB, {told_of(name, answers[name], ours)}"
        )
    for name in set(ways) & {"NumPy", "faiss"}:
        ratios = [f"{seconds[name] / seconds[own]:.2f} ({own})" for own in ("mapped files", "in memory")]
        print(f"as fast as {name}: {', '.join(ratios)}")
    if "faiss" in ways:
        print(f"faiss took {made:.2f} s and {index.ntotal * index.d * 4 / 2**20:.0f} MiB before it could search")
    else:
        print("faiss           left out: it is not installed (pip install faiss-cpu)")


def told_of(name: str, answer: Any, ours: Best) -> str:
    """Return how far another way's rows are ours."""
    if isinstance(answer, Best):
        equal = all(map(np.array_equal, answer.rows, ours.rows)) and all(
            map(np.array_equal, answer.similarities, ours.similarities)
        )
        return "exact, equals in the order of their rows" if equal else "OTHER ROWS THAN FROM MAPPED FILES"
    rows = answer.T if name == "NumPy" else answer[1]  # (K, most)
    same = np.mean([len(set(own.tolist()) & set(other.tolist())) for own, other in zip(ours.rows, rows, strict=True)])
    return f"{same:.2f} of {rows.shape[1]} rows are ours: single floats round"


if __name__ == "__main__":
    main()
