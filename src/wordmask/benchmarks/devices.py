"""One evaluation on several devices: a process each, every one with its share of the batches."""

import traceback
from collections.abc import Mapping, Sequence
from multiprocessing import get_context
from pathlib import Path
from queue import Empty
from typing import Any

from wordmask import benchmarks, segmenters
from wordmask.benchmarks.datasets import BenchmarkError
from wordmask.benchmarks.evaluation import configuration, evaluate_share, finish
from wordmask.benchmarks.page import write_page
from wordmask.benchmarks.protocols import OWN
from wordmask.benchmarks.results import ResultFolder
from wordmask.benchmarks.scores import Report
from wordmask.console.progress import Progress
from wordmask.errors import WordmaskError
from wordmask.runs.processes import end_with_parent

POLL_SECONDS = 0.2


def evaluate_on_devices(
    load: Mapping[str, Any],
    opening: Mapping[str, Any],
    devices: Sequence[str],
    *,
    out: Path,
    batch_size: int = 8,
    boundary: bool = False,
    asked: Mapping[str, Any] | None = None,
    protocol: str = OWN,
    on_progress: Progress | None = None,
) -> Report:
    """load: the arguments of `segmenters.load`; opening: those of `open_benchmark`. The scores are those of one device,
    and an evaluation may go on with other devices than it began with; so all compute in one precision, fp32 if `load`
    says none. The calling script needs the usual `if __name__ == "__main__"`.
    """
    load = {"precision": "fp32", **load}
    if load["precision"] == "auto":
        raise BenchmarkError("precision 'auto' may differ among the devices: choose fp32, bf16 or int8")
    benchmark = benchmarks.open_benchmark(**opening)
    segmenter = segmenters.load(**{**load, "device": "cpu"})
    plan = configuration(segmenter, benchmark, batch_size=batch_size, boundary=boundary, asked=asked, protocol=protocol)
    folder = ResultFolder(out, plan)
    with folder.claimed():
        _share_out(load, opening, devices, folder, plan, batch_size, boundary, len(benchmark), on_progress)
        found = finish(folder, segmenter, benchmark, devices=devices)
        write_page(folder, found, segmenter, benchmark)
    return found


def _share_out(
    load: Mapping[str, Any],
    opening: Mapping[str, Any],
    devices: Sequence[str],
    folder: ResultFolder,
    plan: Mapping[str, Any],
    batch_size: int,
    boundary: bool,
    total: int,
    on_progress: Progress | None,
) -> None:
    before = len(folder.done())
    if before == total:
        return
    context = get_context("spawn")
    queue = context.Queue()  # of ("done", share, pictures) and ("failed", share, why)
    workers = [
        context.Process(
            target=_work,
            args=(
                {**load, "device": device},
                dict(opening),
                folder.path,
                dict(plan),
                batch_size,
                boundary,
                share,
                len(devices),
                queue,
            ),
        )
        for share, device in enumerate(devices)
    ]
    counts = [before] * len(devices)
    failed: list[str] = []
    for worker in workers:
        worker.start()
    try:
        while any(worker.is_alive() for worker in workers) or not queue.empty():
            try:
                kind, share, told = queue.get(timeout=POLL_SECONDS)
            except Empty:
                continue
            if kind == "failed":
                failed.append(f"{devices[share]}: {told}")
                break
            counts[share] = told
            if on_progress is not None:
                on_progress(before + sum(count - before for count in counts), total)
    finally:
        if failed:
            for worker in workers:
                worker.terminate()
        for worker in workers:
            worker.join()
    for device, worker in zip(devices, workers, strict=True):
        if worker.exitcode and not failed:
            failed.append(f"{device}: its process ended with {worker.exitcode}")
    if failed:
        raise BenchmarkError(f"{failed[0]}; what is done is kept in {folder.path}: the same command goes on")


def _work(
    load: dict[str, Any],
    opening: dict[str, Any],
    out: Path,
    plan: dict[str, Any],
    batch_size: int,
    boundary: bool,
    share: int,
    shares: int,
    queue: Any,
) -> None:
    end_with_parent()
    try:
        evaluate_share(
            segmenters.load(**load),
            benchmarks.open_benchmark(**opening),
            ResultFolder(out, plan),
            batch_size=batch_size,
            boundary=boundary,
            share=share,
            shares=shares,
            on_progress=lambda done, total: queue.put(("done", share, done)),
        )
    except WordmaskError as error:
        queue.put(("failed", share, str(error)))
    except Exception:
        queue.put(("failed", share, traceback.format_exc(limit=-3).strip().replace("\n", " | ")))
