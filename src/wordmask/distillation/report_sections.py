"""What the pages of runs have in common, whatever their students have learnt from."""

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from wordmask.collection.references import ImageRef
from wordmask.console.progress import Progress
from wordmask.distillation.charts import Curve, chart
from wordmask.distillation.config import Run
from wordmask.distillation.report_page import RunPage, small
from wordmask.distillation.targets import TargetTable
from wordmask.masks.overlay import draw_overlay
from wordmask.masks.palette import Colour
from wordmask.segmenters.namedmask import NamedMask
from wordmask.text_files import counted
from wordmask.training.logs import read_log

GREY = (128, 128, 128)
PER_PART = 100
"""Steps of each part's progress, whatever it counts itself."""


def parts_of(progress: Progress | None, count: int) -> list[Progress]:
    """Return the progress of each of some parts of a page, which are made one after the other."""

    def report(part: int, done: int, total: int | None) -> None:
        if progress and total:
            progress(PER_PART * part + PER_PART * done // total, PER_PART * count)

    return [partial(report, part) for part in range(count)]


class Told:
    """Targets as they are shown: names in their colours, and grey what the student does not learn."""

    def __init__(self, targets: TargetTable, colours: Mapping[str, Colour], *, least: float, share: float):
        self.targets, self.least, self.share = targets, least, share
        self._colours = ((0, 0, 0), *(colours[name] for name in targets.names), GREY)

    @cached_property
    def _places(self) -> dict[ImageRef, int]:
        return {ref: place for place, ref in enumerate(self.targets.images())}

    def drawn(self, ref: ImageRef, image: np.ndarray) -> Image.Image | None:
        place = self._places.get(ref)
        return None if place is None else self.drawn_at(place, image)

    def drawn_at(self, place: int, image: np.ndarray) -> Image.Image | None:
        target = self.targets[place]
        if target.labels.shape != image.shape[:2]:
            return None
        labels = target.labels.astype(np.int32)
        labels[target.ignored(self.least, self.share)] = len(self._colours) - 1
        names = [""] * len(self._colours)
        return small(draw_overlay(image, labels, names, self._colours, hidden=(0,), legend=False))


def answer(image: np.ndarray, student: NamedMask) -> Image.Image:
    return small(student.segment(image, student.vocabulary, fill=True).overlay(legend=False))


def show_curves(page: RunPage, out: Path, run: Run) -> None:
    told = read_log(out / "student")
    page.heading("Learning")
    page.drawing(
        chart([_curve("student", told, "loss")], x_label="steps", y_label="loss"),
        "The student's loss on its own batches.",
    )
    if checked := [line for line in told if line.get("pictures") == "held-out"]:
        curves = [_curve(key, checked, key) for key in ("miou", "pixel_accuracy")]
        page.drawing(chart(curves, x_label="steps", y_label="percent"), "On the validation pictures, as it learns.")
    if run.config.experts is not None and not run.config.teaches_all:
        folders = sorted((out / "experts").glob("*/log.jsonl"))
        curves = [_curve(path.parent.name, read_log(path.parent), "loss") for path in folders]
        page.drawing(chart(curves, x_label="steps", y_label="loss"), f"The losses of {counted(len(curves), 'expert')}.")


def _curve(label: str, lines: Sequence[Mapping[str, Any]], key: str) -> Curve:
    told = [(line["step"], line.get(key)) for line in lines]
    points = [(float(step), float(value)) for step, value in told if isinstance(value, int | float)]
    return Curve(label, [x for x, _ in points], [y for _, y in points])


def show_figures(page: RunPage, run: Run, student: NamedMask, progress: Progress) -> None:
    chosen = run.config.validation
    if chosen is None:
        return
    from wordmask.benchmarks import evaluate

    opening: dict[str, Any] = {"split": chosen.split, "root": chosen.root, "pictures": chosen.pictures}
    report = evaluate(student, chosen.benchmark, **opening, on_progress=progress)
    page.heading("Figures on the validation pictures")
    page.text(f"mIoU {report.miou:.1f}, pixel accuracy {report.pixel_accuracy:.1f} on {chosen.benchmark}.")
    page.table(("name", "IoU"), list(report.per_class.items()))


def spread_over(count: int, most: int) -> np.ndarray:
    """Return up to so many places from the first to the last of some, evenly spread."""
    return np.unique(np.linspace(0, count - 1, most).round().astype(int))


def finished(page: RunPage, out: Path, seconds: Mapping[str, float]) -> Path:
    """Say how long each stage took, and write `out/report/report.html`."""
    page.heading("How long it took")
    page.table(("stage", "minutes"), [(stage, value / 60) for stage, value in seconds.items()])
    path = out / "report" / "report.html"
    page.save(path)
    return path
