"""A run on one page: what was found for every name, its masks before and after the expert, what the student says."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from wordmask.collection.archive import Archive, Counts, Entry
from wordmask.collection.embedding_folder import EmbeddingFolder, is_embedding_folder
from wordmask.collection.references import ImageRef
from wordmask.compute import Compute
from wordmask.console.progress import Progress
from wordmask.distillation.config import Run
from wordmask.distillation.records import MaskRecord, MaskTable
from wordmask.distillation.report_page import RunPage, small
from wordmask.distillation.report_sections import (
    GREY,
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
from wordmask.masks.overlay import draw_overlay
from wordmask.masks.palette import Colour, colours_of
from wordmask.pictures.image_files import ImageReadError
from wordmask.refinement.clean_up import intersection_over_union
from wordmask.segmenters.namedmask import NamedMask, NamedMaskSettings
from wordmask.text_files import counted

MOST_TILES = 800
"""Pictures of archives on one page, each in up to four versions of some 5 kB."""
LEAST_SHOWN, MOST_SHOWN = 3, 8
MOST_NAMES = 200
UNSEEN = 12


def write_report(
    out: Path,
    run: Run,
    *,
    seconds: Mapping[str, float],
    note: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write `out/report/report.html`. seconds: how long each stage took. note: what is to stand with every table, as
    that a person corrected some of the masks.
    """
    archive = Archive(out / "archive" / "archive.parquet")
    config = run.config
    masks = MaskTable(out / (config.targets_folder if config.teaches_all else "masks"))
    refined = MaskTable(out / "refined") if config.experts is not None and not config.teaches_all else None
    compute = Compute(run.config.device, "fp32")
    student = NamedMask.build(NamedMaskSettings(), compute, weights=out / "student" / STUDENT_FILE)
    reading, measuring, drawing = parts_of(progress, 3)
    stories = []
    for number, name in enumerate(archive.names, start=1):
        stories.append(_story(name, archive, masks, refined))
        reading(number, len(archive.names))
    page = RunPage(f"{counted(len(archive.names), 'name')}, and {'no labels' if note is None else 'some labels'}", note)
    page.text(_summary(run, archive, masks))
    colours = dict(zip(student.vocabulary.names, colours_of(list(student.vocabulary.names)), strict=True))
    page.links({story.name: colours[story.name] for story in stories[:MOST_NAMES]})
    page.heading("Names")
    page.text(
        "“Best” and “last” are CLIP's similarities of the first and the last picture taken. “Look like another” counts "
        "pictures that are more like another of the names. Area is the share of a picture that its mask takes; “kept” "
        "is how much of a mask (IoU, in the mean) its expert has left as it was."
    )
    page.table(*_names_table(stories, refined is not None))
    show_figures(page, run, student, measuring)
    told = None
    if config.has_teacher:
        chosen = config.masks
        targets = TargetTable(out / config.targets_folder)
        told = Told(targets, colours, least=chosen.least_confidence, share=chosen.ignore_share)
    _gallery(page, stories, archive, masks, refined, student, colours, told, drawing)
    _unseen(page, out, run, archive, student)
    show_curves(page, out, run)
    return finished(page, out, seconds)


@dataclass(frozen=True)
class Story:
    """What is told of one name."""

    name: str
    counts: Counts
    entries: Sequence[Entry]
    usable: int
    troubles: dict[str, int]
    area: float | None
    refined_usable: int | None
    refined_area: float | None
    kept: float | None

    @property
    def elsewhere(self) -> Counter[str]:
        """Return which other names the pictures are more like."""
        return Counter(entry.best_name for entry in self.entries if entry.best_name not in (None, self.name))


def _story(name: str, archive: Archive, masks: MaskTable, refined: MaskTable | None) -> Story:
    before = _records(masks, name)
    after = _records(refined, name) if refined is not None else {}
    usable = [record for record in before.values() if record.usable]
    after_usable = [record for record in after.values() if record.usable]
    kept = [
        intersection_over_union(before[key].mask(), record.mask())
        for key, record in after.items()
        if key in before and before[key].usable and record.usable
    ]
    return Story(
        name=name,
        counts=archive.counts[name],
        entries=archive.entries(name),
        usable=len(usable),
        troubles=dict(Counter(record.trouble for record in before.values() if not record.usable)),
        area=_mean([_area(record) for record in usable]),
        refined_usable=len(after_usable) if refined is not None else None,
        refined_area=_mean([_area(record) for record in after_usable]),
        kept=_mean(kept),
    )


def _records(table: MaskTable, name: str) -> dict[ImageRef, MaskRecord]:
    if name not in table.names:  # stuff, which saliency does not look for
        return {}
    return {record.image: record for record in (table[row] for row in table.rows(name, usable=False).tolist())}


def _area(record: MaskRecord) -> float:
    return float(record.mask().mean())


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _summary(run: Run, archive: Archive, masks: MaskTable) -> str:
    pictures = "a published archive"
    if archive.pictures is not None:
        pictures = counted(archive.pictures, "unlabelled picture", style=",")
    usable = sum(len(masks.rows(name)) for name in masks.names)
    config = run.config
    experts = "" if config.experts is None or config.teaches_all else ", redrawn by experts,"
    found = f"what {config.masks.teacher} says of them" if config.teaches_all else "what is salient in them"
    return (
        f"From {pictures} of {run.images}: up to {archive.size} for every name, {len(archive):,} in all. "
        f"{counted(usable, 'mask', style=',')} of {found}{experts} taught one network all the names. Seed "
        f"{run.config.seed}, preset {run.preset}."
    )


