"""The REST interface: POST /v1/segment, GET /v1/models, /healthz, /metrics."""

import hmac
import logging
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import anyio.to_thread
import numpy as np
from anyio import CapacityLimiter
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.routing import APIRoute

from wordmask._version import __version__
from wordmask.errors import WordmaskError
from wordmask.masks.segmentation import Segmentation
from wordmask.methods import methods_of
from wordmask.names.text_embeddings import TextEmbedder
from wordmask.names.vocabulary import ROOM, Vocabulary
from wordmask.pictures.decoding import DecodingPool
from wordmask.segmenters.base import Seen, Segmenter
from wordmask.serving.arriving import Arrivals
from wordmask.serving.batching import Batcher, Job
from wordmask.serving.budget import Budget, Claim
from wordmask.serving.description import MODELS, RESPONSES, request_body
from wordmask.serving.metrics import CONTENT_TYPE, Metrics
from wordmask.serving.reading import Ask, decode, kind_of, parse
from wordmask.serving.settings import BYTES_A_PIXEL, SECONDS_A_PIXEL, RequestError, ServeSettings, stopping
from wordmask.serving.visits import CURRENT, Visit

SEGMENT = "/v1/segment"
VERBS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
LARGE = 30_000_000
"""Pixels times names, a tenth of a second's work. What is more goes one after the other, beside the rest."""
LARGE_PICTURE = 4_000_000
"""Pixels. What has more leaves one decoder to others."""
MOST_WAITING = 8
"""Pictures of one client for which there is no room yet; so they do not take all of its places from smaller ones."""
LAST_BATCH = 1.0
"""Seconds for the network to finish pictures that nobody waits for any longer."""
THREADS = 2
"""That read bodies and write answers: tenths of a second each, and most of it Python's, which more would not hasten."""

_logger = logging.getLogger(__name__)


class _MustWaitError(Exception):
    def __init__(self, claim: Claim, more: int):
        super().__init__(more)
        self.claim, self.more = claim, more


