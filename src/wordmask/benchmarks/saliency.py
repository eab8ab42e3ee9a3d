"""A saliency method against a benchmark: whatever is not background is foreground."""

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from wordmask._version import __version__
from wordmask.benchmarks.datasets import Benchmark, BenchmarkError, Sample
from wordmask.benchmarks.evaluation import batches_of, read_batches, versions
from wordmask.benchmarks.f_measure import LEVELS, f_measures
from wordmask.benchmarks.networks import networks_fingerprint
from wordmask.benchmarks.results import ResultFolder
from wordmask.benchmarks.s_measure import s_measure
from wordmask.console.progress import Progress
from wordmask.refinement.clean_up import THRESHOLD, intersection_over_union
from wordmask.saliency.base import Saliency
from wordmask.text_files import counted


@dataclass(frozen=True)
class SaliencyReport:
    """All in percent. iou: of the map above one half. max_f: the largest F-measure at any one threshold. mae: the mean
    absolute error, where less is better. s_measure: Fan et al. Each is averaged over pictures.
    """

    method: str
    preset: str
    benchmark: str
    split: str
    images: int
    iou: float
    max_f: float
    mae: float
    s_measure: float
    seconds: float

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def table(self) -> str:
        head = f"{self.method} ({self.preset}) on {self.benchmark}, {self.split}: {counted(self.images, 'picture')}"
        figures = {"IoU": self.iou, "max F": self.max_f, "MAE": self.mae, "S-measure": self.s_measure}
        lines = [f"  {name:9}  {value:5.1f}" for name, value in figures.items()]
        return "\n".join([f"{head}, {self.seconds:.1f} s", *lines])


def evaluate_saliency(
    method: Saliency,
    benchmark: Benchmark,
    *,
    batch_size: int = 8,
    out: Path | None = None,
    asked: Mapping[str, Any] | None = None,
    on_progress: Progress | None = None,
) -> SaliencyReport:
    """As `evaluate` does with segmenters: streaming, and with `out` resumable picture by picture."""
    if benchmark.vocabulary.background is None:
        raise BenchmarkError(f"{benchmark.name} has no background, so it does not tell what is foreground")
    if out is None:
        return _report(_rows(method, benchmark, batch_size, set(), None, on_progress), method, benchmark)
    folder = ResultFolder(out, saliency_configuration(method, benchmark, batch_size, asked))
    with folder.claimed():
        for _ in _rows(method, benchmark, batch_size, folder.done(), folder, on_progress):
            pass
        found = _report(folder.rows(), method, benchmark)
        folder.finish(
            {
                **found.as_json(),
                "configuration": folder.configuration,
                "versions": versions(),
                "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            }
        )
    return found


def score_map(soft: np.ndarray, sample: Sample, background: int, ignore: int) -> dict[str, Any]:
    """One picture's row. Pixels that do not count are taken as answered rightly."""
    mask = (sample.labels != background) & (sample.labels != ignore)
    soft = np.where(sample.labels == ignore, 0, soft)
    foreground = int(np.count_nonzero(mask))
    curve = f_measures(soft, mask, foreground).round(6).tolist() if foreground else None
    return {
        "miou": round(100 * intersection_over_union(soft > THRESHOLD, mask), 4),
        "mae": float(np.abs(soft - mask).mean(dtype=np.float64)),
        "s_measure": s_measure(soft, mask),
        "f": curve,
    }


def _rows(
    method: Saliency,
    benchmark: Benchmark,
    batch_size: int,
    done: set[int],
    folder: ResultFolder | None,
    on_progress: Progress | None,
) -> Iterable[dict[str, Any]]:
    background = benchmark.vocabulary.background
    assert background is not None  # checked before
    count = len(done)
    missing = [batch for batch in batches_of(len(benchmark), batch_size) if not done.issuperset(batch)]
    for indices, samples in read_batches(benchmark, missing):
        start = time.perf_counter()
        maps = method.maps([sample.image for sample in samples])
        seconds = (time.perf_counter() - start) / len(samples)
        rows = [
            {"index": index, "image": sample.key, "seconds": round(seconds, 4)}
            | score_map(soft, sample, background, benchmark.ignore)
            for index, sample, soft in zip(indices, samples, maps, strict=True)
            if index not in done
        ]
        if folder is not None:
            folder.append(0, [json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows])
        yield from rows
        count += len(rows)
        if on_progress is not None:
            on_progress(count, len(benchmark))


def _report(rows: Iterable[dict[str, Any]], method: Saliency, benchmark: Benchmark) -> SaliencyReport:
    images = with_foreground = 0
    iou = mae = structure = seconds = 0.0
    curve = np.zeros(LEVELS)
    for row in rows:
        images += 1
        iou, mae, structure = iou + row["miou"], mae + row["mae"], structure + row["s_measure"]
        seconds += row["seconds"]
        if row["f"] is not None:
            with_foreground += 1
            curve += np.array(row["f"])
    return SaliencyReport(
        method.method,
        method.preset,
        benchmark.name,
        benchmark.split,
        images,
        iou=round(iou / images, 2),
        max_f=round(100 * float(curve.max()) / max(with_foreground, 1), 2),
        mae=round(100 * mae / images, 2),
        s_measure=round(100 * structure / images, 2),
        seconds=round(seconds, 2),
    )


def saliency_configuration(
    method: Saliency, benchmark: Benchmark, batch_size: int, asked: Mapping[str, Any] | None
) -> dict[str, Any]:
    """All that a figure hangs on, but for the machine."""
    settings = getattr(method, "settings", None)
    return {
        "wordmask": __version__,
        "saliency": method.method,
        "preset": method.preset,
        "precision": method.precision,
        "settings": asdict(settings) if is_dataclass(settings) and not isinstance(settings, type) else None,
        "networks": networks_fingerprint(method),
        "benchmark": benchmark.name,
        "split": benchmark.split,
        "images": len(benchmark),
        "batch_size": batch_size,
        **(asked or {}),
    }
