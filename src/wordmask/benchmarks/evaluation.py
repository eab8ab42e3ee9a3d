"""A segmenter against a benchmark."""

import math
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from wordmask._version import __version__
from wordmask.benchmarks.datasets import Benchmark, Sample
from wordmask.benchmarks.networks import networks_fingerprint
from wordmask.benchmarks.page import write_page
from wordmask.benchmarks.protocols import OWN
from wordmask.benchmarks.results import ResultFolder
from wordmask.benchmarks.scores import ImageScore, Report, Totals
from wordmask.benchmarks.single import single_counts
from wordmask.benchmarks.wordings import PLAIN, wording_of
from wordmask.console.progress import Progress
from wordmask.regions.base import described
from wordmask.segmenters.base import Segmenter

READERS = 2
"""Threads that read the next batch while the segmenter is at work."""
LIBRARIES = ("torch", "torchvision", "open_clip_torch", "timm", "numpy", "pillow")


def evaluate(
    segmenter: Segmenter,
    benchmark: Benchmark,
    *,
    batch_size: int = 8,
    out: Path | None = None,
    boundary: bool = False,
    single: bool = False,
    asked: Mapping[str, Any] | None = None,
    protocol: str = OWN,
    page: bool = True,
    on_progress: Progress | None = None,
) -> Report:
    """Segment every picture of a benchmark and compare. Memory does not grow with the number of pictures.

    out: a folder for every picture's scores, the result and a page; one that was begun is gone on with. asked: what
    else tells this evaluation from others, such as the weights that were given. single: ask for every name alone too,
    see `single.py`: many answers, but the network runs no more. protocol: what the segmenter's way to look at pictures
    is called; it is loaded so already.
    """
    if out is None:
        totals = Totals(benchmark.vocabulary.names, benchmark.vocabulary.background)
        done = 0
        for scores in score_batches(segmenter, benchmark, batch_size, boundary=boundary, single=single):
            totals.add_all(scores)
            done += len(scores)
            if on_progress is not None:
                on_progress(done, len(benchmark))
        return report(totals, segmenter, benchmark, protocol)
    counting: dict[str, Any] = {"batch_size": batch_size, "boundary": boundary, "single": single}
    plan = configuration(segmenter, benchmark, **counting, asked=asked, protocol=protocol)
    folder = ResultFolder(out, plan)
    with folder.claimed():
        evaluate_share(segmenter, benchmark, folder, **counting, on_progress=on_progress)
        found = finish(folder, segmenter, benchmark, devices=[str(getattr(segmenter, "device", "cpu"))])
        if page:
            write_page(folder, found, segmenter, benchmark)
    return found


def evaluate_share(
    segmenter: Segmenter,
    benchmark: Benchmark,
    folder: ResultFolder,
    *,
    batch_size: int,
    boundary: bool,
    single: bool = False,
    share: int = 0,
    shares: int = 1,
    on_progress: Progress | None = None,
) -> None:
    """Every `shares`th batch that is not done yet. Batches are the same whoever does them, and so are the scores."""
    done = folder.done()
    count = len(done)
    if on_progress is not None:
        on_progress(count, len(benchmark))
    batches = batches_of(len(benchmark), batch_size)[share::shares]
    missing = [batch for batch in batches if not done.issuperset(batch)]
    for scores in score_batches(segmenter, benchmark, batch_size, boundary=boundary, single=single, batches=missing):
        new = [score for score in scores if score.index not in done]
        folder.append(share, [score.as_line() for score in new])
        count += len(new)
        if on_progress is not None:
            on_progress(count, len(benchmark))


def score_batches(
    segmenter: Segmenter,
    benchmark: Benchmark,
    batch_size: int,
    *,
    boundary: bool,
    single: bool = False,
    batches: Sequence[Sequence[int]] | None = None,
) -> Iterator[list[ImageScore]]:
    """Batch after batch: look at the pictures, ask for all names, count."""
    chosen = batches_of(len(benchmark), batch_size) if batches is None else batches
    names, ignore = len(benchmark.vocabulary), benchmark.ignore
    for indices, samples in read_batches(benchmark, chosen):
        start = time.perf_counter()
        seen = segmenter.see([sample.image for sample in samples], [sample.key for sample in samples])
        answers = [view.segment(benchmark.vocabulary, fill=True).labels for view in seen]
        seconds = (time.perf_counter() - start) / len(samples)
        alone = [
            single_counts(view, sample, index, benchmark.vocabulary, ignore) if single else None
            for index, sample, view in zip(indices, samples, seen, strict=True)
        ]
        shared: dict[str, Any] = {"names": names, "ignore": ignore, "boundary": boundary, "seconds": seconds}
        yield [
            ImageScore.of(index, sample, answer, **shared, single=own)
            for index, sample, answer, own in zip(indices, samples, answers, alone, strict=True)
        ]


