"""What a film's process does: decode the frames that are asked for, one at a time, within what `FilmLimits` allows.

ffmpeg is large, and films come from anywhere: so it runs in a process of bounded memory and time, which opens no
address and no file but the one that it is given.
"""

import sys
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import IO, Any

import numpy as np

from wordmask.pictures.decoding_worker import begin, limit_memory, limit_processor, receive, send, send_pixels

PROBED_BYTES, PROBED_MICROSECONDS = 5_000_000, 5_000_000
"""What ffmpeg may read to find out what a file is: its own defaults, stated because a limit is meant."""
ALIVE_SECONDS = 1.0
"""Between two signs of life while frames are decoded that nobody asked for."""
USUAL_RATE = Fraction(25)
"""Frames a second, where a film does not say."""


class FilmError(Exception):
    """A film that is not read: why."""


def main(memory_bytes: int) -> None:
    questions, answers = begin()
    import av

    av.logging.set_level(av.logging.PANIC)
    limit_memory(memory_bytes)
    try:
        asked = receive(questions)
        answer(questions, answers, asked)
    except (EOFError, BrokenPipeError):
        return


def answer(questions: IO[bytes], answers: IO[bytes], asked: dict[str, Any]) -> None:
    """Tell what the film is, and then, each time that it is asked, the next frame."""
    import av

    try:
        limit_processor(asked["seconds"])
        with opened(asked) as container:
            stream = container.streams.video[0]
            send(answers, {"about": about(container, stream)})
            every = None if asked["every"] is None else Fraction(asked["every"])
            frames = chosen(frames_of(container, stream, asked), every, Alive(answers).tell)
            while receive(questions)["next"]:
                limit_processor(asked["seconds"])
                found = next(frames, None)
                limit_processor(0)
                if found is None:
                    send(answers, {"end": True})
                    return
                _send_frame(answers, *found)
    except FilmError as error:
        send(answers, {"error": str(error)})
    except MemoryError:
        send(answers, {"error": "needs more memory than a film may take"})
    except (av.FFmpegError, ValueError, LookupError, OSError, AttributeError) as error:
        send(answers, {"error": f"is damaged, or no film ({type(error).__name__})"})


def opened(asked: dict[str, Any]) -> Any:
    """Open a film's container: one file of the kinds that are allowed, checked before a frame is decoded."""
    import av

    options = {
        "format_whitelist": ",".join(asked["formats"]),
        "codec_whitelist": ",".join(asked["codecs"]),
        "protocol_whitelist": "file",
        "probesize": str(PROBED_BYTES),
        "analyzeduration": str(PROBED_MICROSECONDS),
    }
    container = av.open(f"file:{asked['path']}", options=options)
    if not container.streams.video:
        container.close()
        raise FilmError("holds no pictures")
    stream = container.streams.video[0]
    stream.thread_type, stream.codec_context.thread_count = "NONE", 1
    length = seconds_of(container, stream)
    codec, (height, width) = stream.codec_context.name, (stream.codec_context.height, stream.codec_context.width)
    why = None
    if codec not in asked["codecs"]:
        why = f"is coded in {codec}; {', '.join(asked['codecs'])} are read"
    elif height * width > asked["pixels"]:
        why = f"has frames of {width} x {height} pixels, above the limit of {asked['pixels']}"
    elif length is not None and length > asked["length"]:
        why = f"is {float(length):.0f} seconds long, above the limit of {asked['length']:g}"
    if why is not None:
        container.close()
        raise FilmError(why)
    return container


def about(container: Any, stream: Any) -> dict[str, Any]:
    length = seconds_of(container, stream)
    rate = stream.average_rate or stream.guessed_rate
    return {
        "size": [stream.codec_context.height, stream.codec_context.width],
        "seconds": None if length is None else float(length),
        "rate": None if not rate else str(rate),
        "codec": stream.codec_context.name,
    }


def seconds_of(container: Any, stream: Any) -> Fraction | None:
    if stream.duration is not None and stream.time_base is not None:
        return Fraction(stream.duration * stream.time_base)
    return None if container.duration is None else Fraction(container.duration, 1_000_000)


def frames_of(container: Any, stream: Any, asked: dict[str, Any]) -> Iterator[tuple[Fraction, Any]]:
    """Every frame with its time, which begins with 0; what a file claimed of its length need not be true."""
    first = None
    for number, frame in enumerate(container.decode(stream)):
        limit_processor(asked["seconds"])
        if number >= asked["frames"]:
            raise FilmError(f"has more than {asked['frames']} frames")
        if frame.width * frame.height > asked["pixels"]:
            raise FilmError(f"has a frame of {frame.width} x {frame.height} pixels, above the limit")
        at = number / USUAL_RATE if frame.pts is None else frame.pts * frame.time_base
        first = at if first is None else first
        if at - first > asked["length"]:
            raise FilmError(f"is longer than {asked['length']:g} seconds")
        yield at - first, frame


class Alive:
    """Says now and then that frames are decoded that nobody asked for."""

    def __init__(self, answers: IO[bytes]):
        self._answers, self._told = answers, time.monotonic()

    def tell(self) -> None:
        if time.monotonic() - self._told > ALIVE_SECONDS:
            send(self._answers, {"alive": True})
            self._told = time.monotonic()


def chosen(
    frames: Iterator[tuple[Fraction, Any]], every: Fraction | None, on_passed: Callable[[], None] = lambda: None
) -> Iterator[tuple[Fraction, Any]]:
    """Return the first frame of each stretch of `every` seconds; all of them where it is None.

    on_passed: called for each frame that is not one of those.
    """
    due = Fraction(0)
    for at, frame in frames:
        if every is None:
            yield at, frame
        elif at >= due:
            yield at, frame
            due = (at // every + 1) * every
        else:
            on_passed()


def upright(image: np.ndarray, rotation: int) -> np.ndarray:
    """Return a frame as a player shows it; rotation: degrees counter-clockwise, as cameras say it."""
    return np.ascontiguousarray(np.rot90(image, k=round(rotation / 90) % 4))


def _send_frame(answers: IO[bytes], at: Fraction, frame: Any) -> None:
    image = upright(frame.to_ndarray(format="rgb24"), int(getattr(frame, "rotation", 0) or 0))
    send(answers, {"shape": image.shape, "time": str(at)})
    send_pixels(answers, image)


if __name__ == "__main__":
    main(int(sys.argv[1]))
