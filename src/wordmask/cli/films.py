"""Films on the command line: masks back as a film, and frames as a folder of pictures that `label` goes through."""

import io
import json
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import typer
from PIL import Image

from wordmask import segmenters
from wordmask.cli.batch_job import tell_of_room
from wordmask.console import complain, show
from wordmask.console.progress import progress_bar
from wordmask.extras import need
from wordmask.files import atomic_write
from wordmask.fingerprints import stamp_of
from wordmask.masks.segmentation import PALETTE_SIZE, Segmentation
from wordmask.names.vocabulary import Vocabulary
from wordmask.pictures.films import Film, FilmError, Frame, is_film, read_film, seconds_between
from wordmask.pictures.films_writing import EXACT, SUFFIXES, film_at
from wordmask.text_files import counted, read_json

RECORD = "film.json"
FRAMES = "-frames"
EVERY = "1s"
"""Of `label`: neighbouring frames teach little that is new."""
JPEG_QUALITY = 95


def only_film(given: list[Path], every: str | None) -> Path | None:
    """Return the film, if that is all that was given; one among pictures is left out, as in a folder.

    every: --every, which is for films.
    """
    film = given[0] if len(given) == 1 and is_film(given[0]) and given[0].is_file() else None
    if film is not None:
        need("av")  # before weights are looked for
    elif every is not None:
        raise typer.BadParameter("--every is for a film, one at a time")
    return film


def segment_film(
    film: Path,
    out: Path,
    load: dict[str, Any],
    vocabulary: Vocabulary | None,
    asked: dict[str, Any],
    *,
    every: str | None,
    batch_size: int,
    max_pixels: int | None,
    as_json: bool,
) -> None:
    """Write a film's masks as a film: drawn over its frames as .mp4, the labels themselves as .mkv."""
    _check_out(film, out, vocabulary)
    step = None if every is None else seconds_between(every)
    with read_film(film, every=step, max_pixels=max_pixels) as (told, frames):
        segmenter = segmenters.load(**load)
        names: Any = vocabulary or segmenter.vocabulary  # type: ignore[attr-defined]
        tell_of_room(names)
        times: deque[Fraction] = deque()
        done = 0
        rate = told.rate if step is None else 1 / step
        with (
            progress_bar(f"segmenting in {segmenter.precision}", _count(told, step)) as report,
            film_at(out, rate, title=f"wordmask: {', '.join(names.names)}") as writer,
        ):
            stream = _images(frames, times)
            for result in segmenter.segment_many(stream, names, batch_size=batch_size, max_pixels=max_pixels, **asked):
                writer.write(_drawn(result, out), times.popleft())
                done += 1
                report(done, _count(told, step))
            if not done:
                raise FilmError(f"{film}: holds no frames")
    if as_json:
        show(json.dumps({"film": str(film), "frames": done, "names": list(names.names), "out": str(out)}))
    else:
        show(out)


def frames_of_film(film: Path, out: Path, *, every: str | None, max_pixels: int | None) -> Path:
    """Write frames of a film as pictures beside `out`, and return their folder. What is there already stays, so that a
    run that was stopped goes on.
    """
    step = seconds_between(every or EVERY)
    folder = out.with_name(out.name + FRAMES)
    asked = {"film": film.name, "stamp": stamp_of(film.stat()), "every": str(step)}
    if _is_complete(folder, asked):
        return folder
    with read_film(film, every=step, max_pixels=max_pixels) as (told, frames):
        _keep(folder, asked, complete=False)
        total = _count(told, step)
        with progress_bar("reading frames", total) as report:
            done = 0
            for done, frame in enumerate(frames, start=1):
                _write_frame(folder / f"{film.stem}-{_clock(frame.time)}.jpg", frame.image)
                report(done, total)
        if not done:
            raise FilmError(f"{film}: holds no frames")
    _keep(folder, asked, complete=True)
    complain(f"note: {counted(done, 'frame')} of {film} in {folder}")
    return folder


def _check_out(film: Path, out: Path, vocabulary: Vocabulary | None) -> None:
    if out.suffix.lower() not in SUFFIXES:
        raise FilmError(
            f"--out {out}: masks of a film are written as a film, .mp4 (drawn over it) or .mkv (the labels); for "
            "pictures of its frames use `wordmask label`"
        )
    if out.exists():
        raise FilmError(f"--out {out} is there already: delete it, or choose another")
    if out.suffix.lower() == EXACT and vocabulary is not None and len(vocabulary) > PALETTE_SIZE:
        raise FilmError(f"--out {out}: {len(vocabulary)} names, and a film's grey tells {PALETTE_SIZE} apart")


def _images(frames: Iterator[Frame], times: "deque[Fraction]") -> Iterator[np.ndarray]:
    for frame in frames:
        times.append(frame.time)
        yield frame.image


def _drawn(result: Segmentation, out: Path) -> np.ndarray:
    """Without a legend, whose height hangs on what is there, and a film's frames are all of one size."""
    if out.suffix.lower() == EXACT:
        return result.labels.astype(np.uint8)
    return np.asarray(result.overlay(legend=False))


def _count(film: Film, step: Fraction | None) -> int | None:
    rate = film.rate if step is None else 1 / step
    return None if film.seconds is None or rate is None else max(1, round(film.seconds * float(rate)))


def _clock(time: Fraction) -> str:
    """Hours, minutes, seconds and thousandths, so that names sort as the film goes."""
    thousandths = round(1000 * time)
    seconds, thousandths = divmod(thousandths, 1000)
    return f"{seconds // 3600:02}-{seconds // 60 % 60:02}-{seconds % 60:02}.{thousandths:03}"


def _write_frame(path: Path, image: np.ndarray) -> None:
    if path.exists():
        return
    Image.fromarray(image).save(buffer := io.BytesIO(), "JPEG", quality=JPEG_QUALITY)
    with atomic_write(path) as file:
        file.write(buffer.getvalue())


def _is_complete(folder: Path, asked: dict[str, Any]) -> bool:
    """Return whether all frames are there; refuse a folder that holds something else."""
    record = folder / RECORD
    if not record.is_file():
        if folder.exists() and any(folder.iterdir()):
            raise FilmError(f"{folder} holds other things, and frames would come there: choose another --out")
        return False
    told = read_json(record)
    if not isinstance(told, dict) or {key: told.get(key) for key in asked} != asked:
        raise FilmError(f"{folder} holds frames of another film, or every other time: choose another --out")
    return told.get("complete") is True


def _keep(folder: Path, asked: dict[str, Any], *, complete: bool) -> None:
    with atomic_write(folder / RECORD) as file:
        file.write(json.dumps({**asked, "complete": complete}).encode() + b"\n")
