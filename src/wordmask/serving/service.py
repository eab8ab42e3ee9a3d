"""What the REST interface and the page share: the path of a picture from its bytes to what a network saw of it."""

import base64
import hmac
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any

import anyio.to_thread
from anyio import CapacityLimiter
from fastapi import Request

from wordmask.names.text_embeddings import TextEmbedder
from wordmask.names.vocabulary import Vocabulary
from wordmask.pictures.decoding import DecodingPool
from wordmask.pictures.images import size_with_longer_side
from wordmask.pictures.reduced import Picture
from wordmask.segmenters.base import Seen, Segmenter
from wordmask.serving.access_log import AccessLog
from wordmask.serving.arriving import Arrivals
from wordmask.serving.batching import Batcher, Job
from wordmask.serving.budget import Budget, Claim
from wordmask.serving.metrics import Metrics
from wordmask.serving.reading import decode
from wordmask.serving.settings import (
    BYTES_A_PIXEL,
    SECONDS_A_PIXEL,
    RequestError,
    ServeSettings,
    stopping,
)
from wordmask.serving.visits import CURRENT, Visit
from wordmask.text_files import counted

LARGE = 30_000_000
"""Pixels times names. What is more is answered one after the other, beside the rest."""
LARGE_PICTURE = 4_000_000
"""Pixels. What has more is left to decoders that give way to all else, and is answered one after the other too."""
MOST_WAITING = 8
"""Pictures of one client for which there is no room yet; so they do not take all of its places from smaller ones."""
LAST_BATCH = 1.0
"""Seconds for the network to finish pictures that nobody waits for any longer."""
THREADS = 2
"""That read bodies and write answers: tenths of a second each, and most of it Python's, which more would not hasten."""


class _MustWaitError(Exception):
    def __init__(self, claim: Claim, more: int, handicap: float):
        super().__init__(more)
        self.claim, self.more, self.handicap = claim, more, handicap


