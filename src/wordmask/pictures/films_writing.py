"""Frames back as a film: H.264 to look at, or FFV1, which keeps every value."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from wordmask.extras import need
from wordmask.files import temporary_beside, written_as
from wordmask.pictures.films import FilmError
from wordmask.pictures.films_worker import USUAL_RATE

TO_LOOK_AT, EXACT = ".mp4", ".mkv"
SUFFIXES = (TO_LOOK_AT, EXACT)
TIME_BASE = Fraction(1, 90_000)
"""MPEG's clock, of which the usual frame rates are whole parts."""
QUALITY = "20"
"""x264's constant rate factor; 23 is its default, and borders of masks want a little more."""


class FilmWriter:
    """Takes frames one by one, each with its time."""

    def __init__(self, container: Any, stream: Any):
        self._container, self._stream = container, stream
        self._is_begun = False
        self._size = (0, 0)

    def write(self, image: np.ndarray, time: Fraction) -> None:
        """image: (H, W, 3) uint8, or (H, W) uint8 where every value is to be kept; all of one size."""
        import av

        if not self._is_begun:
            self._begin(image)
        if image.shape[:2] != self._size:
            raise FilmError(f"its frames change from {self._size} to {image.shape[:2]} pixels, which no film can hold")
        if image.ndim == 3:  # H.264's colours are for squares of four pixels
            image = np.pad(image, ((0, image.shape[0] % 2), (0, image.shape[1] % 2), (0, 0)), mode="edge")
        kind = "gray" if image.ndim == 2 else "rgb24"
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format=kind)
        frame.pts, frame.time_base = round(time / TIME_BASE), TIME_BASE
        self._container.mux(self._stream.encode(frame))

    def _begin(self, image: np.ndarray) -> None:
        self._size, self._is_begun = image.shape[:2], True
        height, width = self._size
        self._stream.height, self._stream.width = height, width
        if image.ndim == 3:
            self._stream.height, self._stream.width = height + height % 2, width + width % 2

    def finish(self) -> None:
        if self._is_begun:
            self._container.mux(self._stream.encode())


@contextmanager
def film_at(path: str | Path, rate: Fraction | None, *, title: str = "") -> Iterator[FilmWriter]:
    """Open a film for writing under a temporary name; it takes its own when all frames are there.

    rate: frames a second, as players are told; every frame has its own time besides. title: what the file is to say.
    """
    need("av")
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise FilmError(
            f"{path}: films are written as .mp4 (to look at) or .mkv (exact), not {suffix or 'without one'!r}"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        with written_as(path, temporary):
            temporary.touch(exist_ok=False)  # the library's errors come when many frames are done, and name no file
            with _encoding(temporary, suffix, rate, title) as writer:
                yield writer
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _encoding(file: Path, suffix: str, rate: Fraction | None, title: str) -> Iterator[FilmWriter]:
    import av

    options = {"movflags": "+faststart"} if suffix == TO_LOOK_AT else {}
    kind = "mp4" if suffix == TO_LOOK_AT else "matroska"
    with av.open(str(file), "w", format=kind, options=options) as container:
        if title:
            container.metadata["title"] = title
        codec = "libx264" if suffix == TO_LOOK_AT else "ffv1"
        stream = container.add_stream(codec, rate=rate or USUAL_RATE)
        stream.pix_fmt = "yuv420p" if suffix == TO_LOOK_AT else "gray"
        stream.options = {"crf": QUALITY, "preset": "veryfast"} if suffix == TO_LOOK_AT else {}
        stream.codec_context.time_base = TIME_BASE
        writer = FilmWriter(container, stream)
        yield writer
        writer.finish()
