"""Films as streams of frames, decoded in a process of their own, one at a time: memory does not grow with the film."""

import re
import select
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from subprocess import Popen
from typing import IO, Any

import numpy as np

from wordmask.errors import WordmaskError
from wordmask.extras import need
from wordmask.files import is_special
from wordmask.pictures.decoding_process import CLOCK, started
from wordmask.pictures.decoding_worker import receive, receive_into, send
from wordmask.pictures.images import pixel_limit
from wordmask.pictures.left_out import FILMS
from wordmask.text_files import counted, shown

FORMATS = ("mov", "mp4", "m4a", "3gp", "3g2", "mj2", "matroska", "webm", "avi", "mpegts", "mpeg", "ogg")
"""ffmpeg's names of files that hold a film themselves. Those that name other files or addresses (HLS, concat) are not
among them."""
CODECS = ("h264", "hevc", "vp8", "libvpx", "vp9", "libvpx-vp9", "av1", "libdav1d", "mpeg4", "mpeg2video", "mpeg1video",
          "mjpeg", "ffv1", "theora")  # fmt: skip
WORKER = "wordmask.pictures.films_worker"
EVERY = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|min)?")
SECONDS = {"ms": Fraction(1, 1000), "s": Fraction(1), "min": Fraction(60)}


class FilmError(WordmaskError):
    """A film that is not read: names it, and says why."""


@dataclass(frozen=True)
class FilmLimits:
    """bytes: of the file. length: seconds of film. frames: that are decoded, shown or not. pixels: of a frame.

    seconds: of a processor from one frame that is asked for to the next. memory_bytes: beside what the process has
    when idle.
    """

    bytes: int = 16 * 2**30
    length: float = 6 * 3600.0
    frames: int = 2_000_000
    pixels: int = 36_000_000
    seconds: float = 20.0
    memory_bytes: int = 2 * 2**30
    codecs: tuple[str, ...] = CODECS
    formats: tuple[str, ...] = FORMATS


@dataclass(frozen=True)
class Film:
    """size: (H, W) of its frames before they are turned upright. seconds, rate: None where the file does not say."""

    path: Path
    size: tuple[int, int]
    seconds: float | None
    rate: Fraction | None
    codec: str


@dataclass(frozen=True)
class Frame:
    """time: seconds since the first frame."""

    image: np.ndarray  # (H, W, 3) uint8
    time: Fraction


def is_film(path: str | Path) -> bool:
    return Path(path).suffix.lower() in FILMS


def seconds_between(text: str) -> Fraction:
    """Return what "1s", "500ms" or "2min" says; seconds where there is no unit."""
    found = EVERY.fullmatch(text.strip())
    seconds = Fraction(found[1]) * SECONDS[found[2] or "s"] if found else Fraction(0)
    if not seconds:
        raise FilmError(f"every {shown(text)}: write how far frames are to be apart, as 1s, 500ms or 2min")
    return seconds


@contextmanager
def read_film(
    path: str | Path, *, every: Fraction | None = None, limits: FilmLimits | None = None, max_pixels: int | None = None
) -> Iterator[tuple[Film, Iterator[Frame]]]:
    """Return what a film is, and its frames as they are asked for.

    every: seconds; the first frame of each such stretch is given, or every frame. max_pixels: of a frame.
    """
    need("av")
    path, limits = Path(path), limits or FilmLimits()
    if is_special(path) or not path.is_file():
        raise FilmError(f"{path}: is no file")
    if path.stat().st_size > limits.bytes:
        raise FilmError(f"{path}: has {path.stat().st_size} bytes, above the limit of {limits.bytes}")
    asked = asdict(limits) | {"path": str(path.resolve()), "every": None if every is None else str(every)}
    asked["pixels"] = min(limits.pixels, pixel_limit(None)) if max_pixels is None else max_pixels
    with _process(limits.memory_bytes) as process:
        told = _answer(process, asked, path, limits.seconds)["about"]
        rate = None if told["rate"] is None else Fraction(told["rate"])
        yield Film(path, tuple(told["size"]), told["seconds"], rate, told["codec"]), _frames(process, path, limits)


def _frames(process: "Popen[bytes]", path: Path, limits: FilmLimits) -> Iterator[Frame]:
    while "end" not in (told := _answer(process, {"next": True}, path, limits.seconds)):
        yield Frame(told["image"], Fraction(told["time"]))


def _answer(process: "Popen[bytes]", question: dict[str, Any], path: Path, seconds: float) -> dict[str, Any]:
    """Ask the process; it has its time for the answer, and not much more of the clock."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        send(process.stdin, question)
        while "alive" in (told := _received(process.stdout, path, CLOCK * seconds)):
            pass
        if "shape" in told:
            told["image"] = np.empty(told["shape"], np.uint8)
            receive_into(process.stdout, told["image"].data.cast("B"))
    except (EOFError, OSError) as error:
        process.kill()
        raise FilmError(f"{path}: could not be decoded: its decoder ended with {process.wait()}") from error
    if "error" in told:
        raise FilmError(f"{path}: {told['error']}")
    return told


def _received(pipe: IO[bytes], path: Path, seconds: float) -> dict[str, Any]:
    """Return the next message, or give up after so many seconds where the system lets one wait for a pipe so."""
    if hasattr(select, "poll"):
        waiting = select.poll()
        waiting.register(pipe, select.POLLIN)
        if not waiting.poll(1000 * seconds):
            raise FilmError(f"{path}: a frame took longer than {counted(seconds, 'second', style='g')}")
    return receive(pipe)


@contextmanager
def _process(memory_bytes: int) -> "Iterator[Popen[bytes]]":
    with started(memory_bytes, WORKER) as process:
        try:
            yield process
        finally:
            process.kill()
