"""`wordmask segment --compare`: several methods' segmentations of every picture on one sheet."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from wordmask import segmenters
from wordmask.cli.batch_job import BatchJob, SegmentError, tell_of_room
from wordmask.cli.places import Places, format_of
from wordmask.console import show
from wordmask.masks.comparison import Drawn, draw_cell, draw_sheet, shrunk
from wordmask.masks.overlay import save_drawn
from wordmask.masks.palette import colours_of
from wordmask.names.vocabulary import Vocabulary
from wordmask.pictures.streaming import Read, read_ahead
from wordmask.runs.marks import COMPARISON, Made, Source
from wordmask.segmenters.base import Segmenter

FORMATS = ("jpg", "png")
SUFFIXES = (".jpg", ".png")


def places_of_sheets(
    pictures: list[Path], out: Path, format: str | None, *, roots: Mapping[Path, Path] | None = None
) -> Places:
    suffix = format_of(out, format, FORMATS, SUFFIXES)
    return Places(pictures, out, suffix, verb="segment", kind=COMPARISON, file_suffixes=SUFFIXES, roots=roots)


def compare_methods(
    job: BatchJob,
    loads: Mapping[str, Mapping[str, Any]],
    vocabulary: Vocabulary,
    asked: Mapping[str, Any],
    reading: Mapping[str, Any],
    *,
    as_json: bool,
) -> None:
    """Draw a sheet of every picture.

    loads: for every title on the sheet, the arguments of `wordmask.load`. asked: what all methods are asked besides the
    names. reading: how pictures are read.
    """
    job.need_some()
    methods = {title: segmenters.load(**load) for title, load in loads.items()}
    tell_of_room(vocabulary)
    with job.progress("comparing"):
        stream = read_ahead(job.pictures(), on_bad=job.leave_out, **reading)
        for batch in stream:
            for read, drawings, pixels in _by_all(methods, batch, vocabulary, asked):
                target = job.places.target(Path(read.source))
                if job.write(read.source, target, partial(_save, read, drawings, vocabulary, target)):
                    row = {"image": read.source, "names": list(vocabulary.names), "methods": pixels, "out": str(target)}
                    show(json.dumps(row) if as_json else target)
    job.finish()


def _by_all(
    methods: dict[str, Segmenter], batch: list[Read], vocabulary: Vocabulary, asked: Mapping[str, Any]
) -> list[tuple[Read, list[Drawn], dict[str, dict[str, int]]]]:
    """Return what the methods make of each picture: drawings, and each name's pixels. Only drawings are kept of a
    batch.
    """
    made: list[tuple[Read, list[Drawn], dict[str, dict[str, int]]]] = [(read, [], {}) for read in batch]
    pictures = [read.image for read in batch]
    for title, method in methods.items():
        results = method.segment_many(pictures, vocabulary, **asked, batch_size=len(pictures))
        for (_, drawings, pixels), result in zip(made, results, strict=True):
            drawings.append(draw_cell(title, result))
            pixels[title] = result.pixels
    return made


def _save(read: Read, drawings: list[Drawn], vocabulary: Vocabulary, target: Path, of: Source) -> None:
    names = list(vocabulary.names)
    save_drawn(
        target,
        lambda: draw_sheet(shrunk(read.image), drawings, names, colours_of(names)),
        SegmentError,
        Made(COMPARISON, of),
    )
