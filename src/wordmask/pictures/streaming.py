"""Pictures read ahead in threads, a few at a time and no more than memory allows."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from numbers import Integral

import numpy as np
from PIL import Image

from wordmask.errors import WordmaskError
from wordmask.pictures.image_files import ImageReadError, name_of, warn_left_out
from wordmask.pictures.images import ImageSource, is_one_picture, read_image

READERS = 4
"""Threads that decode; Pillow works outside Python's lock, so they run beside the network."""
MOST_BYTES = 512 * 1024 * 1024
"""What the pictures that wait may take, and what makes a batch full: some fifteen photographs of 12 megapixels."""


@dataclass(frozen=True)
class Read:
    image: np.ndarray  # (H, W, 3) uint8
    source: str


def many_pictures(
    images: Iterable[ImageSource], batch_size: int, *, taker: str, of_one: str, error: type[WordmaskError]
) -> Iterator[ImageSource]:
    """Check the arguments of a method that streams when it is called, and not when its first result is asked for.

    taker: the method's name. of_one: its sister for a single picture. error: what is raised.
    """
    kind = type(images).__name__
    if is_one_picture(images):
        raise error(
            f"{taker} takes many pictures, not one {kind}; for one use {of_one}; for a folder give "
            "wordmask.pictures.image_files.find_images(folder)"
        )
    try:
        stream = iter(images)
    except TypeError as cause:
        raise error(f"{taker} takes many pictures, not {kind}") from cause
    if not isinstance(batch_size, Integral) or batch_size < 1:
        raise error(f"batch_size must be a whole number, 1 or more, not {batch_size!r}")
    return stream


def read_ahead(
    sources: Iterable[ImageSource],
    batch_size: int,
    *,
    on_bad: Callable[[ImageReadError], None] | None = None,
    max_pixels: int | None = None,
) -> Iterator[list[Read]]:
    """Batches in the order of `sources`, while the next ones are being read.

    At most two batches wait, and decoded no more of them than `MOST_BYTES` and the next picture, however large it is. A
    batch ends early with the picture that brings it to `MOST_BYTES`. An error of the iterator's, or one that `on_bad`
    raises, ends the stream, but only after a last batch of what was read before it.

    Files and bytes are decoded in threads. PIL images and arrays are read in the caller's own as they come, for
    whoever hands them out may change them afterwards (the frames of an animation are one object, and so may be those
    of a camera), and Pillow cannot decode one image in two threads at once.
    """
    with closing(_read_in_order(iter(sources), 2 * batch_size, min(READERS, batch_size), max_pixels)) as reads:
        yield from _batches(reads, batch_size, on_bad or warn_left_out)


def _batches(
    reads: Iterable[Read | ImageReadError], batch_size: int, on_bad: Callable[[ImageReadError], None]
) -> Iterator[list[Read]]:
    batch: list[Read] = []
    try:
        for read in reads:
            if isinstance(read, ImageReadError):
                on_bad(read)
                continue
            batch.append(read)
            if len(batch) == batch_size or sum(own.image.nbytes for own in batch) >= MOST_BYTES:
                yield batch
                batch = []
    except Exception:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


def _read_in_order(
    sources: Iterator[ImageSource], most_waiting: int, threads: int, max_pixels: int | None
) -> Generator[Read | ImageReadError, None, None]:
    room = _Room(MOST_BYTES)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="wordmask-read")
    waiting: deque[Future[Read | ImageReadError]] = deque()
    failure: Exception | None = None
    place = 0
    try:
        more = True
        while more or waiting:
            while more and len(waiting) < most_waiting and not (waiting and room.is_full):
                try:
                    source = next(sources)
                except StopIteration:
                    more = False
                except Exception as error:  # the user's own, which must not cost the pictures before it
                    more, failure = False, error
                else:
                    waiting.append(_start(source, place, room, pool, max_pixels))
                    place += 1
            if waiting:
                read = waiting.popleft().result()
                room.leave()
                yield read
                del read
        if failure is not None:
            raise failure
    finally:
        room.close()
        pool.shutdown(wait=True, cancel_futures=True)


def _start(
    source: ImageSource, place: int, room: "_Room", pool: ThreadPoolExecutor, max_pixels: int | None
) -> Future[Read | ImageReadError]:
    if not isinstance(source, Image.Image | np.ndarray):
        return pool.submit(_read, source, max_pixels, partial(room.enter, place))
    done: Future[Read | ImageReadError] = Future()
    done.set_result(_read(source, max_pixels, partial(room.squeeze_in, place)))
    return done


def _read(source: ImageSource, max_pixels: int | None, reserve: Callable[[int], None]) -> Read | ImageReadError:
    try:
        return Read(read_image(source, max_pixels=max_pixels, reserve=reserve), name_of(source))
    except ImageReadError as error:
        return error
    except OSError as error:
        return ImageReadError(name_of(source), f"cannot be read ({error.strerror or error})")


class _Room:
    """The memory for pictures between their decoding and their turn. Places are numbered in the stream's order."""

    def __init__(self, size: int):
        self._size = size
        self._held: dict[int, int] = {}  # place -> bytes
        self._next = 0  # the place whose turn it is
        self._closed = False
        self._changed = threading.Condition()

    def enter(self, place: int, amount: int) -> None:
        """Wait until there is room, or until it is this picture's turn: everybody waits for it then."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or place == self._next or self._taken + amount <= self._size)
            if self._closed:
                raise CancelledError
            self._held[place] = amount

    def squeeze_in(self, place: int, amount: int) -> None:
        """For the thread that makes room, and so cannot wait for it."""
        with self._changed:
            self._held[place] = amount

    def leave(self) -> None:
        """Let the picture go whose turn it is; where it could not be read, it may have held nothing."""
        with self._changed:
            self._held.pop(self._next, None)
            self._next += 1
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def is_full(self) -> bool:
        with self._changed:
            return self._taken >= self._size

    @property
    def _taken(self) -> int:
        return sum(self._held.values())
