"""Exact search over embeddings of any number, shard by shard: time and memory of each shard, and the slope.

    python benchmarks/search_by_shards.py                                  # 10 shards of 100,000 embeddings
    python benchmarks/search_by_shards.py --shards 100 --rows 1000000      # 100 million; 1.5 GB of disk at a time

Embeddings are drawn shard by shard, written as clip-retrieval writes them, searched and deleted, so that there is never
more than one shard. The best of all are joined as they come. On the first shards they are compared with a full sort of
all similarities in double precision. The last line is the term that a plan for more embeddings needs.
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


def drawn(number: int, rows: int, dimension: int, seed: int) -> np.ndarray:
    """Embeddings (N, D) of length 1, as half floats."""
    part = np.random.default_rng((seed, number)).standard_normal((rows, dimension), dtype=np.float32)
    part /= np.linalg.norm(part, axis=1, keepdims=True)
    return part.astype(np.float16)


def write(folder: Path, part: np.ndarray) -> None:
    for kind in ("img_emb", "metadata"):
        (folder / kind).mkdir(parents=True)
    np.save(folder / "img_emb/img_emb_0.npy", part)
    names = pa.array([f"{row}.jpg" for row in range(len(part))])
    pq.write_table(pa.table({"image_path": names}), folder / "metadata/metadata_0.parquet")


def by_brute_force(parts: list[np.ndarray], queries: Queries, name: int, most: int) -> np.ndarray:
    similar = np.concatenate([queries.exact(part, name) for part in parts])
    return np.lexsort((np.arange(len(similar)), -similar))[:most]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=10)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=768, help="of CLIP ViT-L/14, whose LAION's embeddings are")
    parser.add_argument("--names", type=int, default=100)
    parser.add_argument("--top", type=int, default=500)
    parser.add_argument("--check", type=int, default=2, help="shards that are compared with a full sort")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    dice = np.random.default_rng(chosen.seed)
    queries = Queries.of(dice.standard_normal((chosen.names, chosen.dimension)), np.arange(chosen.names))
    process, best, seconds = psutil.Process(), None, []
    print(f"{'shard':>7} {'seconds':>8} {'MiB a second':>13} {'memory, MiB':>12}", flush=True)
    for number in range(chosen.shards):
        with tempfile.TemporaryDirectory() as place:
            write(Path(place), drawn(number, chosen.rows, chosen.dimension, chosen.seed))
            start = time.perf_counter()
            found = search(EmbeddingFolder(place), queries, chosen.top)
            rows = tuple(own + number * chosen.rows for own in found.rows)
            found = Best(found.most, rows, found.similarities)
            best = found if best is None else best.merge(found)
            seconds.append(time.perf_counter() - start)
        size = 2 * chosen.rows * chosen.dimension / 2**20
        memory = process.memory_info().rss / 2**20
        print(f"{number:7} {seconds[-1]:8.2f} {size / seconds[-1]:13.0f} {memory:12.0f}", flush=True)
        if number + 1 == min(chosen.check, chosen.shards):
            parts = [drawn(each, chosen.rows, chosen.dimension, chosen.seed) for each in range(number + 1)]
            for name in range(0, chosen.names, max(1, chosen.names // 10)):
                expected = by_brute_force(parts, queries, name, chosen.top)
                assert np.array_equal(best.rows[name], expected), f"name {name} differs from the full sort"
            print(f"the best {chosen.top} of {number + 1} shards are those of a full sort, for 10 names", flush=True)
            del parts
    middle = float(np.median(seconds))
    print(f"seconds a million embeddings of {chosen.dimension}, {chosen.names} names: {1e6 * middle / chosen.rows:.2f}")


if __name__ == "__main__":
    main()
