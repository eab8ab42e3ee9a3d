"""Data sets, protocols and figures: any segmenter against any benchmark."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from wordmask.benchmarks.readers import READERS
from wordmask.console.progress import Progress

if TYPE_CHECKING:
    from wordmask.benchmarks.datasets import Benchmark
    from wordmask.benchmarks.scores import Report
    from wordmask.segmenters.base import Segmenter

BENCHMARKS = {
    "world": "the built-in world: 24 things and background",
    "world-stuff": "the built-in world: things and stuff, no background",
    **{name: reader.about for name, reader in READERS.items()},
}


def open_benchmark(
    name: str, *, split: str | None = None, root: str | Path | None = None, pictures: int | None = None
) -> "Benchmark":
    """A benchmark by its name. `root` is where the data lie; the world needs none. pictures: only so many of them."""
    from wordmask.benchmarks.datasets import BenchmarkError
    from wordmask_world.benchmark import PICTURES, World

    if name not in BENCHMARKS:
        raise BenchmarkError(f"no benchmark is called {name!r}; choose one of {', '.join(BENCHMARKS)}")
    if name in READERS:
        return READERS[name].open(name, root, split, pictures)
    return World(split or "all", stuff=name == "world-stuff", pictures=PICTURES if pictures is None else pictures)


def evaluate(
    segmenter: "Segmenter",
    benchmark: "str | Benchmark" = "world",
    *,
    split: str | None = None,
    root: str | Path | None = None,
    pictures: int | None = None,
    batch_size: int = 8,
    out: str | Path | None = None,
    boundary: bool = False,
    on_progress: Progress | None = None,
) -> "Report":
    """How well a segmenter does on a benchmark: mIoU, pixel accuracy, every name's IoU, and more where it can be told.

    It is measured in the precision that it was loaded in; the papers' figures are fp32's.
    out: a folder for every picture's scores; an evaluation that was stopped goes on there. boundary: measure borders
    too (boundary IoU), which takes longer.
    """
    from wordmask.benchmarks import evaluation

    opened: Any = benchmark
    if isinstance(benchmark, str):
        opened = open_benchmark(benchmark, split=split, root=root, pictures=pictures)
    return evaluation.evaluate(
        segmenter,
        opened,
        batch_size=batch_size,
        out=None if out is None else Path(out),
        boundary=boundary,
        on_progress=on_progress,
    )
