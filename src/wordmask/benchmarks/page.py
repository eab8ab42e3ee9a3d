"""An evaluation for people: its figures, and the pictures that went worst and best."""

import heapq
from collections.abc import Sequence

import numpy as np
from PIL import Image

from wordmask.benchmarks.datasets import Benchmark, Sample
from wordmask.benchmarks.results import PAGE, ResultFolder
from wordmask.benchmarks.scores import Report
from wordmask.html_page import Page
from wordmask.masks.overlay import draw_overlay
from wordmask.masks.palette import colours_of
from wordmask.segmenters.base import Segmenter
from wordmask.text_files import counted

SHOWN = 6
"""Pictures of either kind."""
HIGHEST = 260
"""Pixels that each is shown at; a page of photographs at their own size would be no page."""
GAP = 8
UNCOUNTED = "does not count"


def write_page(folder: ResultFolder, report: Report, segmenter: Segmenter, benchmark: Benchmark) -> None:
    """Segment the chosen pictures anew, as only counts were kept of them."""
    page = Page(f"{report.method} on {report.benchmark}, {report.split}")
    page.text(f"Preset {report.preset}; {counted(report.images, 'picture')}; {report.seconds:.0f} s of segmenting.")
    if report.note is not None:
        page.text(f"{report.note[:1].upper()}{report.note[1:]}.")
    rows: list[list[object]] = [["mIoU", report.miou], ["pixel accuracy", report.pixel_accuracy]]
    page.table(["percent", ""], [*rows, *([name, value] for name, value in report.more.items())])
    for title, indices in zip(("Worst", "Best"), extremes(folder), strict=True):
        page.heading(f"{title} pictures")
        page.text("The picture, what is there, what was answered.")
        for index, score in indices:
            sample = benchmark[index]
            caption = f"{sample.key}: mIoU {score:.1f}"
            page.picture(side_by_side(sample, segmenter, benchmark), caption)
    page.heading("Every name")
    known = sorted(((iou, name) for name, iou in report.per_class.items() if iou is not None), reverse=True)
    page.table(["", "IoU"], [[name, iou] for iou, name in known])
    page.save(folder.path / PAGE)


def extremes(folder: ResultFolder) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
    """(index, mIoU) of the worst pictures, the worst first, and of the best, the best first; none is in both."""
    scored = [(row["miou"], row["index"]) for row in folder.rows() if row["miou"] is not None]
    shown = min(SHOWN, len(scored) // 2)
    worst, best = heapq.nsmallest(shown, scored), heapq.nlargest(shown, scored)
    return [(index, score) for score, index in worst], [(index, score) for score, index in best]


def side_by_side(sample: Sample, segmenter: Segmenter, benchmark: Benchmark) -> Image.Image:
    answer = segmenter.see([sample.image], [sample.key])[0].segment(benchmark.vocabulary, fill=True).labels
    names = [*benchmark.vocabulary.names, UNCOUNTED]
    truth = np.where(sample.labels == benchmark.ignore, len(names) - 1, sample.labels)
    background = benchmark.vocabulary.background
    hidden = [len(names) - 1, *([] if background is None else [background])]
    colours = colours_of(names)
    drawn = [Image.fromarray(sample.image)]
    drawn += [draw_overlay(sample.image, labels, names, colours, hidden=hidden) for labels in (truth, answer)]
    return _in_a_row([_lower(picture, sample.image.shape[0]) for picture in drawn])


def _lower(picture: Image.Image, height: int) -> Image.Image:
    """Legends hang below: all are scaled by the height of the picture itself."""
    scale = HIGHEST / height
    return picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))


def _in_a_row(pictures: Sequence[Image.Image]) -> Image.Image:
    width = sum(picture.width for picture in pictures) + GAP * (len(pictures) - 1)
    row = Image.new("RGB", (width, max(picture.height for picture in pictures)), "white")
    left = 0
    for picture in pictures:
        row.paste(picture, (left, 0))
        left += picture.width + GAP
    return row
