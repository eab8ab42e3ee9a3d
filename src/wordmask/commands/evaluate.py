"""`wordmask evaluate`: one segmenter or saliency method, one benchmark, one report."""

import json
from pathlib import Path
from typing import Any

from wordmask import benchmarks, saliency, segmenters
from wordmask.benchmarks import evaluation
from wordmask.benchmarks.datasets import BenchmarkError
from wordmask.console import complain, show
from wordmask.console.progress import progress_bar


def run(
    *,
    opening: dict[str, Any],
    load: dict[str, Any],
    devices: list[str],
    batch_size: int,
    boundary: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    opened = benchmarks.open_benchmark(**opening)
    asked = {"weights": load["weights"]}
    with progress_bar("evaluating", len(opened)) as progress:
        report: Any
        if load["method"] in saliency.METHODS:
            if len(devices) > 1 or boundary:
                raise BenchmarkError("saliency is evaluated on one device, and without --boundary")
            from wordmask.benchmarks.saliency import evaluate_saliency

            method = saliency.load(**load)
            report = evaluate_saliency(
                method, opened, batch_size=batch_size, out=out, asked=asked, on_progress=progress
            )
        elif len(devices) > 1 and out is not None:
            from wordmask.benchmarks.devices import evaluate_on_devices

            report = evaluate_on_devices(
                load,
                opening,
                devices,
                out=out,
                batch_size=batch_size,
                boundary=boundary,
                asked=asked,
                on_progress=progress,
            )
        else:
            report = evaluation.evaluate(
                segmenters.load(**load),
                opened,
                batch_size=batch_size,
                out=out,
                boundary=boundary,
                asked=asked,
                on_progress=progress,
            )
    show(json.dumps(report.as_json(), ensure_ascii=False) if as_json else report.table())
    if out is not None:
        complain(f"written: {out}")


def check_data(opening: dict[str, Any], *, as_json: bool) -> None:
    """Open the benchmark, and read its first and its last picture; what is wrong is an error that says so."""
    benchmark = benchmarks.open_benchmark(**opening)
    for index in (0, len(benchmark) - 1):
        benchmark[index]
    found = {
        "benchmark": benchmark.name,
        "split": benchmark.split,
        "images": len(benchmark),
        "names": list(benchmark.vocabulary.names),
    }
    if as_json:
        show(json.dumps(found, ensure_ascii=False))
    else:
        show(f"{benchmark.name}, {benchmark.split}: {len(benchmark)} pictures, {len(benchmark.vocabulary)} names")
