"""Data sets, protocols and figures: any segmenter against any benchmark."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wordmask.benchmarks.datasets import Benchmark
    from wordmask.benchmarks.evaluation import Report
    from wordmask.segmenters.base import Segmenter

BENCHMARKS = {
    "world": "the built-in world: 24 things and background",
    "world-stuff": "the built-in world: things and stuff, no background",
}


def open_benchmark(
    name: str, *, split: str | None = None, root: str | Path | None = None, pictures: int | None = None
) -> "Benchmark":
    """A benchmark by its name. `root` is where the data lie; the world needs none. pictures: only so many of them."""
    from wordmask.benchmarks.datasets import BenchmarkError
    from wordmask.benchmarks.world import PICTURES, World

    if name not in BENCHMARKS:
        raise BenchmarkError(f"no benchmark is called {name!r}; choose one of {', '.join(BENCHMARKS)}")
    return World(split or "all", stuff=name == "world-stuff", pictures=PICTURES if pictures is None else pictures)


def evaluate(
    segmenter: "Segmenter",
    benchmark: "str | Benchmark" = "world",
    *,
    split: str | None = None,
    root: str | Path | None = None,
    batch_size: int = 8,
    on_progress: Callable[[int, int], None] | None = None,
) -> "Report":
    """How well a segmenter does on a benchmark: mIoU, pixel accuracy and every name's IoU."""
    from wordmask.benchmarks import evaluation

    opened: Any = open_benchmark(benchmark, split=split, root=root) if isinstance(benchmark, str) else benchmark
    return evaluation.evaluate(segmenter, opened, batch_size=batch_size, on_progress=on_progress)
