"""Decoding pictures of strangers in processes of their own, each within a time and a memory.

A decoder that hangs, grows or falls over costs the one picture that it was at. Its process is ended and replaced.
"""

import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from wordmask.errors import WordmaskError
from wordmask.pictures.decoding_process import Decoder
from wordmask.pictures.images import size_with_longer_side
from wordmask.pictures.reduced import Picture
from wordmask.text_files import counted

STOPPING = "the decoders are being stopped"
LATE = "the picture was not decoded in time"

Admit = Callable[[int, int], None]
Reduce = Callable[[np.ndarray], Picture]


class DecodersBusyError(WordmaskError):
    """A picture that was not decoded for want of room or time, and not by any fault of its own."""


class DecodingLateError(DecodersBusyError):
    """A picture that was not decoded by its deadline, as others were before it."""


@dataclass(eq=False)
class _Task:
    content: bytes
    deadline: float  # of time.monotonic
    admit: Admit | None
    side: int | None
    reduce: Reduce | None
    client: Hashable
    result: "Future[Picture]" = field(default_factory=Future)


class DecodingPool:
    """`decoders` processes, started when they are first needed and kept.

    seconds: of a processor a picture may take. memory_bytes: a process may have beside what it has when idle.
    decoded_bytes: of all pictures that are decoded or have been and are still held by somebody; while they take as
    much, the next ones wait, but for one that would have to wait for ever. waiting: pictures that wait, half of them of
    one client at most. gives_way: the processes work when nobody else wants to.
    """

    def __init__(
        self,
        decoders: int = 2,
        *,
        seconds: float,
        memory_bytes: int,
        decoded_bytes: int,
        waiting: int = 32,
        gives_way: bool = False,
    ) -> None:
        self._seconds, self._memory_bytes = seconds, memory_bytes
        self._decoded_bytes, self._most_waiting = decoded_bytes, waiting
        self._changed = threading.Condition()  # can be taken twice by one thread: arrays may be freed anywhere
        self._waiting: list[_Task] = []
        self._running: Counter[Hashable] = Counter()
        self._turns: dict[Hashable, int] = {}  # when a client's last picture was begun, while others of its wait
        self._held_bytes = 0
        self._turn = threading.Lock()
        self._closed = False
        self._processes = [Decoder(memory_bytes, gives_way=gives_way) for _ in range(decoders)]
        self._threads: list[threading.Thread] = []
        self._started: list[Future[None]] = [Future() for _ in self._processes]

    def start(self) -> None:
        """Start the processes and wait until they are ready, so that the first picture need not."""
        self._begin()
        for started in self._started:
            started.result()

    def _begin(self) -> None:
        with self._changed:
            if self._closed or self._threads:
                return
            for decoder, started in zip(self._processes, self._started, strict=True):
                thread = threading.Thread(
                    target=self._work, args=(decoder, started), name="wordmask-decoding", daemon=True
                )
                self._threads.append(thread)
                thread.start()

    def submit(
        self,
        content: bytes,
        *,
        deadline: float,
        admit: Admit | None = None,
        side: int | None = None,
        reduce: Reduce | None = None,
        client: Hashable = None,
    ) -> "Future[Picture]":
        """Decode a picture's file to (H, W, 3) uint8, as `read_image` gives it, some time; see `asyncio.wrap_future`.

        deadline: of time.monotonic; what has not begun by then is not begun. admit: called with the height and width
        before anything is decoded; what it raises is what becomes of the picture. side: the longer side is made as
        short as that, before the pixels travel. reduce: what becomes of the pixels, before the next picture is decoded;
        so of all pictures only as many are whole in memory as there are decoders. client: whose picture it is; those
        who have few at work come first.
        """
        task = _Task(content, deadline, admit, side, reduce, client)
        with self._changed:
            if self._closed:
                raise DecodersBusyError(STOPPING)
            self._drop_late()
            own = sum(other.client == client for other in self._waiting)
            if len(self._waiting) >= self._most_waiting or (client is not None and 2 * own >= self._most_waiting):
                raise DecodersBusyError(f"{counted(len(self._waiting), 'picture')} waiting to be decoded already")
            self._waiting.append(task)
            self._changed.notify_all()
        self._begin()
        return task.result

    @property
    def is_up(self) -> bool:
        """Return whether all its processes have been started, and each has a thread that replaces it when it ends."""
        started = all(own.done() and own.exception() is None for own in self._started)
        return started and not self._closed and all(thread.is_alive() for thread in self._threads)

    @property
    def length(self) -> int:
        """Return how many pictures wait."""
        return len(self._waiting)

    def close(self) -> None:
        """End at once: what waits or is being decoded fails with `DecodersBusyError`."""
        with self._changed:
            self._closed = True
            waiting, self._waiting = self._waiting, []
            self._changed.notify_all()
        for task in waiting:
            _fail(task, DecodersBusyError(STOPPING))
        for decoder in self._processes:
            decoder.end()
        for thread in self._threads:
            thread.join()

    def _work(self, decoder: Decoder, started: "Future[None]") -> None:
        try:
            decoder.start()
            started.set_result(None)
        except OSError as error:  # told by `start`, and to the first picture
            started.set_exception(error)
        while (task := self._next()) is not None:
            try:
                self._answer(decoder, task)
            finally:
                with self._changed:
                    self._running -= Counter([task.client])  # without those that have none
            del task  # or its picture would stay until the next one comes
        decoder.close()

    def _next(self) -> _Task | None:
        """Return the one to be decoded next: of the client with the fewest at work, of those the one served longest
        ago.
        """
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._closed or bool(self._waiting))
                if self._closed:
                    return None
                self._drop_late()
                if not self._waiting:
                    continue
                task = min(
                    self._waiting, key=lambda task: (self._running[task.client], self._turns.get(task.client, 0))
                )
                self._waiting.remove(task)
                turn = max(self._turns.values(), default=0) + 1
                self._turns = {other.client: self._turns.get(other.client, 0) for other in self._waiting}
                self._turns[task.client] = turn
                if task.result.set_running_or_notify_cancel():
                    self._running[task.client] += 1
                    return task

    def _drop_late(self) -> None:
        """Those who need no answer any more keep nobody out."""
        now = time.monotonic()
        for task in [task for task in self._waiting if task.result.cancelled() or now >= task.deadline]:
            self._waiting.remove(task)
            _fail(task, DecodingLateError(LATE))

    def _answer(self, decoder: Decoder, task: _Task) -> None:
        try:
            task.result.set_result(self._decoded(decoder, task))
        except Exception as error:
            task.result.set_exception(DecodersBusyError(STOPPING) if self._closed else error)

    def _decoded(self, decoder: Decoder, task: _Task) -> Picture:
        try:
            decoder.start()
        except OSError as error:
            raise DecodersBusyError(f"no decoder can be started ({error.strerror or error})") from error
        with decoder.within(self._seconds):
            height, width = decoder.size(task.content, task.side, self._seconds)
        try:
            if task.admit is not None:
                task.admit(height, width)
            if task.side is not None:
                height, width = size_with_longer_side(height, width, task.side, only_shrink=True)
            room = self._take_room(3 * height * width, task.deadline)
        except Exception:
            with decoder.within(self._seconds):
                decoder.leave()
            raise
        try:
            with decoder.within(self._seconds):
                picture = decoder.pixels()
        except BaseException:
            self._give_room(room)
            raise
        weakref.finalize(picture, self._give_room, room).atexit = False
        return picture if task.reduce is None else task.reduce(picture)

    def _take_room(self, nbytes: int, deadline: float) -> int:
        with self._turn, self._changed:  # by turns: a large picture is not overtaken by small ones for ever
            has_room = self._changed.wait_for(
                lambda: self._closed or not self._held_bytes or self._held_bytes + nbytes <= self._decoded_bytes,
                timeout=max(0.0, deadline - time.monotonic()),
            )
            if self._closed or not has_room:
                raise DecodingLateError(LATE)
            self._held_bytes += nbytes
        return nbytes

    def _give_room(self, nbytes: int) -> None:
        with self._changed:
            self._held_bytes -= nbytes
            self._changed.notify_all()


def _fail(task: _Task, error: Exception) -> None:
    if task.result.set_running_or_notify_cancel():
        task.result.set_exception(error)