class Service:
    """What the routes and the page share."""

    def __init__(self, segmenters: Mapping[str, Segmenter], settings: ServeSettings):
        self.segmenters, self.settings = segmenters, settings
        self.metrics = Metrics()
        self.batcher = Batcher(segmenters, settings, self.metrics.batch)
        self.pool = decoding_pool(settings)
        self.arrivals = Arrivals(settings)
        self.pictures = Budget(
            settings.most_picture_bytes,
            settings.most_picture_bytes_of_one,
            seconds_a_unit=SECONDS_A_PIXEL / BYTES_A_PIXEL,
        )
        for_large = max(1, settings.decoders - 1)
        self._large_decoders = Budget(for_large, for_large)
        self._turns, self._large = Budget(THREADS, THREADS), Budget(1, 1)
        self.places = Budget(settings.in_flight, settings.of_one(settings.in_flight))
        self._visits: set[Visit] = set()
        self._stopping: RequestError | None = None
        self.metrics.gauges |= {
            "wordmask_waiting": lambda: self.batcher.length,
            "wordmask_in_flight": lambda: self.places.held,
            "wordmask_arriving": lambda: len(self.arrivals),
            "wordmask_body_bytes": lambda: self.arrivals.bytes.held,
            "wordmask_picture_bytes": lambda: self.pictures.held,
        }

    @contextmanager
    def visit(self, client: str) -> Iterator[Visit]:
        """One request. What it holds is free again when its answer has been taken."""
        claims = (budget.claim(client) for budget in (self.arrivals.bytes, self.pictures, self.places))
        with Visit(client, *claims) as visit:
            self._visits.add(visit)
            try:
                yield visit
            finally:
                self._visits.discard(visit)

    @property
    def current(self) -> Visit:
        """The visit that this task or thread works for; one of nobody's where no request asked."""
        visit = CURRENT.get(None)
        if visit is None:
            visit = Visit("", *(budget.claim("") for budget in (self.arrivals.bytes, self.pictures, self.places)))
        return visit

    async def receive(self, request: Request) -> bytes:
        """Wait for a whole body and, only then, for a place among those at work: `in_flight`, however many come."""
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

    async def segment(self, request: Request) -> Response:
        kind = kind_of(request)
        body = await self.receive(request)
        ask = await self._in_thread(parse, request.headers, kind, body, self.settings)
        del body
        deadline = time.monotonic() + self.settings.answer_seconds
        method = self._method(ask)
        vocabulary = ask.vocabulary or vocabulary_of(self.segmenters[method])
        if vocabulary is None:
            raise RequestError(400, "names", "names: field required; only students have names of their own")
        if not ask.fill and ask.vocabulary is not None:
            vocabulary = vocabulary.with_room()
        note = f"{ROOM}; fill=true gives every pixel one of the names" if vocabulary.has_made_room else None
        vocabulary = vocabulary.worded(self.segmenters[method].background_words)
        # Before the picture is decoded: new names may take long, and a file holds less than its pixels do.
        await self._waiting_in_thread(self.read_names, method, vocabulary, deadline)
        image = await self._waiting_in_thread(self.picture, ask.picture, deadline)
        write = _as_png if ask.format == "png" else partial(_as_json, method, note)
        answer = partial(_answered, vocabulary, ask.min_score, ask.drop_absent, write)
        del ask
        visit = self.current
        visit.body.close()
        lane = self._large if image.shape[0] * image.shape[1] * len(vocabulary) > LARGE else self._turns
        job = Job(method, image, deadline, visit.client)
        del image
        seen = await visit.waited(self.batcher.submit(job), deadline, self.late())
        return await self._in_thread(answer, seen, lane=lane)

    def picture(self, content: bytes, deadline: float, *, side: int | None = None) -> np.ndarray:
        """Decode a picture, (H, W, 3) uint8, when there is room for it and for its answer; `side` is the most that its
        longer side may have. For a thread, as it may wait for its turn.
        """
        visit = self.current
        wait = partial(visit.wait, deadline=deadline, late=self.late())

        def take(claim: Claim, units: int) -> None:
            if units > claim.held and not claim.take(units - claim.held):
                raise _MustWaitError(claim, units - claim.held)

        def take_room(pixels: int) -> None:
            take(visit.picture, BYTES_A_PIXEL * pixels)
            if pixels > LARGE_PICTURE:
                take(decoder, 1)

        with self._large_decoders.claim(visit.client) as decoder:
            read = partial(decode, content, self.settings, self.pool, deadline, side=side, client=visit.client)
            while True:
                try:
                    return read(take_room=take_room, wait=wait)
                except _MustWaitError as error:  # waits here and not in a decoder, which others need
                    if error.claim.budget.waiting_of(visit.client) >= MOST_WAITING:
                        busy = "pictures of this size wait already: too many of one client"
                        raise RequestError(503, "busy", busy, retry_after=self.batcher.retry_after()) from error
                    wait(error.claim.wait_for(error.more))

    def stop(self) -> None:
        """Go on with what is being answered, and refuse what has not arrived."""
        self._stopping = stopping()
        self.arrivals.stop(self._stopping)

    def give_up(self) -> None:
        """Whoever waits still is told that the service is being stopped."""
        for budget in (self.pictures, self._large_decoders, self._turns, self._large):
            budget.close(stopping())
        for visit in list(self._visits):
            visit.end(stopping())
        if self.pool is not None:
            self.pool.close()

    def close(self) -> None:
        """Refuse what waits, and stop."""
        self.batcher.close(LAST_BATCH)
        if self.pool is not None:
            self.pool.close()

    def read_names(self, method: str, vocabulary: Vocabulary, deadline: float) -> None:
        """So that the batches' thread finds them in memory, and nobody's picture waits for another's names."""
        embedder = getattr(self.segmenters[method], "embed", None)
        if not isinstance(embedder, TextEmbedder):
            return
        visit = self.current
        wanted = lambda: time.monotonic() < deadline and visit.ended is None  # noqa: E731
        if embedder.read(vocabulary, wanted) is None:
            raise visit.ended or self.late()

    def late(self) -> RequestError:
        reason = f"no answer within {self.settings.answer_seconds:g} seconds"
        return RequestError(503, "late", reason, retry_after=self.batcher.retry_after())

    def _method(self, ask: Ask) -> str:
        method = next(iter(self.segmenters)) if ask.method is None else ask.method
        if method not in self.segmenters:
            raise RequestError(404, "method", f"no method {method!r} here; there is {', '.join(self.segmenters)}")
        return method

    async def _in_thread(self, work: Any, *arguments: Any, lane: Budget | None = None) -> Any:
        """When it is the client's turn."""
        visit = self.current
        with (lane or self._turns).claim(visit.client) as turn:
            deadline = time.monotonic() + self.settings.answer_seconds
            await visit.waited(turn.wait_for(1), deadline, self.late())
            return await anyio.to_thread.run_sync(work, *arguments, limiter=self._threads)

    async def _waiting_in_thread(self, work: Any, *arguments: Any) -> Any:
        """Take turns, so that what waits in the thread for its turn keeps no other from it."""
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
        # Headers are bytes that Starlette reads as Latin-1.
        if not hmac.compare_digest(given.encode("latin-1"), self.settings.api_key.encode()):
            raise RequestError(401, "key", "give this service's key as `Authorization: Bearer KEY`")