def batches_of(count: int, size: int) -> list[range]:
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


def read_batches(
    benchmark: Benchmark, batches: Sequence[Sequence[int]]
) -> Iterator[tuple[Sequence[int], list[Sample]]]:
    """Each batch's samples, while those of the next are being read."""
    with ThreadPoolExecutor(READERS) as pool:
        waiting = None
        for batch in [*batches, None]:
            coming = None if batch is None else (batch, [pool.submit(benchmark.__getitem__, index) for index in batch])
            if waiting is not None:
                yield waiting[0], [future.result() for future in waiting[1]]
            waiting = coming


def report(totals: Totals, segmenter: Segmenter, benchmark: Benchmark, protocol: str = OWN) -> Report:
    confusion = totals.confusion
    per_class = {
        name: None if math.isnan(iou) else round(100 * float(iou), 2)
        for name, iou in zip(confusion.names, confusion.iou, strict=True)
    }
    return Report(
        method=segmenter.method,
        preset=segmenter.preset,
        benchmark=benchmark.name,
        split=benchmark.split,
        images=totals.images,
        miou=round(100 * confusion.miou, 2),
        pixel_accuracy=round(100 * confusion.pixel_accuracy, 2),
        per_class=per_class,
        seconds=round(totals.seconds, 2),
        more={name: round(100 * value, 2) for name, value in totals.figures().items()},
        protocol=protocol,
        vocabulary=wording_of(benchmark),
        note=segmenter.note,
    )


def finish(folder: ResultFolder, segmenter: Segmenter, benchmark: Benchmark, *, devices: Sequence[str]) -> Report:
    """Add up all lines, and write the result beside them."""
    totals = Totals(benchmark.vocabulary.names, benchmark.vocabulary.background)
    totals.add_all(map(ImageScore.from_row, folder.rows()))
    found = report(totals, segmenter, benchmark, folder.configuration["protocol"])
    folder.finish(
        {
            **found.as_json(),
            "configuration": folder.configuration,
            "versions": versions(),
            "devices": list(devices),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        }
    )
    return found


def configuration(
    segmenter: Segmenter,
    benchmark: Benchmark,
    *,
    batch_size: int,
    boundary: bool,
    single: bool = False,
    asked: Mapping[str, Any] | None,
    protocol: str = OWN,
) -> dict[str, Any]:
    """All that a score hangs on, but for the machine."""
    settings = getattr(segmenter, "settings", None)
    text = getattr(getattr(segmenter, "embed", None), "encoder", None)
    return {
        "wordmask": __version__,
        "method": segmenter.method,
        "preset": segmenter.preset,
        "precision": segmenter.precision,
        "settings": asdict(settings) if is_dataclass(settings) and not isinstance(settings, type) else None,
        "text_tower": getattr(text, "text_fingerprint", None),
        "networks": networks_fingerprint(segmenter),
        "benchmark": benchmark.name,
        "split": benchmark.split,
        "images": len(benchmark),
        "names": list(benchmark.vocabulary.names),
        "protocol": protocol,
        **words(benchmark),
        "batch_size": batch_size,
        "boundary": boundary,
        **({} if segmenter.correction is None else {"correct": described(segmenter.correction)}),
        **(asked or {}),
        **({"single": True} if single else {}),
    }


def words(benchmark: Benchmark) -> dict[str, Any]:
    """Return by which words names are asked for: the vocabulary, and the words where they are not the names."""
    wording, vocabulary = wording_of(benchmark), benchmark.vocabulary
    read = {} if wording == PLAIN else {"words": dict(zip(vocabulary.names, vocabulary.phrases, strict=True))}
    return {"vocabulary": wording, **read}


def versions() -> dict[str, str]:
    found = {"wordmask": __version__, "python": platform.python_version()}
    return found | {library: version(library) for library in LIBRARIES}
