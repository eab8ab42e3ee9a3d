"""Foreground without names: what each method finds in held-out pictures of the world with one thing in them.

The masks that need no training stand above the networks that learnt from them.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from wordmask.benchmarks.saliency import evaluate_saliency
from wordmask.benchmarks.tables.base import Row, Table
from wordmask.benchmarks.tables.run import Run
from wordmask.saliency.base import Saliency, SaliencySettings

COLUMNS = ("iou", "max_f", "mae", "s_measure")


class Middle(Saliency):
    """What no method should fail to beat: half the height and half the width, in the middle of every picture."""

    method, preset = "middle", "none"
    settings = SaliencySettings()

    def raw_maps(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        maps = []
        for image in images:
            height, width = image.shape[:2]
            soft = np.zeros((height, width), dtype=np.float32)
            soft[height // 4 : height - height // 4, width // 4 : width - width // 4] = 1
            maps.append(soft)
        return maps


def measure(run: Run, column: str, *, method: str, **settings: Any) -> dict[str, float]:
    return figures_of(run.saliency(method, "world", **settings), run)


def measure_middle(run: Run, column: str) -> dict[str, float]:
    return figures_of(Middle(), run)


def figures_of(method: Saliency, run: Run) -> dict[str, float]:
    """All columns from one pass: things are foreground, all else is not."""
    benchmark = run.open("world", "single")
    with run.progress(run.describe(benchmark), len(benchmark)) as report:
        found = evaluate_saliency(
            method, benchmark, batch_size=run.batch_size, out=run.cell_folder / "maps", on_progress=report
        )
    return {column: getattr(found, column) for column in COLUMNS}


def row(label: str, method: str, **settings: Any) -> Row:
    return Row(label, measure=partial(measure, method=method, **settings))


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
            "at any one threshold. MAE: the mean absolute error of the map; lower is better. S: the S-measure.",
        ),
        headings={"iou": "IoU", "max_f": "max F", "mae": "MAE", "s_measure": "S"},
    )
}
