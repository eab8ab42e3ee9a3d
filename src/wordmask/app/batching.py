"""Pictures of all clients go through the network together.

One thread owns the segmenters: it takes what waits, up to a batch of one method, looks at it at once, and answers each
client's names in turn. What waits is bounded in number and in bytes; beyond that a client is told to come back. What is
answered holds more than the picture did, so the thread goes on only when there is room for it.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

import numpy as np

from wordmask.app.settings import RequestError, ServeSettings
from wordmask.segmentation import Segmentation
from wordmask.segmenters.base import Seen, Segmenter
from wordmask.vocabulary import Vocabulary

Answer = Segmentation | Seen
"""Without names, what was seen is the answer."""
NO_PICTURE = np.zeros((0, 0, 3), np.uint8)
LONGEST_WAIT = 0.5
"""Seconds after which a client who went away is noticed while there is no room for answers."""


@dataclass
class Job:
    """One picture of one client."""

    method: str
    image: np.ndarray  # (H, W, 3) uint8, until it is answered
    vocabulary: Vocabulary | None
    deadline: float  # of time.monotonic
    min_score: float = 0.0
    drop_absent: float = 0.0
    answer: "Future[Answer]" = field(default_factory=Future)
    answer_bytes: int = 0
    is_released: bool = False

    @property
    def is_wanted(self) -> bool:
        return not self.answer.cancelled() and time.monotonic() < self.deadline


class Batcher:
    def __init__(
        self,
        segmenters: Mapping[str, Segmenter],
        settings: ServeSettings,
        on_batch: Callable[[int, float], None] = lambda pictures, seconds: None,
    ):
        self._segmenters, self._settings, self._on_batch = segmenters, settings, on_batch
        self._waiting: deque[Job] = deque()
        self._bytes = 0
        self._answer_bytes = 0
        self._changed = threading.Condition()
        self._closed = False
        self._seconds_a_picture = 0.1  # a guess until the first batch
        self._thread = threading.Thread(target=self._work, name="wordmask-batches", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> "Future[Answer]":
        with self._changed:
            full = len(self._waiting) >= self._settings.waiting
            if full or (self._waiting and self._bytes + job.image.nbytes > self._settings.waiting_bytes):
                raise RequestError(
                    503, "busy", f"{len(self._waiting)} pictures wait already", retry_after=self.retry_after()
                )
            self._waiting.append(job)
            self._bytes += job.image.nbytes
            self._changed.notify_all()
        return job.answer

    def release(self, job: Job) -> None:
        """Its answer is needed no longer: there is room for another."""
        with self._changed:
            self._answer_bytes -= job.answer_bytes
            job.answer_bytes, job.is_released = 0, True
            self._changed.notify_all()

    def retry_after(self) -> int:
        """Seconds until what waits now should be done."""
        return max(1, math.ceil((len(self._waiting) + 1) * self._seconds_a_picture))

    @property
    def length(self) -> int:
        return len(self._waiting)

    @property
    def is_closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Answer what is being worked on, refuse what waits, and stop."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        for job in self._waiting:
            _fail(job, RequestError(503, "stopping", "the service is being stopped", retry_after=5))

    def _work(self) -> None:
        while batch := self._next_batch():
            start = time.perf_counter()
            self._answer(batch)
            seconds = time.perf_counter() - start
            self._seconds_a_picture += 0.2 * (seconds / len(batch) - self._seconds_a_picture)
            self._on_batch(len(batch), seconds)

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
                for job in self._waiting:
                    if not job.is_wanted:
                        _fail(job, RequestError(503, "late", "was not begun in time", retry_after=self.retry_after()))
                    elif len(batch) < size and (not batch or job.method == batch[0].method):
                        batch.append(job)
                    else:
                        rest.append(job)
                self._waiting, self._bytes = rest, sum(job.image.nbytes for job in rest)
                if batch and not self._closed:
                    return batch
                self._waiting.extendleft(reversed(batch))
        return []

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
            if not self._has_room_for(job):
                _fail(job, RequestError(503, "late", "was not answered in time", retry_after=self.retry_after()))
                continue
            try:
                self._succeed(job, own if job.vocabulary is None else _asked(own, job, job.vocabulary))
            except Exception as error:
                _fail(job, error)

    def _has_room_for(self, job: Job) -> bool:
        """Wait until there is; False if the job's time is over before."""
        with self._changed:
            while job.is_wanted and not self._closed and self._answer_bytes >= self._settings.answer_bytes:
                self._changed.wait(timeout=min(LONGEST_WAIT, max(0.0, job.deadline - time.monotonic())))
        return job.is_wanted

    def _succeed(self, job: Job, answer: Answer) -> None:
        with self._changed:
            if not job.is_released and isinstance(answer, Segmentation):
                job.answer_bytes = answer.labels.nbytes + (0 if answer.scores is None else answer.scores.nbytes)
                self._answer_bytes += job.answer_bytes
        job.image = NO_PICTURE
        if job.answer.set_running_or_notify_cancel():
            job.answer.set_result(answer)
        else:
            self.release(job)

    def _look(self, batch: list[Job]) -> list[Seen]:
        segmenter = self._segmenters[batch[0].method]
        return segmenter.look_many([job.image for job in batch], ["<request>"] * len(batch))


def _asked(seen: Seen, job: Job, vocabulary: Vocabulary) -> Segmentation:
    """Without the picture: whoever sent it has it, and it need not be kept until the answer is written."""
    result = seen.segment(vocabulary, fill=True, min_score=job.min_score, drop_absent=job.drop_absent)
    return replace(result, image=None)


def _fail(job: Job, error: Exception) -> None:
    if job.answer.set_running_or_notify_cancel():
        job.answer.set_exception(error)
