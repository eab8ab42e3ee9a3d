"""Time and memory of an archive's search, against a full matrix product and a partition in NumPy, in one run.

python benchmarks/archive_speed.py            # 1,000,000 embeddings of 512 half floats, 100 names, 500 pictures each
"""

import argparse
import tempfile
import time
from pathlib import Path

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
        folder = EmbeddingFolder(Path(place) / "emb")
        queries = Queries.of(dice.standard_normal((told.names, told.dimension)), np.arange(told.names))
        search(folder, queries, told.most, [0])  # the libraries are warm then
        ours, theirs, grown = [], [], 0
        best: Best | None = None
        truth = np.zeros((0, told.names))
        for _ in range(told.rounds):  # in turn, so that a busy machine is fair to both
            before, start = own_memory(), time.perf_counter()
            best = search(folder, queries, told.most)
            ours.append(time.perf_counter() - start)
            grown = max(grown, own_memory() - before)
            start = time.perf_counter()
            truth = by_numpy(folder, queries, told.most)
            theirs.append(time.perf_counter() - start)
        assert best is not None
        shared = [len(set(best.rows[name].tolist()) & set(truth[:, name].tolist())) for name in range(told.names)]
        print(
            f"{told.rows:,} embeddings of {told.dimension} half floats, {told.names} names, {told.most} pictures each"
        )
        print(f"search          {min(ours):6.2f} s, {grown / 2**20:6.0f} MiB beside the mapped files")
        print(f"NumPy           {min(theirs):6.2f} s: full product and argpartition, single precision")
        print(f"ratio           {min(theirs) / min(ours):6.2f}")
        print(f"rows in common  {np.mean(shared):6.2f} of {told.most}; they differ only where single floats round")


if __name__ == "__main__":
    main()
