"""Pictures of all clients go through the network together.

One thread runs the networks: it takes what waits, up to a batch of one method, and looks at it at once. What becomes of
each pixel is not its business: with large pictures and many names that takes longer than the network. What waits is
bounded in number, for all and for each client; beyond that a client is told to come back. Clients take turns: the first
picture of one goes before the second of another.
"""

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from wordmask.pictures.reduced import Picture, size_of
from wordmask.segmenters.base import Seen, Segmenter
from wordmask.serving.settings import SECONDS_A_PIXEL, RequestError, ServeSettings, stopping
from wordmask.text_files import counted

NO_PICTURE = np.zeros((0, 0, 3), np.uint8)


@dataclass
class Job:
    """One picture of one client."""

    method: str
    picture: Picture  # until it is answered; what its method's `reduce` gives, or all of it
    deadline: float  # of time.monotonic
    client: str = ""
    answer: "Future[Seen]" = field(default_factory=Future)

    @property
    def pixels(self) -> int:
        return math.prod(size_of(self.picture))

    @property
    def is_wanted(self) -> bool:
        return not self.answer.cancelled() and time.monotonic() < self.deadline


class Batcher:
    def __init__(
        self,
        segmenters: Mapping[str, Segmenter],
        settings: ServeSettings,
        on_batch: Callable[[str, int, float], None] = lambda method, pictures, seconds: None,
    ):
        self._segmenters, self._settings, self._on_batch = segmenters, settings, on_batch
        self._waiting: deque[Job] = deque()
        self._served: dict[str, int] = {}  # of those who wait, in which order they were served last
        self._changed = threading.Condition()
        self._closed = False
        self._seconds_a_picture = 0.1  # a guess until the first batch
        self._thread = threading.Thread(target=self._work, name="wordmask-batches", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> "Future[Seen]":
        with self._changed:
            own = sum(other.client == job.client for other in self._waiting)
            if self._closed:
                raise stopping()
            if len(self._waiting) >= self._settings.waiting or own >= self._settings.of_one(self._settings.waiting):
                raise RequestError(
                    503,
                    "busy",
                    f"{counted(len(self._waiting), 'picture')} waiting already",
                    retry_after=self.retry_after(),
                )
            self._waiting.append(job)
            self._changed.notify_all()
        return job.answer

    def retry_after(self) -> int:
        """Seconds until what waits now should be done."""
        return max(1, math.ceil((len(self._waiting) + 1) * self._seconds_a_picture))

    @property
    def is_up(self) -> bool:
        return self._thread.is_alive() and not self._closed

    @property
    def length(self) -> int:
        return len(self._waiting)

    def close(self, seconds: float | None = None) -> None:
        """Refuse what waits, and stop when what is being worked on is answered, `seconds` from now at the latest."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            waiting, self._waiting = self._waiting, deque()
        for job in waiting:
            _fail(job, stopping())
        self._thread.join(seconds)

    def _work(self) -> None:
        while batch := self._next_batch():
            start = time.perf_counter()
            self._answer(batch)
            seconds = time.perf_counter() - start
            self._seconds_a_picture += 0.2 * (seconds / len(batch) - self._seconds_a_picture)
            self._on_batch(batch[0].method, len(batch), seconds)

    def _next_batch(self) -> list[Job]:
        """Jobs of one method, those that waited longest first; none when there will be no more."""
        size = self._settings.batch_size
        with self._changed:
            while not self._closed:
                self._changed.wait_for(lambda: self._closed or bool(self._waiting))
                if len(self._waiting) < size and not self._closed:
                    self._changed.wait_for(
                        lambda: self._closed or len(self._waiting) >= size, timeout=self._settings.batch_wait
                    )
                batch: list[Job] = []
                rest: deque[Job] = deque()
                for job in self._by_turns():
                    if not job.is_wanted:
                        _fail(job, RequestError(503, "late", "was not begun in time", retry_after=self.retry_after()))
                    elif len(batch) < size and (not batch or job.method == batch[0].method):
                        batch.append(job)
                    else:
                        rest.append(job)
                self._waiting = rest
                self._served = {job.client: self._served.get(job.client, 0) for job in rest}
                self._served |= {job.client: max(self._served.values(), default=0) + 1 for job in batch}
                if batch:
                    return batch
        return []

    def _by_turns(self) -> list[Job]:
        """Every client's first, then every client's second, and so on; who was served longest ago comes first. Of one
        client the smaller before the larger.
        """
        turns: Counter[str] = Counter()
        ordered = []
        for job in sorted(self._waiting, key=lambda job: job.deadline + SECONDS_A_PIXEL * job.pixels):
            ordered.append(((turns[job.client], self._served.get(job.client, 0)), job))
            turns[job.client] += 1
        return [job for _, job in sorted(ordered, key=lambda own: own[0])]

    def _answer(self, batch: list[Job]) -> None:
        try:
            seen = self._look(batch)
        except Exception as error:
            if len(batch) == 1:
                _fail(batch[0], error)
                return
            # One picture that the network cannot take must not cost the others their answers.
            for job in batch:
                self._answer([job])
            return
        for job, own in zip(batch, seen, strict=True):
            if not job.is_wanted:
                _fail(job, RequestError(503, "late", "was not answered in time", retry_after=self.retry_after()))
                continue
            job.picture = NO_PICTURE
            if job.answer.set_running_or_notify_cancel():
                job.answer.set_result(own)

    def _look(self, batch: list[Job]) -> list[Seen]:
        segmenter = self._segmenters[batch[0].method]
        pictures: list[Any] = [job.picture for job in batch]
        return segmenter.see(pictures, ["<request>"] * len(batch))


def _fail(job: Job, error: Exception) -> None:
    if job.answer.set_running_or_notify_cancel():
        job.answer.set_exception(error)