def _names_table(stories: Sequence[Story], refined: bool) -> tuple[list[str], list[list[object]]]:
    columns = ["name", "pictures", "best", "last", "look like another", "masks", "area %"]
    columns += ["redrawn", "area %", "kept %"] if refined else []
    rows: list[list[object]] = []
    for story in stories:
        alike = [entry.similarity for entry in story.entries if entry.similarity is not None]
        best, last = (f"{alike[0]:.3f}", f"{alike[-1]:.3f}") if alike else (None, None)
        row: list[object] = [story.name, len(story.entries), best, last, sum(story.elsewhere.values())]
        row += [story.usable, _percent(story.area)]
        row += [story.refined_usable, _percent(story.refined_area), _percent(story.kept)] if refined else []
        rows.append(row)
    return columns, rows


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _gallery(
    page: RunPage,
    stories: Sequence[Story],
    archive: Archive,
    masks: MaskTable,
    refined: MaskTable | None,
    student: NamedMask,
    colours: Mapping[str, Colour],
    told: Told | None,
    progress: Progress,
) -> None:
    shown = max(LEAST_SHOWN, min(MOST_SHOWN, MOST_TILES // len(stories)))
    page.heading("Archives and masks")
    page.text(
        "Pictures from the first of each archive to its last. Grey masks are set aside. The "
        "student's answers are on pictures that it has learnt from; further down are some that it has not."
    )
    if len(stories) > MOST_NAMES:
        page.text(f"The first {MOST_NAMES} of {len(stories)} names.")
    for number, story in enumerate(stories[:MOST_NAMES], start=1):
        page.subheading(story.name, colours[story.name])
        page.facts(_facts(story, archive))
        places = spread_over(len(story.entries), shown).tolist()
        entries = [story.entries[place] for place in places]
        page.tiles(_rows(entries, story.name, archive.root, masks, refined, student, colours, told), _titles(entries))
        progress(number, min(len(stories), MOST_NAMES))


def _facts(story: Story, archive: Archive) -> str:
    counts = story.counts
    of = "" if counts.kept == archive.size else f"{counts.kept} of "
    facts = [f"{of}{counted(archive.size, 'picture')}"]
    facts += [f"{number} left out ({label})" for label, number in counts.dropped.items() if number]
    facts += [f"{counted(number, 'mask')} set aside ({label})" for label, number in story.troubles.items()]
    facts += [
        f"{number} {'looks' if number == 1 else 'look'} more like {name}"
        for name, number in story.elsewhere.most_common(3)
    ]
    return " · ".join(facts)


def _titles(entries: Sequence[Entry]) -> list[str]:
    return [
        f"{entry.image}, number {entry.rank + 1}"
        + (f", similarity {entry.similarity:.3f}" if entry.similarity is not None else "")
        for entry in entries
    ]


def _rows(
    entries: Sequence[Entry],
    name: str,
    root: Path,
    masks: MaskTable,
    refined: MaskTable | None,
    student: NamedMask,
    colours: Mapping[str, Colour],
    told: Told | None,
) -> list[tuple[str, list[Image.Image | None]]]:
    before, after = _records(masks, name), _records(refined, name) if refined is not None else {}
    rows: list[tuple[str, list[Image.Image | None]]] = [("picture", [])]
    rows += [("salient", [])] if told is None or masks.folder != told.targets.folder else []
    rows += [("expert", [])] if refined is not None else []
    rows += [("target", [])] if told is not None else []
    rows += [("student", [])]
    for entry in entries:
        try:
            image = entry.image.open(root)
        except ImageReadError:
            for _, pictures in rows:
                pictures.append(None)
            continue
        drawn = {
            "picture": small(Image.fromarray(image)),
            "salient": _with_mask(image, before.get(entry.image), colours[name]),
            "expert": _with_mask(image, after.get(entry.image), colours[name]),
            "target": None if told is None else told.drawn(entry.image, image),
            "student": answer(image, student),
        }
        for label, pictures in rows:
            pictures.append(drawn[label])
    return rows


def _with_mask(image: np.ndarray, record: MaskRecord | None, colour: Colour) -> Image.Image | None:
    if record is None:
        return None
    shown = colour if record.usable else GREY
    labels = record.mask().astype(np.uint8)
    return small(draw_overlay(image, labels, ("", ""), ((0, 0, 0), shown), hidden=(0,), legend=False))


def _unseen(page: RunPage, out: Path, run: Run, archive: Archive, student: NamedMask) -> None:
    """Show the student on pictures of the collection that are in no archive, evenly spread."""
    folder = run.images if is_embedding_folder(run.images) else out / "embeddings"
    if not is_embedding_folder(folder):
        return
    embeddings = EmbeddingFolder(folder, root=archive.root)
    taken = {entry.row for name in archive.names for entry in archive.entries(name)}
    spread = spread_over(len(embeddings), 4 * UNSEEN).tolist()
    rows = [row for row in spread if row not in taken]
    rows = rows[:: max(1, len(rows) // UNSEEN)][:UNSEEN]
    refs = embeddings.references(embeddings.told(rows)) if rows else []
    pictures, answers, titles = [], [], []
    for ref in refs:
        try:
            image = ref.open(embeddings.root) if ref is not None else None
        except ImageReadError:
            image = None
        if image is not None:
            pictures.append(small(Image.fromarray(image)))
            answers.append(answer(image, student))
            titles.append(str(ref))
    if pictures:
        page.heading("Pictures that it has not learnt from")
        page.tiles([("picture", pictures), ("student", answers)], titles)
