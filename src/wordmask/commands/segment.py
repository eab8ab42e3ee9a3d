"""`wordmask segment`: pictures and folders in, masks and overlays out."""

import errno
import json
from pathlib import Path
from typing import Any

import typer

from wordmask import segmenters
from wordmask.cli.batch_job import Errand, SegmentError, tell_of_room
from wordmask.cli.places import FILE_SUFFIXES, Places
from wordmask.console import complain, show
from wordmask.errors import WordmaskError
from wordmask.files import is_special
from wordmask.masks.segmentation import NAMES_KEY, Segmentation
from wordmask.names.vocabulary import Vocabulary
from wordmask.pictures.image_files import opened
from wordmask.runs.marks import MASKS, source_of

FORMATS = ("png", "json")


def run(
    *,
    images: list[Path],
    vocabulary: Vocabulary | None,
    choosing: dict[str, Any],
    out: Path,
    format: str | None,
    overlay: bool,
    skip_done: bool,
    load: dict[str, Any],
    batch_size: int,
    max_pixels: int | None,
    json_lines: bool,
) -> None:
    suffix = format_of(out, format, FORMATS, FILE_SUFFIXES)
    places = Places(images, out, suffix, verb="segment", kind=MASKS, overlays=overlay)
    segmenter = None
    if vocabulary is None:  # the student's own
        segmenter = segmenters.load(**load)
        vocabulary = segmenter.vocabulary  # type: ignore[attr-defined]
    errand = _Masks(places, vocabulary, skip_done=skip_done)
    segmenter = segmenter or segmenters.load(**load)
    tell_of_room(vocabulary)
    with errand.progress(f"segmenting in {segmenter.precision}"):
        stream = segmenter.segment_many(
            errand.pictures(),
            vocabulary,
            fill=True,  # what room there is to be, the vocabulary has
            **choosing,
            batch_size=batch_size,
            on_bad=errand.leave_out,
            max_pixels=max_pixels,
        )
        for result in stream:
            target = places.target(Path(str(result.source)))
            try:
                places.begin()
                _write(result, target, places.overlay_of(target) if overlay else None)
            except WordmaskError as error:
                errand.leave_out(error, str(result.source))
                continue
            errand.done += 1
            errand.tell_progress()
            if json_lines:
                row = {"image": result.source, "names": result.names, "pixels": result.pixels, "out": str(target)}
                show(json.dumps(row))
            else:
                show(target)
    if skip_done:
        complain(errand.told_of_skipped())
    errand.finish()


class _Masks(Errand):
    """Masks are done if they are of the names that are asked for."""

    def __init__(self, places: Places, vocabulary: Vocabulary, *, skip_done: bool):
        super().__init__(places, skip_done=skip_done)
        self._names = list(vocabulary.names)
        self._of_other_names = 0

    def is_done(self, target: Path) -> bool:
        if not super().is_done(target):
            return False
        is_done = names_in(target) == self._names
        self._of_other_names += not is_done
        return is_done

    def told_of_skipped(self) -> str:
        told = f"skipped: {self.skipped} that were done"
        if self._of_other_names:
            told += f"; {self._of_other_names} had masks of other names, or none that can be read, and were done anew"
        return told


def names_in(path: Path) -> list[str] | None:
    """The names in masks that were saved; None where there are none to be read. A PNG's pixels are not decoded."""
    try:
        if is_special(path):
            return None
        if path.suffix.lower() == ".json":
            names = json.loads(path.read_bytes())["names"]
        else:
            with opened(path, str(path)) as file:
                names = json.loads(file.info[NAMES_KEY])
    except Exception:  # a file from elsewhere may hold anything anywhere
        return None
    return names if isinstance(names, list) else None


def format_of(out: Path, chosen: str | None, formats: tuple[str, ...], suffixes: tuple[str, ...]) -> str:
    """What --format says, or the suffix of --out, which must not disagree."""
    told = out.suffix.lower().lstrip(".") if out.suffix.lower() in suffixes and not out.is_dir() else None
    if chosen is not None and chosen not in formats:
        raise typer.BadParameter(f"--format is {' or '.join(formats)}, not {chosen!r}")
    if told and chosen and told != chosen:
        raise typer.BadParameter(f"--out {out} and --format {chosen} disagree")
    return told or chosen or formats[0]


def _write(result: Segmentation, target: Path, overlay: Path | None) -> None:
    """The overlay first and the masks last, so that a picture with masks is done."""
    of = source_of(Path(str(result.source)), target)
    try:
        if overlay is not None:
            result.save_overlay(overlay, of=of)
        result.save(target, of=of)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise SegmentError(f"{result.source}: its name is too long to add to ({target.name}); rename it") from error
