"""A run without archives on one page: what its teacher has said of the pictures, and what the student says."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from wordmask.compute import Compute
from wordmask.console.progress import Progress
from wordmask.distillation.config import Run
from wordmask.distillation.records import MaskTable
from wordmask.distillation.report_page import RunPage, small
from wordmask.distillation.report_sections import (
    Told,
    answer,
    finished,
    parts_of,
    show_curves,
    show_figures,
    spread_over,
)
from wordmask.distillation.student import STUDENT_FILE
from wordmask.distillation.targets import TargetTable
from wordmask.masks.palette import colours_of
from wordmask.pictures.image_files import ImageReadError
from wordmask.segmenters.namedmask import NamedMask, NamedMaskSettings
from wordmask.text_files import counted

SHOWN = 24
SAMPLED = 200
"""Masks of a name by which its area and sureness are told."""


def write_taught_report(
    out: Path,
    run: Run,
    *,
    seconds: Mapping[str, float],
    note: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write `out/report/report.html`. seconds: how long each stage took. note: what is to stand with every table."""
    config = run.config
    targets, masks = TargetTable(out / config.targets_folder), MaskTable(out / config.targets_folder)
    compute = Compute(config.device, "fp32")
    student = NamedMask.build(NamedMaskSettings(), compute, weights=out / "student" / STUDENT_FILE)
    names = student.vocabulary.names
    colours = dict(zip(names, colours_of(list(names)), strict=True))
    page = RunPage(f"{counted(len(targets.names), 'name')}, and {'no labels' if note is None else 'some labels'}", note)
    page.text(
        f"{config.masks.teacher} has labelled {counted(len(targets), 'picture', style=',')} of {run.images} with all "
        f"the names at once, and one network has learnt from that. Seed {config.seed}, preset {run.preset}."
    )
    page.links(colours)
    page.heading("Names")
    page.text(
        f"How many pictures show a name, and in up to {SAMPLED} of these, the share of the picture that bears it and "
        "how sure the teacher is of it."
    )
    naming, measuring, drawing = parts_of(progress, 3)
    rows_of_names = []
    for number, name in enumerate(targets.names, start=1):
        rows_of_names.append(_row(name, masks))
        naming(number, len(targets.names))
    page.table(("name", "pictures", "area %", "sure %"), rows_of_names)
    show_figures(page, run, student, measuring)
    page.heading("Pictures")
    page.text("Grey is what the student does not learn. It has learnt from all these pictures.")
    told = Told(targets, colours, least=config.masks.least_confidence, share=config.masks.ignore_share)
    places = spread_over(len(targets), SHOWN).tolist()
    rows: dict[str, list[Image.Image | None]] = {"picture": [], "teacher": [], "student": []}
    titles = []
    for number, place in enumerate(places, start=1):
        ref = targets[place].image
        try:
            image = targets.open_image(ref)
        except ImageReadError:
            continue
        rows["picture"].append(small(Image.fromarray(image)))
        rows["teacher"].append(told.drawn_at(place, image))
        rows["student"].append(answer(image, student))
        titles.append(str(ref))
        drawing(number, len(places))
    if titles:
        page.tiles(list(rows.items()), titles)
    show_curves(page, out, run)
    return finished(page, out, seconds)


def _row(name: str, masks: MaskTable) -> tuple[str, int, float | None, float | None]:
    rows = masks.rows(name)
    spread = rows[spread_over(len(rows), SAMPLED)] if len(rows) else rows
    records = [masks[row] for row in spread.tolist()]
    if not records:
        return name, 0, None, None
    area, sure = (100 * float(np.mean(own)) for own in zip(*((r.mask().mean(), r.score) for r in records), strict=True))
    return name, len(rows), area, sure
