"""Foreground without names: what each method finds in held-out pictures of the world with one thing in them.

The masks that need no training stand above the networks that learnt from them.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from wordmask.benchmarks.datasets import Sample
from wordmask.benchmarks.tables.base import Row, Table
from wordmask.benchmarks.tables.run import Run
from wordmask.saliency.figures import SaliencyFigures

COLUMNS = ("iou", "max_f", "mae")
Maps = Callable[[list[np.ndarray]], list[np.ndarray]]
"""Pictures (H, W, 3) uint8 -> maps (H, W) float32 in [0, 1]."""


def measure(run: Run, column: str, *, method: str, **settings: Any) -> dict[str, float]:
    return figures_of(run.saliency(method, "world", **settings).maps, run)


def measure_middle(run: Run, column: str) -> dict[str, float]:
    return figures_of(lambda images: [middle(image) for image in images], run)


def middle(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) -> (H, W): the rectangle of half the height and half the width in the middle."""
    height, width = image.shape[:2]
    soft = np.zeros((height, width), dtype=np.float32)
    soft[height // 4 : height - height // 4, width // 4 : width - width // 4] = 1
    return soft


def figures_of(maps: Maps, run: Run) -> dict[str, float]:
    """All columns from one pass, in percent: things are foreground, all else is not."""
    benchmark = run.open("world", "single")
    figures, done = SaliencyFigures(), 0
    with run.progress(run.describe(benchmark), len(benchmark)) as report:
        for batch in _batches(benchmark, run.batch_size):
            for sample, soft in zip(batch, maps([sample.image for sample in batch]), strict=True):
                figures.add(soft, sample.labels > 0)
            done += len(batch)
            if report is not None:
                report(done, len(benchmark))
    found = figures.figures()
    return {column: 100 * getattr(found, column) for column in COLUMNS}


def row(label: str, method: str, **settings: Any) -> Row:
    return Row(label, measure=partial(measure, method=method, **settings))


def _batches(samples: Iterable[Sample], size: int) -> Iterator[list[Sample]]:
    remaining = iter(samples)
    while batch := list(islice(remaining, size)):
        yield batch


TABLES = {
    "saliency": Table(
        "saliency",
        "Foreground without names, world, pictures of one thing (percent)",
        COLUMNS,
        (
            Row("the middle of the picture", measure=measure_middle),
            row("seed mask, untrained", "seed"),
            row("voted spectral mask, untrained", "spectral"),
            row("FOUND", "found"),
            row("FOUND + solver", "found", refine="found"),
            row("SelfMask", "selfmask"),
            row("SelfMask + solver", "selfmask", refine="solver"),
        ),
        notes=(
            "IoU: of the map above one half, averaged over pictures. max F: the largest F-measure (beta squared 0.3) "
            "at any one threshold. MAE: the mean absolute error of the map; lower is better.",
        ),
        headings={"iou": "IoU", "max_f": "max F", "mae": "MAE"},
    )
}
