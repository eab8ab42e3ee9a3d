"""Which threshold tells background best (NamedMask, figure 6): one pass over the pictures tells of all thresholds."""

from collections.abc import Sequence

import numpy as np

from wordmask.benchmarks.datasets import Benchmark, BenchmarkError
from wordmask.benchmarks.evaluation import batches_of, read_batches
from wordmask.benchmarks.metrics import ConfusionMatrix
from wordmask.console.progress import Progress
from wordmask.segmenters.base import Segmenter

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(20))
"""From 0 to 0.95, as in the paper."""


def sweep_thresholds(
    segmenter: Segmenter,
    benchmark: Benchmark,
    thresholds: Sequence[float] = THRESHOLDS,
    *,
    batch_size: int = 8,
    on_progress: Progress | None = None,
) -> dict[float, float]:
    """Threshold -> mIoU in percent, where a pixel whose best name scores below the threshold is background.

    The names are asked for without background, so any segmenter that hands out scores will do. What a threshold is a
    share of is the segmenter's own affair (`threshold_for`).
    """
    background = benchmark.vocabulary.background
    if background is None:
        raise BenchmarkError(f"{benchmark.name} has no background to find a threshold for")
    limits = np.array(sorted(thresholds), dtype=np.float32)
    names = benchmark.vocabulary.without_background()
    counts = ScoreCounts(len(benchmark.vocabulary), background, benchmark.ignore, len(limits))
    done = 0
    for _, samples in read_batches(benchmark, batches_of(len(benchmark), batch_size)):
        seen = segmenter.see([sample.image for sample in samples], [sample.key for sample in samples])
        for sample, view in zip(samples, seen, strict=True):
            answer = view.segment(names, fill=True)
            if answer.scores is None:
                raise BenchmarkError(
                    f"{segmenter.method} gives no scores, so there is nothing to compare thresholds with"
                )
            own = getattr(segmenter, "threshold_for", None)
            lines = limits if own is None else np.array([own(answer.scores, limit) for limit in limits])
            counts.add(sample.labels, answer.labels, answer.scores, lines)
        done += len(samples)
        if on_progress is not None:
            on_progress(done, len(benchmark))
    return {
        float(threshold): round(100 * counts.confusion(step, benchmark.vocabulary.names).miou, 2)
        for step, threshold in enumerate(sorted(thresholds))
    }


class ScoreCounts:
    """Pixels by how many thresholds they reach, truth and answer: enough to say what any of the thresholds gives."""

    def __init__(self, names: int, background: int, ignore: int, thresholds: int):
        self.names, self.background, self.ignore = names, background, ignore
        self.counts = np.zeros((thresholds + 1, names, names), dtype=np.int64)  # [reached, truth, answer]

    def add(self, truth: np.ndarray, answer: np.ndarray, scores: np.ndarray, limits: np.ndarray) -> None:
        """answer: labels among the names without background. limits: the thresholds, from low to high."""
        counted = truth != self.ignore
        named = answer[counted].astype(np.int64)
        named += named >= self.background
        reached = np.searchsorted(limits, scores[counted], side="right")
        codes = (reached * self.names + truth[counted].astype(np.int64)) * self.names + named
        self.counts += np.bincount(codes, minlength=self.counts.size).reshape(self.counts.shape)

    def confusion(self, step: int, names: Sequence[str]) -> ConfusionMatrix:
        """At the `step`th threshold: what reaches it keeps its name, the rest is background."""
        matrix = ConfusionMatrix(names)
        matrix.counts = self.counts[step + 1 :].sum(axis=0)
        matrix.counts[:, self.background] += self.counts[: step + 1].sum(axis=(0, 2))
        return matrix
