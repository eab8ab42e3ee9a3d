"""Data sets, protocols and figures: any segmenter against any benchmark."""

import tomllib
from collections.abc import Mapping
from importlib.resources import files
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


def named_settings(kind: str) -> Mapping[str, str]:
    """Return all "protocols" or "vocabularies" and what each is, for lists; nothing heavy is imported."""
    told = tomllib.loads(files("wordmask").joinpath(f"data/{kind}.toml").read_text(encoding="utf-8"))
    return {name: own["about"] for name, own in told.items() if "about" in own}


def open_benchmark(
    name: str | None = None,
    *,
    split: str | None = None,
    root: str | Path | None = None,
    pictures: int | None = None,
    vocabulary: str = "plain",
) -> "Benchmark":
    """Open a benchmark by its name, by default the first that needs no data.

    root: where the data lie; benchmarks that draw their pictures need none. pictures: only so many of them. vocabulary:
    by which words its names are asked for.
    """
    from wordmask.benchmarks.wordings import worded

    return worded(_opened(name, split, root, pictures), vocabulary)


def _opened(name: str | None, split: str | None, root: str | Path | None, pictures: int | None) -> "Benchmark":
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
    segmenter: "Segmenter | str",
    benchmark: "str | Benchmark | None" = None,
    *,
    split: str | None = None,
    root: str | Path | None = None,
    pictures: int | None = None,
    batch_size: int = 8,
    out: str | Path | None = None,
    boundary: bool = False,
    single: bool = False,
    protocol: str = "own",
    vocabulary: str = "plain",
    on_progress: Progress | None = None,
) -> "Report":
    """Measure a segmenter on a benchmark: mIoU, pixel accuracy, every name's IoU, and more where it can be told.

    segmenter: one that is loaded is measured in the precision that it was loaded in; one by its name is loaded in fp32,
    as for the papers' figures, with the settings that its paper gives for the benchmark.
    benchmark: by default the first that needs no data. out: a folder for every picture's scores; an evaluation that was
    stopped goes on there. boundary: measure borders too (boundary IoU), which takes longer. single: ask
    for every name alone too (IoU-single).
    protocol: how pictures are looked at, "sclip" as SCLIP's paper does; a segmenter that is loaded must do so already.
    vocabulary: by which words names are asked for.
    """
    from wordmask import segmenters
    from wordmask.benchmarks import evaluation
    from wordmask.benchmarks.protocols import check_looks, settings_under
    from wordmask.benchmarks.wordings import worded
    from wordmask.segmenters.choosing import settled

    opened: Any = benchmark
    if benchmark is None or isinstance(benchmark, str):
        opened = _opened(benchmark, split, root, pictures)
    opened = worded(opened, vocabulary)
    if isinstance(segmenter, str):
        segmenter = settled(segmenter)
        under = settings_under(protocol, segmenter, opened.name)
        segmenter = segmenters.load(segmenter, precision="fp32", **under)
    else:
        check_looks(segmenter, protocol, opened.name)
    return evaluation.evaluate(
        segmenter,
        opened,
        batch_size=batch_size,
        out=None if out is None else Path(out),
        boundary=boundary,
        single=single,
        protocol=protocol,
        on_progress=on_progress,
    )
