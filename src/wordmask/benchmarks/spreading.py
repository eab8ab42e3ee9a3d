"""One evaluation by a crew: shards of some batches, whose scores are written down as they come."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wordmask import benchmarks, segmenters
from wordmask.benchmarks.datasets import Benchmark, BenchmarkError
from wordmask.benchmarks.evaluation import batches_of, configuration, finish, score_batches
from wordmask.benchmarks.page import write_page
from wordmask.benchmarks.protocols import OWN
from wordmask.benchmarks.results import ResultFolder
from wordmask.benchmarks.scores import Report
from wordmask.console.progress import Progress
from wordmask.runs.crew import Crew, Processes, own_device
from wordmask.runs.parts import Say, warn
from wordmask.runs.shards import run_shards
from wordmask.segmenters.base import Segmenter

BATCHES = 8
"""Of a shard: a minute or so of a processor, which is what a kill can lose."""
TURNS = 4
"""That each worker has at least, where there are few pictures."""


@dataclass(frozen=True)
class EvaluateTask:
    """Batches of a benchmark's pictures. counting: what is counted of each, as `score_batches` takes it."""

    batch_size: int
    batches: tuple[range, ...]
    counting: Mapping[str, bool]

    @property
    def name(self) -> str:
        return f"pictures {self.batches[0].start} to {self.batches[-1].stop - 1}"

    @property
    def weight(self) -> int:
        return sum(map(len, self.batches))

    def make(self, measured: "Measured", progress: Progress) -> list[str]:
        """Return a line for every picture."""
        scores = score_batches(
            measured.segmenter, measured.benchmark, self.batch_size, batches=self.batches, **self.counting
        )
        return [score.as_line() for batch in scores for score in batch]


@dataclass(frozen=True)
class Measured:
    segmenter: Segmenter
    benchmark: Benchmark


@dataclass(frozen=True)
class Load:
    """What a worker loads: the arguments of `segmenters.load` and of `open_benchmark`.

    plan: the configuration that has to come of it, with the arguments `told`.
    """

    load: Mapping[str, Any]
    opening: Mapping[str, Any]
    plan: Mapping[str, Any]
    told: Mapping[str, Any]

    def __call__(self) -> Measured:
        """Load them, which on another machine have to be the same."""
        load = self.load if (device := own_device()) is None else {**self.load, "device": device}
        found = Measured(segmenters.load(**load), benchmarks.open_benchmark(**self.opening))
        if configuration(found.segmenter, found.benchmark, **self.told) != self.plan:
            raise BenchmarkError("a worker has another network or other pictures than where the work was begun")
        return found


def evaluate_by_crew(
    load: Mapping[str, Any],
    opening: Mapping[str, Any],
    crew: Crew,
    *,
    out: Path,
    batch_size: int = 8,
    boundary: bool = False,
    single: bool = False,
    asked: Mapping[str, Any] | None = None,
    protocol: str = OWN,
    on_progress: Progress | None = None,
    say: Say = warn,
    devices: Sequence[str] = (),
) -> Report:
    """Evaluate as `evaluate` does, with the same scores; a folder that was begun otherwise is gone on with. devices:
    those that the result names, by default the one of `load`.
    """
    benchmark = benchmarks.open_benchmark(**opening)
    segmenter = segmenters.load(**{**load, "device": "cpu"})
    counting = {"boundary": boundary, "single": single}
    told: dict[str, Any] = {"batch_size": batch_size, **counting, "asked": asked, "protocol": protocol}
    plan = configuration(segmenter, benchmark, **told)
    folder = ResultFolder(out, plan)
    with folder.claimed():
        done = folder.done()
        batches = batches_of(len(benchmark), batch_size)
        each = max(1, min(BATCHES, len(batches) // (TURNS * crew.workers)))
        groups = [tuple(batches[start : start + each]) for start in range(0, len(batches), each)]
        run_shards(
            [EvaluateTask(batch_size, group, counting) for group in groups],
            Load(dict(load), dict(opening), plan, told),
            is_made=lambda task: all(done.issuperset(batch) for batch in task.batches),
            crew=crew,
            total=len(benchmark),
            progress=on_progress,
            on_made=lambda task, lines: folder.append(0, lines),
            say=say,
        )
        found = finish(folder, segmenter, benchmark, devices=devices or [str(load.get("device", "auto"))])
        write_page(folder, found, segmenter, benchmark)
    return found


def evaluate_on_devices(
    load: Mapping[str, Any], opening: Mapping[str, Any], devices: Sequence[str], **how: Any
) -> Report:
    """Evaluate on several devices, a process each. As the scores are to be those of one device, all compute in one
    precision, fp32 if `load` says none. The calling script needs the usual `if __name__ == "__main__"`.
    """
    load = {"precision": "fp32", **load}
    if load["precision"] == "auto":
        raise BenchmarkError("precision 'auto' may differ among the devices: choose fp32, bf16 or int8")
    crew = Processes(len(devices), devices=tuple(devices))
    return evaluate_by_crew(load, opening, crew, devices=devices, **how)