def routes(service: Service) -> APIRouter:
    class Counted(APIRoute):
        """Every answer is counted, and every failure is JSON with a reason."""

        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handler = super().get_route_handler()

            async def counted(request: Request) -> Response:
                start = time.perf_counter()
                try:
                    response = await handler(request)
                except Exception as error:
                    response = error_answer(error)
                service.metrics.answered(response.status_code, time.perf_counter() - start)
                return response

            return counted

    router = APIRouter(route_class=Counted)

    @router.post(SEGMENT, summary="Masks of a picture by names", openapi_extra=request_body(), responses=RESPONSES)
    async def segment(request: Request) -> Response:
        service.check_key(request)
        return await service.segment(request)

    @router.get("/v1/models", summary="The methods of this service", responses=MODELS)
    async def models(request: Request) -> list[dict[str, Any]]:
        service.check_key(request)
        return [_described(name, segmenter) for name, segmenter in service.segmenters.items()]

    @router.get("/healthz", summary="Whether the service is up", response_description="It is")
    @router.head("/healthz", include_in_schema=False)
    async def healthz() -> dict[str, str]:
        return {"status": "ok", "version": __version__}

    @router.get(
        "/metrics", summary="Counters for Prometheus", response_class=PlainTextResponse, response_description="As text"
    )
    async def metrics(request: Request) -> Response:
        service.check_key(request)
        return PlainTextResponse(service.metrics.text(), media_type=CONTENT_TYPE)

    @router.api_route("/v1/{rest:path}", methods=list(VERBS), include_in_schema=False)
    async def misaddressed(request: Request) -> Response:
        """Before the page, to which every address is one of its own."""
        known = any(getattr(route, "path", None) == request.url.path for route in router.routes)
        raise RequestError(*((405, "http", "method not allowed") if known else (404, "http", "not found")))

    return router


def decoding_pool(settings: ServeSettings) -> DecodingPool | None:
    """Return the processes that decode; none where the settings say so."""
    if not settings.decoders:
        return None
    return DecodingPool(
        settings.decoders,
        seconds=settings.decode_seconds,
        memory_bytes=settings.most_decode_bytes,
        decoded_bytes=settings.most_picture_bytes,
        waiting=settings.in_flight,
    )


def vocabulary_of(segmenter: Segmenter) -> Vocabulary | None:
    """Return a student's names; None of a segmenter that takes any."""
    found = getattr(segmenter, "vocabulary", None)
    return found if isinstance(found, Vocabulary) else None


def _described(name: str, segmenter: Segmenter) -> dict[str, Any]:
    vocabulary = vocabulary_of(segmenter)
    registered = methods_of("segmenter").get(segmenter.method)
    return {
        "method": name,
        "segmenter": segmenter.method,
        "paper": None if registered is None else registered.paper,
        "preset": segmenter.preset,
        "precision": segmenter.precision,
        "names": None if vocabulary is None else list(vocabulary.names),
    }


def _answered(
    vocabulary: Vocabulary,
    min_score: float,
    drop_absent: float,
    write: Callable[[Segmentation], Response],
    seen: Seen,
) -> Response:
    """Without the picture: whoever sent it has it."""
    result = seen.segment(vocabulary, fill=True, min_score=min_score, drop_absent=drop_absent)
    return write(replace(result, image=None))


def _as_png(result: Segmentation) -> Response:
    return Response(result.to_png(), media_type="image/png")


def _as_json(method: str, note: str | None, result: Segmentation) -> Response:
    masks = []
    for name, area in result.pixels.items():
        if area:
            score = None if result.scores is None else round(float(result.scores[result.mask(name)].mean()), 4)
            masks.append({"name": name, "area": area, "score": score, "rle": result.rle(name)})
    told: dict[str, Any] = {"method": method, "size": list(result.size), "names": result.names, "masks": masks}
    return JSONResponse(told if note is None else {**told, "note": note})


def error_answer(error: Exception) -> JSONResponse:
    """Every failure as {"error": {"code", "reason"}}."""
    if not isinstance(error, RequestError):
        if isinstance(error, WordmaskError):  # such as a name that a student does not know
            error = RequestError(400, "request", str(error))
        else:
            _logger.error("a request failed", exc_info=error)
            error = RequestError(500, "internal", f"an unexpected {type(error).__name__}; the service's log says more")
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(
        {"error": {"code": error.code, "reason": error.reason}}, status_code=error.status, headers=headers
    )
