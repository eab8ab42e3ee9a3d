"""Data sets, protocols and figures: any segmenter against any benchmark."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from wordmask.benchmarks.readers import READERS
from wordmask.console.progress import Progress
from wordmask.plugins import PluginBenchmark, brought, named, where_from

if TYPE_CHECKING:
    from wordmask.benchmarks.datasets import Benchmark
    from wordmask.benchmarks.scores import Report
    from wordmask.segmenters.base import Segmenter


def list_benchmarks() -> dict[str, str]:
    """Return every benchmark and what it is: those of plug-ins, then those that are read from files."""
    told = {name: benchmark.about for name, benchmark in brought_benchmarks().items()}
    return {**told, **{name: reader.about for name, reader in READERS.items()}}


def brought_benchmarks() -> dict[str, PluginBenchmark]:
    """Return the benchmarks of plug-ins."""
    return brought("benchmarks", READERS.__contains__)


def default_benchmark() -> str | None:
    """Return the first benchmark that needs no data; None where no plug-in brings one."""
    return next((name for name, benchmark in brought_benchmarks().items() if benchmark.preset is not None), None)


def open_benchmark(
    name: str | None = None,
    *,
    split: str | None = None,
    root: str | Path | None = None,
    pictures: int | None = None,
) -> "Benchmark":
    """Open a benchmark by its name, by default the first that needs no data.

    root: where the data lie; benchmarks that draw their pictures need none. pictures: only so many of them.
    """
    from wordmask.benchmarks.datasets import BenchmarkError

    chosen = name or default_benchmark()
    known = list_benchmarks()
    if chosen is None:
        raise BenchmarkError(f"say which benchmark: one of {', '.join(known)}")
    if chosen not in known:
        raise BenchmarkError(f"no benchmark is called {chosen!r}; choose one of {', '.join(known)}{where_from(chosen)}")
    if chosen in READERS:
        return READERS[chosen].open(chosen, root, split, pictures)
    opened: Benchmark = named(brought_benchmarks()[chosen].open)(chosen, root, split, pictures)
    return opened


def evaluate(
    segmenter: "Segmenter",
    benchmark: "str | Benchmark | None" = None,
    *,
    split: str | None = None,
    root: str | Path | None = None,
    pictures: int | None = None,
    batch_size: int = 8,
    out: str | Path | None = None,
    boundary: bool = False,
    on_progress: Progress | None = None,
) -> "Report":
    """Measure a segmenter on a benchmark: mIoU, pixel accuracy, every name's IoU, and more where it can be told.

    It is measured in the precision that it was loaded in; the papers' figures are fp32's.
    benchmark: by default the first that needs no data. out: a folder for every picture's scores; an evaluation that was
    stopped goes on there. boundary: measure borders too (boundary IoU), which takes longer.
    """
    from wordmask.benchmarks import evaluation

    opened: Any = benchmark
    if benchmark is None or isinstance(benchmark, str):
        opened = open_benchmark(benchmark, split=split, root=root, pictures=pictures)
    return evaluation.evaluate(
        segmenter,
        opened,
        batch_size=batch_size,
        out=None if out is None else Path(out),
        boundary=boundary,
        on_progress=on_progress,
    )