class Service:
    """What the routes and the page share."""

    def __init__(self, segmenters: Mapping[str, Segmenter], settings: ServeSettings):
        self.segmenters, self.settings = segmenters, settings
        self.metrics = Metrics(list(segmenters))
        self.access_log: AccessLog | None = None
        self.batcher = Batcher(segmenters, settings, self.metrics.batch)
        for_large = settings.decoders // 2
        self.pool = decoding_pool(settings, settings.decoders - for_large)
        self.large_pool = decoding_pool(settings, for_large, gives_way=True) or self.pool
        self._pools = {pool for pool in (self.pool, self.large_pool) if pool is not None}
        self.arrivals = Arrivals(settings)
        self.pictures = Budget(settings.most_picture_bytes, settings.most_picture_bytes_of_one)
        self._large_decoders = Budget(max(1, for_large), max(1, for_large))
        self._turns, self._large = Budget(THREADS, THREADS), Budget(1, 1)
        self.places = Budget(settings.in_flight, settings.of_one(settings.in_flight))
        self._visits: set[Visit] = set()
        self._stopping: RequestError | None = None
        self.metrics.gauges |= {
            "wordmask_ready": lambda: float(not self.not_ready()),
            "wordmask_waiting": lambda: self.batcher.length,
            "wordmask_in_flight": lambda: self.places.held,
            "wordmask_arriving": lambda: len(self.arrivals),
            "wordmask_body_bytes": lambda: self.arrivals.bytes.held,
            "wordmask_picture_bytes": lambda: self.pictures.held,
        }

    @contextmanager
    def visit(self, client: str) -> Iterator[Visit]:
        """Let one request in. What it holds is free again when its answer has been taken."""
        with self._visit_of(client) as visit:
            self._visits.add(visit)
            try:
                yield visit
            finally:
                self._visits.discard(visit)

    @property
    def current(self) -> Visit:
        """Return the visit that this task or thread works for; one of nobody's where no request asked."""
        return CURRENT.get(None) or self._visit_of("")

    def _visit_of(self, client: str) -> Visit:
        return Visit(client, *(budget.claim(client) for budget in (self.arrivals.bytes, self.pictures, self.places)))

    async def receive(self, request: Request) -> bytearray:
        """Return a whole body; only then it has a place among those at work, `in_flight` of them however many come."""
        visit = self.current
        body = await self.arrivals.read(request, visit.client, visit.body)
        if self._stopping is not None:
            raise self._stopping
        if not visit.place.take(1):
            raise RequestError(
                503, "busy", "too many requests are being answered", retry_after=self.batcher.retry_after()
            )
        visit.listen(request.receive)
        return body

    def picture(
        self, content: bytes, deadline: float, *, side: int | None = None, segmenter: Segmenter | None = None
    ) -> Picture:
        """Decode a picture, (H, W, 3) uint8, when there is room for it and for its answer. For a thread: it may wait.

        side: the most that its longer side may have. segmenter: who is to look at it; what it can do with less of comes
        as that.
        """
        visit = self.current
        wait = partial(visit.wait, deadline=deadline, late=self.late())

        def take_room(height: int, width: int) -> None:
            pixels = height * width
            more = self._held_of(height, width, side) - visit.picture.held
            if more > 0 and not visit.picture.take(more):
                raise _MustWaitError(visit.picture, more, SECONDS_A_PIXEL * pixels)
            if pixels > LARGE_PICTURE and not decoder.held:  # and begins anew in one that gives way
                raise _MustWaitError(decoder, 1, SECONDS_A_PIXEL * pixels)

        reduce = None if segmenter is None else segmenter.reduce
        with self._large_decoders.claim(visit.client) as decoder:
            read = partial(decode, content, self.settings, deadline=deadline, side=side, reduce=reduce)
            read = partial(read, client=visit.client, take_room=take_room, wait=wait)
            while True:
                try:
                    return read(self.large_pool if decoder.held else self.pool)
                except _MustWaitError as error:  # waits here and not in a decoder, which others need
                    if error.claim.budget.waiting_of(visit.client) >= MOST_WAITING:
                        busy = "pictures of this size wait already: too many of one client"
                        raise RequestError(503, "busy", busy, retry_after=self.batcher.retry_after()) from error
                    wait(error.claim.wait_for(error.more, handicap=error.handicap))

    def _held_of(self, height: int, width: int, side: int | None) -> int:
        """Return the bytes that a picture and its answer count until that is taken: whole, though what is kept of it
        for the network may be less, as it is whole while it is decoded, and so is its answer.
        """
        if self.pool is not None and side is not None:
            height, width = size_with_longer_side(height, width, side, only_shrink=True)
        return BYTES_A_PIXEL * height * width

    async def answered(self, size: tuple[int, int], names: int, work: Callable[[], Any]) -> Any:
        """Return what `work` makes of the pixels of a picture (H, W) and so many names, when it is its turn."""
        pixels = size[0] * size[1]
        is_large = pixels > LARGE_PICTURE or pixels * names > LARGE
        lane = self._large if is_large else None
        return await self.in_thread(work, lane=lane, handicap=SECONDS_A_PIXEL * pixels)

    async def seen(self, method: str, picture: Picture, deadline: float) -> Seen:
        """Return a picture as seen, after the network has looked at it together with those of others."""
        visit = self.current
        visit.method, visit.pictures = method, visit.pictures + 1
        job = Job(method, picture, deadline, visit.client)
        return await visit.waited(self.batcher.submit(job), deadline, self.late())

    def stop(self) -> None:
        """Finish what is being answered; what has not arrived is refused."""
        self._stopping = stopping()
        self.arrivals.stop(self._stopping)

    def give_up(self) -> None:
        """Tell whoever still waits that the service is being stopped."""
        for budget in (self.pictures, self._large_decoders, self._turns, self._large):
            budget.close(stopping())
        for visit in list(self._visits):
            visit.end(stopping())
        self._end_decoders()

    def close(self) -> None:
        """Refuse what waits, and stop."""
        self.batcher.close(LAST_BATCH)
        self._end_decoders()

    def start_decoders(self) -> None:
        """Wait until they are ready, so that nobody's picture has to."""
        for pool in self._pools:
            pool.start()

    def _end_decoders(self) -> None:
        for pool in self._pools:
            pool.close()

    async def read_names(self, method: str, vocabulary: Vocabulary, deadline: float) -> None:
        """Read names ahead, so that the batches' thread has them and nobody's picture waits for another's names."""
        embedder = getattr(self.segmenters[method], "embed", None)
        if isinstance(embedder, TextEmbedder) and not embedder.knows(vocabulary):
            await self.waiting_in_thread(self._read_names, embedder, vocabulary, deadline)

    def _read_names(self, embedder: TextEmbedder, vocabulary: Vocabulary, deadline: float) -> None:
        visit = self.current
        wanted = lambda: time.monotonic() < deadline and visit.ended is None  # noqa: E731
        if embedder.read(vocabulary, wanted) is None:
            raise visit.ended or self.late()

    def late(self) -> RequestError:
        reason = f"no answer within {counted(self.settings.answer_seconds, 'second', style='g')}"
        return RequestError(503, "late", reason, retry_after=self.batcher.retry_after())

    def no_methods(self) -> RequestError:
        return RequestError(404, "method", "this service serves a review alone: it was started without --method")

    def method(self, asked: str | None) -> str:
        """Return the method that is asked for, by default the first."""
        if not self.segmenters:
            raise self.no_methods()
        method = next(iter(self.segmenters)) if asked is None else asked
        if method not in self.segmenters:
            raise RequestError(404, "method", f"no method {method!r} here; there is {', '.join(self.segmenters)}")
        self.current.method = method
        return method

    def not_ready(self) -> list[str]:
        """Return what keeps the service from answering; networks are loaded before there is one."""
        reasons = ["the service is being stopped"] if self._stopping is not None else []
        reasons += [] if self.batcher.is_up else ["the networks' thread has ended"]
        return reasons + ([] if all(pool.is_up for pool in self._pools) else ["the decoders are not up"])

    async def in_thread(self, work: Any, *arguments: Any, lane: Budget | None = None, handicap: float = 0.0) -> Any:
        """Run work in a thread when it is its turn."""
        visit = self.current
        with (lane or self._turns).claim(visit.client) as turn:
            deadline = time.monotonic() + self.settings.answer_seconds
            await visit.waited(turn.wait_for(1, handicap=handicap), deadline, self.late())
            return await anyio.to_thread.run_sync(work, *arguments, limiter=self._threads)

    async def waiting_in_thread(self, work: Any, *arguments: Any) -> Any:
        """Run work that waits for its turn in a thread of its own, so that it keeps no other from it."""
        return await anyio.to_thread.run_sync(work, *arguments, limiter=self._waiting_threads)

    @cached_property
    def _threads(self) -> CapacityLimiter:
        """Made where there is an event loop, which it belongs to."""
        return CapacityLimiter(THREADS + 1)

    @cached_property
    def _waiting_threads(self) -> CapacityLimiter:
        return CapacityLimiter(self.settings.in_flight)

    def check_key(self, request: Request) -> None:
        if self.settings.api_key is None:
            return
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        given = bearer.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")
        if scheme.lower() == "basic":  # as Label Studio says it; any user name
            given = basic_password(bearer)
        # Headers are bytes that Starlette reads as Latin-1.
        if not self.is_key(given.encode("latin-1")):
            raise RequestError(401, "key", "give this service's key as `Authorization: Bearer KEY`")

    def is_key(self, given: bytes) -> bool:
        key = self.settings.api_key
        return key is None or hmac.compare_digest(given, key.encode())


def decoding_pool(settings: ServeSettings, decoders: int, *, gives_way: bool = False) -> DecodingPool | None:
    """Return so many processes that decode within the settings' limits; None where there are to be none."""
    if not decoders:
        return None
    return DecodingPool(
        decoders,
        seconds=settings.decode_seconds,
        memory_bytes=settings.most_decode_bytes,
        decoded_bytes=settings.most_picture_bytes,
        waiting=settings.in_flight,
        gives_way=gives_way,
    )


def vocabulary_of(segmenter: Segmenter) -> Vocabulary | None:
    """Return a student's names, for who asks for none; None of a segmenter that has no names of its own."""
    found = getattr(segmenter, "vocabulary", None)
    return found if isinstance(found, Vocabulary) else None


def all_it_knows(segmenter: Segmenter) -> Vocabulary | None:
    """Return a student's names where it knows no others; None of a segmenter that takes any, open students among
    them.
    """
    return vocabulary_of(segmenter) if segmenter.concepts is None else None


def basic_password(credentials: str) -> str:
    """Return the password of HTTP's basic credentials; nothing of what is none."""
    try:
        return base64.b64decode(credentials.strip(), validate=True).decode("latin-1").partition(":")[2]
    except ValueError:
        return ""
